"""Pages: what the dashboards show, as HTML made of finished records.

It decides words, order and looks. Every value is escaped, so that nothing of
the data can become markup; pictures are images, which run no script. Pure: it
reads no file and computes no number that is not in a record.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from loopbook.pages.colours import LEVELS

STYLE = """<style>
.lb {font-family: system-ui, sans-serif; font-size: 15px; line-height: 1.45; color: #1a1a1a;
  max-width: 1080px; margin: 0 auto; overflow-wrap: anywhere; white-space: normal}
.lb h1 {font-size: 1.5em; margin: .2em 0} .lb h2 {font-size: 1.15em; margin: 1.4em 0 .3em}
.lb .verdict {border-left: 8px solid; padding: .5em .9em; background: #f4f4f4; font-size: 1.15em}
.lb .verdict b {font-size: 1.2em} .lb .small {color: #555; font-size: .87em}
.lb .facts {display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .7em;
  margin: 1em 0} .lb .facts div {background: #f4f4f4; padding: .5em .8em}
.lb .facts b {display: block; font-size: 1.3em} .lb .wide {overflow-x: auto}
.lb table {border-collapse: collapse; font-size: .92em; overflow-wrap: normal}
.lb th, .lb td {text-align: left; padding: .25em .7em .25em 0; border-bottom: 1px solid #ddd;
  vertical-align: top} .lb td.n {text-align: right; font-variant-numeric: tabular-nums}
.lb img {display: block; max-width: 100%; height: auto} .lb ul {margin: .3em 0 .3em 1.2em; padding: 0}
.lb iframe {width: 100%; height: 85vh; border: 1px solid #ccc}
.lb .empty {border: 1px dashed #888; padding: 1em; margin: 1em 0}
.lb nav a {display: inline-block; margin-right: 1.1em; padding: .35em 0}
</style>"""
PAGES = {
    "1_overview": "Overview",
    "2_drift": "Drift",
    "3_performance": "Performance",
    "4_candidates": "Candidates",
    "5_model_card": "Model card",
    "6_what_if": "What if",
    "7_loop": "The loop",
}


def markdown(text: str) -> str:
    """A text of the data as Markdown: neither markup nor a formula."""
    return escape(text).replace("$", r"\$")


def whole(title: str, *parts: str) -> str:
    """A page: its style, the way to the others, a heading and its parts."""
    return f'{STYLE}<div class="lb">{ways()}<h1>{escape(title)}</h1>{"".join(parts)}</div>'


def ways() -> str:
    links = (f'<a href="{name}.ipynb">{escape(told)}</a>' for name, told in PAGES.items())
    return f"<nav>{''.join(links)}</nav>"


def empty(told: str, command: str) -> str:
    """What is shown where there is nothing yet, and how it comes."""
    return (
        f'<div class="empty"><p>{escape(told)}</p><p>Type <code>{escape(command)}</code>, then '
        "load this page again.</p></div>"
    )


def verdict(record: Mapping[str, Any]) -> str:
    """The verdict's sentence with its time, first on the screen."""
    judged = record["verdict"]
    colour, sign = LEVELS[judged["level"]]
    others = "".join(f"<li>{escape(reason)}</li>" for reason in judged["reasons"][1:])
    more = f"<ul>{others}</ul>" if others else ""
    return (
        f'<div class="verdict" style="border-color:{colour}"><b style="color:{colour}">{sign} '
        f"{escape(judged['level'])}</b><br>{escape(judged['reasons'][0])}.{more}"
        f'<div class="small">as of {instant(record["as_of"])} UTC, answers of '
        f"{day(record['current'][0])} to {day(record['current'][1])}; decided "
        f"{instant(record['decided_at'])} UTC</div></div>"
    )


def instant(text: str | None) -> str:
    return escape(text[:16].replace("T", " ")) if text else "unknown"


def day(text: str | None) -> str:
    return escape(text[:10]) if text else "unknown"


def share(value: float | None, digits: int = 2) -> str:
    """A share as per cent."""
    return "not known" if value is None else f"{value * 100:.{digits}f} %"


def facts(pairs: Mapping[str, str]) -> str:
    """Big numbers with their names."""
    cells = (f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in pairs.items())
    return f'<div class="facts">{"".join(cells)}</div>'


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows under their names; numbers to the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float) and abs(value) >= 1000:
        return f'<td class="n">{value:,.0f}</td>'
    if isinstance(value, float):
        return f'<td class="n">{value:,.4g}</td>'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{escape('' if value is None else str(value))}</td>"


def picture(content: bytes | None, what: str) -> str:
    """An SVG as an image: it scales, and no script in it runs."""
    if content is None:
        return ""
    coded = base64.b64encode(content).decode()
    return f'<img alt="{escape(what)}" src="data:image/svg+xml;base64,{coded}">'


def frame(page: str | None, what: str) -> str:
    """A page of another maker, shut in: its scripts reach nothing of ours."""
    if page is None:
        return ""
    return (
        f'<iframe sandbox="allow-scripts" title="{escape(what)}" srcdoc="{escape(page)}"></iframe>'
    )


def champion_line(record: Mapping[str, Any]) -> str:
    champion = record["champion"]
    if not champion:
        return "<p>There is no champion.</p>"
    return (
        f"<p><b>{escape(champion['name'])} v{escape(champion['version'])}</b> "
        f"({escape(champion['candidate'])}), promoted "
        f"{day(champion.get('promoted_as_of') or champion.get('promoted_at'))}, fitted until "
        f"{day(champion['fitted'].get('until'))} on {champion['fitted']['rows']:,} rows.</p>"
    )


def overview(
    record: Mapping[str, Any],
    happened: Sequence[tuple[str, str, str]],
    figures: Mapping[str, bytes],
) -> str:
    """Is the model well? In five seconds.

    Parameters
    ----------
    happened : sequence of (instant, what, told), the newest first
    """
    numbers = record["numbers"]
    reach = ""
    if numbers["error"] is not None:
        reach = f" ({share(numbers['error_low'], 1)} to {share(numbers['error_high'], 1)})"
    told = {
        f"realized error{reach}": share(numbers["error"]),
        f"error at promotion, {numbers['reference_rows']:,} rows": share(
            numbers["reference_error"]
        ),
        "estimated error of the newest answers": share(numbers["estimated_error"]),
        "answers in the window": f"{numbers['rows']:,}",
        "have their ground truth": f"{numbers['labels']:,} of {numbers['due']:,}",
        "inputs beyond chance": f"{numbers['drifted_columns']} of {numbers['judged_columns']}",
    }
    return whole(
        "Is the model well?",
        verdict(record),
        facts(told),
        "<h2>Who serves?</h2>",
        champion_line(record),
        "<h2>How did the error go?</h2>",
        picture(figures.get("trend.svg"), "Realized error, window by window"),
        "<h2>What happened when?</h2>",
        table(["when (UTC)", "what", "why"], happened),
    )


def happenings(
    records: Sequence[Mapping[str, Any]], versions: Sequence[Mapping[str, str]], most: int = 25
) -> list[tuple[str, str, str]]:
    """Verdicts, promotions and refusals, the newest first.

    A row of verdicts that are the same is told by its first.
    """
    found, last = [], None
    for record in records:
        level = record["verdict"]["level"]
        if level != last:
            found.append((record["as_of"], f"verdict: {level}", record["verdict"]["reasons"][0]))
        last = level
    for version in versions:
        when = version.get("promoted_as_of", version.get("as_of", ""))
        what = "promoted" if version.get("promoted_at") else "refused"
        found.append((when, f"v{version['number']} {what}", version.get("gate_reason", "")))
    found.sort(key=lambda row: row[0], reverse=True)
    return [(when[:16].replace("T", " "), what, why) for when, what, why in found[:most]]


def drift(record: Mapping[str, Any], figures: Mapping[str, bytes], report: str | None) -> str:
    """What has moved, what is broken, and Evidently's report."""
    rows = [
        (column["column"], column["distance"], column["threshold"], _said(column))
        for column in record["columns"]
    ]
    faults = [
        (
            fault["column"],
            fault["kind"],
            "broken" if fault["is_broken"] else "odd",
            fault["sentence"],
        )
        for fault in record["faults"]
    ]
    skew = record["skew"]
    return whole(
        "Have the inputs moved?",
        verdict(record),
        "<h2>What is broken?</h2>",
        table(["column", "kind", "", "what was found"], faults) if faults else "<p>Nothing.</p>",
        "<h2>What has moved?</h2>",
        picture(figures.get("columns.svg"), "Distance of each column, by its threshold"),
        picture(figures.get("shares.svg"), "Distributions of the columns that moved farthest"),
        table(["column", "distance", "threshold", ""], rows),
        "<h2>Does serving see what training sees?</h2>",
        f"<p>In {share(skew['share'], 1)} of {skew['rows']:,} answers a trailing feature differs "
        "from what is known by now.</p>"
        if skew
        else "<p>There are no trailing features, or nothing was asked.</p>",
        "<h2>Evidently's report</h2>",
        frame(report, "Evidently's report of this window"),
    )


def _said(column: Mapping[str, Any]) -> str:
    if not column["is_judged"]:
        return "moves with time by its nature"
    return "moved" if column["has_drifted"] else "chance"


def performance(record: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """How wrong, when, for whom; realized beside estimated."""
    numbers = record["numbers"]
    told = {
        "realized error": share(numbers["error"]),
        "estimated for the same answers": share(numbers["estimated_error_of_judged"]),
        "growth since promotion": share(numbers["error_growth"]),
        "bias (below 0: too little)": share(numbers["bias"]),
        "its movement since promotion": share(numbers["bias_moved"]),
        "of the ground truth that is due": share(numbers["coverage"], 0),
    }
    return whole(
        "How wrong is it?",
        verdict(record),
        facts(told),
        "<h2>When?</h2>",
        picture(figures.get("periods.svg"), "Realized and estimated error by week"),
        "<h2>For whom?</h2>",
        picture(figures.get("slices.svg"), "Realized error by slice"),
        "<h2>Can an answer be taken at its word?</h2>",
        picture(figures.get("calibration.svg"), "Mean outcome by mean answer"),
        "<h2>All metrics</h2>",
        table(["metric", "value"], record["metrics"].items()),
    )


def candidates(version: Mapping[str, str], decision: Mapping[str, Any]) -> str:
    """Who ran in the build of a version, who won, and what the gate said."""
    ranked = [
        (
            place,
            row["candidate"],
            row["loss"],
            row["bias"],
            "yes" if row["exportable"] else "no",
            row["latency_ms"],
        )
        for place, row in enumerate(decision.get("ranked", []), 1)
    ]
    against = [
        (other, name, i["mean"] * 100, i["low"] * 100, i["high"] * 100, i["n"])
        for other, intervals in decision.get("against", {}).items()
        for name, i in intervals.items()
    ]
    checks = [
        (check["name"], "passed" if check["passed"] else "FAILED", check["reason"])
        for check in decision.get("checks", [])
    ]
    return whole(
        f"Why v{version['number']}?",
        f"<p><b>{escape(decision['sentence'])}</b></p>",
        f'<p class="small">decided {instant(decision["decided_at"])} UTC on '
        f"{decision['rows']:,} rows that no candidate had seen; data as of "
        f"{day(decision['as_of'])}</p>",
        "<h2>Who ran?</h2><p>The error decides on the validation window, where the best is "
        "chosen; the gate then judges it on newer rows.</p>",
        table(["", "candidate", "error", "bias", "exports whole", "ms a row"], ranked),
        "<h2>What did the gate check?</h2>",
        table(["check", "", "why"], checks),
        "<h2>Against whom, and for whom?</h2><p>Difference of the error in percentage points, "
        "with its interval; below 0 the challenger is better.</p>",
        table(["against", "rows", "mean", "from", "to", "n"], against),
    )


def model_card(
    version: Mapping[str, str], card: Mapping[str, Any], decision: Mapping[str, Any]
) -> str:
    """What a version is, where it comes from, what it may be asked."""
    contract, tags = card["contract"], version
    inputs = [
        (
            name,
            feature.get("alias"),
            feature["type"],
            feature.get("unit"),
            _range(feature.get("range")),
            feature["meaning"],
        )
        for name, feature in contract["features"].items()
    ]
    slices = [
        (name, i["mean"] * 100, i["low"] * 100, i["high"] * 100, i["n"])
        for name, i in decision.get("against", {}).get("baseline", {}).items()
    ]
    important = [(r["feature"], r["rise"] * 100) for r in decision.get("importance", [])]
    lineage = {
        "run": version["run_id"],
        "snapshot (SHA-256)": card["snapshot_sha256"],
        "contract (SHA-256)": card["contract_sha256"],
        "graph (SHA-256)": tags.get("onnx_sha256", "unknown"),
        "reference (SHA-256)": tags.get("reference_sha256", "none"),
        "commit": tags.get("git_commit", "unknown"),
        "data as of": (card["as_of"] or "unknown")[:10],
        "promoted": (tags.get("promoted_at") or "never")[:16],
    }
    validation = [(name, value) for name, value in card["validation"].items()]
    return whole(
        f"{card['name']} v{version['number']}: {card['candidate']}",
        f"<p>{escape(contract['meaning'])} It predicts <b>{escape(card['target']['name'])}</b>"
        f" ({escape(card['target']['unit'] or 'no unit')}): "
        f"{escape(card['target']['meaning'])}</p>",
        f"<p>Fitted on {card['fitted']['rows']:,} rows, from {day(card['fitted']['since'])} until "
        f"{day(card['fitted']['until'])}.</p>",
        "<h2>How good is it?</h2><p>On the validation window, before it was fitted again with "
        "it.</p>",
        table(["metric", "value"], validation),
        "<h2>For whom is it better than the baseline?</h2><p>Difference of the error in "
        "percentage points on rows that it had not seen; below 0 it is better.</p>",
        table(["rows", "mean", "from", "to", "n"], slices),
        "<h2>What does it look at?</h2><p>Rise of the error, in percentage points, when one "
        "feature is shuffled.</p>",
        table(["feature", "rise"], important),
        "<h2>What may it be asked?</h2><p>Outside these ranges, and about anything that is not "
        "in the table it learned from, its answer is a guess.</p>",
        table(["input", "alias", "type", "unit", "range", "meaning"], inputs),
        "<h2>Where does it come from?</h2>",
        table(["", ""], lineage.items()),
    )


def _range(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:,g} to {ends[1]:,g}" if ends else ""


def what_if(
    answer: float,
    unit: str,
    told: Mapping[str, Any],
    places: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """An answer, its contributions, and where its inputs lie among the training rows."""
    contributions = [
        (part["feature"], part["value"], part["contribution"], places.get(part["feature"], ""))
        for part in told["contributions"]
    ]
    warned = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'{STYLE}<div class="lb">{facts({unit: f"{answer:,.0f}"})}'
        + (f"<ul>{warned}</ul>" if warned else "")
        + f"<p>A usual row is answered with {told['base']:,.0f}; the contributions below add up to "
        "the difference.</p>"
        + table(["input", "value", "contribution", "among the training rows"], contributions)
        + "</div>"
    )
