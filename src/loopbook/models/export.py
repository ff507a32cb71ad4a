"""Export: a fitted scikit-learn pipeline as the ONNX graph that serves.

It decides how a model leaves Python, and measures that it is still the same
model. The graph takes the float32 matrix of `features.encode` and answers in
the target's unit, or with a probability for each class; the card says how to
fill that matrix. A shift in the link's space may be given beside it: it moves
the answer, and the answer without it is given as `raw`.
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

from loopbook.models.inference import INPUT, OUTPUT, RAW, SHIFT
from loopbook.models.measures import PARITY_TOLERANCE
from loopbook.models.task import Task, task_of
from loopbook.project.contract import Contract
from loopbook.project.errors import ExportError

CARD_VERSION = 1


def export(model: BaseEstimator, contract: Contract, width: int) -> bytes:
    """The model as a serialised ONNX graph from `features` to `prediction`.

    It takes a `shift` too, a row of which is one for all rows, or one each: what
    is added to the number inside, or to the log probability of each class.
    Without it, and with zeros, `prediction` is `raw` to the bit.

    Parameters
    ----------
    model : fitted estimator
        From a float32 matrix of `width` columns to the target as it is inside.

    Raises
    ------
    ExportError
        If a step of the pipeline has no ONNX form.
    """
    task = task_of(contract)
    try:
        graph = to_onnx(
            model,
            initial_types=[(INPUT, FloatTensorType([None, width]))],
            target_opset={"": 18, "ai.onnx.ml": 3},
            # probabilities as one array, not as a list of dictionaries
            options={"zipmap": False} if task.classes else None,
        )
    except (RuntimeError, NotImplementedError, ValueError) as reason:
        named = getattr(model, "steps", getattr(model, "estimators", [("", model)]))
        steps = " → ".join(type(step).__name__ for _, step in named)
        raise ExportError(
            f"model {steps}: cannot be written as ONNX ({str(reason).splitlines()[0]}). "
            "Use steps that skl2onnx supports; docs/candidates.md lists those that were tried."
        ) from None
    nodes, inside = _every_class(model, task, graph.graph.output[-1].name)
    nodes += _shifted_classes(inside) if task.classes else _shifted_number(inside, task)
    return _ended(graph, nodes, task).SerializeToString(deterministic=True)


Nodes = tuple[list[onnx.NodeProto], str]  # what is computed, and the name of its outcome


def _constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))


def _every_class(model: BaseEstimator, task: Task, inside: str) -> Nodes:
    """A probability for each of the contract's classes, where the target has any."""
    known = None if task.classes is None else np.asarray(model.classes_, np.intp)
    if known is None or known.size == task.width:
        return [], inside
    # no row taught the others: their probability is 0
    places = _constant("places", np.eye(task.width, dtype=np.float32)[known])
    return [places, helper.make_node("MatMul", [inside, "places"], ["every"])], "every"


def _shifted_number(inside: str, task: Task) -> list[onnx.NodeProto]:
    """The number inside, with the shift and without it, in the target's unit."""
    node, unit = helper.make_node, "Exp" if task.is_log else "Identity"
    return [
        _constant("line", np.int64([-1])),
        node("Reshape", [inside, "line"], ["number"]),
        node("Reshape", [SHIFT, "line"], ["added"]),
        node("Add", ["number", "added"], ["shifted"]),
        node(unit, ["number"], [RAW]),
        node(unit, ["shifted"], [OUTPUT]),
    ]


def _shifted_classes(inside: str) -> list[onnx.NodeProto]:
    """The probabilities, with the shift of their logs and without it.

    By factors and not by a softmax of shifted logs: a shift of 0 changes no bit
    then, and a class that cannot be stays so.
    """
    node = helper.make_node
    return [
        _constant("last", np.int64([-1])),
        node("Identity", [inside], [RAW]),
        node("Exp", [SHIFT], ["factors"]),
        node("Mul", [inside, "factors"], ["weighed"]),
        node("ReduceSum", [inside, "last"], ["sum_before"], keepdims=1),
        node("ReduceSum", ["weighed", "last"], ["sum_after"], keepdims=1),
        node("Div", ["sum_before", "sum_after"], ["scale"]),
        node("Mul", ["weighed", "scale"], [OUTPUT]),
    ]


def _ended(graph: onnx.ModelProto, nodes: list[onnx.NodeProto], task: Task) -> onnx.ModelProto:
    """The graph with these nodes at its end, which takes a shift and gives both answers."""
    graph.graph.node.extend(nodes)
    tensor, shape = helper.make_tensor_value_info, [] if task.classes is None else [task.width]
    # an initializer of an input's name is its default, which a caller may leave or replace
    graph.graph.input.append(tensor(SHIFT, TensorProto.FLOAT, [None, task.width]))
    none = np.zeros((1, task.width), np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(none, SHIFT))
    del graph.graph.output[:]
    graph.graph.output.extend(
        tensor(name, TensorProto.FLOAT, [None, *shape]) for name in (OUTPUT, RAW)
    )
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
