"""Loop pages: what the loop did and why, as HTML made of its finished records.

It decides how a turn is told in a line, how its record is laid out, and how a
replay is shown. Pure like `pages`: every value is escaped, and nothing is
computed. A key that it does not know is shown under its own name.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from loopbook.pages.colours import LEVELS, OUTCOMES, UNKNOWN
from loopbook.pages.windows import STYLE, day, empty, facts, instant, picture, share, table, whole
from loopbook.records.turns import POLICIES

TURNS_STYLE = """<style>
.lb .turn summary, .lb .head {display: grid; gap: .2em .7em; padding: .35em .2em;
  grid-template-columns: 1em 9.5em 7.6em 7.6em 9em 1fr; border-bottom: 1px solid #ddd}
.lb .head {font-weight: bold; font-size: .92em}
.lb .turn summary {cursor: pointer; list-style: none; font-size: .92em}
.lb .turn summary::before {content: "▸"} .lb .turn[open] > summary::before {content: "▾"}
.lb .turn summary:hover, .lb .turn summary:focus-visible {background: #f4f4f4}
.lb .turn:not([open]) .why {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
.lb .record {padding: .2em 0 1em 1.7em; border-bottom: 1px solid #ddd; background: #fafafa}
.lb .record h3 {font-size: 1em; margin: .9em 0 .2em} .lb code {overflow-wrap: anywhere}
.widget-html-content:has(> .lb) {min-width: 0} /* a wide table scrolls by itself */
.lb .months td {white-space: nowrap} .lb .months :is(td, th) {text-align: right}
.lb .months :is(td, th):first-child {text-align: left} .lb .turn summary b {white-space: nowrap} .lb p a {text-decoration: underline}
.lb .record pre {white-space: pre-wrap; font-size: .85em; max-height: 30em; overflow: auto}
@media (max-width: 700px) {
  .lb .head {display: none} .lb .turn summary {display: flex; flex-wrap: wrap}
  .lb .turn:not([open]) .why {white-space: normal} .lb .record {padding-left: .4em}}
</style>"""
NUMBERS = {
    "rows": "answers in the window",
    "due": "answers whose ground truth is due",
    "labels": "answers with their ground truth",
    "coverage": "of the ground truth that is due",
    "error": "realized error",
    "error_low": "realized error, from",
    "error_high": "realized error, to",
    "bias": "bias (below 0: too little)",
    "bias_low": "bias, from",
    "bias_high": "bias, to",
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


def top(records: Sequence[Mapping[str, Any]], waiting: Sequence[str]) -> str:
    """The page's head: what the loop did last, in a sentence.

    Parameters
    ----------
    records : sequence of mappings
        Turns, oldest first.
    waiting : sequence of str
        What is not done yet: an open turn, a request for a retraining.
    """
    last = last_turn(records[-1]) if records else empty("The loop has not turned yet.", "make loop")
    waits = "".join(f"<p>{escape(told)}</p>" for told in waiting)
    ways = '<a href="#replay">the replay of the past</a>, <a href="#turns">every turn</a>'
    return TURNS_STYLE + whole(
        "What does the loop do?", last, waits, f'<p class="small">Below: {ways}.</p>'
    )


def last_turn(record: Mapping[str, Any]) -> str:
    """A turn's outcome, reason and champion, as the page's first sentence."""
    outcome = record["outcome"]
    colour, sign = OUTCOMES.get(outcome, UNKNOWN)
    ended = f"; ended {instant(record['ended_at'])} UTC" if record.get("ended_at") else ""
    return (
        f'<div class="verdict" style="border-color:{colour}"><b style="color:{colour}">{sign} '
        f"{escape(outcome)}</b><br>{escape(record['reason'].rstrip('.'))}. {_serves(record)}"
        f'<div class="small">turn {escape(str(record["turn"]))}, as of '
        f"{instant(record['as_of'])} UTC{ended}</div></div>"
    )


def _serves(record: Mapping[str, Any]) -> str:
    if record.get("champion"):
        return f"{escape(str(record['champion']))} serves."
    # a turn that stopped early did not look
    return "" if record["outcome"] == "error" else "There is no champion."


# -- turns ---------------------------------------------------------------------


def turns(
    records: Sequence[Mapping[str, Any]], figure: bytes | None, *, root: str, told: str
) -> str:
    """Turns as a figure and a list, the newest first; a click shows a turn's record.

    Parameters
    ----------
    records : sequence of mappings
        Oldest first.
    root : str
        The folder of the project that turned, as a reader types it; empty for
        this one.
    told : str
        Which turns these are.
    """
    names = ("", "as of (UTC)", "verdict", "outcome", "champion", "reason")
    head = "".join(f"<span>{name}</span>" for name in names)
    listed = "".join(turn(record, root) for record in reversed(records))
    return (
        picture(figure, "Verdict and outcome of each turn")
        + f'<p class="small">{escape(told)} A click on a turn shows its record.</p>'
        + f'<div class="head">{head}</div>{listed}'
    )


def turn(record: Mapping[str, Any], root: str = "") -> str:
    """A turn in a line, which opens to its whole record."""
    cells = (
        instant(record["as_of"]),
        _signed(record.get("verdict"), LEVELS, "not judged"),
        _signed(record["outcome"], OUTCOMES, ""),
        escape(str(record.get("champion") or "")),
    )
    line = "".join(f"<span>{cell}</span>" for cell in cells)
    line += f'<span class="why">{escape(record["reason"])}</span>'
    return (
        f'<details class="turn"><summary>{line}</summary>'
        f'<div class="record">{whole_record(record, root)}</div></details>'
    )


def _signed(word: str | None, looks: Mapping[str, tuple[str, str]], none: str) -> str:
    if not word:
        return escape(none)
    colour, sign = looks.get(word, UNKNOWN)
    return f'<b style="color:{colour}">{sign} {escape(word)}</b>'


def whole_record(record: Mapping[str, Any], root: str = "") -> str:
    """All that a turn's record holds, as questions and answers, and as it is written."""
    parts = [
        ("What did it see?", _seen(record)),
        ("How was that judged?", _judged(record)),
        ("What did it decide, and what did it do?", _done(record)),
        ("Where is all of it?", _places(record, root)),
        ("What else is in the record?", _else(record)),
    ]
    told = "".join(f"<h3>{title}</h3>{content}" for title, content in parts if content)
    written = json.dumps(dict(record), indent=2, ensure_ascii=False)
    return f"{told}<details><summary>as JSON</summary><pre>{escape(written)}</pre></details>"


def _seen(record: Mapping[str, Any]) -> str:
    numbers = record.get("numbers") or {}
    rows = [(NUMBERS.get(name, name), _number(name, value)) for name, value in numbers.items()]
    return _pairs([("as of", f"{instant(record['as_of'])} UTC"), *rows])


def _number(name: str, value: Any) -> str:
    if isinstance(value, float) and name in NUMBERS:  # all of them are shares
        return share(value)
    return "not known" if value is None else _plain(value)


def _judged(record: Mapping[str, Any]) -> str:
    if not record.get("verdict"):
        return "<p>It did not come to a verdict.</p>"
    reasons = "".join(f"<li>{escape(str(r))}</li>" for r in record.get("verdict_reasons") or ())
    return f"<p>{_signed(record['verdict'], LEVELS, '')}</p><ul>{reasons}</ul>"


def _done(record: Mapping[str, Any]) -> str:
    asked, challenger = record.get("asked"), record.get("challenger")
    errors = record.get("errors") or {}
    return _pairs(
        [
            ("outcome", f"{record['outcome']}: {record['reason']}"),
            ("asked for by", asked and f"{asked['by']}, {asked['at'][:16]} UTC: {asked['reason']}"),
            ("probation", record.get("probation")),
            ("retraining", record.get("attempt")),
            ("challenger", challenger and f"{challenger['label']} ({challenger['candidate']})"),
            *((f"error of the {name} on the judged rows", share(e)) for name, e in errors.items()),
            ("took", f"{record['retrain_s']:,.0f} s" if record.get("retrain_s") else None),
            ("the service", record.get("confirmed")),
            ("champion after it", record.get("champion")),
            ("was gone on with", _times(record.get("resumed"))),
            ("stopped at", record.get("stage") if record["outcome"] == "error" else None),
        ]
    )


def _times(count: int | None) -> str | None:
    return f"{count} times, after a kill" if count else None


def _places(record: Mapping[str, Any], root: str) -> str:
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
            ("began", record.get("began_at")),
            ("ended", record.get("ended_at")),
        ]
    )


TOLD = {
    *("turn", "as_of", "outcome", "reason", "champion", "asked", "probation", "attempt", "window"),
    *("challenger", "errors", "retrain_s", "confirmed", "resumed", "stage", "mlflow_run_id"),
    *("snapshot_sha256", "snapshot_rows", "began_at", "ended_at", "numbers", "verdict"),
    "verdict_reasons",
}


def _else(record: Mapping[str, Any]) -> str:
    return _pairs([(name, value) for name, value in record.items() if name not in TOLD])


def _pairs(rows: Sequence[tuple[str, Any]]) -> str:
    known = [(name, _plain(value)) for name, value in rows if value is not None]
    return table(["", ""], known) if known else ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- replays -------------------------------------------------------------------


def replay_name(result: Mapping[str, Any]) -> str:
    """A replay as people call it."""
    what = f"scenario {result['scenario']}" if result["scenario"] else "the year"
    return f"{what}, a turn a {result['step']}"


def replay(result: Mapping[str, Any], figure: bytes | None) -> str:
    """What came of a replay: the policies' errors, the retrainings, the failed requests."""
    named = {f"retrained: {POLICIES.get(p, p)}": f"{n:,}" for p, n in result["retrains"].items()}
    told = {**named, f"of {result['requests']:,} requests failed": f"{result['failed']:,}"}
    if result.get("seconds"):
        told["minutes it took"] = f"{result['seconds'] / 60:,.0f}"
    return (
        f"<p><b>{escape(replay_name(result))}</b>: {day(result['start'])} to "
        f"{day(result['end'])}, real rows through the real service"
        f"{', disturbed by the scenario' if result['scenario'] else ''}.</p>"
        + _expectation(result)
        + facts(told)
        + picture(figure, "Error of the policies by month; verdicts, promotions and rollbacks")
        + _months(result)
    )


def _expectation(result: Mapping[str, Any]) -> str:
    if not result["scenario"]:
        return ""
    is_right = result["right"]
    colour, sign = OUTCOMES["promoted"] if is_right else OUTCOMES["error"]
    sign = "✔" if is_right else sign
    did = "That is what it did." if is_right else "That is NOT what it did."
    return (
        f'<div class="verdict" style="border-color:{colour}">Expected: '
        f'{escape(result["expected"])}.<br><b style="color:{colour}">{sign} {did}</b></div>'
    )


def _months(result: Mapping[str, Any]) -> str:
    """Error and bias by month, a pair of columns a policy."""
    by = {(m["policy"], m["month"]): m for m in result["months"]}
    there = [p for p in POLICIES if any(policy == p for policy, _ in by)]
    names = [f"{POLICIES[p]}: {what}" for p in there for what in ("error, %", "bias, %")]
    rows = []
    for month in sorted({month for _, month in by}):
        cells = [by.get((p, month)) for p in there]
        values = [v for c in cells for v in ((c["error"], c["bias"]) if c else (None, None))]
        answers = max((c["rows"] for c in cells if c), default=0)
        rows.append((month, answers, *map(_per_cent, values)))
    note = '<p class="small">Bias below 0: it predicted too little.</p>'
    return f'<div class="months">{table(["month", "answers", *names], rows)}</div>{note}'


def _per_cent(value: float | None) -> str | None:
    return None if value is None else f"{round(value * 100, 2) + 0.0:.2f}"  # never -0.00


def part(*content: str) -> str:
    """A part of the page below its head."""
    return f'{STYLE}<div class="lb">{"".join(content)}</div>'


def heading(text: str, anchor: str) -> str:
    return f'<h2 id="{anchor}">{escape(text)}</h2>'
