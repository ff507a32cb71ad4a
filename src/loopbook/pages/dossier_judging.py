"""Judging of a version: its tests, its slices, its intervals and its limits, in a dossier.

It decides what is said under the Annex's headings of validation, of control
and of the measures. A number is the gate's own, and none is computed here.
"""

from collections.abc import Iterator

from loopbook.models.measures import Measure
from loopbook.pages import metrics
from loopbook.pages.blocks import Part, Person, Section, Table, Text, interval, text, yes
from loopbook.pages.formats import Amount, cell, instant, said, share
from loopbook.pages.recorded import Records


def _tests(told: Records, measure: Measure, bias: Measure) -> Iterator[Text | Table | Person]:
    loss = lambda value: said(value, measure)  # noqa: E731
    yield text(
        told("decision", "sentence"),
        ". Judged on ",
        told("decision", "rows"),
        " rows that no compared model had seen.",
    )
    yield Table(
        ("check of the gate", "passed", "reason"),
        [
            tuple(
                told("decision", "checks", place, key, form=form)
                for key, form in (("name", cell), ("passed", yes), ("reason", cell))
            )
            for place in range(len(told.get("decision", "checks", default=[])))
        ],
        "The gate's record",
    )
    yield Table(
        ("model", measure.title),
        [
            (role, told("decision", "errors", role, form=loss))
            for role in told.get("decision", "errors", default={})
        ],
        "Errors on the judged rows",
    )
    yield Table(
        ("model", bias.title, "from", "to"),
        [
            (role, *interval(told, ("decision", "bias", role), bias))
            for role in told.get("decision", "bias", default={})
        ],
        "Bias on the judged rows",
    )
    yield Table(
        ("metric", "value"),
        [
            (metrics.WORDS.get(name, name.replace("_", " ")), told("card", "validation", name))
            for name in told.get("card", "validation", default={})
        ],
        "On the validation rows, before it was fitted again with them",
    )
    yield Person("Who is responsible for these tests? Date and signature.")


def testing(told: Records, measure: Measure, bias: Measure) -> Section:
    """The gate's record, errors, bias, and the metrics on the validation rows."""
    return Section("2 (g)", "Validation and testing", list(_tests(told, measure, bias)))


def sections(told: Records, measures: tuple[Measure, Measure]) -> Iterator[Section]:
    measure, _ = measures
    slices = [
        (other, name, *interval(told, way, measure), told(*way, "n"))
        for other, by_slice in told.get("decision", "against", default={}).items()
        for name in by_slice
        for way in (("decision", "against", other, name),)
    ]
    yield Section(
        "3",
        "Capabilities, limits and control",
        [
            Table(
                ("against", "rows", f"change of the {measure.title}", "from", "to", "n"),
                slices,
                "Slices: for whom it is better (below 0) or worse",
            ),
            *_calibration(told),
            text(
                "Its limits: the ranges of its inputs under 1 (g), categories that it has not "
                "seen, slices with too few rows to be judged, the leaks under 2 (d), and every "
                "check of the gate that did not pass."
            ),
            Person("Which outcomes are not intended, and what do they risk, and for whom?"),
            Person("Does it treat groups of people differently, and is that justified?"),
        ],
    )
    yield Section(
        "4",
        "Why these measures are appropriate",
        [
            text(
                "One loss decides everywhere, in the comparison of candidates, at the gate and in "
                "monitoring: ",
                told("decision", "metric"),
                f" ({measure.title}).",
            ),
            Person("Why is this the error that matters where its answers are used?"),
        ],
    )


def _calibration(told: Records) -> list[Text | Table]:
    if told.get("calibration") is None:
        return [text("No calibration state is on record: its answers begin without an interval.")]
    is_class = told.get("card", "target", "classes") is not None
    rows = [
        ("as of (UTC)", told("calibration", "as_of", form=instant)),
        ("truths behind the shift", told("calibration", "truths")),
        ("state", told("calibration", "reason")),
        ("what an interval should hold", _per_cent(told, "card", "target", "interval")),
        *((f"shift {place + 1}" if place else "shift", told("calibration", "shift", place))
          for place in range(len(told.get("calibration", "shift")))),
    ]  # fmt: skip
    if is_class:
        rows.append(("least probability in a set", told("calibration", "least")))
    bounds = [
        (told("calibration", "low", place), told("calibration", "high", place))
        for place in range(len(told.get("calibration", "low", default=[])))
    ]
    return [
        Table(("", ""), rows, "Calibration and intervals, as it began"),
        Table(
            ("interval: added to the answer, low", "high"),
            bounds,
            "In the link's space, by groups of answers from the smallest up",
        ),
    ]


def _per_cent(told: Records, *way: str) -> Part:
    return told(*way, form=lambda value: Amount(share(value, 0)))
