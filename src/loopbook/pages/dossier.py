"""Dossier: the page of all that is on record about a version, in the order of the AI Act's Annex IV.

It decides which record stands under which heading of the Annex, and what only a
person can say: that is marked, and never filled in. Every number stands on the
page with its place in the record (`recorded`). It prints well and needs no other file.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from loopbook.models.measures import Measure, of_record
from loopbook.pages import dossier_judging, dossier_making
from loopbook.pages.blocks import Part, Person, Row, Section, Table, interval, knobs, text
from loopbook.pages.formats import instant, range_end
from loopbook.pages.recorded import Records
from loopbook.pages.rendering import render


def page(record: Mapping[str, Any]) -> str:
    """The dossier of a version as one HTML page.

    Parameters
    ----------
    record : mapping
        What `dossiers.gather` made, read from its JSON.
    """
    told = Records(record)
    return render("dossier", told=told, sections=list(sections(told)))


def sections(told: Records) -> Iterator[Section]:
    """Every heading of the Annex, the short ones too: a heading that is left out looks forgotten."""
    measures = of_record(told.get("decision", default={}))
    yield from _general(told)
    yield from dossier_making.sections(told, measures)
    yield from dossier_judging.sections(told, measures)
    yield from _afterwards(told, measures)


# -- 1: what it is -------------------------------------------------------------


def _general(told: Records) -> Iterator[Section]:
    yield Section(
        "1 (a)",
        "Purpose, provider and version",
        [
            text(told("card", "contract", "meaning")),
            text(
                "It predicts ",
                told("card", "target", "name"),
                ": ",
                told("card", "target", "meaning"),
            ),
            Table(
                ("", ""),
                [
                    ("model", told("version", "name")),
                    ("version", told("version", "number")),
                    ("candidate", told("card", "candidate")),
                    ("version before it", _before(told)),
                    ("decided at (UTC)", told("decision", "decided_at", form=instant)),
                    ("data as of (UTC)", told("card", "as_of", form=instant)),
                ],
            ),
            Person("What is it intended for, and what is it not to be used for?"),
            Person("Who provides it, and who is to be asked about it?"),
        ],
    )
    yield Section(
        "1 (b)",
        "What it works with",
        [
            text(
                "It answers over HTTP as JSON and by the Open Inference Protocol, and scores files "
                "in batches. Each answer is logged before the caller gets it."
            ),
            Person("Which systems ask it, and which act on its answers?"),
        ],
    )
    yield Section(
        "1 (c)",
        "Software",
        [
            Table(
                ("", ""),
                [
                    ("Python", told("run", "tags", "python")),
                    ("requirements.lock (SHA-256)", told("run", "tags", "environment_sha256")),
                    ("form of the card", told("card", "card_version")),
                ],
            ),
            text("bom.cdx.json, beside this page, lists the packages of the lock."),
        ],
    )
    yield Section(
        "1 (d) to (f)",
        "Forms, hardware, products",
        [
            text(
                "It is a graph of ONNX with a card of JSON in a registry of MLflow. One row took ",
                _latency(told),
                " on the machine that built it.",
            ),
            Person("In which forms is it supplied, or put into service?"),
            Person("On which hardware is it to run? Of which products is it a part?"),
        ],
    )
    yield Section(
        "1 (g) and (h)",
        "Interface and instructions for use",
        [
            text("These are the inputs of a request. Outside its ranges an answer is a guess."),
            Table(
                ("input", "alias", "type", "unit", "from", "to", "meaning"),
                [_input(told, name) for name in told.get("card", "contract", "features")],
            ),
            Person("What does whoever uses its answers have to know and to do?"),
        ],
    )


def _before(told: Records) -> Part:
    """The champion that it replaced; a record of no champion says None."""
    is_told = "previous" in told.get("decision", default={})
    return (
        told("decision", "previous", "label")
        if told.get("decision", "previous")
        else ("none" if is_told else told("decision", "previous"))
    )


def _latency(told: Records) -> Part:
    chosen = told.get("card", "candidate")
    for place, row in enumerate(told.get("decision", "ranked", default=[])):
        if row["candidate"] == chosen:
            return told("decision", "ranked", place, "latency_ms", form=lambda ms: f"{ms:.3g} ms")
    return told("decision", "latency_ms")


def _input(told: Records, name: str) -> Row:
    way = ("card", "contract", "features", name)
    optional = [
        told(*way, key) if told.get(*way, key) is not None else "" for key in ("alias", "unit")
    ]
    ends = [
        told(*way, "range", place, form=range_end) if told.get(*way, "range") else ""
        for place in (0, 1)
    ]
    return name, optional[0], told(*way, "type"), optional[1], *ends, told(*way, "meaning")


# -- 5 to 9 and the lineage ----------------------------------------------------


def _afterwards(told: Records, measures: tuple[Measure, Measure]) -> Iterator[Section]:
    yield Section("5", "Risk management", [Person("The risk management system of Article 9.")])
    ablation = [
        (name, *interval(told, ("decision", "ablation", name), measures[0]))
        for name in told.get("decision", "ablation", default={})
    ]
    yield Section(
        "6",
        "Changes through its life",
        [
            Table(("", ""), list(_lineage(told)), "Lineage"),
            Table(
                ("an idea, against the same candidate without it", "change", "from", "to"), ablation
            ),
            text(
                "What happened to the version later stands in the registry: loopbook champion, "
                "loopbook history."
            ),
            Person("Which changes did the provider make beside those of the loop?"),
        ],
    )
    yield Section(
        "7", "Standards", [Person("Which harmonised standards were applied, or what else?")]
    )
    yield Section(
        "8", "Declaration of conformity", [Person("A copy of the declaration of Article 47.")]
    )
    yield Section(
        "9",
        "Monitoring after it serves",
        [
            text(
                "Windows of answers are judged for drift, broken inputs and errors, each with one "
                "verdict: healthy, watch, investigate or retrain."
            ),
            knobs(told, ("monitor_",), "Knobs, as env.yaml had them"),
            Person("The plan of Article 72: who looks, how often, and whom do they tell?"),
        ],
    )


def _lineage(told: Records) -> Iterator[Row]:
    yield "run", told("version", "run_id")
    yield "commit", told("run", "tags", "git_commit")
    yield "changes that no commit had", told("run", "tags", "git_dirty")
    yield "loopbook", told("origin", "library", "version")
    yield "contract (SHA-256)", told("card", "contract_sha256")
    yield "snapshot (SHA-256)", told("card", "snapshot_sha256")
    yield "requirements.lock (SHA-256)", told("run", "tags", "environment_sha256")
    for name in told.get("registered"):
        if name.endswith("_sha256") and name != "snapshot_sha256":
            yield (
                f"{name.removesuffix('_sha256').replace('_', ' ')} (SHA-256)",
                told("registered", name),
            )
