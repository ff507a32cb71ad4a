"""The graph as its user meets it: built once on a small table, then disturbed.

One project is made for the run (a table of sales with a known law, the real
notebooks, graph and library) and built for real; each group of tests disturbs a
copy. What a disturbance would run again is asked of the graph, which runs nothing.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import lineage
import numpy as np
import polars as pl
import psutil
import pytest
from browsing import Voila, resized
from executed import documents, of_frames, unexplained
from made_once import MANY_SIGNS, copied, made_once
from out_of_date import inside
from watched import asked_for, watched_if_possible

from loopbook.loop import growth
from loopbook.pipeline import graph, runs
from loopbook.project.clock import parse_instant
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project
from loopbook.registry import tracking
from loopbook.registry.reader import connect

pytestmark = pytest.mark.slow
# groups of tests for a worker and a copy each
STOPPED = pytest.mark.xdist_group("builds that are stopped")
TYPED = pytest.mark.xdist_group("a build by other commands")
AGAIN = pytest.mark.xdist_group("notebooks a second time")

ROOT = Path(__file__).parents[1]
COPIED = [
    "notebooks",
    "reports",
    "src",
    "contract.yaml",
    "env.yaml",
    "pipeline.yaml",
    "requirements.lock",
]
# this table has no history, so the candidates that need one are not in its grid
TRAINS = [
    *("baseline", "ridge", "extra_trees", "hist_gradient_boosting", "ensemble"),
    *("robust", "curves"),
]
ALL = [
    *("ingest", "validate", "build_features", "split"),
    *(f"train-{name}" for name in TRAINS),
    *("evaluate", "promote"),
]
CONTRACT = """
name: small-houses
meaning: One row is the sale of a house.
task: regression
source: {path: data/sales.parquet}
key: [id]
event_time: day
label_delay_days: 7
entity: zone
target: {name: price, unit: USD, range: [1000, 10_000_000], transform: log, per: size, meaning: Price.}
features:
  size: {type: integer, unit: m2, range: [10, 1000], required: true, example: 100, meaning: Area.}
  age: {type: number, unit: years, range: [0, 200], example: 20, meaning: Age.}
  zone: {type: category, example: a, meaning: Neighbourhood.}
