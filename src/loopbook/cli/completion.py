"""Completion: what a shell offers after a command, read from the project's files.

It decides which words fit. It is asked at every press of a key, so it imports
little, and what cannot be read offers nothing.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from loopbook.project import paths
from loopbook.project.counts import counted

Complete = Callable[[str], list[Any]]


def offered(words: Callable[[], Iterator[tuple[str, str]]]) -> Complete:
    """A completion of words and what each means; it never fails."""

    @wraps(words)
    def complete(incomplete: str) -> list[tuple[str, str]]:
        try:
            return [pair for pair in words() if pair[0].startswith(incomplete)]
        except (Exception, SystemExit):  # a shell would show the traceback in the prompt
            return []

    complete.__annotations__ = {"incomplete": str, "return": list}
    del complete.__wrapped__  # Typer asks for the signature
    return complete


@offered
def knobs() -> Iterator[tuple[str, str]]:
    """The knobs of env.yaml, each with the value that it has."""
    from loopbook.project.knobs import read_knobs

    for name, value in read_knobs(paths.current().knobs).model_dump().items():
        yield f"{name}=", f"{value} in env.yaml"


@offered
def tasks() -> Iterator[tuple[str, str]]:
    """The tasks of pipeline.yaml, each with its notebook."""
    import yaml

    content = yaml.safe_load(paths.current().graph.read_text(encoding="utf-8"))
    for task in content["tasks"]:
        grid = task.get("grid", {})
        names = grid.get("candidate", {}).get("names", []) if isinstance(grid, dict) else []
        members = names if "[[candidate]]" in task["name"] else [""]
        for member in members:
            yield task["name"].replace("[[candidate]]", member), task["source"]


@offered
def versions() -> Iterator[tuple[str, str]]:
    """The registered versions, the newest first."""
    from loopbook.project.contract import read_contract
    from loopbook.registry import reader

    here = paths.current()
    registry = reader.connect(paths.tracking_address(here))
    name = read_contract(here.contract).name
    for one in sorted(registry.versions(name), key=lambda v: int(v.number), reverse=True):
        yield one.number, f"{one.tags.get('candidate', '')} {one.tags.get('gate', '')}".strip()


@offered
def named_versions() -> Iterator[tuple[str, str]]:
    """The versions, and the words for some of them."""
    yield "champion", "the version that serves"
    yield "newest", "the version that was registered last"
    yield from ((pair[0], pair[1]) for pair in versions(""))


@offered
def scenarios() -> Iterator[tuple[str, str]]:
    """What a replay can disturb."""
    for name in SCENARIOS:
        yield name, "a scenario of loopbook replay"


@offered
def engines() -> Iterator[tuple[str, str]]:
    """The engines that the graph can be written for."""
    for name in ENGINES:
        yield name, "docs/engines.md"


@offered
def tuned() -> Iterator[tuple[str, str]]:
    """The candidates that tune.yaml has a space for."""
    import yaml

    for name in yaml.safe_load((paths.current().root / "tune.yaml").read_text(encoding="utf-8")):
        yield name, "a space in tune.yaml"


@offered
def snapshots() -> Iterator[tuple[str, str]]:
    """The snapshots that are here, by the beginning of their digests."""
    from loopbook.project.files import read_json

    for path in paths.current().snapshots.glob("*.json"):
        yield path.stem[:12], f"{counted(read_json(path)['rows'], 'row')}"


# their modules import NumPy and the engines, which takes longer than a key press may
SCENARIOS = (
    *("concept", "covariate", "broken-unit", "late-labels"),
    *("bad-candidate", "bad-champion", "storm"),
)
ENGINES = ("airflow", "argo", "dvc", "kubeflow")
