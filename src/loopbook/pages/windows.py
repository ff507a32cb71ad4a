"""Pages about a window: what their templates get.

It decides the rows of their tables, in words. Pure: it reads no file and
computes no number that is not in a record; its templates escape every value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from loopbook.models.measures import Measure, amount, of_record
from loopbook.pages import metrics
from loopbook.pages.formats import Amount, asked, changed, distance, instant, said, share
from loopbook.pages.rendering import PAGES, render
from loopbook.project.clock import both_clocks
from loopbook.project.counts import counted

Record = Mapping[str, Any]
Figures = Mapping[str, bytes]
MOST_CLASSES = 12  # that have a bar of their own


def markdown(text: str) -> str:
    """A text of the data as Markdown: neither markup nor a formula."""
    return escape(text).replace("$", r"\$")


def navigation(page: str, others: Sequence[str] = ()) -> str:
    """The links to all pages, with the one that is shown marked; `page` is its name.

    Parameters
    ----------
    others : sequence of str
        Names of pages that a project has besides, without their ending.
    """
    pages = PAGES | {name: name.lstrip("0123456789_").replace("_", " ") or name for name in others}
    current = next((name for name in PAGES if name.partition("_")[2] == page), "")
    return render("navigation", pages=pages, current=current)


def nothing(sentence: str, command: str, title: str = "Nothing to show") -> str:
    """A page that says what is missing and which command brings it."""
    return render("nothing", title=title, sentence=sentence, command=command)


def overview(record: Record, happened: Sequence[tuple[str, ...]], figures: Figures) -> str:
    """Is the model well? In five seconds.

    Parameters
    ----------
    happened : sequence of (as of, done at, what, why), the newest first
    """
    champion = record["champion"]
    done_at = champion.get("promoted_at")
    promoted = (
        both_clocks(champion.get("promoted_as_of") or done_at, done_at) if done_at else "by hand"
    )
    measure, bias = of_record(record)
    return render(
        "overview",
        record=record,
        happened=happened,
        figures=figures,
        promoted=promoted,
        measure=measure,
        bias=bias,
    )


def happenings(
    records: Sequence[Record], versions: Sequence[Mapping[str, str]], most: int = 25
) -> list[tuple[str, str, str, str]]:
    """Verdicts, promotions and refusals, the newest first: as of, done at, what, why.

    Of equal verdicts in a row the first is shown. When a version was refused, its tags do not say.
    """
    events, last = [], None
    for record in records:
        level = record["verdict"]["level"]
        if level != last:
            why = record["verdict"]["reasons"][0]
            events.append((record["as_of"], record["decided_at"], f"verdict: {level}", why))
        last = level
    for version in reversed(versions):
        when = version.get("promoted_as_of", version.get("as_of", ""))
        what = "promoted" if version.get("promoted_at") else "refused"
        why = version.get("promoted_reason") or version.get("gate_reason", "")
        events.append((when, version.get("promoted_at"), f"v{version['number']} {what}", why))
    events.sort(
        key=lambda event: instant(event[0])
    )  # at one instant a verdict led to what comes after
    return [
        (instant(of), instant(done_at) if done_at else "", what, why)
        for of, done_at, what, why in events[: -most - 1 : -1]
    ]


def drift(
    record: Record,
    figures: Figures,
    report: str | None,
    called: Callable[[str], str],
    *,
    is_trailing: bool = True,
) -> str:
    """What has moved, what is broken, and Evidently's report.

    Parameters
    ----------
    called : function
        The name of a column for readers.
    is_trailing : bool
        Whether the contract has features of earlier rows.
    """
    columns = [
        (
            called(column["column"]),
            distance(column["distance"]),
            distance(column["threshold"]),
            _judgement(column),
        )
        for column in record["columns"]
    ]
    faults = [
        (
            called(fault["column"]),
            "a person" if fault["is_broken"] else "nobody",
            f"{fault['sentence']}.",
        )
        for fault in record["faults"]
    ]
    return render(
        "drift",
        record=record,
        figures=figures,
        report=report,
        is_drawn="<script" in (report or ""),  # else a sentence stands in its file
        columns=columns,
        is_trailing=is_trailing,
        faults=faults,
        broken=_asked_for(record["faults"]),
    )


def _asked_for(faults: Sequence[Record]) -> str:
    """How many faults ask for a person, and what that means."""
    count = sum(bool(fault["is_broken"]) for fault in faults)
    if not count:
        return "Nothing that asks for a person; this was only noticed:"
    return f"{counted(count, 'fault asks', 'faults ask')} for a person. Until it is mended, no model is trained."


def _judgement(column: Record) -> str:
    if not column["is_judged"]:
        return "moves with time by its nature, and is not judged"
    return "moved" if column["has_drifted"] else "may differ by chance"


def performance(record: Record, figures: Figures, unit: str | None = None) -> str:
    """How wrong, when, for whom; realized beside estimated; `unit` is the target's where it is known."""
    measure, bias = of_record(record)
    by_class = metrics.by_class(record["metrics"])
    return render(
        "performance",
        record=record,
        figures=figures,
        measure=measure,
        known=_known(record, measure, bias),
        metrics=metrics.rows(
            *(record["metrics"], record.get("loss"), (measure, bias)),
            unit=unit or (bias.unit if bias.scale == 1 else None),
        ),
        by_class=by_class,
        shares=metrics.class_shares(record["columns"], [name for name, *_ in by_class]),
    )


