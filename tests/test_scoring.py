"""Batch scoring: many rows through the champion, with the numbers of the service."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from made_once import MANY_SIGNS, copied
from small_house import FULL, ROOT, Running, environment, give, loopbook, make_project

from loopbook.project import contract, paths
from loopbook.registry import tracking
from loopbook.serving import scoring

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("scoring") / MANY_SIGNS)
    give(folder, 1, tracking.CHAMPION, "ensemble")
    done = loopbook(folder, "features", "materialize", "--as-of", "2015-03-01")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_file_and_the_service_give_the_same_numbers_to_the_last_digit(house):
    """1,000 real rows, as Parquet by columns and as CSV by aliases."""
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet").filter(pl.col("bedrooms") <= 15)
    rows = rows.sample(1000, seed=2)
    rows.write_parquet(house / "in.parquet")
    aliased = rows.drop("price", "id", "date").rename({"sqft_living": "size", "bedrooms": "rooms"})
    aliased.write_csv(house / "in.csv")
    for source, target in (("in.parquet", "out.parquet"), ("in.csv", "out.csv")):
        done = loopbook(house, "score", source, target, "--as-of", "2015-03-01")
        assert done.returncode == 0, done.stderr
        assert "Wrote 1,000 rows" in done.stdout
    scored = pl.read_parquet(house / "out.parquet", glob=False)
    assert scored.drop("model_version", pl.selectors.starts_with("predicted_price")).equals(rows)
    text = pl.read_csv(house / "out.csv", glob=False)
    assert text["predicted_price"].to_list() == scored["predicted_price"].to_list()
    sent = [r | {"as_of": FULL["as_of"]} for r in rows.drop("price", "id", "date").to_dicts()]
    with Running(house, "--quiet") as service:
        answers = service.http.post("/predict/batch", json={"rows": sent}).json()["predictions"]
        single = [service.http.post("/predict", json=row).json() for row in sent[:30]]
    served = [a["predicted_price"] for a in answers]
    assert served == scored["predicted_price"].to_list()
    assert [a["predicted_price"] for a in single] == served[:30]


def test_each_row_is_answered_for_its_own_day(line, tmp_path):
    """Without --as-of, the event time of the row decides what was known about its place.

    The same houses as of two days, asked of a model with trailing features: each
    day's answers are those with --as-of.
    """
    house = copied(line, tmp_path / "house")
    give(house, 2, tracking.CHAMPION, "with_history")
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet").head(150)
    days = ("2014-11-02", "2015-02-09")
    twice = [rows.with_columns(date=pl.lit(day).str.to_date()) for day in days]
    pl.concat(twice).write_parquet(house / "own.parquet")
    asked = [("own.parquet", "own-out.parquet")]
    for day, same in zip(days, twice, strict=True):
        same.write_parquet(house / f"day-{day}.parquet")
        asked.append((f"day-{day}.parquet", f"out-{day}.parquet", "--as-of", day))
    for words in asked:
        done = loopbook(house, "score", *words)
        assert done.returncode == 0, done.stderr
    own = pl.read_parquet(house / "own-out.parquet", glob=False)["predicted_price"]
    of_days = [
        pl.read_parquet(house / f"out-{day}.parquet", glob=False)["predicted_price"] for day in days
    ]
    assert own.equals(pl.concat(of_days))
    assert (of_days[0] != of_days[1]).mean() > 0.5


def test_the_notebook_scores_the_source_of_the_contract_without_a_files_name(house):
    """`pipeline.score.yaml` as it comes names no table; Ploomber builds it."""
    shutil.copy(ROOT / "pipeline.score.yaml", house)
    ploomber = Path(sys.executable).with_name("ploomber")
    words = [ploomber, "build", "--entry-point", "pipeline.score.yaml"]
    done = subprocess.run(words, cwd=house, env=environment(house), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    scored = pl.read_parquet(house / "var/score/predictions.parquet", glob=False)
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet")
    assert scored.drop("model_version", pl.selectors.starts_with("predicted_price")).equals(rows)


def test_a_source_of_several_files_is_scored_as_one_table(house, tmp_path):
    """A folder of CSV files, written into one file once, and anew when a row changes."""
    here = paths.Project(tmp_path)
    (tmp_path / "rows").mkdir()
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet")
    for name, part in (("a", rows[:50]), ("b", rows[50:80])):
        part.write_csv(tmp_path / "rows" / f"{name}.csv")
    table = contract.read_contract(house / "contract.yaml")
    several = table.model_copy(update={"source": contract.Source(path="rows")})
    first = scoring.file_of("source", here, several)
    assert pl.read_parquet(first, glob=False)["price"].to_list() == rows["price"][:80].to_list()
    assert scoring.file_of("source", here, several) == first
    rows[50:70].write_csv(tmp_path / "rows" / "b.csv")
    again = scoring.file_of("source", here, several)
    assert pl.read_parquet(again, glob=False).height == 70
    assert list(here.var.glob("scoring/*.parquet")) == [again]
    assert scoring.file_of("in.csv", here, several) == tmp_path / "in.csv"


KILLED = """
import os, signal, sys
from loopbook.serving import scoring
scoring.PART_ROWS = 100
before = scoring._answered
count = 0
def some(*words):
    global count
    count += 1
    if count > 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*words)
