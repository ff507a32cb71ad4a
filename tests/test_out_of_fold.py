"""Out of fold: what a candidate would have said to the rows that taught it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from test_degenerate import TABLE

from loopbook.models import out_of_fold
from loopbook.models.task import task_of

START = datetime(2024, 1, 4, tzinfo=UTC)  # a Thursday, as the first day of 1970
CATEGORIES = {"zone": ["a", "b"], "only": ["x"], "none": []}


def taught(days: int = 140, rows: int = 6) -> pl.DataFrame:
    """A rent of 10 a size; those of the last week are twice as high, and only they are 'b'."""
    draw = np.random.default_rng(1)
    size = draw.uniform(1, 9, days * rows)
    at = [START + timedelta(days=n / rows) for n in range(days * rows)]
    is_late = np.arange(days * rows) >= (days - 7) * rows
    return pl.DataFrame(
        {
            "id": [f"{n}" for n in range(days * rows)],
            "event_ts": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "size": size,
            "log_size": np.log(size),
            "lift": 0.0,
            "lifts": 0.0,
            "one": 1.0,
            "zone": np.where(is_late, "b", "a"),
            "only": "x",
            "none": pl.Series([None] * days * rows, dtype=pl.String),
            "level": 500.0,
            "rent": 10 * size * np.where(is_late, 2.0, 1.0),
        }
    )


def test_a_week_is_answered_by_a_fit_that_has_not_seen_it():
    """Nothing but the last week tells that a zone is dear, and it is not told of itself."""
    rows, said = out_of_fold.answers("ridge", TABLE, 3, taught(), CATEGORIES)
    assert rows["event_ts"].min() > rows["event_ts"].max() - timedelta(days=84)
    off = np.log(rows["rent"].to_numpy() / said)
    assert (off[-7 * 6 :] > 0.5).all()
    assert np.median(np.abs(off[: -7 * 6])) < 0.2


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(taught().drop("event_ts"), id="no event time"),
        pytest.param(taught(days=9, rows=9), id="half of them teach nothing"),
        pytest.param(taught().clear(), id="no rows"),
    ],
)
def test_where_half_of_the_rows_cannot_teach_there_are_no_such_answers(rows):
    found, said = out_of_fold.answers("ridge", TABLE, 3, rows, CATEGORIES)
    assert found.height == len(said) == 0
    assert task_of(TABLE).column(said).len() == 0
