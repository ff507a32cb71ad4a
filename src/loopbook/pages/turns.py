"""Loop pages: what their templates get of the loop's turns.

It decides how a turn is told in a line and how its record is laid out. Pure like
the pages of windows: nothing is computed. A key that it does not know is shown
under its own name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopbook.models.measures import Measure, of_record
from loopbook.pages.formats import changed, count, instant, number, said, share
from loopbook.pages.rendering import render
from loopbook.project.counts import counted

MOST_ACTED = 8
Record = Mapping[str, Any]
Pairs = list[tuple[str, Any]]
NUMBERS = {
    "rows": "answers in the window",
    "due": "answers whose ground truth is due",
    "labels": "answers with their ground truth",
    "coverage": "of the ground truth that is due has come",
    "error": "realized error",
    "error_low": "realized error, from",
    "error_high": "realized error, to",
    "bias": "bias (below 0: too little)",
    "bias_low": "bias, from",
    "bias_high": "bias, to",
    "raw_bias": "raw bias, before calibration",
    "raw_bias_low": "raw bias, from",
    "raw_bias_high": "raw bias, to",
    "inside": "of the observed targets lie in their interval or set",
    "inside_low": "in their interval or set, from",
    "inside_high": "in their interval or set, to",
    "above": "of the observed targets lie above their interval",
    "below": "of the observed targets lie below their interval",
    "set_size": "classes that a set has on average",
    "error_growth": "growth of the error since promotion",
    "error_growth_low": "growth of the error, from",
    "error_growth_high": "growth of the error, to",
    "bias_moved": "movement of the bias since promotion",
    "bias_moved_low": "movement of the bias, from",
    "bias_moved_high": "movement of the bias, to",
    "reference_error": "error at promotion",
    "reference_rows": "rows behind the error at promotion",
    "estimated_error": "estimated error of the newest answers",
    "estimated_error_of_judged": "estimated error of the judged answers",
    "drifted_columns": "inputs beyond chance",
    "judged_columns": "inputs judged",
    "skew_share": "answers with training/serving skew",
}

SHARES = {"coverage", "skew_share", "inside", "inside_low", "inside_high", "above", "below"}

KNOWN = {  # the keys of a record that have their place on the page
    *("turn", "as_of", "outcome", "reason", "champion", "asked", "probation", "attempt", "window"),
    *("challenger", "errors", "retrain_s", "confirmed", "resumed", "stage", "mlflow_run_id"),
    *("snapshot_sha256", "snapshot_rows", "began_at", "ended_at", "numbers", "verdict"),
    *("verdict_reasons", "loss", "measure", "bias_measure", "bias_of", "calibration"),
    *("compared", "growth"),
}


def top(records: Sequence[Record], waiting: Sequence[str], told: Callable[[str], str] = str) -> str:
    """The page's head: what the loop did last, in a sentence.

    Parameters
    ----------
    records : sequence of mappings
        Turns, oldest first.
    waiting : sequence of str
        What is not done yet: an open turn, a request for a retraining.
    told : function
        A reason of a verdict, as a reader is told it.
    """
    return render("loop", turn=_last(records[-1], told) if records else None, waiting=waiting)


def last_turn(record: Record) -> str:
    """A turn's outcome, reason and champion, as the page's first sentence."""
    return render("last_turn", turn=_last(record))


def _last(record: Record, told: Callable[[str], str] = str) -> dict[str, Any]:
    return {
        "number": record["turn"],
        "as_of": record["as_of"],
        "ended_at": record.get("ended_at"),
        "outcome": record["outcome"],
        "reason": _reason(record, told),
        "champion": record.get("champion"),
    }


def heading(title: str, anchor: str, sentence: str = "", command: str = "") -> str:
    """The title of a part; `sentence` says why it is empty, `command` what fills it, if anything does."""
    return render("heading", title=title, anchor=anchor, sentence=sentence, command=command)


def turns(
    records: Sequence[Record],
    figure: bytes | None,
    which: str,
    told: Callable[[str], str] = str,
) -> str:
    """Turns of this project as a figure and a list; a click shows a turn's record.

    Parameters
    ----------
    records : sequence of mappings
        Oldest first; the list has the newest first.
    which : str
        Which turns these are, a sentence.
    told : function
        A reason of a verdict, as a reader is told it.
    """
    some = listed(records, told=told)
    return render("turns", turns=some, figure=figure, which=which, acted=acted(records))


def acted(records: Sequence[Record]) -> list[tuple[str, str, str, str]]:
    """The newest turns that did not end with nothing: as of, outcome, champion, why."""
    some = [record for record in reversed(records) if record["outcome"] != "nothing"][:MOST_ACTED]
    return [
        (instant(r["as_of"]), r["outcome"], r.get("champion") or "none", _in_short(r["reason"]))
        for r in some
    ]


def _in_short(reason: str) -> str:
    """The first line of a reason; of a failed cell the turn's record has the others."""
    return reason.partition("\n")[0].rstrip(":")


def listed(
    records: Sequence[Record], root: str = "", told: Callable[[str], str] = str
) -> list[dict[str, Any]]:
    """What the templates get of some turns, the newest first."""
    return [_turn(record, root, told) for record in reversed(records)]


def turn(record: Record, root: str = "") -> str:
    """A turn in a line, which opens to its whole record.

    Parameters
    ----------
    root : str
        The folder of the project that turned, as a reader types it; empty for
        this one.
    """
    return render("turn", turn=_turn(record, root))


