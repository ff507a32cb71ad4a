"""The examples: tables of other kinds, as a person begins with one."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from example_words import read_by_people, words_of_the_example
from executed import documents, of_frames, unexplained
from made_once import made_once
from small_house import ROOT, Running, environment, loopbook, set_knobs

from loopbook.data import rehearsal, sources, validation
from loopbook.features.calendar import calendar_columns
from loopbook.project import clock
from loopbook.project.contract import read_contract
from loopbook.project.knobs import check_knobs, read_knobs
from loopbook.project.paths import Project
from loopbook.project.template import with_knobs
from loopbook.records import verdicts
from loopbook.records import windows as window_records

EXAMPLES = ("bikes", "flights", "penguins")
# what is in the repository beside code: each table of an example, and no other
TABLES = {
    "data/house_sales.parquet",
    "examples/bikes/data/bike_rentals.csv",
    "examples/flights/data/flights.parquet",
    "examples/flights/data/flights_weather.parquet",
    "examples/penguins/data/penguins.csv",
}


@pytest.fixture(params=EXAMPLES)
def project(request, tmp_path) -> Project:
    """An example's files where a project has them, with all knobs."""
    folder = ROOT / "examples" / request.param
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (folder / "env.yaml").read_text())
    (tmp_path / "env.yaml").write_text(knobs)
    return Project(tmp_path)


@pytest.mark.medium
def test_a_build_would_take_nearly_every_row_and_judge_on_enough(project):
    table, knobs = read_contract(project.contract), read_knobs(project.knobs)
    found = rehearsal.rehearse(project, table, knobs, now=clock.utc_now())
    labelled = 0.95 if table.unlabelled == "drop" else 0.998
    assert found.usable >= labelled * found.read
    assert found.parts["test"] >= knobs.gate_min_rows
    assert not [sentence for sentence in found.left_out if "set aside" in sentence], found.left_out
    assert not found.hints


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_the_knobs_that_differ_and_each_gets_its_value(name):
    own = yaml.safe_load((ROOT / "examples" / name / "env.yaml").read_text())
    usual = (ROOT / "env.yaml").read_text()
    changed = with_knobs(usual, (ROOT / "examples" / name / "env.yaml").read_text())
    before, after = yaml.safe_load(usual), yaml.safe_load(changed)
    assert {knob for knob in after if after[knob] != before[knob]} == set(own)
    assert after == before | own
    assert re.findall("#.*", changed) == re.findall("#.*", usual)
    check_knobs(after, name)


@pytest.mark.parametrize(
    ("name", "leaks"),
    [
        ("bikes", {"casual", "registered"}),
        ("flights", {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}),
    ],
)
def test_what_is_known_afterwards_is_named_so(name, leaks):
    table = read_contract(ROOT / "examples" / name / "contract.yaml")
    assert leaks <= set(table.known_after)
    assert not leaks & {*table.header_of.values(), *table.columns}


def test_the_repository_holds_the_tables_of_the_examples_and_no_other():
    words = ["git", "ls-files", "*.parquet", "*.csv", "*.jsonl", "*.arrow", "*.feather", "*.zip"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) == TABLES
    origins = {path.parent / "README.md" for path in map(Path, TABLES)}
    for origin in origins:
        told = (ROOT / origin).read_text()
        assert re.search(r"CC0|CC BY 4\.0", told), origin
        assert all(Path(t).name in told for t in TABLES if Path(t).parent == origin.parent), origin


