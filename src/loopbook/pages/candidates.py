"""Candidates: what is told of a build, of who ran in it, who won and why.

It decides the words, the tables and the geometry of the figures. Pure: it reads
no file and computes no number that is not in a record; its templates escape
every value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopbook.models.measures import Measure, amount, of_record
from loopbook.pages import links
from loopbook.pages.formats import Amount, changed, date, said
from loopbook.pages.rendering import render
from loopbook.project.counts import counted

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """A version with the record of its build, and from when to when it served."""

    about: Mapping[str, str]
    decision: Record
    served: Sequence[tuple[str, str | None]] = ()

    @property
    def candidate(self) -> str:
        return self.about.get("candidate", "unknown")

    @property
    def is_promoted(self) -> bool:
        return bool(self.about.get("promoted_at"))

    @property
    def error(self) -> float | None:
        """Its loss on the rows that judged it, which no version before has to share."""
        return self.decision.get("errors", {}).get("challenger")


def candidates(
    version: Mapping[str, str],
    decision: Record,
    *,
    figure: bytes | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    compared: str = "",
    called: Callable[[str], str] = str,
) -> str:
    """Who ran in the build of a version, who won and why, and what the gate said.

    Parameters
    ----------
    figure : how much more each other candidate erred
    settings : by candidate, what its run was told
    compared : where MLflow's pages compare the runs
    called : what people call a slice, by its name
    """
    told = _told(version, decision, called)
    beside = _side_by_side(settings or {})
    return render(
        "candidates", version=version, figure=figure, settings=beside, compared=compared, **told
    )


def versions(past: Sequence[Past], figure: bytes | None = None) -> str:
    """Every version with its error on its own test and when it served, the newest first."""
    rows = [
        {
            "number": one.about["number"],
            "link": links.to("4_candidates", version=one.about["number"]),
            "candidate": one.candidate,
            "as_of": date(one.decision.get("as_of")) if one.decision.get("as_of") else "all rows",
            "error": said(one.error, of_record(one.decision)[0]),
            "baseline": said(
                one.decision.get("errors", {}).get("baseline"), of_record(one.decision)[0]
            ),
            "gate": "promoted" if one.is_promoted else "not promoted",
            "served": "; ".join(_span(*span) for span in one.served) or "never",
        }
        for one in past
    ]
    return render("versions", rows=rows, figure=figure)


def _span(since: str, until: str | None) -> str:
    return f"{date(since)} to {date(until)}" if until else f"since {date(since)}"


def _side_by_side(
    settings: Mapping[str, Mapping[str, str]],
) -> tuple[list[str], list[tuple[str, ...]]]:
    """What runs were told, a row a setting and a column a run; what none has is left out."""
    names = sorted({name for told in settings.values() for name in told} - {"candidate"})
    rows = [(name, *(told.get(name, "–") for told in settings.values())) for name in names]
    return ["setting", *settings], rows


def why(decision: Record) -> str:
    """Why the challenger was chosen, a sentence; empty where the record does not say who ran."""
    ranked = [row for row in decision.get("ranked", []) if row["exportable"]]
    who = (decision.get("challenger") or {}).get("candidate")
    chosen = next((row for row in ranked if row["candidate"] == who), None)
    if chosen is None:
        return ""
    measure, _ = of_record(decision)
    told = (
        f"{who} was chosen from {counted(len(decision['ranked']), 'candidate')}: its {measure.title} on the "
        f"validation window was {measure.said(chosen['loss'])}"
    )
    baseline = next((row for row in ranked if row["candidate"] == "baseline"), None)
    if baseline and baseline["loss"] < chosen["loss"]:
        told += f" (the baseline had less there, {measure.said(baseline['loss'])}, and is what the gate holds it against)"
    others = [row for row in ranked if row["candidate"] not in (who, "baseline")]
    if not others:
        return f"{told}. No other candidate that could serve ran beside the baseline."
    next_one = others[0]["candidate"]
    between = (decision.get("behind") or {}).get(next_one)
    if between is None:
        return f"{told}; next was {next_one} with {measure.said(others[0]['loss'])}."
    ends = f"{measure.said_change(between['low'])} to {measure.said_change(between['high'])}"
    sure = "beyond doubt" if between["low"] > 0 else "a difference that may be chance"
    return (
        f"{told}; next was {next_one}, {measure.said_change(between['mean'])} on the same rows "
        f"(interval {ends}): {sure}."
    )


def decision_page(decision: Record) -> str:
    """The record of a decision as a page by itself, to be kept beside it."""
    version = {"number": decision["challenger"]["version"]}
    return render("decision", version=version, **_told(version, decision)) + "\n"


def changes(
    intervals: Mapping[str, Record], measure: Measure, called: Callable[[str], str] = str
) -> Iterator[tuple[str, Amount, Amount, Amount, int]]:
    """Intervals of a difference of errors, a row a slice; their unit stands above the table."""
    for name, i in intervals.items():
        ends = (measure.shown(i[end]) for end in ("mean", "low", "high"))
        yield called(name), *(Amount(amount(end, signed=True)) for end in ends), i["n"]


def _ranked(decision: Record) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns of who ran, and a row each; classes have no bias."""
    (measure, bias), ranked = of_record(decision), decision.get("ranked", [])
    has_bias = any(row["bias"] is not None for row in ranked)
    names = ["", "candidate", measure.title, *["bias"] * has_bias, "exports to ONNX", "ms a row"]
    rows = [
        (
            place,
            row["candidate"],
            said(row["loss"], measure),
            *[Amount("") if row["bias"] is None else changed(row["bias"], bias)] * has_bias,
            "yes" if row["exportable"] else "no",
            Amount(amount(row["latency_ms"])),
        )
        for place, row in enumerate(ranked, 1)
    ]
    return names, rows


def _told(
    version: Mapping[str, str], decision: Record, called: Callable[[str], str] = str
) -> dict[str, Any]:
    measure, _ = of_record(decision)
    against = [
        (other, *row)
        for other, intervals in decision.get("against", {}).items()
        for row in changes(intervals, measure, called)
    ]
    checks = [
        (check["name"], "passed" if check["passed"] else "FAILED", check["reason"])
        for check in decision.get("checks", [])
    ]
    return {
        "why": why(decision),
        "decision": decision,
        "ranked": _ranked(decision),
        "against": against,
        "checks": checks,
        "measure": measure,
        "ways_on": [] if version.get("promoted_at") else decision.get("ways_on", []),
    }