slices: {size: [100]}
"""
LEVEL = {"a": 1000, "b": 2000, "c": 3000}


def small_table(rows: int = 4000) -> pl.DataFrame:
    """Sales whose price is size × level of the zone × 0.99 ** age, give or take 5 per cent."""
    draw = np.random.default_rng(5)
    zone = draw.choice(list(LEVEL), rows)
    size, age = draw.integers(30, 300, rows), draw.uniform(0, 80, rows)
    law = size * np.vectorize(LEVEL.get)(zone) * 0.99**age
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "day": np.sort(np.datetime64("2025-01-01") + draw.integers(0, 200, rows)),
            "price": law * np.exp(draw.normal(0, 0.05, rows)),
            "size": size,
            "age": age,
            "zone": zone,
        }
    )


def own_candidate() -> str:
    """The example of an own candidate in docs/how-to.md."""
    page = (ROOT / "docs/how-to.md").read_text()
    return re.search(r"```python\n(.*?def curves.*?)```", page, re.DOTALL)[1]


def make_project(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    # a small table needs no forest: fewer and larger steps, and the builds take half the time
    recipes = folder / "src/loopbook/models/estimators.py"
    text = recipes.read_text()
    for slow, quick in (
        ("TREES, STEP = 600, 0.04", "TREES, STEP = 60, 0.2"),
        ("ROBUST_STEP = 0.06", "ROBUST_STEP = 0.2"),
    ):
        assert slow in text
        text = text.replace(slow, quick)
    recipes.write_text(text)
    # the project's own candidate, as the page shows it
    (folder / "candidates.py").write_text(own_candidate())
    grid = folder / "pipeline.yaml"
    text = grid.read_text()
    assert "robust]" in text
    grid.write_text(text.replace("robust]", "robust, curves]"))
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "data").mkdir()
    small_table().write_parquet(folder / "data" / "sales.parquet")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """A person's environment in that folder: nothing of the outer project's."""
    own = ("LOOPBOOK_PROJECT", "JUPYTER_CONFIG_PATH", "PYTHONDONTWRITEBYTECODE")
    clean = {k: v for k, v in os.environ.items() if k not in own and not k.startswith("MLFLOW_")}
    return clean | {"PYTHONPATH": str(folder / "src")}


def loopbook(folder: Path, *words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "loopbook", *words]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), text=True, capture_output=True, **options
    )


def would_run(folder: Path, tracking: str = "", **knobs: object) -> list[str]:
    """The tasks that a build would run now, by default with the project's own registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LOOPBOOK_PROJECT", raising=False)
        for name, value in Project(folder).environment().items():
            patch.setenv(name, value)
        if tracking:
            patch.setenv("MLFLOW_TRACKING_URI", tracking)
        return graph.stale_tasks(Project(folder), knobs)


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """The built project, to copy."""

    def make(folder: Path) -> None:
        make_project(folder)
        words = [sys.executable, "-m", "loopbook", "build"]
        done = watched_if_possible(words, folder, environment(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "var" / "stdout.txt").write_text(done.stdout)

    return made_once(tmp_path_factory, "a small build", make)


@pytest.fixture(scope="module")
def built(original, tmp_path_factory) -> Path:
    return copied(original, tmp_path_factory.mktemp("build") / MANY_SIGNS)


@pytest.fixture
def own(original, tmp_path) -> Path:
    """A copy for one test, which leaves a broken build behind."""
    return copied(original, tmp_path / MANY_SIGNS)


@pytest.fixture(scope="module")
def of_two(original, tmp_path_factory) -> Path:
    """The same with two candidates: for tests that run builds and ask nothing about models."""
    folder = copied(original, tmp_path_factory.mktemp("of two") / MANY_SIGNS)
    path = folder / "pipeline.yaml"
    grid = "names: [baseline, hist_gradient_boosting]"
    text, places = re.subn(r"names: \[[^]]*\]", grid, path.read_text())
    assert places == 1
    path.write_text(text)
    done = loopbook(folder, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(built):
    with Voila(built) as served:
        yield served


@pytest.fixture
def restored(built):
    """Put back, byte for byte and with its times, what a test changes in the project."""
    names = ["candidates.py", "contract.yaml", "env.yaml", "notebooks", "src", "data"]
    kept = built.parent / "kept"
    kept.mkdir(exist_ok=True)
    for name in names:
        copy = shutil.copytree if (built / name).is_dir() else shutil.copy2
        copy(built / name, kept / name)
    yield built
    for name in names:
        target = built / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.move(kept / name, target)


def test_a_fresh_build_ends_with_a_champion_that_beats_the_baseline(built):
    """The gate's record, the printed end of the build and the status agree on who serves."""
    decision = json.loads((built / "var/build/decision.json").read_text())
    assert decision["promoted"]
    assert decision["errors"]["champion"] < decision["errors"]["baseline"]
    printed = (built / "var/stdout.txt").read_text()
    assert f"champion  {decision['champion']['label']}" in printed
    assert "make lab" in printed
    assert decision["champion"]["label"] in loopbook(built, "status").stdout


def test_a_champions_run_says_how_many_rows_its_build_began_with(built):
    """From the real registry and the real source: right after its own build nothing has grown."""
    with inside(built) as project:
        table, client = read_contract(project.contract), tracking.connect(project)
        champion = tracking.holder(client, table.name, tracking.CHAMPION)
        tags = tracking.run_of(client, champion).data.tags
        found = growth.since_last_build(project, table, tags, [], parse_instant(tags["as_of"]))
    assert found.learned == found.known > 500


def test_a_build_asks_for_no_name_outside_and_leaves_nothing_at_home(original):
    assert asked_for(original) == ([], [])


def test_the_events_of_a_build_tell_the_graph_of_the_plan_and_the_versions_of_its_rows(built):
    told = lineage.events(built)
    for event in told:
        lineage.check(event)
    plan = json.loads(loopbook(built, "plan").stdout)
    planned = {
        f"build.{task['name']}": {f"build.{name}" for name in task["upstream"]} for task in plan
    }
    assert lineage.graph(told) == planned
    assert lineage.ended(told) == {name: ["START", "COMPLETE"] for name in ["build", *planned]}
    snapshot = json.loads((built / "var/build/snapshot.json").read_text())["sha256"]
    (validate,) = [e for e in told if e["job"]["name"] == "build.validate" if e.get("outputs")]
    assert lineage.versions(validate, "inputs")["var/build/snapshot.json"] == snapshot


def test_all_that_a_build_leaves_is_sealed_and_is_as_it_was_written(built):
    done = loopbook(built, "verify", "--json")
    report = json.loads(done.stdout)
    assert (report["findings"], done.returncode) == ([], 0)
    assert not [note for note in report["notes"] if "not sealed" in note]
    assert report["looked_at"]["products of tasks"] > 3 * len(ALL)
    assert report["looked_at"]["executed notebooks"] > len(ALL) - 2


def test_every_document_of_a_build_is_written_for_people(built):
    """No frame as a program sees it, and a sentence with each figure."""
    told = documents(built)
    assert len(told) >= len(ALL)
    assert {name: of_frames(cells) for name, cells in told.items() if of_frames(cells)} == {}
    assert {name: unexplained(cells) for name, cells in told.items() if unexplained(cells)} == {}


@pytest.mark.parametrize("width", [1200, 390])
def test_the_build_is_shown_by_its_candidates_and_the_models_card(built, pages, chrome, width):
    """What the gate said and where the version comes from, as `voila reports` shows it."""
    decision = json.loads((built / "var/build/decision.json").read_text())
    resized(chrome, width)
    told = pages.read(chrome, "4_candidates")
    assert decision["sentence"] in told
    assert "Why v1?" in told
    for name in TRAINS:
        assert name in told
    card = pages.read(chrome, "5_model_card")
    for text in (decision["champion"]["run_id"], decision["snapshot_sha256"], "Area.", "m2"):
        assert text in card
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width + 5
    assert "No window was monitored yet." in pages.read(chrome, "1_overview")
    what_if = pages.read(chrome, "6_what_if")
    assert "What if?" in what_if
    assert "price, USD" in what_if
    for page in (told, card, what_if):
        assert "Traceback" not in page


def test_a_model_finds_the_law_that_made_the_table(built):
    """With 5 % noise, no model can be much better than 4 % MAPE, and a good one is near it."""
    evidence = json.loads((built / "var/build/evidence.json").read_text())
    assert 0.035 < evidence["errors"]["challenger"]["mape"] < 0.055
    top = {row["feature"] for row in evidence["importance"][:2]}
    assert top == {"size", "zone"}


def test_the_records_of_a_build_say_which_leaks_were_found(built):
    """None here; in each record and on the card, so that nobody takes an absent key for a no."""
    for record in ("validation", "evidence", "decision"):
        assert json.loads((built / f"var/build/{record}.json").read_text())["leaks"] == []
    (card,) = (built / "var/build/train").glob("ridge*card*.json")
    for record in (card, built / "var/build/decision.json"):
        assert json.loads(record.read_text())["accepted_leaks"] == {}


def test_nothing_runs_again_that_need_not(built):
    """Right after a build there is nothing to do, also when files were only touched."""
    for name in ("contract.yaml", "data/sales.parquet", "src/loopbook/data/splits.py"):
        (built / name).touch()
    assert would_run(built) == []
    (built / "src/loopbook/data/splits.py").write_text(
        (built / "src/loopbook/data/splits.py").read_text() + "\n# only a comment\n"
    )
    assert would_run(built) == []


def test_changed_source_bytes_run_everything_again(restored):
    """One more row in the table, and every task has something new to say."""
    small_table(4001).write_parquet(restored / "data/sales.parquet")
    assert would_run(restored) == ALL


def test_check_says_what_a_build_would_run_and_runs_nothing(built):
    stamp = built / "var/build/.decision.json.metadata"
    before = stamp.read_bytes()
    assert "nothing would run" in loopbook(built, "check").stdout
    done = loopbook(built, "check", "--set", "gate_margin=0.1")
    assert done.returncode == 0, done.stderr
    assert "would run: promote.\n" in done.stdout
    assert stamp.read_bytes() == before


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} has no {old} to edit"
    path.write_text(text.replace(old, new))


def test_a_changed_contract_runs_everything_again(restored):
    edit(restored / "contract.yaml", "range: [0, 200]", "range: [0, 150]")
    assert would_run(restored) == ALL


def test_a_changed_code_cell_runs_its_task_and_what_follows(restored):
    edit(restored / "notebooks/04_split.ipynb", "counts[part]:,} rows", "counts[part]} rows")
    assert would_run(restored) == ALL[3:]


def test_a_changed_knob_runs_the_task_that_has_it_and_what_follows(built):
    assert would_run(built, gate_margin=0.1) == ["promote"]
    assert would_run(built, test_days=21) == ALL[3:]


def test_a_build_against_another_registry_runs_again_what_is_logged_and_its_champion_is_there(
    of_two,
):
    there = f"sqlite:///{of_two.parent}/there/mlflow.db"
    logged = ["train-baseline", "train-hist_gradient_boosting", "evaluate", "promote"]
    assert would_run(of_two) == []
    assert would_run(of_two, tracking=there) == logged
    assert would_run(of_two) == []
    own = environment(of_two) | {"MLFLOW_TRACKING_URI": there}
    done = subprocess.run(
        [sys.executable, "-m", "loopbook", "build"],
        cwd=of_two, env=own, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert connect(there).held("small-houses", "champion").number == "1"
    assert would_run(of_two, tracking=there) == []


def test_an_edited_library_module_runs_the_notebooks_that_reach_it(restored):
    """`promotion` is reached by evaluation and promotion only."""
    worded = '"not better beyond doubt than"'
    edit(restored / "src/loopbook/models/promotion.py", worded, '"not better than"')
    assert would_run(restored) == ["evaluate", "promote"]


def test_a_build_of_the_model_that_serves_leaves_the_decision_by_which_it_serves(restored):
    (run,) = (restored / "var").rglob("artifacts/decision/decision.json")
    kept = {path: path.read_bytes() for path in run.parent.iterdir()}
    assert json.loads(run.read_text())["promoted"]
    notebook = restored / "notebooks/06_evaluate.ipynb"
    text = notebook.read_text()
    edit(notebook, "[(1 - gate", "[(1.0 - gate")
    done = loopbook(restored, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing changed" in done.stdout
    assert {path: path.read_bytes() for path in run.parent.iterdir()} == kept
    why = loopbook(restored, "why", "--version", "1")
    assert why.returncode == 0, why.stdout + why.stderr
    notebook.write_text(text)
    loopbook(restored, "build")  # as the tests after this one expect it


def test_an_own_candidate_stands_in_the_champions_table_beside_those_of_the_library(built):
    ranked = json.loads((built / "var/build/evidence.json").read_text())["ranked"]
    own = next(row for row in ranked if row["candidate"] == "curves")
    assert own["exportable"]
    assert {row["candidate"] for row in ranked} == set(TRAINS)
    (path,) = (built / "var/build/train").glob("curves-*.ipynb")
    page = json.loads(path.read_text())
    assert "their squares and their products" in json.dumps(page)


def test_an_edited_own_candidate_trains_again_and_no_other(restored):
    """A comment, and a candidate beside it, train nothing."""
    path = restored / "candidates.py"
    text = path.read_text()
    path.write_text(f"# a comment\n{text}\n\ndef unused(contract, random_seed):\n    return 1\n")
    assert would_run(restored) == []
    path.write_text(text.replace("alpha=100.0", "alpha=50.0"))
    assert would_run(restored) == ["train-curves", "evaluate", "promote"]
    done = loopbook(restored, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    assert would_run(restored) == []
    path.write_text(text)
    loopbook(restored, "build")


@pytest.mark.parametrize("command", ["loopbook", "ploomber"])
def test_an_own_candidate_that_raises_stops_a_build_before_any_work(restored, command):
    path = restored / "candidates.py"
    path.write_text(path.read_text().replace("    numbers =", "    1 / 0\n    numbers ="))
    done = subprocess.run(
        [Path(sys.executable).with_name(command), "build"],
        cwd=restored,
        env=environment(restored),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    told = " ".join((done.stdout + done.stderr).split())
    assert "curves stopped when its function ran. candidates.py, line 10: ZeroDivisionError" in told


def test_the_plan_runs_without_ploomber_and_gives_the_same_model(original, tmp_path):
    """Papermill alone, in another folder, ends with the same bytes of the models that it trains.

    Each notebook starts a kernel of its own there, so the grid has three of the candidates.
    """
    other = make_project(tmp_path / "papermill only")
    trains = ["baseline", "ensemble", "curves"]
    grid = other / "pipeline.yaml"
    grid.write_text(re.sub(r"names: \[[^]]*\]", f"names: [{', '.join(trains)}]", grid.read_text()))
    plan = json.loads(loopbook(other, "plan").stdout)
    assert [t["name"] for t in plan if t["name"].startswith("train-")] == [
        f"train-{n}" for n in trains
    ]
    (other / "plan.json").write_text(json.dumps(plan))
    for task in plan:
        Path(task["products"]["nb"]).parent.mkdir(parents=True, exist_ok=True)
    run_all = """
import json, papermill, sys
for task in json.load(open("plan.json")):
    words = task["notebook"], task["products"]["nb"], task["parameters"]
    papermill.execute_notebook(*words, progress_bar=False)
assert "ploomber" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", run_all],
        cwd=other,
        env=environment(other),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = {m.name.rpartition("-")[0]: m for m in (original / "var/build/train").glob("*.onnx")}
    ours = list((other / "var/build/train").glob("*.onnx"))
    assert sorted(model.name.rpartition("-")[0] for model in ours) == sorted(trains)
    for model in ours:
        assert model.read_bytes() == theirs[model.name.rpartition("-")[0]].read_bytes()
    assert json.loads((other / "var/build/decision.json").read_text())["promoted"]


def test_a_failing_notebook_is_reported_in_one_block_and_its_old_stamp_is_gone(own):
    """Rows outside the range stop `validate`; afterwards nobody takes its products for whole."""
    path = own / "contract.yaml"
    path.write_text(path.read_text().replace("range: [0, 200]", "range: [0, 50]"))
    done = loopbook(own, "build")
    assert done.returncode == 1
    assert "validate failed in notebooks/02_validate.ipynb, code cell" in done.stderr
    assert "age outside [0, 50]; first: id" in done.stderr
    assert "jupyter lab 'var/build/validate.ipynb'" in done.stderr
    assert "Traceback" not in done.stderr
    assert would_run(own)[:2] == ["validate", "build_features"]
    told = lineage.events(own)
    assert {name: states[-1] for name, states in lineage.ended(told).items()}["build"] == "FAIL"
    failed = [e for e in told if e["job"]["name"] == "build.validate"][-1]
    lineage.check(failed)
    assert "age outside [0, 50]" in failed["run"]["facets"]["errorMessage"]["message"]


def start(folder: Path, **options) -> subprocess.Popen:
    """A build of everything in the background, once its first kernel runs."""
    command = [sys.executable, "-m", "loopbook", "build", "--force"]
    running = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    deadline = time.monotonic() + 60
    # the first child is the nursery, the next one a kernel of it
    while len(psutil.Process(running.pid).children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return running


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


@STOPPED
def test_a_second_build_is_refused_and_ctrl_c_ends_the_first_with_its_kernels(of_two):
    with runs.only_run(Project(of_two), "build"):
        second = loopbook(of_two, "build", "--force")
    assert second.returncode == 1
    assert f"another build runs (pid {os.getpid()})" in second.stderr
    running = start(of_two)
    kernels = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "finished tasks are reused. Type the same command again." in said
    assert kernels
    assert gone(kernels)
    assert would_run(of_two)


@STOPPED
def test_a_killed_build_leaves_no_kernel_and_the_next_one_recovers(of_two):
    """kill -9 in the middle: the lock is free, the task is stale, the build goes through."""
    running = start(of_two)
    kernels = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.communicate(timeout=60)
    assert gone(kernels)
    assert "ingest" in would_run(of_two)
    done = loopbook(of_two, "build")
    assert done.returncode == 0, done.stderr
    assert would_run(of_two) == []


def test_a_full_disk_stops_the_build_and_nothing_half_written_counts(own):
    """A file-size limit stands in for the full disk: writing the snapshot fails."""
    small_table(5000).write_parquet(own / "data/sales.parquet")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    before = sorted((own / "var/snapshots").iterdir())
    done = loopbook(own, "build", preexec_fn=limit)
    assert done.returncode == 1
    assert "ingest" in would_run(own)
    assert sorted((own / "var/snapshots").iterdir()) == before


@TYPED
def test_snapshots_are_listed_with_their_users_and_pruned_without_harm(built):
    """A snapshot that no version used goes; the champion's stays, with the reason."""
    decision = json.loads((built / "var/build/decision.json").read_text())
    sha256 = decision["snapshot_sha256"]
    code = (
        "import sys; from datetime import datetime, UTC; from pathlib import Path; import polars\n"
        "from loopbook.data.snapshots import write_snapshot\n"
        "rows = polars.DataFrame({'a': [1]})\n"
        "write_snapshot(rows, Path('var/snapshots').resolve(), None, now=datetime.now(UTC))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=built, env=environment(built), check=True)
    table = loopbook(built, "snapshots").stdout
    line = next(ln for ln in table.splitlines() if ln.startswith(sha256[:12]))
    assert "v1" in line
    assert "the build in var/build" in line
    done = loopbook(built, "snapshots", "prune")
    assert done.returncode == 0, done.stderr
    assert "1 deleted" in done.stdout
    assert f"kept     {sha256[:12]}" in done.stdout
    assert (built / f"var/snapshots/{sha256}.parquet").exists()


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A command of the environment, as a person types it in the project."""
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), text=True, capture_output=True
    )


@TYPED
def test_ploomber_typed_bare_does_the_same(built):
    """`ploomber build` finds the executor, the hooks and the settings in the project."""
    done = typed(built, "ploomber", "build")
    assert done.returncode == 0, done.stderr
    assert "champion  small-houses v" in done.stdout
    done = typed(built, "ploomber", "status")  # wraps names to the width of the terminal
    assert done.returncode == 0, done.stderr
    assert {"ingest", "promote"} <= set(done.stdout.split())


@TYPED
def test_papermill_typed_bare_runs_one_notebook_with_its_parameters(built):
    parameters = loopbook(built, "plan", "split").stdout
    (built / "var/split.json").write_text(parameters.replace("/build/split", "/alone-split"))
    words = ["notebooks/04_split.ipynb", "var/alone.ipynb", "-f", "var/split.json"]
    done = typed(built, "papermill", "--no-progress-bar", *words)
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(built / "var/alone-split_rows.parquet", glob=False)
    assert rows.equals(pl.read_parquet(built / "var/build/split_rows.parquet", glob=False))


@TYPED
def test_mlflow_typed_bare_shows_the_projects_models(built):
    """`mlflow ui` serves the project's database, on loopback and without being told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "ui", "--port", str(port)]
    log = (built / "var/mlflow-ui.txt").open("w")
    server = subprocess.Popen(command, cwd=built, env=environment(built), stdout=log, stderr=log)
    try:
        asked = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/get?name=small-houses"
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    model = json.load(answer)["registered_model"]
                break
            except OSError:
                assert time.monotonic() < deadline, (built / "var/mlflow-ui.txt").read_text()
                time.sleep(0.5)
        assert "champion" in {alias["alias"] for alias in model["aliases"]}
        family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        sockets = [c for process in family for c in process.net_connections("tcp")]
        assert {c.laddr.ip for c in sockets if c.status == "LISTEN"} == {"127.0.0.1"}
    finally:
        family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in family:
            process.terminate()
        server.wait(30)
        gone(family)
        log.close()


@STOPPED
def test_a_champion_whose_file_was_changed_is_not_trusted(of_two):
    """`evaluate` refuses to compare with it, and says which file and what to do."""
    decision = json.loads((of_two / "var/build/decision.json").read_text())
    card = next((of_two / "var/mlflow").rglob(f"{decision['champion']['run_id']}/*/*/card.json"))
    honest = card.read_bytes()
    card.write_bytes(honest.replace(b"small-houses", b"other-houses", 1))
    try:
        done = loopbook(of_two, "build", "--set", "bootstrap_resamples=300")
    finally:
        card.write_bytes(honest)
    assert done.returncode == 1
    assert "card.json has SHA-256" in done.stderr
    assert "restore it, or roll back" in done.stderr
    assert loopbook(of_two, "build").returncode == 0


@STOPPED
def test_a_stamp_that_is_no_stamp_runs_its_task_again(of_two):
    """A half-written or empty metadata file is not taken for an up-to-date product."""
    assert loopbook(of_two, "build").returncode == 0
    stamp = of_two / "var/build/.decision.json.metadata"
    for content in ("", '{"timestamp": 17', "[]"):
        stamp.write_text(content)
        assert would_run(of_two) == ["promote"]
    assert loopbook(of_two, "build").returncode == 0
    assert would_run(of_two) == []


@STOPPED
def test_a_build_as_of_an_earlier_day_does_not_judge_with_rows_the_champion_knows(of_two):
    """All its test rows taught the champion, so the gate has nothing to judge from."""
    done = loopbook(of_two, "build", "--set", "as_of=2025-05-01")
    assert done.returncode == 0, done.stderr
    decision = json.loads((of_two / "var/build/decision.json").read_text())
    assert not decision["promoted"]
    assert "0 rows that no compared model has seen" in decision["sentence"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("env.yaml", "test_days: -3", "test_days: found -3, expected greater than or equal to 1"),
        ("contract.yaml", "labl_delay_days: 3", "labl_delay_days: unknown key; did you mean"),
        ("contract.yaml", "[broken", "contract.yaml: line"),
        ("contract.yaml", "source: {path: data/gone.parquet}", "data/gone.parquet: No such file"),
        (
            "contract.yaml",
            "source: {path: env.yaml}",
            "source env.yaml: its name ends in no known format",
        ),
    ],
)
def test_a_wrong_setting_stops_before_any_work(restored, file, text, message):
    path = restored / file
    kept = [ln for ln in path.read_text().splitlines() if not ln.startswith(text.split(":")[0])]
    path.write_text("\n".join([*kept, text]) + "\n")
    done = loopbook(restored, "build")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def again(folder: Path, task: str, old: str = "", changed: str = "") -> subprocess.CompletedProcess:
    """Execute a copy of an executed notebook a second time and compare its outputs.

    The copy writes to a folder of its own. `old` is replaced by `changed` in its
    stored outputs first, to see that a tampered number is found.
    """
    notebook = json.loads((folder / f"var/build/{task}.ipynb").read_text())
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            lines = "".join(cell["source"]).splitlines(keepends=True)
            own = [ln.replace("/build/", "/again/") if "product" in ln else ln for ln in lines]
            cell["source"] = own
        if old and cell["cell_type"] == "code":
            cell["outputs"] = json.loads(json.dumps(cell["outputs"]).replace(old, changed))
    copy = folder / "var/again" / f"{task}.ipynb"
    copy.parent.mkdir(exist_ok=True, parents=True)
    # a run's id is new each time, and so is a time
    varies = folder / "var/again/varies.cfg"
    varies.write_text(
        "[id]\nregex: [0-9a-f]{32}\nreplace: ID\n[time]\nregex: [0-9.]{1,9} ms\nreplace: TIME\n"
    )
    copy.write_text(json.dumps(notebook))
    options = ["-q", "--nbval", "-W", "default", "-p", "no:cacheprovider", "--rootdir", "."]
    options += ["--nbval-sanitize-with", str(varies)]
    return subprocess.run(
        # in a whole path pytest would take a [ for the name of a test
        [sys.executable, "-m", "pytest", *options, "-c", os.devnull, copy.relative_to(folder)],
        cwd=folder,
        env=environment(folder),
        text=True,
        capture_output=True,
    )


@AGAIN
@pytest.mark.parametrize("task", ["validate", "build_features", "split", "train/ridge-1"])
def test_a_second_execution_of_a_notebook_gives_the_same_outputs(built, task):
    """Not `evaluate` and `promote`: they look at the registry, which the first build has changed."""
    done = again(built, task)
    assert done.returncode == 0, done.stdout[-3000:]


@AGAIN
def test_a_tampered_number_in_a_notebook_is_found(built):
    """The row count that `validate` showed, one too many."""
    rows = pl.read_parquet(built / "var/build/valid_rows.parquet", glob=False).height
    done = again(
        built, "validate", old=f"{rows:,} rows are used", changed=f"{rows + 1:,} rows are used"
    )
    assert done.returncode == 1
    assert "mismatch 'text/markdown'" in done.stdout
