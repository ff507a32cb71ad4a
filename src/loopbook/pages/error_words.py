"""Error words: what a figure of errors shows, as a computed sentence.

It decides the sentence below each figure of `error_plots`, in the task's measure.
It draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopbook.pages.figures import short
from loopbook.project.counts import counted

if TYPE_CHECKING:
    from loopbook.models.evaluation import Interval
    from loopbook.models.measures import Measure


FEW = 2  # lines that a sentence tells one by one


def course(periods: Sequence[Mapping[str, Any]], usual: float | None, measure: Measure) -> str:
    """What the last error is, beside that at promotion and the first."""
    known = [p for p in periods if p.get("error") is not None]
    if not known:
        last = [p for p in periods if p.get("estimated") is not None][-1]
        return (
            "No ground truth has come yet; the error of the last period is estimated at "
            f"{measure.said(last['estimated'])}."
        )
    last = known[-1]
    ends = [last["low"], last["high"]] if None not in (last.get("low"), last.get("high")) else []
    reach = " ({} to {})".format(*map(measure.said, ends)) if ends else ""
    told = f"The last known error is {measure.said(last['error'])}{reach}"
    if usual is not None:
        told += beside(measure.said(usual), usual, ends)
    if len(known) > 1:
        least, most = (pick(p["error"] for p in known) for pick in (min, max))
        ends = dict.fromkeys((measure.said(least), measure.said(most)))
        told += f". In {len(known):,} periods it " + (
            f"lay between {' and '.join(ends)}" if len(ends) > 1 else "was the same"
        )
    return f"{told}."


def beside(said: str, usual: float, ends: Sequence[float]) -> str:
    """How an error with these ends is, held against the usual one."""
    if ends and (usual < ends[0] or usual > ends[1]):
        return (
            f", beyond doubt {'more' if usual < ends[0] else 'less'} than the {said} at promotion"
        )
    return f"; at promotion it was {said}, and the difference may be chance"


def largest(every: Interval, others: Sequence[tuple[str, Interval]], measure: Measure) -> str:
    """On which slice the error is largest, and whether that is beyond doubt."""
    if not others:
        return f"The error of all rows is {measure.said(every.mean)} (n = {every.n:,})."
    name, i = max(others, key=lambda pair: pair[1].mean)
    is_sure = "" if i.low > every.mean else "; that may be chance"
    return (
        f"The error is largest on {short(name)}: {measure.said(i.mean)} (n = {i.n:,}), beside "
        f"{measure.said(every.mean)} on all rows{is_sure}."
    )


def reach(i: Interval, said: Callable[[float], str]) -> str:
    return f"{said(i.mean)} ({said(i.low)} to {said(i.high)}, n = {i.n:,})"


def farthest_groups(tables: Mapping[str, Any], said: Callable[[float], str]) -> str:
    """In which group of rows each model's mean prediction is farthest from the mean outcome.

    Parameters
    ----------
    tables : mapping from a model's role to its groups, with `predicted` and `observed`
    """
    told = []
    for role, table in tables.items():
        far = (table["observed"] - table["predicted"]).abs().arg_max()
        predicted, outcome = (said(float(table[name][far])) for name in ("predicted", "observed"))
        told.append(f"{short(role)} predicted {predicted} and came to {outcome}")
    groups = max(table.height for table in tables.values())
    return f"Of {counted(groups, 'group')} of rows, the farthest off: {'; '.join(told)}."


def is_off(i: Interval) -> bool:
    return i.low > 0 or i.high < 0


def changed(rows: Mapping[str, Interval], measure: Measure) -> str:
    """How many of some differences are better and worse beyond doubt, and how the first is, or both of two."""
    better, worse = sum(i.high < 0 for i in rows.values()), sum(i.low > 0 for i in rows.values())
    shown = list(rows.items())[: len(rows) if len(rows) <= FEW else 1]
    told = "; ".join(f"{short(name)}: {reach(i, measure.said_change)}" for name, i in shown)
    if len(rows) == 1:
        beyond = "better beyond doubt" if better else "worse beyond doubt" if worse else ""
        return f"{told}; {beyond or 'that may be chance'}."
    return f"{_beyond_doubt(len(rows), better, worse)}; {told}."


def _beyond_doubt(count: int, better: int, worse: int) -> str:
    """How many of several are better and worse, as a person says it."""
    if not better and not worse:
        return f"None of {count:,} differs beyond doubt"
    if count in (better, worse):
        return f"All {count:,} are {'better' if better else 'worse'} beyond doubt"
    of = f"of {count:,} is", f"of {count:,} are"
    if better and worse:
        return f"{counted(better, *of)} better beyond doubt and {counted(worse, 'is', 'are')} worse"
    some, other = ("better", "worse") if better else ("worse", "better")
    return f"{counted(better or worse, *of)} {some} beyond doubt and none is {other}"


def biased(rows: Mapping[str, Interval], measure: Measure) -> str:
    """Which biases differ from zero beyond doubt; of none, which is farthest."""
    off = {name: i for name, i in rows.items() if is_off(i)}
    if off:
        many = f"{counted(len(off), f'of {len(rows):,} differs', f'of {len(rows):,} differ')}"
        told = f"{many} from zero beyond doubt{', most of all' if len(off) > 1 else ':'}"
    else:
        told = "None differs from zero beyond doubt; farthest is"
    far = max(off or rows, key=lambda name: abs(rows[name].mean))
    return f"{told} {short(far)}, at {reach(rows[far], measure.said_change)}."
