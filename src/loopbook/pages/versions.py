"""Pages about a version: what their templates get.

It decides what is told of a model's card, in words and in the measure of the
build. Pure: it reads no file and
computes no number that is not in a record; its templates escape every value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopbook.models.measures import amount, decimal, of_record
from loopbook.pages import metrics
from loopbook.pages.candidates import changes
from loopbook.pages.formats import Amount, changed, count, range_end, share
from loopbook.pages.rendering import render
from loopbook.project.clock import both_clocks

Record = Mapping[str, Any]
MOST_CLASSES = 12  # that a sentence names


def no_champion(version: Mapping[str, str], decision: Record) -> str:
    """Why nothing serves though a version was built, and what a person can do.

    Parameters
    ----------
    version : mapping
        The tags of the newest version, with its `number`.
    decision : mapping
        The record of its build; empty where it is not there.
    """
    return render(
        "no_champion",
        version=version,
        sentence=decision.get("sentence") or version.get("gate_reason", "nobody said why"),
        ways_on=ways_on(version["number"], decision),
    )


def ways_on(number: str, decision: Record) -> list[str]:
    """What a person can do where a version does not serve, a sentence each."""
    by_hand = f'loopbook promote {number} --reason "…" (it serves all the same)'
    return decision.get("ways_on") or [by_hand]


def model_card(
    version: Mapping[str, str],
    card: Record,
    decision: Record,
    papers: tuple[bytes | None, str] = (None, ""),
    called: Callable[[str], str] = str,
    slice_called: Callable[[str], str] = str,
) -> str:
    """What a version is, where it comes from, what it may be asked.

    Parameters
    ----------
    papers : pair
        The page of its dossier, None where there is none; who signed it, or why
        there is none.
    called : function
        What people call an input, by its name.
    slice_called : function
        What people call a slice, by its name.
    """
    measure, bias = of_record(decision)
    inputs = [
        (
            name,
            feature.get("alias"),
            feature["type"],
            feature.get("unit"),
            _range(feature.get("range")),
            feature["meaning"],
        )
        for name, feature in card["contract"]["features"].items()
    ]
    return render(
        "model_card",
        version=version,
        card=card,
        inputs=inputs,
        kind=_kind(card["target"]),
        decided=_decided(card),
        parity=_parity(card),
        measure=measure,
        metrics=metrics.rows(
            card["validation"], decision.get("metric"), (measure, bias), card["target"]["unit"]
        ),
        by_class=metrics.by_class(card["validation"]),
        slices=list(
            changes(decision.get("against", {}).get("baseline", {}), measure, slice_called)
        ),
        important=[
            (called(r["feature"]), changed(r["rise"], measure))
            for r in decision.get("importance", [])
        ],
        lineage=_lineage(version, card),
        leaks=_leaks(card, decision),
        known_after=_known_after(card),
        dossier=papers[0],
        signed=papers[1],
    )


def _leaks(card: Record, decision: Record) -> list[tuple[str, str]]:
    """Inputs that know the target and were accepted, and what its judges shared with its teachers."""
    accepted = card.get("accepted_leaks", {}).items()
    found = [(name, f"knows the target, and was accepted: {why}") for name, why in accepted]
    for leak in decision.get("leaks", []):
        told = f"{leak['evidence']}: {leak['remedy']}"
        about = "rows" if leak["kind"] == "twice" else ", ".join(leak["columns"])
        if leak["accepted"] is None:
            found.append((about, told))
    return found


def _known_after(card: Record) -> str:
    ignored = card["contract"].get("ignored", [])
    return ", ".join(entry["column"] for entry in ignored if not isinstance(entry, str))


def _kind(target: Record) -> str:
    """What the target can be, in a few words."""
    if classes := target.get("classes"):
        more = len(classes) - MOST_CLASSES
        told = ", ".join(f"“{name}”" for name in classes[:MOST_CLASSES])
        told += f" and {more:,} more" if more > 0 else ""
        yes = f"; “{target['positive']}” is the positive class" if target.get("positive") else ""
        return f"one of {told}{yes}"
    unit = target["unit"] or "no unit"
    return "a number" if unit == target["name"] else unit


def _decided(card: Record) -> list[tuple[str, Any]]:
    """From which probability on yes is answered, and what that is worth; empty elsewhere."""
    target, decision = card["target"], card.get("decision") or {}
    costs = target.get("costs") or {}
    yes = target.get("positive") or "yes"
    said = {name: Amount(amount(value)) for name, value in decision.items()}
    for name, form in (("threshold", share), ("rows", count)):
        if name in decision:
            said[name] = Amount(form(decision[name]))
    words = {
        "threshold": f"{yes} is answered from a probability of",
        "cost": "mean cost of a row with it",
        "cost_at_half": "the same from 50 %",
        "cost_of_no": f"the same if {yes} were never answered",
        "cost_of_yes": f"the same if {yes} were always answered",
        "rows": "rows on which it was chosen",
    }
    told = [(f"cost of a {name.replace('_', ' ')}", cost) for name, cost in costs.items()]
    order = [name for name in words if name in said] + [name for name in said if name not in words]
    return [*((words.get(name, name), said[name]) for name in order), *told]


def _parity(card: Record) -> str:
    """How far the exported model is from the fitted one, a sentence; older cards were relative."""
    from loopbook.models.classes import Classes  # Polars: only this page waits for it
    from loopbook.models.number import Number

    parity = card.get("parity") or {}
    if "largest" not in parity:
        return "Nobody has measured it."
    kind = Classes if card["target"].get("classes") else Number
    words = kind.parity_words if "spread" in parity else "of the answer"
    return (
        f"On {parity['rows']:,} rows the largest difference is {decimal(parity['largest'], 2)} {words}; "
        f"allowed is {decimal(parity['tolerance'], 2)}."
    )


def _lineage(version: Mapping[str, str], card: Record) -> dict[str, str]:
    return {
        "run": version["run_id"],
        "snapshot (SHA-256)": card["snapshot_sha256"],
        "contract (SHA-256)": card["contract_sha256"],
        "graph (SHA-256)": version.get("onnx_sha256", "unknown"),
        "reference (SHA-256)": version.get("reference_sha256", "none"),
        "commit": version.get("git_commit", "unknown"),
        "data as of": card["as_of"][:10] if card["as_of"] else "no time: all rows of the table",
        "promoted": _promoted(version),
    }


def _promoted(version: Mapping[str, str]) -> str:
    done_at = version.get("promoted_at")
    return both_clocks(version.get("promoted_as_of"), done_at) if done_at else "never"


def _range(ends: Sequence[float] | None) -> str:
    return " to ".join(map(range_end, ends)) if ends else ""