def _known(record: Record, measure: Measure, bias: Measure) -> list[tuple[str, str]]:
    """The errors of a window, as far as they are known: what each is, and how large."""
    numbers = record["numbers"]
    of = f" of {record['bias_of']}" if record.get("bias_of") else ""
    error, change = partial(said, measure=measure), partial(changed, measure=measure)
    off, parts = partial(changed, measure=bias), partial(share, digits=1)
    is_number = numbers.get("set_size") is None
    what, where = ("targets", "interval") if is_number else ("classes", "set")
    told = (
        (f"realized {measure.title}", "error", error),
        ("estimated for the same answers", "estimated_error_of_judged", error),
        ("growth since promotion", "error_growth", change),
        (f"{bias.title}{of} (below 0: too little)", "bias", off),
        (f"{bias.title}{of} before calibration", "raw_bias", off),
        ("change of the bias since promotion", "bias_moved", off),
        (f"of the observed {what} lie in their {where}", "inside", parts),
        (f"of the observed {what} lie above their {where}", "above", parts),
        (f"of the observed {what} lie below their {where}", "below", parts),
        ("classes that a set has on average", "set_size", "{:.2f}".format),
        ("of the ground truth that is due has come", "coverage", partial(share, digits=0)),
    )
    return [(what, form(numbers[n])) for what, n, form in told if numbers.get(n) is not None]


def what_if(wrong: Sequence[str] = ()) -> str:
    """The head of the page that asks a version; `wrong` is what its link asks for in vain."""
    return render("what_if", wrong=wrong)


def answer_follows() -> str:
    """What stands in the place of the first answer until it is there."""
    return render("answer_follows")


def what_if_link(address: str) -> str:
    """The link that opens the page with the inputs as they stand."""
    return render("what_if_link", address=address)


@dataclass(frozen=True)
class HowSure:
    """How far an answer is to be trusted: an interval, or all probabilities and a set of classes.

    Attributes
    ----------
    level : the share of truths that an interval or a set holds
    why : what the calibration state says of itself
    """

    probabilities: Mapping[str, float] | None = None
    interval: Sequence[float] | None = None
    classes: Sequence[str] | None = None
    level: float = 0.9
    why: str = ""


def answer(
    value: float | str,
    target: str,
    explanation: Record,
    places: Mapping[str, str],
    notes: Sequence[str],
    sure: HowSure | None = None,
) -> str:
    """An answer, its contributions, and where its inputs lie among the training rows.

    A class is shown with the probabilities of all, the most probable of many; a
    number as a mark in its interval.
    """
    sure = sure or HowSure()
    probabilities = sure.probabilities
    parts = explanation["contributions"]
    largest = max((abs(part["contribution"]) for part in parts), default=0.0)
    contributions = [
        {
            "input": part["feature"],
            "value": asked(part["value"]),
            "contribution": Amount(amount(part["contribution"], signed=True)),
            "bar": _bar(part["contribution"], largest),
            "place": places.get(part["feature"], ""),
        }
        for part in parts
    ]
    return render(
        "answer",
        target=target,
        answer=value,
        base=float(explanation["base"]),
        total=explanation["base"] + sum(part["contribution"] for part in parts),
        unit=explanation.get("unit", ""),
        bars=_most_probable(probabilities),
        sure=sure,
        mark=_mark(value, sure.interval),
        more=max(len(probabilities or {}) - MOST_CLASSES, 0),
        notes=notes,
        contributions=contributions,
    )


def _bar(contribution: float, largest: float) -> tuple[float, float]:
    """Where a bar begins and how long it is, in per cent of its cell, whose middle is none at all."""
    length = 50 * abs(contribution) / (largest or 1)
    return (50 if contribution >= 0 else 50 - length), length


def _mark(value: float | str, interval: Sequence[float] | None) -> float | None:
    """Where an answer stands in its interval, as a share of its width; None without a width."""
    if interval is None or interval[1] <= interval[0]:
        return None
    share = (value - interval[0]) / (interval[1] - interval[0])
    return min(max(share, 0.0), 1.0)


def _most_probable(probabilities: Mapping[str, float] | None) -> list[tuple[str, float]]:
    """The classes with their probabilities, in the contract's order; of many the most probable."""
    some = list((probabilities or {}).items())
    if len(some) <= MOST_CLASSES:
        return some
    return sorted(some, key=lambda pair: -pair[1])[:MOST_CLASSES]