def test_bikes_are_the_bytes_of_their_authors_and_of_flights_every_eighth_is_here():
    bikes = ROOT / "examples/bikes/data/bike_rentals.csv"
    assert hashlib.sha256(bikes.read_bytes()).hexdigest().startswith("37243617704e1f08")
    place = ROOT / "examples/flights/one_in_eight.py"
    spec = importlib.util.spec_from_file_location("one_in_eight", place)
    chooser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chooser)
    chosen = chooser.one_in_eight(pl.DataFrame({"row": range(17)}))
    assert chosen["row"].to_list() == [0, 8, 16]
    flights = pl.read_parquet(ROOT / "examples/flights/data/flights.parquet")
    assert flights.height == -(-336_776 // 8)
    assert round(100 * (flights["arr_delay"] > 15).mean(), 1) == pytest.approx(23.7, abs=0.3)


@pytest.mark.medium
def test_the_calendar_of_flights_is_that_of_the_airports_clocks(tmp_path):
    """The file says the local hour; the contract reads it off an instant in UTC."""
    shutil.copytree(ROOT / "examples/flights", tmp_path, dirs_exist_ok=True)
    table = read_contract(tmp_path / "contract.yaml")
    rows = sources.with_clock(sources.read_source(table, tmp_path), table)
    raw = pl.read_parquet(tmp_path / "data/flights.parquet")
    told = rows.select(table.key).join(raw, on=table.key, how="left", maintain_order="left")
    read = calendar_columns(rows[clock.EVENT_TS], table)["departs_at"]
    assert read.tolist() == told["hour"].to_list()


# -- the whole life of each, in a short form ------------------------------------


@dataclass(frozen=True)
class Life:
    """Trained on what was known at an instant, then asked about the rows of `[since, until)`."""

    as_of: str
    since: datetime
    until: datetime

    @property
    def has_time(self) -> bool:
        return self.as_of != "newest"


def days(first: str, last: str) -> tuple[datetime, datetime]:
    return tuple(datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))


LIVES = {
    # the season of these days began on 23 September: no row that teaches has it
    "bikes": Life("2011-09-23", *days("2011-09-24", "2011-09-28")),
    # the first days of July: their air is damper than any that teaches
    "flights": Life("2013-07-05", *days("2013-07-05", "2013-07-07")),
    "penguins": Life("newest", *days("2000-01-01", "2100-01-01")),
}
PAGES = """
import sys
from loopbook.pages import dashboards, loop_dashboard

def texts(widget):
    for child in getattr(widget, "children", ()):
        yield from texts(child)
    if isinstance(getattr(widget, "value", None), str):
        yield widget.value

for page in ("overview", "drift", "performance", "candidates", "model_card", "what_if"):
    print(f"== {page}", *texts(dashboards.show(page)), sep="\\n")
with open("loop_page.txt", "w", encoding="utf-8") as file:
    print(*texts(loop_dashboard.show()), sep="\\n", file=file)
"""
# all that speaks to people: what a build, a window, the loop, the service and commands leave
SPOKEN = (
    *("var/build/*.ipynb", "var/build/train/*.ipynb", "var/build/train/*_card-*.json"),
    *("var/build/*.json", "var/monitor/*.ipynb", "var/monitor/windows/*/*.json"),
    *("var/monitor/windows/*/*.svg", "var/mlflow/artifacts/**/*.json", "commands.txt"),
    *("service.txt", "stderr.txt", "pages.txt", "loop_page.txt"),
)


def asked_rows(folder: Path, life: Life) -> list[tuple[dict, object]]:
    """Requests about rows of the source, as a client has them, each with what came true."""
    table = read_contract(folder / "contract.yaml")
    rows = sources.read_source(table, folder).drop_nulls(table.target.name)
    rows = validation.conform(sources.with_clock(rows, table) if life.has_time else rows, table)
    if life.has_time:
        rows = rows.filter(pl.col(clock.EVENT_TS).is_between(life.since, life.until, closed="left"))
    asked = []
    for row in rows.sort(table.key).head(400).iter_rows(named=True):
        request = {name: row[name] for name in table.features if row[name] is not None}
        moment = {"as_of": row[clock.EVENT_TS].isoformat()} if life.has_time else {}
        asked.append((request | moment, row[table.target.name]))
    return asked


def spoken(service: Running, row: dict) -> str:
    """The document, the metrics, the state and the refusals of a service, as one text."""
    number = next(name for name, value in row.items() if isinstance(value, int | float))
    wrong = [{"nothing": 1}, row | {number: "much"}]  # refused, so that the log has no more answers
    answers = [service.http.get(p) for p in ("/openapi.json", "/docs", "/metrics", "/health/ready")]
    answers += [service.http.post("/predict", json=one) for one in wrong]
    answers.append(service.http.post("/feedback", json={"truths": [{"prediction_id": "none"}]}))
    return "\n".join(f"{answer.url} {answer.status_code}\n{answer.text}" for answer in answers)


TRIED = """
hist_gradient_boosting:
  model__learning_rate: [0.08, 0.15]
  model__min_samples_leaf: [5, 15]
"""


def tuned(folder: Path) -> list[subprocess.CompletedProcess]:
    """Search settings, and build with the candidate that came of it."""
    (folder / "tune.yaml").write_text(TRIED)
    searched = loopbook(folder, "tune", "hist_gradient_boosting", "--trials", "9")
    grid = (folder / "pipeline.yaml").read_text()
    more = grid.replace("boosting]", "boosting, hist_gradient_boosting_tuned]")
    (folder / "pipeline.yaml").write_text(more)
    return [searched, loopbook(folder, "build")]


