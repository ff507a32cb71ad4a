"""Export: a fitted scikit-learn pipeline as the ONNX graph that serves.

It decides how a model leaves Python, and measures that it is still the same
model. The graph takes the float32 matrix of `features.encode` and answers in
the target's unit; the card says how to fill that matrix.
"""

import time
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator

from loopbook.models.inference import INPUT, OUTPUT
from loopbook.models.levels import Recalibrated, Relative
from loopbook.models.task import PARITY_TOLERANCE, Task
from loopbook.project.contract import Contract
from loopbook.project.errors import ExportError

CARD_VERSION = 1


def export(model: BaseEstimator, contract: Contract, width: int) -> bytes:
    """The model as a serialised ONNX graph from `features` to `prediction`.

    Parameters
    ----------
    model : fitted estimator, or one of `levels` around it
        From a float32 matrix of `width` columns to the target as it is inside.

    Raises
    ------
    ExportError
        If a step of the pipeline has no ONNX form.
    """
    pipeline = model.regressor_ if isinstance(model, Relative | Recalibrated) else model
    try:
        graph = to_onnx(
            pipeline,
            initial_types=[(INPUT, FloatTensorType([None, width]))],
            target_opset={"": 18, "ai.onnx.ml": 3},
        )
    except (RuntimeError, NotImplementedError, ValueError) as reason:
        named = getattr(pipeline, "steps", getattr(pipeline, "estimators", [("", pipeline)]))
        steps = " → ".join(type(step).__name__ for _, step in named)
        raise ExportError(
            f"model {steps}: cannot be written as ONNX ({str(reason).splitlines()[0]}). "
            "Use steps that skl2onnx supports; docs/candidates.md lists those that were tried."
        ) from None
    shift = _shift(model)
    return _in_target_unit(graph, contract, shift).SerializeToString(deterministic=True)


def _shift(model: BaseEstimator) -> list[onnx.NodeProto]:
    """Nodes that compute `shift`, what a model of `levels` adds to its inner one."""
    if isinstance(model, Recalibrated):
        return [helper.make_node("Constant", [], ["shift"], value_floats=[model.offset_])]
    if isinstance(model, Relative):
        return [
            helper.make_node("Constant", [], ["place"], value_ints=[model.level]),
            helper.make_node("Constant", [], ["fallback"], value_floats=[model.fallback_]),
            helper.make_node("Gather", [INPUT, "place"], ["found"], axis=1),
            helper.make_node("Constant", [], ["zero"], value_floats=[0.0]),
            helper.make_node("Greater", ["found", "zero"], ["is_there"]),
            helper.make_node("Where", ["is_there", "found", "fallback"], ["level"]),
            helper.make_node("Log", ["level"], ["shift"]),
        ]
    return []


def _in_target_unit(
    graph: onnx.ModelProto, contract: Contract, shift: list[onnx.NodeProto]
) -> onnx.ModelProto:
    """Name the output, make it one number a row, shift it, and undo the target's transform."""
    inside = graph.graph.output[0].name
    nodes = [*shift, helper.make_node("Constant", [], ["flat"], value_ints=[-1])]
    if shift:
        nodes.append(helper.make_node("Add", [inside, "shift"], ["shifted"]))
        inside = "shifted"
    if contract.target.is_log:
        nodes.append(helper.make_node("Exp", [inside], ["unit"]))
        inside = "unit"
    nodes.append(helper.make_node("Reshape", [inside, "flat"], [OUTPUT]))
    graph.graph.node.extend(nodes)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None]))
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