def whole_record(record: Record, root: str = "") -> str:
    """All that a turn's record holds, as questions and answers, and as it is written."""
    return render("record", turn=_turn(record, root))


def _reason(record: Record, told: Callable[[str], str] = str) -> str:
    """Why a turn ended as it did; where that is its verdict, with what the verdict rests on."""
    reasons = record.get("verdict_reasons") or ()
    if reasons and record["reason"] == f"the verdict is {record.get('verdict')}":
        return f"{record['reason']}: {told(reasons[0])}"
    return record["reason"]


def _turn(record: Record, root: str, told: Callable[[str], str] = str) -> dict[str, Any]:
    """What the templates of a turn get."""
    return {
        "as_of": record["as_of"],
        "verdict": record.get("verdict"),
        "verdict_reasons": [told(reason) for reason in record.get("verdict_reasons") or ()],
        "outcome": record["outcome"],
        "reason": _reason(record, told),
        "champion": record.get("champion"),
        "seen": _seen(record),
        "done": _done(record),
        "places": _places(record, root),
        "others": _pairs([(name, v) for name, v in record.items() if name not in KNOWN]),
        "written": json.dumps(dict(record), indent=2, ensure_ascii=False),
    }


def _pairs(rows: Sequence[tuple[str, Any]]) -> Pairs:
    return [(name, _plain(value)) for name, value in rows if value is not None]


def _plain(value: Any) -> str:
    """A value of a record, of whatever type, in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seen(record: Record) -> Pairs:
    numbers = record.get("numbers") or {}
    measures = of_record(record)
    told = [("what an error is", measures[0].title)] if numbers else []
    told.append(("whose bias is told", record.get("bias_of")))
    rows = [
        (NUMBERS.get(name, name), _number(name, value, measures)) for name, value in numbers.items()
    ]
    return _pairs([("as of", f"{instant(record['as_of'])} UTC"), *told, *rows])


def _number(name: str, value: Any, measures: tuple[Measure, Measure]) -> str:
    """A number of a window: an error, a bias, a share or a count."""
    if not isinstance(value, float) or name not in NUMBERS:
        return "not known" if value is None else _plain(value)
    if name in SHARES:
        return share(value)
    if "bias" in name:
        return changed(value, measures[1])
    return (changed if "growth" in name else said)(value, measures[0])


def _done(record: Record) -> Pairs:
    asked, challenger = record.get("asked"), record.get("challenger")
    errors, (measure, _) = record.get("errors") or {}, of_record(record)
    return _pairs(
        [
            ("outcome", f"{record['outcome']}: {record['reason']}"),
            ("asked for by", asked and f"{asked['by']}, {asked['at'][:16]} UTC: {asked['reason']}"),
            *(_state(told) for told in record.get("calibration") or []),
            ("probation", record.get("probation")),
            ("beside its predecessor", _compared(record.get("compared"), measure)),
            ("rows known", _growth(record.get("growth"))),
            ("retraining", record.get("attempt")),
            ("challenger", challenger and f"{challenger['label']} ({challenger['candidate']})"),
            *(
                (f"error of the {name} on the judged rows", said(e, measure))
                for name, e in errors.items()
            ),
            ("took", f"{record['retrain_s']:,.0f} s" if record.get("retrain_s") else None),
            ("the service", record.get("confirmed")),
            ("champion after it", record.get("champion")),
            ("resumed", _times(record.get("resumed"))),
            ("stopped at", record.get("stage") if record["outcome"] == "error" else None),
        ]
    )


def _growth(told: Record | None) -> str | None:
    """How many rows were known, against those of the last build."""
    if not told:
        return None
    if "unknown" in told:
        return f"not counted: {told['unknown']}"
    return f"{told['known']:,}; the last build began with {told['learned']:,}"


def _compared(told: Record | None, measure: Measure) -> str | None:
    """How a champion on probation did beside the version before, on the same requests."""
    if not told:
        return None
    ends = f"{changed(told['low'], measure)} to {changed(told['high'], measure)}"
    return (
        f"an error of {changed(told['mean'], measure)} a request ({ends}), over "
        f"{counted(told['requests'], 'request')} that both answered"
    )


def _state(told: Mapping[str, Any]) -> tuple[str, str]:
    """A version's calibration as of the turn: what is added to its answers, and why."""
    shift = ", ".join(f"{number:+.3g}" for number in told["shift"])
    parts = (f"{shift} inside; {told['reason'].rstrip('.')}", told["note"])
    return f"calibration of v{told['version']}", "; ".join(part for part in parts if part)


def _times(resumed: int | None) -> str | None:
    return f"{counted(resumed, 'time')}, after a kill" if resumed else None


def _places(record: Record, root: str) -> Pairs:
    challenger = record.get("challenger") or {}
    sha = record.get("snapshot_sha256")
    run = challenger.get("run_id")
    return _pairs(
        [
            ("this record", f"{root}var/loop/turns/{int(record['turn']):06d}.json"),
            ("this turn in MLflow, run", record.get("mlflow_run_id")),
            (
                "the window: record, figures, Evidently's report",
                record.get("window") and f"{root}var/monitor/windows/{record['window']}",
            ),
            ("the challenger in MLflow, run", run),
            ("executed notebooks", run and f"notebooks/ and decision/ of run {run}"),
            ("snapshot (SHA-256)", sha),
            ("rows of the snapshot", record.get("snapshot_rows")),
            ("begun at", record.get("began_at")),
            ("done at", record.get("ended_at")),
        ]
    )
