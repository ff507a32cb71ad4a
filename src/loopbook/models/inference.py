"""Inference: an exported graph, run. All that serving needs of a model.

It imports ONNX Runtime and no training library; `export` makes the graphs.
"""

import hashlib

import numpy as np
import onnxruntime

INPUT, OUTPUT = "features", "prediction"


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one thread, for many callers at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def predict(runtime: onnxruntime.InferenceSession, matrix: np.ndarray) -> np.ndarray:
    """Answers as a graph gives them, float64.

    Returns
    -------
    numpy.ndarray
        Numbers in the target's unit, shape (rows,), or probabilities, shape
        (rows, classes), the classes in the contract's order.
    """
    (answer,) = runtime.run([OUTPUT], {INPUT: matrix})
    return answer.astype(np.float64)


def sha256(content: bytes) -> str:
    """The digest by which the registry knows a file."""
    return hashlib.sha256(content).hexdigest()
