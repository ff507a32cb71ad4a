"""Candidates: what is told of a build, of who ran in it, who won and why.

It decides the words, the tables and the geometry of the figures. Pure: it reads
no file and computes no number that is not in a record; its templates escape
every value.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from loopbook.models.measures import Measure, of_record
from loopbook.pages.formats import Amount, changed, said
from loopbook.pages.rendering import render

Record = Mapping[str, Any]


def candidates(version: Mapping[str, str], decision: Record) -> str:
    """Who ran in the build of a version, who won, and what the gate said."""
    return render("candidates", version=version, **_told(version, decision))


def decision_page(decision: Record) -> str:
    """The record of a decision as a page by itself, to be kept beside it."""
    version = {"number": decision["challenger"]["version"]}
    return render("decision", version=version, **_told(version, decision)) + "\n"


def changes(
    intervals: Mapping[str, Record], measure: Measure
) -> Iterator[tuple[str, Amount, Amount, Amount, int]]:
    """Intervals of a difference of errors, a row a slice."""
    for name, i in intervals.items():
        yield name, *(changed(i[end], measure) for end in ("mean", "low", "high")), i["n"]


def _told(version: Mapping[str, str], decision: Record) -> dict[str, Any]:
    measure, bias = of_record(decision)
    ranked = [
        (
            place,
            row["candidate"],
            said(row["loss"], measure),
            Amount("") if row["bias"] is None else changed(row["bias"], bias),
            "yes" if row["exportable"] else "no",
            row["latency_ms"],
        )
        for place, row in enumerate(decision.get("ranked", []), 1)
    ]
    against = [
        (other, *row)
        for other, intervals in decision.get("against", {}).items()
        for row in changes(intervals, measure)
    ]
    checks = [
        (check["name"], "passed" if check["passed"] else "FAILED", check["reason"])
        for check in decision.get("checks", [])
    ]
    return {
        "decision": decision,
        "ranked": ranked,
        "against": against,
        "checks": checks,
        "measure": measure,
        "ways_on": [] if version.get("promoted_at") else decision.get("ways_on", []),
    }
