"""Staleness: why a task would run again, in words.

It decides from what a task's stamp holds and what the task is now. Stamps are
Ploomber's, and `graph` reads them; whether a task is stale is decided there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopbook.models import own_candidates
from loopbook.pipeline import digests
from loopbook.pipeline.tasks import relative
from loopbook.project.files import read_json
from loopbook.project.paths import Project

DIGESTS = "depends_on"  # the parameter that holds what `digests` found
CHANGED = {  # by the names of the digests
    "contract": "contract.yaml has changed",
    "library": "code of loopbook that its notebook imports has changed",
    "environment": "the installed packages have changed",
    "tracking": "it was logged to another registry",
    "source": "the rows of the source have changed",
    "served": "the service was told new ground truth",
    "quarantine": "somebody decided about rows that were set aside",
    "champion": "another version is the champion",
    "rows": "the rows to score have changed",
    "moment": "it reads the prediction log, which has no digest, so it always runs",
}
LONGEST = 40  # signs of a knob's value
MIDNIGHT = re.compile(r"(?<=\d)T00:00:00\+00:00$")  # a day says as much


@dataclass(frozen=True)
class State:
    """A task as its stamp has it, and as it is now.

    Attributes
    ----------
    stamped, code : str or None
        The notebook's code when it last ran well, and now; None without a stamp.
    then, now : mapping
        Its parameters, without those that name files.
    newer : sequence of str
        Tasks before it that have run since.
    stale : sequence of str
        Tasks before it that would run again.
    """

    notebook: str
    products: Mapping[str, str]
    stamped: str | None
    code: str
    then: Mapping[str, Any] | None
    now: Mapping[str, Any]
    newer: Iterable[str] = field(default=())
    stale: Iterable[str] = field(default=())


def state_of(task: Any, stale: Mapping[str, Any], project: Project) -> State:
    """The state of a task of Ploomber's; `stale` has the tasks that would run again."""
    stamps = [product.metadata for product in task.product]
    stamp, is_whole = stamps[0], all(one.timestamp for one in stamps)
    before = {
        name: min(product.metadata.timestamp or 0 for product in one.product)
        for name, one in task.upstream.items()
    }
    newest = min(one.timestamp for one in stamps) if is_whole else float("inf")
    return State(
        notebook=relative(project, str(Path(task.source.loc).resolve())),
        products=task.product.to_json_serializable(),
        stamped=stamp.stored_source_code if is_whole else None,
        code=str(task.source),
        then=stamp.params,
        now=task.params.to_json_serializable(params_only=True),
        newer=sorted(name for name, at in before.items() if name not in stale and at > newest),
        stale=[name for name in stale if name in before],
    )


def reasons(project: Project, state: State) -> list[str]:
    """Why a stale task is stale, the cause nearest to a person first."""
    absent = [Path(path).name for path in state.products.values() if not Path(path).exists()]
    if len(absent) == len(state.products):
        return ["it has not run yet"]
    if absent:
        return [f"its product {', '.join(absent)} is missing"]
    if state.stamped is None:
        return [_without_stamp(project, state)]
    found = [f"{state.notebook} has changed"] if state.stamped != state.code else []
    found += _changed(state.then or {}, state.now) if state.then != state.now else []
    found += [f"{name} has run since" for name in state.newer]
    if stale := list(state.stale):
        others = "" if len(stale) == 1 else f" and {len(stale) - 1} others"
        who = " and ".join(stale) if len(stale) == 2 else f"{stale[0]}{others}"
        found.append(f"{who} would run before it")
    return found or ["its stamp does not say"]


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of a task's parameters is another one, knobs with both values."""
    before, after = (dict(some.get(DIGESTS) or {}) for some in (then, now))
    names = [n for n in dict.fromkeys([*CHANGED, *before, *after]) if before.get(n) != after.get(n)]
    found = [CHANGED.get(name, f"{name} has changed") for name in names]
    knobs = [n for n in dict.fromkeys([*now, *then]) if n != DIGESTS and then.get(n) != now.get(n)]
    return found + [f"{n} is {_shown(now.get(n))}, and was {_shown(then.get(n))}" for n in knobs]


def _shown(value: Any) -> str:
    text = "not there" if value is None else MIDNIGHT.sub("", str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _without_stamp(project: Project, state: State) -> str:
    """Why a task with products has no stamp: `digests` took it away, or a run did not end well."""
    try:
        trained = read_json(Path(state.products["run"]))
        name, recipe = trained["candidate"], trained["recipe_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        name, recipe = "", ""
    if name in own_candidates.functions(project) and recipe != own_candidates.digest(name, project):
        return f"{name} in {own_candidates.FILE} has changed"
    logs = digests.logs(project, project.root / state.notebook)
    if logs and digests.has_registry_lost_the_challenger(project):
        return "the version of the last build is not in the registry any more"
    return "its last run failed or was interrupted"
