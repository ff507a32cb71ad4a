"""League: our candidates beside LightGBM and AutoGluon, on the same rows and columns.

Houses (a log), bikes (a log that drifts), flights (yes or no) and penguins (one
of three). Each keeps rows back that nobody learns from. Ours are all candidates
of a build, and the one that it would choose: by the 28 days before the window
(of penguins by a fifth of what teaches), in which each is fitted without them.
The same with the calibration state of each day's midnight beside it: truths that
became known meanwhile move its answers and teach no model.
LightGBM has its defaults, with categories as codes and as categories of its own.
AutoGluon is run where it is installed (`--autogluon PYTHON`): it has 1.1 GB and
is no dependency of ours. Seconds are of the processor, on one thread.

The repository has one flight in eight; `--data FOLDER` names a folder with the
whole tables, by their names in the examples.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from lightgbm import LGBMClassifier, LGBMRegressor

from loopbook.data import sources, validation
from loopbook.features import history
from loopbook.features import rows as row_features
from loopbook.models import (
    calibration_states,
    candidates,
    export,
    fitted_parts,
    grid,
    inference,
    steps,
)
from loopbook.models.calibration_states import Rule
from loopbook.models.task import Task, task_of
from loopbook.project import clock, paths
from loopbook.project.contract import Contract, read_contract

VALIDATION_DAYS, VALIDATION_SHARE = 28, 0.2
PENGUIN_SEEDS, TAUGHT_SHARE = range(10), 0.75
SEED = 7
CHOSEN = "chosen of ours"
STATED = f"{CHOSEN}, with daily states"
AUTOGLUON_S = 150  # for one fit, on two cores


@dataclass(frozen=True)
class Round:
    """A table, the rows that teach and those that judge; `validation` are some that teach."""

    table: Contract
    taught: pl.DataFrame
    asked: pl.DataFrame
    validation: np.ndarray
    seed: int = SEED


@dataclass(frozen=True)
class Outcome:
    """A model's mean loss and calibration error on the rows asked, and what its fit took."""

    loss: float
    calibration: float | None
    seconds: float


def rows_of(root: Path) -> tuple[Contract, pl.DataFrame]:
    """The contract and all its labelled rows, with all that a build computes of them."""
    table = read_contract(root / "contract.yaml")
    rows, _ = validation.without_known_faults(sources.read_source(table, root), table)
    rows = validation.conform(sources.with_clock(rows, table) if table.event_time else rows, table)
    if table.event_time:
        rows = rows.sort(clock.EVENT_TS, *table.key)
    if table.history:
        rows = history.with_history(rows, history.facts(rows, table), table)
    return table, row_features.with_derived(rows, table)


def month(root: Path, year: int, number: int) -> Iterator[Round]:
    """All that is known on the first of a month, and the month."""
    table, rows = rows_of(root)
    zone = ZoneInfo(table.time_zone or "UTC")
    start = datetime(year, number, 1, tzinfo=zone).astimezone(UTC)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone).astimezone(UTC)
    taught = rows.filter(pl.col(clock.KNOWN_TS) <= start)
    asked = rows.filter(pl.col(clock.EVENT_TS).is_between(start, end, closed="left"))
    newest = taught[clock.EVENT_TS].max() - timedelta(days=VALIDATION_DAYS)
    yield Round(table, taught, asked, (taught[clock.EVENT_TS] > newest).to_numpy())


def at_random(root: Path) -> Iterator[Round]:
    """Ten random splits."""
    table, rows = rows_of(root)
    for seed in PENGUIN_SEEDS:
        order = np.random.default_rng(seed).permutation(rows.height)
        taught = int(rows.height * TAUGHT_SHARE)
        kept = np.arange(taught) < int(taught * VALIDATION_SHARE)
        yield Round(table, rows[order[:taught]], rows[order[taught:]], kept, seed)


def judged(task: Task, asked: pl.DataFrame, answers: np.ndarray, seconds: float) -> Outcome:
    observed = task.observed(asked[task.contract.target.name])
    found = task.metrics(observed, answers)
    return Outcome(found[task.metric], found.get("calibration_error"), seconds)