def live(folder: Path, name: str) -> None:
    """Build with two candidates, serve, answer, hear what came true, monitor."""
    life = LIVES[name]
    folder.mkdir(parents=True)
    for part in ("notebooks", "reports", "serving"):
        shutil.copytree(ROOT / part, folder / part)
    for file in (
        "pipeline.yaml",
        "pipeline.monitor.yaml",
        "pipeline.score.yaml",
        "requirements.lock",
    ):
        shutil.copy(ROOT / file, folder)
    shutil.copytree(ROOT / "examples" / name, folder, dirs_exist_ok=True)
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (folder / "env.yaml").read_text())
    (folder / "env.yaml").write_text(knobs)
    set_knobs(folder, bootstrap_resamples="300", monitor_report="false")
    grid = (folder / "pipeline.yaml").read_text()
    few = re.sub(r"names: \[baseline, .*\]", "names: [baseline, hist_gradient_boosting]", grid)
    assert few != grid
    (folder / "pipeline.yaml").write_text(few)
    done = [loopbook(folder, "build", "--set", f"as_of={life.as_of}")]
    assert done[0].returncode == 0, done[0].stdout[-2000:] + done[0].stderr[-4000:]
    if life.has_time:
        done.append(loopbook(folder, "features", "materialize", "--as-of", life.as_of))
    else:
        done += tuned(folder)
    table, rows = read_contract(folder / "contract.yaml"), asked_rows(folder, life)
    with Running(folder) as service:
        batch = {"rows": [request for request, _ in rows]}
        answered = service.http.post("/predict/batch", json=batch).raise_for_status().json()
        (folder / "answered.json").write_text(json.dumps(answered))
        told = [
            {"prediction_id": one["prediction_id"], "observed": observed}
            for one, (_, observed) in zip(answered["predictions"], rows, strict=True)
        ]
        heard = service.http.post("/feedback", json={"truths": told}).raise_for_status().json()
        (folder / "heard.json").write_text(json.dumps(heard))
        (folder / "service.txt").write_text(spoken(service, rows[0][0]))
    asked = [{table.event_time: r["as_of"]} | r if life.has_time else r for r, _ in rows]
    frame = pl.DataFrame(asked, infer_schema_length=None).drop("as_of", strict=False)
    frame.write_csv(folder / "asked.csv")
    done.append(loopbook(folder, "score", "asked.csv", "scored.csv"))
    # what was asked now has its ground truth a moment later
    end = life.until if life.has_time else clock.utc_now() + timedelta(seconds=1)
    turn = ("loop", "--once") if life.has_time else ("monitor",)
    done.append(loopbook(folder, *turn, "--as-of", end.isoformat()))
    done += [loopbook(folder, "status"), loopbook(folder, "check")]
    again = loopbook(folder, "reproduce", "1", "--quick", "--json")
    (folder / "reproduced.json").write_text(again.stdout)
    shutil.rmtree(folder / "var" / "reproduced")
    more = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    shown = subprocess.run(
        [sys.executable, "-c", PAGES],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
    )
    (folder / "pages.txt").write_text(shown.stdout)
    (folder / "commands.txt").write_text("\n".join(c.stdout + c.stderr for c in done))
    ends = [c.stdout[-2000:] + c.stderr[-4000:] for c in (*done, shown) if c.returncode]
    assert not ends, "\n".join(ends)


@pytest.fixture(scope="module", params=LIVES)
def lived(request, tmp_path_factory) -> Path:
    """A project of an example that has been through it all."""
    return made_once(tmp_path_factory, f"lived {request.param}", lambda f: live(f, request.param))


@pytest.mark.slow
def test_an_example_is_built_served_fed_back_and_monitored(lived):
    table = read_contract(lived / "contract.yaml")
    answered = json.loads((lived / "answered.json").read_text())["predictions"]
    assert all(f"predicted_{table.target.name}" in one for one in answered)
    outcomes = json.loads((lived / "heard.json").read_text())["outcomes"]
    assert len(outcomes) == len(answered)
    assert set(outcomes) == {"accepted"}
    record = window_records.newest(Project(lived))
    assert record["numbers"]["rows"] == len(answered)
    # of the rows of the last label delay nobody knows yet
    assert record["numbers"]["labels"] == record["numbers"]["due"] > len(answered) / 2
    assert record["verdict"]["level"] in verdicts.LEVELS
    assert record["numbers"]["error"] > 0


