"""Inference: an exported graph, run. All that serving needs of a model.

It imports ONNX Runtime and no training library; `export` makes the graphs.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnxruntime

INPUT, OUTPUT = "features", "prediction"
SHIFT, RAW = "shift", "raw"  # absent in a graph of an earlier loopbook
# A part of a table begins at a multiple of it: matrices are multiplied in blocks of rows,
# and each row keeps its place in its block. So parts give the same bits as the whole.
BLOCK = 192
MOST_THREADS = 4


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one thread, for many callers at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def can_move(runtime: onnxruntime.InferenceSession) -> bool:
    """Whether a graph takes a shift; one of an earlier loopbook does not."""
    return any(taken.name == SHIFT for taken in runtime.get_overridable_initializers())


def predict(
    runtime: onnxruntime.InferenceSession, matrix: np.ndarray, shift: np.ndarray | None = None
) -> np.ndarray:
    """Answers as a graph gives them, float64.

    Parameters
    ----------
    shift : array of shape (width,) or (rows, width), or None
        What is added in the link's space: one for all rows, or one each; width
        is 1 for a number and the number of classes otherwise. None: nothing.

    Returns
    -------
    numpy.ndarray
        Numbers in the target's unit, shape (rows,), or probabilities, shape
        (rows, classes), the classes in the contract's order.
    """
    (answer,) = runtime.run([OUTPUT], _taken(matrix, shift))
    return answer.astype(np.float64)


def predict_many(runtime: onnxruntime.InferenceSession, matrix: np.ndarray) -> np.ndarray:
    """What `predict` gives of many rows, to the bit, by threads side by side."""
    blocks = len(matrix) // BLOCK  # the last part takes what is left: no part is less than a block
    threads = max(1, min(MOST_THREADS, os.cpu_count() or 1, blocks))
    begins = [BLOCK * (blocks * part // threads) for part in range(1, threads)]
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(partial(predict, runtime), np.split(matrix, begins))
        return np.concatenate(list(parts))


def predict_both(
    runtime: onnxruntime.InferenceSession, matrix: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Answers with a shift and without it, of a graph that takes one; see `predict`."""
    answer, raw = runtime.run([OUTPUT, RAW], _taken(matrix, shift))
    return answer.astype(np.float64), raw.astype(np.float64)


def _taken(matrix: np.ndarray, shift: np.ndarray | None) -> dict[str, np.ndarray]:
    if shift is None:
        return {INPUT: matrix}
    return {INPUT: matrix, SHIFT: np.atleast_2d(np.asarray(shift, np.float32))}
