"""Export: a fitted scikit-learn pipeline as the ONNX graph that serves.

It decides how a model leaves Python, and measures that it is still the same
model. The graph takes the float32 matrix of `features.encode` and answers in
the target's unit, or with a probability for each class; the card says how to
fill that matrix.
"""

import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator

from loopbook.models.calibrated import LEAST, Calibrated
from loopbook.models.inference import INPUT, OUTPUT
from loopbook.models.levels import Recalibrated, Relative
from loopbook.models.measures import PARITY_TOLERANCE
from loopbook.models.task import Task, task_of
from loopbook.project.contract import Contract
from loopbook.project.errors import ExportError

CARD_VERSION = 1


def export(model: BaseEstimator, contract: Contract, width: int) -> bytes:
    """The model as a serialised ONNX graph from `features` to `prediction`.

    Parameters
    ----------
    model : fitted estimator, or one of `levels` or `calibrated` around it
        From a float32 matrix of `width` columns to the target as it is inside.

    Raises
    ------
    ExportError
        If a step of the pipeline has no ONNX form.
    """
    task, pipeline = task_of(contract), model
    if isinstance(model, Relative | Recalibrated):
        pipeline = model.regressor_
    elif isinstance(model, Calibrated):
        pipeline = model.classifier_
    try:
        graph = to_onnx(
            pipeline,
            initial_types=[(INPUT, FloatTensorType([None, width]))],
            target_opset={"": 18, "ai.onnx.ml": 3},
            # probabilities as one array, not as a list of dictionaries
            options={"zipmap": False} if task.classes else None,
        )
    except (RuntimeError, NotImplementedError, ValueError) as reason:
        named = getattr(pipeline, "steps", getattr(pipeline, "estimators", [("", pipeline)]))
        steps = " → ".join(type(step).__name__ for _, step in named)
        raise ExportError(
            f"model {steps}: cannot be written as ONNX ({str(reason).splitlines()[0]}). "
            "Use steps that skl2onnx supports; docs/candidates.md lists those that were tried."
        ) from None
    nodes, inside = [], graph.graph.output[-1].name
    for step in (_moved, _as_the_contract_says):
        more, inside = step(model, task, inside)
        nodes += more
    return _ended(graph, nodes, task).SerializeToString(deterministic=True)


Nodes = tuple[list[onnx.NodeProto], str]  # what is computed, and the name of its outcome


def _constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))


def _moved(model: BaseEstimator, task: Task, inside: str) -> Nodes:
    """What a model of `levels` or `calibrated` makes of its inner one's answer."""
    node = helper.make_node
    if isinstance(model, Recalibrated):
        return [
            _constant("shift", np.float32([model.offset_])),
            node("Add", [inside, "shift"], ["shifted"]),
        ], "shifted"
    if isinstance(model, Relative):
        return [
            _constant("place", np.int64([model.level])),
            _constant("fallback", np.float32([model.fallback_])),
            _constant("zero", np.float32([0.0])),
            node("Gather", [INPUT, "place"], ["found"], axis=1),
            node("Greater", ["found", "zero"], ["is_there"]),
            node("Where", ["is_there", "found", "fallback"], ["level"]),
            node("Log", ["level"], ["shift"]),
            node("Add", [inside, "shift"], ["shifted"]),
        ], "shifted"
    if isinstance(model, Calibrated):
        return [
            _constant("least", np.float32([LEAST])),
            _constant("slope", np.float32([model.slope_])),
            _constant("shift", np.float32(model.shift_)),
            node("Max", [inside, "least"], ["there"]),
            node("Log", ["there"], ["logs"]),
            node("Mul", ["logs", "slope"], ["sloped"]),
            node("Add", ["sloped", "shift"], ["shifted"]),
            node("Softmax", ["shifted"], ["calibrated"], axis=-1),
        ], "calibrated"
    return [], inside


def _as_the_contract_says(model: BaseEstimator, task: Task, inside: str) -> Nodes:
    """The target's unit, or a probability for each of the contract's classes."""
    if task.link == "log":
        return [helper.make_node("Exp", [inside], ["unit"])], "unit"
    known = None if task.classes is None else np.asarray(model.classes_, np.intp)
    if known is None or known.size == task.width:
        return [], inside
    # no row taught the others: their probability is 0
    places = _constant("places", np.eye(task.width, dtype=np.float32)[known])
    return [places, helper.make_node("MatMul", [inside, "places"], ["every"])], "every"


def _ended(graph: onnx.ModelProto, nodes: list[onnx.NodeProto], task: Task) -> onnx.ModelProto:
    """The graph with these nodes at its end, its outcome under our name and in our shape."""
    inside = nodes[-1].output[0] if nodes else graph.graph.output[-1].name
    shape = [-1] if task.classes is None else [-1, task.width]
    nodes = [*nodes, _constant("shape", np.int64(shape))]
    nodes.append(helper.make_node("Reshape", [inside, "shape"], [OUTPUT]))
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    answer = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, *shape[1:]])
    graph.graph.output.append(answer)
    # the converter takes them from a set: sorted, the same model is the same bytes
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    onnx.checker.check_model(graph)
    return graph


def parity(
    task: Task, fitted: np.ndarray, exported: np.ndarray, *, spread: float
) -> dict[str, Any]:
    """How far the exported model's answers are from the fitted one's.

    Parameters
    ----------
    spread : float
        `task.spread` of the target in the rows that taught: what differences are shares of.

    Returns
    -------
    dict
        `largest` difference (see `task.apart`) and the `spread`, the number of
        `rows` and of those `beyond` tolerance, and whether all `passed`.
    """
    difference = task.apart(fitted, exported, spread)
    beyond = int(np.sum(~(difference <= PARITY_TOLERANCE)))
    return {
        "largest": float(np.nan_to_num(difference.max(), nan=1e9, posinf=1e9)),
        "spread": spread,
        "beyond": beyond,
        "rows": int(difference.size),
        "tolerance": PARITY_TOLERANCE,
        "passed": beyond == 0,
    }


def one_row_latency_ms(runtime: onnxruntime.InferenceSession, matrix: np.ndarray) -> float:
    """Median time of one row through the exported model, over at most 200 rows."""
    times = []
    for row in matrix[:200]:
        start = time.perf_counter()
        runtime.run([OUTPUT], {INPUT: row[None, :]})
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e3)


def reference_statistics(rows: pl.DataFrame, contract: Contract) -> dict[str, Any]:
    """What was usual in the rows that a model was fitted on, a column an entry.

    Numbers have `n`, `missing_share`, `mean`, `std` and the quantiles at 1, 5,
    25, 50, 75, 95 and 99 per cent; categories have the share of each value.
    """
    statistics: dict[str, Any] = {}
    for name in [*contract.numbers, *contract.trailing, *contract.computed]:
        column = rows[name].cast(pl.Float64)
        quantiles = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
        statistics[name] = {
            "n": rows.height,
            "missing_share": column.null_count() / rows.height,
            "mean": column.mean(),
            "std": column.std(),
            "quantiles": {f"{q:g}": column.quantile(q, "linear") for q in quantiles},
        }
    for name in contract.categories:
        counts = rows[name].drop_nulls().value_counts(sort=True, normalize=True)
        statistics[name] = {
            "n": rows.height,
            "missing_share": rows[name].null_count() / rows.height,
            "shares": dict(counts.iter_rows()),
        }
    return statistics