def ours(here: Round) -> dict[str, Outcome]:
    """Every candidate, as its graph answers, and the one that a build would choose."""
    task = task_of(here.table)
    learns = here.taught.filter(~pl.Series(here.validation))
    compared = here.taught.filter(pl.Series(here.validation))
    found, before, said = {}, {}, {}
    for name in grid.LIBRARY:
        if grid.NEEDS.get(name, lambda _: True)(here.table):
            kept, _ = answered(name, here, learns, compared)
            before[name] = judged(task, compared, kept, 0.0).loss
            answers, took = answered(name, here, here.taught, here.asked)
            found[name], said[name] = judged(task, here.asked, answers, took), (kept, answers)
    # several rounds may choose differently, so their line names none
    best = min(before, key=before.__getitem__)
    found[CHOSEN] = found[best]
    if here.table.event_time:
        moved = with_states(task, here, compared, *said[best])
        found[STATED] = judged(task, here.asked, moved, found[best].seconds)
    return found


def with_states(
    task: Task, here: Round, compared: pl.DataFrame, kept: np.ndarray, answers: np.ndarray
) -> np.ndarray:
    """Answers moved by the state of each row's midnight, from what was known by then."""
    known = pl.concat([came_true(task, compared, kept), came_true(task, here.asked, answers)])
    instants = here.asked[clock.EVENT_TS]
    shifts = calibration_states.shifts_at(task, known, instants, Rule())
    return calibration_states.moved(task, answers, shifts)


def came_true(task: Task, rows: pl.DataFrame, raw: np.ndarray) -> pl.DataFrame:
    """What came true of raw answers, as a state is made of it."""
    return rows.select(
        pl.col(clock.EVENT_TS).alias("at"),
        clock.KNOWN_TS,
        task.column(raw).alias("raw"),
        pl.col(task.contract.target.name).cast(task.observed_type).alias("observed"),
    )


def answered(
    name: str, here: Round, taught: pl.DataFrame, asked: pl.DataFrame
) -> tuple[np.ndarray, float]:
    """What a candidate's graph answers, and the seconds of its fit and export."""
    table, task = here.table, task_of(here.table)
    vocabulary = row_features.learn_categories(taught, table)
    X = row_features.model_matrix(taught, table, vocabulary)
    y = task.inside(task.observed(taught[table.target.name]))
    began = time.process_time()
    model = candidates.build(name, table, here.seed, len(y))
    model = fitted_parts.in_float32(steps.fitted(model, X, y))
    graph = export.export(model, table, X.shape[1])
    took = time.process_time() - began
    X_asked = row_features.model_matrix(asked, table, vocabulary)
    return inference.predict(inference.session(graph), X_asked), took


def lightgbm(here: Round) -> dict[str, Outcome]:
    """Its defaults on our columns."""
    table, task = here.table, task_of(here.table)
    names = row_features.input_names(table)
    vocabulary = row_features.learn_categories(here.taught, table)
    X, X_asked = (
        row_features.model_matrix(rows, table, vocabulary) for rows in (here.taught, here.asked)
    )
    y = task.inside(task.observed(here.taught[table.target.name]))
    kind = LGBMClassifier if task.classes else LGBMRegressor
    places = [names.index(name) for name in table.categories]
    found = {}
    for how, columns in {"codes": [], "its own categories": places}.items():
        began = time.process_time()
        model = kind(random_state=here.seed, n_jobs=1, verbose=-1)
        model.fit(X, y, categorical_feature=columns)
        took = time.process_time() - began
        found[f"LightGBM, {how}"] = judged(task, here.asked, task.answers(model, X_asked), took)
    return found


# Run by AutoGluon's own Python: folder, seconds. It reads and writes what is in the folder.
AUTOGLUON = """
import json, sys, time
import numpy as np, pandas as pd
from autogluon.tabular import TabularPredictor
folder, seconds = sys.argv[1], int(sys.argv[2])
taught, asked = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("taught", "asked"))
about = json.load(open(f"{folder}/about.json"))
for name in about["categories"]:
    taught[name], asked[name] = taught[name].astype("category"), asked[name].astype("category")
began = time.perf_counter()
predictor = TabularPredictor("y", eval_metric=about["metric"], path=f"{folder}/models", verbosity=0)
predictor.fit(taught, presets="best_quality", time_limit=seconds, num_cpus=2)
took = time.perf_counter() - began
if about["classes"]:
    answers = predictor.predict_proba(asked)[sorted(taught["y"].unique())].to_numpy()
else:
    answers = predictor.predict(asked).to_numpy()
np.save(f"{folder}/answers.npy", answers)
json.dump(took, open(f"{folder}/took.json", "w"))
"""