scoring._answered = some
from loopbook.cli.main import main
sys.argv = ["loopbook", "score", "killed.parquet", "killed-out.parquet", "--as-of", "2015-03-01"]
main()
"""


def test_a_scoring_that_was_killed_goes_on_where_it_stopped(house):
    """Nothing is at the output's place until all is done; the second run does the rest."""
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet").head(1000)
    rows.write_parquet(house / "killed.parquet")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=house, env=environment(house))
    assert done.returncode == -signal.SIGKILL
    assert not (house / "killed-out.parquet").exists()
    again = KILLED.replace("count > 4", "False")
    done = subprocess.run(
        [sys.executable, "-c", again],
        cwd=house,
        env=environment(house),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "400 of them done before" in done.stdout
    whole = pl.read_parquet(house / "killed-out.parquet", glob=False)
    assert whole.drop("model_version", pl.selectors.starts_with("predicted_price")).equals(rows)
    assert not list((house / "var/scoring").iterdir())


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda p: None, "there is no such file"),
        (lambda p: pl.DataFrame({"rooms": [1]}).write_parquet(p), "lacks sqft_living"),
        (
            lambda p: pl.DataFrame({"size": ["9", "big"]}).write_parquet(p),
            "size is no integer, or beyond 9,007,199,254,740,991 in 1 row; first: row 2 (big)",
        ),
        (
            lambda p: pl.DataFrame({"size": [9, None]}).write_parquet(p),
            "size has no value in 1 row; first: row 2 (None)",
        ),
        (
            lambda p: pl.DataFrame({"size": [9], "rooms": [3.7]}).write_parquet(p),
            "rooms is no integer",
        ),
        (
            lambda p: pl.DataFrame({"size": [9], "date": ["2015-02-29"]}).write_parquet(p),
            "date is not a day",
        ),
        (
            lambda p: pl.DataFrame({"size": [9], "waterfront": [[True]]}).write_parquet(p),
            "waterfront is of type List(Boolean), expected boolean",
        ),
        (
            lambda p: pl.DataFrame({"size": [9], "sqft_living": [9]}).write_parquet(p),
            "are the one column",
        ),
        (lambda p: pl.DataFrame({"size": []}).cast(pl.Int64).write_parquet(p), "found 0 rows"),
        (lambda p: p.write_text("no table"), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_scored_says_why(house, write, told):
    write(house / "wrong.parquet")
    done = loopbook(house, "score", "wrong.parquet", "wrong-out.parquet")
    assert done.returncode == 1
    assert told in done.stderr
    assert "wrong.parquet" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (house / "wrong-out.parquet").exists()
    assert not any((house / "var").glob("scoring/*"))
    (house / "wrong.parquet").unlink(missing_ok=True)


def test_on_dask_the_numbers_are_the_same(house):
    rows = pl.read_parquet(ROOT / "data/house_sales.parquet").head(500)
    rows.write_parquet(house / "dask.parquet")
    words = ["--as-of", "2015-03-01"]
    here = loopbook(house, "score", "dask.parquet", "here.parquet", *words)
    assert here.returncode == 0, here.stderr
    there = loopbook(
        house, "score", "dask.parquet", "there.parquet", *words, "--scheduler", "local"
    )
    assert there.returncode == 0, there.stderr
    assert pl.read_parquet(house / "here.parquet", glob=False).equals(
        pl.read_parquet(house / "there.parquet", glob=False)
    )
