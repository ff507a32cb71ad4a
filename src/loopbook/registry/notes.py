"""Notes: what MLflow's own pages say of the runs of a build, and the links from here to there.

It decides the words and the addresses. A run's note says which place its
candidate took, what the gate decided, and leads to the comparison of all runs
of the build and to the page that tells why. Nothing reads a note back.
"""

from collections.abc import Mapping, Sequence
from html import escape
from json import dumps
from typing import Any
from urllib.parse import quote, urlsplit

from loopbook.models.measures import of_record

MLFLOW = "http://127.0.0.1:5000"  # where `make mlflow` shows it
PAGES = "http://127.0.0.1:8866"  # where `make reports` shows the pages
DECIDED, DECISION, READABLE = "decision", "decision.json", "decision.html"  # a run's folder, files
MOST_RUNS = 100  # that one address compares


def runs_of(decision: Mapping[str, Any]) -> list[str]:
    """The runs of the candidates of a build, the best first; none of an earlier loopbook's."""
    return [row["run_id"] for row in decision.get("ranked", []) if row.get("run_id")]


def comparison(experiment: str, runs: Sequence[str]) -> str:
    """The page that compares runs side by side, within MLflow's own pages."""
    compared = quote(dumps(list(runs[:MOST_RUNS]), separators=(",", ":")), safe=",")
    return f"#/compare-runs?runs={compared}&experiments={quote(dumps([experiment]), safe=',')}"


def mlflow_page(tracking_address: str, place: str) -> str:
    """A place within MLflow's pages as a whole address: the server's, or that of `make mlflow`."""
    parts = urlsplit(tracking_address)
    if parts.scheme not in ("http", "https"):
        return f"{MLFLOW}/{place}"
    host = parts.netloc.rpartition("@")[2]  # nobody's password stands on a page
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/{place}"


def of_build(decision: Mapping[str, Any], experiment: str) -> dict[str, str]:
    """A note for each run of a build, as Markdown."""
    runs, (measure, _) = runs_of(decision), of_record(decision)
    ranked = [row for row in decision["ranked"] if row.get("run_id")]
    challenger = decision["challenger"]
    page = f"{PAGES}/voila/render/4_candidates.ipynb?version={challenger['version']}"
    links = (
        f"[Compare the {len(runs)} runs of this build]({comparison(experiment, runs)}), "
        f"[why v{challenger['version']}]({page}) (after `make reports`)"
    )
    decided = (
        f"v{challenger['version']} ({challenger['candidate']}): {decision['sentence'].rstrip('.')}."
    )
    return {
        row["run_id"]: "\n\n".join(
            [
                f"**{escape(row['candidate'], quote=False)}**, place {place} of {len(runs)} in "
                f"its build: {measure.title} {measure.said(row['loss'])} on the validation window.",
                links,  # MLflow folds a long note, and a decision may be long
                escape(decided, quote=False),
            ]
        )
        for place, row in enumerate(ranked, 1)
    }
