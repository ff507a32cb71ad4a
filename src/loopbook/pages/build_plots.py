"""Build plots: the candidates of a build beside each other, and versions over time.

It decides what is drawn of records that are finished; it computes no error.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any

from loopbook.models.evaluation import Interval
from loopbook.models.measures import of_record
from loopbook.pages import error_plots, figures
from loopbook.pages.candidates import Past
from loopbook.pages.figures import CHAMPION, REFERENCE, Picture, sized
from loopbook.project.clock import parse_instant

LEAST = 2  # versions that make a line


def behind(decision: Mapping[str, Any]) -> bytes | None:
    """How much more each candidate erred than the chosen one; None where no record says it."""
    known = {name: Interval(**i) for name, i in (decision.get("behind") or {}).items()}
    if not known:
        return None
    rows = dict(sorted(known.items(), key=lambda pair: pair[1].mean))  # as the table beside it
    measure, _ = of_record(decision)
    chosen = decision["challenger"]["candidate"]
    return _file(error_plots.changes(rows, measure, f"{measure.change_axis}, against {chosen}"))


def over_versions(past: Sequence[Past]) -> bytes | None:
    """The error of each version on its own test, and who of them was promoted."""
    known = [one for one in past if one.error is not None and one.decision.get("as_of")]
    return _file(_over_versions(known)) if len(known) >= LEAST else None


@sized
def _over_versions(past: Sequence[Past]) -> Picture:
    drawn, axis = figures.figure(260)
    measure, _ = of_record(past[0].decision)
    at = [parse_instant(one.decision["as_of"]) for one in past]
    shown = [float(measure.shown(one.error)) for one in past]
    order = sorted(range(len(past)), key=lambda place: at[place])
    axis.plot([at[p] for p in order], [shown[p] for p in order], color=REFERENCE, lw=1)
    for one, moment, error in zip(past, at, shown, strict=True):
        colour = CHAMPION if one.is_promoted else REFERENCE
        axis.plot(moment, error, "o" if one.is_promoted else "x", color=colour)
        word = "promoted" if one.is_promoted else "not promoted"
        told = f"v{one.about['number']}, {one.candidate}: {measure.said(one.error)}, {word}"
        drawn.tell(axis, moment, error, told)
    axis.set_ylabel(measure.axis)
    figures.dated(axis, at, timedelta(days=1))
    served = sum(one.is_promoted for one in past)
    drawn.finding = (
        f"Each version on its own test: {measure.said(past[-1].error)} for "
        f"v{past[-1].about['number']}, {measure.said(past[0].error)} for "
        f"v{past[0].about['number']}; {served} of {len(past)} were promoted (dots). The rows "
        "differ from version to version, so this is no comparison of models."
    )
    return drawn


def _file(picture: Picture) -> bytes:
    content = BytesIO()
    picture.savefig(content, format="svg")
    return content.getvalue()