def autogluon(here: Round, python: str) -> dict[str, Outcome]:
    """Its best quality on our columns, in `AUTOGLUON_S` seconds on two cores."""
    table, task = here.table, task_of(here.table)
    names = row_features.input_names(table)
    y = task.inside(task.observed(here.taught[table.target.name]))
    about = {
        "categories": table.categories,
        "classes": task.classes,
        "metric": "log_loss" if task.classes else "mean_absolute_error",
    }
    with tempfile.TemporaryDirectory() as folder:
        here.taught.select(names).with_columns(y=pl.Series(y)).write_parquet(
            f"{folder}/taught.parquet"
        )
        here.asked.select(names).write_parquet(f"{folder}/asked.parquet")
        Path(folder, "about.json").write_text(json.dumps(about), encoding="utf-8")
        words = [python, "-c", AUTOGLUON, folder, str(AUTOGLUON_S)]
        subprocess.run(words, check=True, capture_output=True)
        raw = np.load(f"{folder}/answers.npy").astype(np.float64)
        took = json.loads(Path(folder, "took.json").read_text(encoding="utf-8"))
    if task.classes:
        answers = np.zeros((len(raw), task.width))
        answers[:, np.unique(y)] = raw
    else:
        answers = np.exp(raw) if task.link == "log" else raw
    return {f"AutoGluon, {AUTOGLUON_S} s": judged(task, here.asked, answers, took)}


TABLES: dict[str, tuple[str, str, Callable[[Path], Iterator[Round]]]] = {
    "houses": ("", "October 2014", lambda root: month(root, 2014, 10)),
    "bikes": ("examples/bikes", "October 2012", lambda root: month(root, 2012, 10)),
    "flights": ("examples/flights", "November 2013", lambda root: month(root, 2013, 11)),
    "penguins": ("examples/penguins", "ten random splits", at_random),
}


def run(
    tables: list[str] | None = None, data: Path | None = None, python: str | None = None
) -> Iterator[str]:
    """A table of markdown for each table, the best of ours beside its peers' last."""
    for name in tables or TABLES:
        where, what, rounds = TABLES[name]
        with tempfile.TemporaryDirectory() as folder:
            root = gathered(paths.current().root / where, Path(folder), data)
            found: dict[str, list[Outcome]] = {}
            for number, here in enumerate(rounds(root)):
                if number == 0:
                    yield from heading(name, what, here)
                every = ours(here) | lightgbm(here) | (autogluon(here, python) if python else {})
                for model, outcome in every.items():
                    found.setdefault(model, []).append(outcome)
        yield from lines(found)
        yield ""


def gathered(source: Path, folder: Path, data: Path | None) -> Path:
    """A folder with a contract and its data, whole where `data` has it."""
    (folder / "contract.yaml").write_bytes((source / "contract.yaml").read_bytes())
    (folder / "data").mkdir()
    for path in (source / "data").iterdir():
        whole = data / path.name if data else path
        (folder / "data" / path.name).symlink_to((whole if whole.exists() else path).resolve())
    return folder


def heading(name: str, what: str, here: Round) -> Iterator[str]:
    measure = task_of(here.table).measure
    rows = f"{here.taught.height:,} rows teach, {here.asked.height:,} judge"
    yield f"| {name}, {what}: {rows} | {measure.title} | calibration error | CPU s |"
    yield "|---|---|---|---|"


def lines(found: dict[str, list[Outcome]]) -> Iterator[str]:
    """A line a model, and whether the chosen one is better than the best of the peers."""
    means = {name: float(np.mean([o.loss for o in each])) for name, each in found.items()}
    for name, each in found.items():
        calibration = [o.calibration for o in each if o.calibration is not None]
        error = f"{np.mean(calibration):.3f}" if calibration else ""
        took = np.mean([o.seconds for o in each])
        yield f"| {name} | {means[name]:.4f} | {error} | {took:.1f} |"
    for peer in (name for name in means if name.startswith(("LightGBM", "AutoGluon"))):
        ratio = means[CHOSEN] / means[peer]
        verdict = "not worse than" if ratio <= 1 else "**worse than**"
        yield f"\nOurs is {verdict} {peer}: {ratio:.3f} of its loss."
