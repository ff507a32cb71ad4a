"""Target faults: what of a contract's target does not suit its task.

It decides what is wrong with a target whose keys and types are right, and says
so in sentences with a remedy. It never looks at data.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopbook.project.target import MOST_CLASSES, OF_CLASSES, OF_NUMBERS

if TYPE_CHECKING:
    from loopbook.project.contract import Contract


def target_faults(c: "Contract") -> Iterator[str]:
    """What the task, the classes, the metric and the costs do not bear out."""
    yield from _OF_TASK[c.task](c)


def _number_faults(c: "Contract") -> Iterator[str]:
    target = c.target
    for key in ("classes", "positive", "costs"):
        if getattr(target, key) is not None:
            yield (
                f"target.{key}: task: regression has none; remove it, or say task: binary or "
                "multiclass"
            )
    if target.is_log and not _is_positive(target.range):
        yield "target.range: a log needs a least value above 0; set it, or transform: none"
    if target.metric in OF_CLASSES:
        yield f"target.metric: {target.metric} is for classes; choose one of {', '.join(OF_NUMBERS)}"
    elif target.metric == "absolute_log_error" and not target.is_log:
        yield (
            "target.metric: absolute_log_error needs transform: log, so that no prediction is 0 or "
            "less; set it, or choose absolute_error"
        )
    elif target.metric == "absolute_percentage_error" and not (
        _is_positive(target.range) or (target.range and target.range[1] < 0)
    ):
        yield (
            "target.metric: absolute_percentage_error divides by the target, and its range does not "
            "leave 0 out; set target.range, or choose absolute_error"
        )


def _is_positive(bounds: list[float] | None) -> bool:
    return bounds is not None and bounds[0] > 0


def _binary_faults(c: "Contract") -> Iterator[str]:
    yield from _class_faults(c)
    classes = c.target.classes or []
    if classes and len(classes) != 2:
        yield f"target.classes: task: binary has two, found {len(classes):,}; say task: multiclass"
    if classes and c.target.positive not in (None, *classes):
        yield f"target.positive: {c.target.positive!r} is not one of the classes; name one of them"


def _multiclass_faults(c: "Contract") -> Iterator[str]:
    yield from _class_faults(c)
    if len(c.target.classes or ()) == 2:
        yield "target.classes: found 2; with two classes say task: binary"
    for key in ("positive", "costs"):
        if getattr(c.target, key) is not None:
            yield f"target.{key}: is for task: binary; remove it"


def _class_faults(c: "Contract") -> Iterator[str]:
    target, classes = c.target, c.target.classes
    defaults = {"range": None, "transform": "none", "per": None}
    for key, default in defaults.items():
        if getattr(target, key) != default:
            yield f"target.{key}: is for numbers, and task is {c.task}; remove it"
    if target.metric in OF_NUMBERS:
        yield (
            f"target.metric: {target.metric} is for numbers; choose {', '.join(OF_CLASSES)}, or "
            "leave it out"
        )
    if classes is None:
        yield f"target.classes: task: {c.task} needs them; list every value that the column has"
        return
    for name in [n for n in dict.fromkeys(classes) if classes.count(n) > 1]:
        yield f"target.classes: {name!r} stands twice; name each once"
    if len(classes) > MOST_CLASSES:
        yield (
            f"target.classes: found {len(classes):,}, expected at most {MOST_CLASSES:,}; put rare "
            "ones together, or predict a number"
        )


_OF_TASK = {
    "regression": _number_faults,
    "binary": _binary_faults,
    "multiclass": _multiclass_faults,
}