@pytest.mark.slow
def test_a_file_of_an_example_is_scored_with_the_digits_of_the_service(lived):
    """Also what is read off the calendar, at the row's instant."""
    name = f"predicted_{read_contract(lived / 'contract.yaml').target.name}"
    answered = json.loads((lived / "answered.json").read_text())["predictions"]
    scored = pl.read_csv(lived / "scored.csv", infer_schema_length=None)
    assert scored[name].to_list() == [one[name] for one in answered]


@pytest.mark.slow
def test_a_version_of_each_task_is_built_again_bit_for_bit(lived):
    told = json.loads((lived / "reproduced.json").read_text())
    assert told["outcome"] == "identical", told
    assert {part["name"] for part in told["parts"]} == {"answers", "graph", "card", "metrics"}
    assert {part["outcome"] for part in told["parts"]} == {"identical"}


@pytest.mark.slow
def test_no_calendar_of_an_example_is_broken_input(lived):
    """Of bikes, the season of the window is one that no row taught."""
    record = window_records.newest(Project(lived))
    assert [fault for fault in record["faults"] if fault["is_broken"]] == []
    assert record["verdict"]["level"] != verdicts.INVESTIGATE
    calendar = {n for n, f in read_contract(lived / "contract.yaml").features.items() if f.calendar}
    judged = {column["column"] for column in record["columns"] if column["is_judged"]}
    assert not calendar & judged


@pytest.mark.slow
def test_every_page_of_an_example_shows_its_target(lived):
    target = read_contract(lived / "contract.yaml").target.name
    pages = re.split("^== ", (lived / "pages.txt").read_text(), flags=re.MULTILINE)[1:]
    assert len(pages) == 6
    for page in pages:
        assert "Nothing to show" not in page, page[:300]
        assert "Traceback" not in page
    assert sum(target in page for page in pages) >= 2


@pytest.mark.slow
def test_all_that_an_example_says_is_about_its_own_table(lived):
    """No word of the repository's own example, but where this contract has it too."""
    own = words_of_the_example((lived / "contract.yaml").read_text())
    about = 0
    for pattern in SPOKEN:
        texts = {path.name: read_by_people(path) for path in lived.glob(pattern)}
        assert any(texts.values()), pattern
        found = {name: words_of_the_example(text) - own for name, text in texts.items()}
        assert not any(found.values()), (pattern, {n: w for n, w in found.items() if w})
        about += any(
            read_contract(lived / "contract.yaml").target.name in t for t in texts.values()
        )
    assert about > len(SPOKEN) / 3


@pytest.mark.slow
def test_every_document_of_an_example_is_written_for_people(lived):
    """No frame as a program sees it, no figure without a sentence, links to the sections."""
    told = documents(lived)
    assert len(told) > 10
    assert {name: of_frames(cells) for name, cells in told.items() if of_frames(cells)} == {}
    assert {name: unexplained(cells) for name, cells in told.items() if unexplained(cells)} == {}
    titles = ["".join(cells[0]["source"]) for cells in told.values()]
    assert sum("**Contents:** [" in title for title in titles) > 10


@pytest.mark.slow
def test_settings_that_a_search_finds_are_trained_and_judged_like_any_candidate(tmp_path_factory):
    """On the rows of the build: as it is, the candidate has the loss that the build gave it."""
    folder = made_once(tmp_path_factory, "lived penguins", lambda f: live(f, "penguins"))
    found = json.loads((folder / "var/tune/hist_gradient_boosting.json").read_text())
    products = (folder / "var/build/train").glob("*.json")
    runs = [run for run in map(json.loads, map(Path.read_text, products)) if "validation" in run]
    loss = {run["candidate"]: run["validation"]["log_loss"] for run in runs}
    assert found["as_is"] == pytest.approx(loss["hist_gradient_boosting"], rel=1e-9)
    assert found["best"]["loss"] == pytest.approx(loss["hist_gradient_boosting_tuned"], rel=1e-9)
    assert found["best"]["loss"] < found["as_is"]
    ranked = json.loads((folder / "var/build/evidence.json").read_text())["ranked"]
    assert "hist_gradient_boosting_tuned" in {one["candidate"] for one in ranked}
