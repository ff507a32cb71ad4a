"""Making of a version: the second point of the AI Act's Annex IV, in a dossier.

It decides what is said of how a version was developed and designed. Its data
sheet and its tests have modules of their own.
"""

from collections.abc import Iterator
from functools import partial

from loopbook.models.measures import Measure, decimal
from loopbook.pages import data_sheet, dossier_judging
from loopbook.pages.blocks import Part, Person, Section, Table, Text, knobs, text, yes
from loopbook.pages.formats import changed, day, said
from loopbook.pages.recorded import Records


def sections(told: Records, measures: tuple[Measure, Measure]) -> Iterator[Section]:
    measure, bias = measures
    loss = lambda value: said(value, measure)  # noqa: E731
    ranked = [
        (
            told("decision", "ranked", place, "candidate"),
            told("decision", "ranked", place, "loss", form=loss),
            told("decision", "ranked", place, "exportable", form=yes),
        )
        for place in range(len(told.get("decision", "ranked", default=[])))
    ]
    yield Section(
        "2 (a)",
        "How it was developed",
        [
            text(
                "Candidates were fitted on the oldest rows, compared on the validation rows and "
                "fitted again with them. The best one was judged on rows that it had not seen."
            ),
            Table(("candidate", f"{measure.title}, validation", "exportable"), ranked),
            text("Its last fit had ", told("card", "fitted", "rows"), " rows, ", *_window(told)),
        ],
    )
    rise = lambda value: changed(value, measure)  # noqa: E731
    important = [
        (
            told("decision", "importance", place, "feature"),
            told("decision", "importance", place, "rise", form=rise),
        )
        for place in range(len(told.get("decision", "importance", default=[])))
    ]
    yield Section(
        "2 (b)",
        "Design and what it optimises",
        [
            text(told("meaning")),
            text("Candidates are compared by ", told("decision", "metric"), f": {measure.title}."),
            *_threshold(told),
            Table(
                ("feature", f"rise of the {measure.title} when it is shuffled"),
                important,
                "Explanations: what it looks at",
            ),
            Table(
                ("setting", "value"),
                [(name, told("run", "params", name)) for name in told.get("run", "params")],
                "Settings",
            ),
            Person("Why this design, and which trade-offs were made?"),
        ],
    )
    yield Section(
        "2 (c)",
        "Architecture and computing",
        [
            text("The fitted model was exported as a graph. ", *_parity(told)),
            Person("Which computers were used to develop, train, test and validate it?"),
        ],
    )
    yield data_sheet.section(told)
    yield Section(
        "2 (e)",
        "Human oversight",
        [
            text(
                "A caller may ask for the reasons of an answer (explain), for an interval or a set "
                "of classes with it. A person can promote, roll back, and decide about rows that "
                "were set aside; each is recorded with name and reason."
            ),
            Person("Who oversees it, by which means, and when do they step in?"),
        ],
    )
    yield Section(
        "2 (f)",
        "Changes that are determined beforehand",
        [
            text(
                "The loop builds a challenger when the verdict on a window asks for it. It serves "
                "only if it passes the gate, and is rolled back if it is worse beyond doubt. "
                "Calibration moves answers each day within bounds."
            ),
            knobs(told, ("loop_", "calibration"), "Knobs, as env.yaml had them"),
        ],
    )
    yield dossier_judging.testing(told, measure, bias)
    yield Section(
        "2 (h)",
        "Cybersecurity",
        [
            text(
                "The service reads a graph of ONNX and a card of JSON, never a pickle, and only "
                "with the SHA-256 that the registry has. statement.dsse.json, beside this page, "
                "is the signature, where one was made."
            ),
            Person("Which other measures protect it, its data and its callers?"),
        ],
    )


def _window(told: Records) -> list[Part]:
    if told.get("card", "fitted", "since") is None:
        return ["chosen by key, since the table has no event time."]
    since, until = (told("card", "fitted", end, form=day) for end in ("since", "until"))
    return ["from ", since, " until ", until, "."]


def _threshold(told: Records) -> list[Text]:
    if told.get("card", "decision") is None:
        return []
    positive, at = told("card", "target", "positive"), told("card", "decision", "threshold")
    return [text("Because of the costs in the contract, ", positive, " is answered from ", at, ".")]


def _parity(told: Records) -> list[Part]:
    if told.get("card", "parity", "largest") is None:
        return ["How far its answers are from the fitted model's is not recorded."]
    two_digits = partial(decimal, digits=2)
    return [
        "On ",
        told("card", "parity", "rows"),
        " rows the largest difference of their answers is ",
        told("card", "parity", "largest", form=two_digits),
        "; allowed is ",
        told("card", "parity", "tolerance", form=two_digits),
        ".",
    ]
