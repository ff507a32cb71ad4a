"""Reproduce: twenty versions of four tables and of a replay, each built again and compared.

The projects are repositories of their own. What makes it hard is done on purpose:
a source that is overwritten after the build, code and knobs that no commit has, a
commit that the branch has left, an own candidate, a SciPy of another
release, versions that learned from served rows. The builds are whole ones, with
three candidates; both times are those of the notebooks that the run kept.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loopbook.project.template import with_knobs

ROOT = Path(__file__).parents[1]
GRID = ("baseline", "ridge", "hist_gradient_boosting")
OLDER = "scipy==1.16.3"  # beside the lock's own
OWN = '''

def narrow_trees(contract, random_seed):
    """A few small trees."""
    from loopbook.models import candidates

    return candidates.build("hist_gradient_boosting", contract, random_seed)
'''
TABLES = ("penguins", "bikes", "flights", "houses", "replay")


@dataclass
class Version:
    """A version that is to be built again, and what was done to make it hard."""

    project: Path
    number: str
    about: str
    variables: dict[str, str] = field(default_factory=dict)


def run(tables: Sequence[str] | None = None) -> Iterator[str]:
    yield "| version | on purpose | outcome | reasons | s then | s again |"
    yield "|---|---|---|---|---|---|"
    outcomes: list[str] = []
    for table in tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            for version in MADE[table](Path(folder)):
                told = _reproduced(version)
                outcomes.append(told["outcome"])
                yield _line(version, told)
    same = outcomes.count("identical")
    yield f"\n{same} of {len(outcomes)} identical; the others: {sorted(set(outcomes) - {'identical'})}"


def _line(version: Version, told: dict) -> str:
    reasons = ", ".join(reason["reason"] for reason in told["reasons"]) or "none"
    seconds = [
        f"{told[key]:.1f}" if told.get(key) else "" for key in ("seconds_then", "seconds_now")
    ]
    cells = (told["version"], version.about, told["outcome"], reasons, *seconds)
    return f"| {' | '.join(cells)} |"


def _reproduced(version: Version) -> dict:
    done = _loopbook(version.project, "reproduce", version.number, "--json", fails=True)
    shutil.rmtree(version.project / "var" / "reproduced", ignore_errors=True)
    return json.loads(done.stdout)


def _loopbook(folder: Path, *words: str, fails: bool = False, **more: str):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOOPBOOK_", "MLFLOW_"))}
    places = [more.pop("first", ""), str(ROOT / "src")]
    clean["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
    done = subprocess.run(
        [sys.executable, "-m", "loopbook", *words],
        check=False,
        cwd=folder,
        env=clean | more,
        capture_output=True,
        text=True,
    )
    if done.returncode and not fails:
        raise SystemExit(f"{folder}: loopbook {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done


def _git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def _project(folder: Path, example: str) -> Path:
    """A project of an example in a repository of its own."""
    own = folder / example
    shutil.copytree(ROOT / "notebooks", own / "notebooks")
    shutil.copytree(ROOT / "serving", own / "serving")
    for name in ("pipeline.yaml", "pipeline.monitor.yaml", "requirements.lock", "candidates.py"):
        shutil.copy(ROOT / name, own)
    if example == "houses":
        shutil.copytree(ROOT / "data", own / "data")
        shutil.copy(ROOT / "contract.yaml", own)
        shutil.copy(ROOT / "env.yaml", own)
    else:
        shutil.copytree(ROOT / "examples" / example, own, dirs_exist_ok=True)
        knobs = with_knobs((ROOT / "env.yaml").read_text(), (own / "env.yaml").read_text())
        (own / "env.yaml").write_text(knobs)
    _grid(own, GRID)
    (own / ".gitignore").write_text("var/\n")
    _git(own, "init", "-q")
    _git(own, "add", ".")
    _git(own, "commit", "-qm", "one")
    return own


def _grid(project: Path, names: Sequence[str]) -> None:
    graph = project / "pipeline.yaml"
    graph.write_text(re.sub(r"names: \[[^]]*\]", f"names: [{', '.join(names)}]", graph.read_text()))


def _built(project: Path, about: str, *knobs: str, **more: str) -> Iterator[Version]:
    """Build, and give the new version; nothing where the champion came out again."""
    before = _newest(project)
    words = [word for knob in knobs for word in ("--set", knob)]
    _loopbook(project, "build", *words, **more)
    if (newest := _newest(project)) != before:
        yield Version(project, newest, about)


def _newest(project: Path) -> str:
    record = project / "var" / "build" / "decision.json"
    return json.loads(record.read_text())["challenger"]["version"] if record.exists() else ""


def penguins(folder: Path) -> Iterator[Version]:
    project = _project(folder, "penguins")
    made = list(_built(project, "a commit", "holdout_share=0.2"))
    knobs = project / "env.yaml"
    knobs.write_text(knobs.read_text().replace("holdout_share: 0.2", "holdout_share: 0.21"))
    made += _built(project, "a knob that no commit has")
    (project / "candidates.py").write_text((project / "candidates.py").read_text() + OWN)
    _grid(project, ("baseline", "narrow_trees"))
    made += _built(project, "an own candidate and a grid that no commit has", "holdout_share=0.22")
    _git(project, "commit", "-qam", "two")
    _grid(project, GRID)
    older = folder / "older"
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        older,
        OLDER,
    ]
    subprocess.run(words, check=True, capture_output=True)
    lock = project / "requirements.lock"
    lock.write_text(re.sub(r"scipy==[^ ]+", OLDER, lock.read_text()))
    made += _built(project, f"built with {OLDER}", "holdout_share=0.23", first=str(older))
    shutil.copy(ROOT / "requirements.lock", project)
    _git(project, "commit", "-q", "--amend", "--allow-empty", "-m", "another history")
    data = project / "data" / "penguins.csv"
    data.write_text("\n".join(data.read_text().splitlines()[:200]))
    made += _built(project, "the source was cut afterwards", "holdout_share=0.24")
    data.write_text("nothing is left\n")
    yield from made


def _monthly(example: str, *months: str) -> Iterator[Version]:
    with tempfile.TemporaryDirectory() as folder:
        project = _project(Path(folder), example)
        made = [
            v
            for m in months
            for v in _built(project, f"as of {m}, judged beside the one before", f"as_of={m}")
        ]
        for file in (project / "data").rglob("*"):
            if file.is_file():
                file.write_bytes(b"overwritten")
        for version in made[-1:]:
            version.about += "; the sources are overwritten"
        yield from made


def bikes(_folder: Path) -> Iterator[Version]:
    return _monthly("bikes", "2012-01-01", "2012-04-01", "2012-07-01")


def flights(_folder: Path) -> Iterator[Version]:
    return _monthly("flights", "2013-06-01", "2013-08-01", "2013-10-01")


def houses(_folder: Path) -> Iterator[Version]:
    months = ("2014-10-01", "2014-11-01", "2014-12-01", "2015-01-01", "2015-02-01")
    return _monthly("houses", *months)


def replay(folder: Path) -> Iterator[Version]:
    """The lane that retrains every four weeks, on the rows that its service was asked about."""
    project = _project(folder, "houses")
    words = ("--step", "month", "--until", "2015-01-01", "--candidates", "baseline,ridge")
    _loopbook(project, "replay", *words)
    (lane,) = (project / "var" / "replay").glob("*/scheduled")
    newest = int(_newest(lane))
    for number in range(1, newest + 1):
        about = "the first of a replay" if number == 1 else "retrained on served rows"
        yield Version(lane, str(number), about)


MADE = {
    "penguins": penguins,
    "bikes": bikes,
    "flights": flights,
    "houses": houses,
    "replay": replay,
}
