"""The clock of the loop: what is dated otherwise moves no window, however it is dated."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from small_house import ROOT

from loopbook.data import loop_clock, prediction_log
from loopbook.data.prediction_log import Entry
from loopbook.monitoring import windows
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project

NOW = datetime(2025, 6, 1, tzinfo=UTC)
LAST_YEAR = datetime(2014, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FAR = datetime(9999, 12, 30, tzinfo=UTC)
TABLE = read_contract(ROOT / "contract.yaml")


@pytest.fixture
def log(tmp_path):
    opened = prediction_log.connect(Project(tmp_path), TABLE)
    opened.know_inputs("d", ["sqft_living"])
    yield opened
    opened.close()


def ask(
    log, *instants: datetime, received: datetime = NOW - DAY / 24, role: str = "champion"
) -> None:
    """Log answers for these instants, in the order in which they came."""
    first = log.count()
    log.append(
        [
            Entry(
                *(f"{first + place:032x}", prediction_log.to_micros(at if received is None else received)),
                *(prediction_log.to_micros(at), "m", "1", role, None, "predict", None, {}),
                *(np.array([1], np.float32), "d", {}, 1.0, 1),
            )
            for place, at in enumerate(instants)
        ]
    )  # fmt: skip


def days(since: datetime, count: int) -> list[datetime]:
    return [since + place * DAY / 4 for place in range(count)]


def lately(count: int) -> list[datetime]:
    return [NOW - place * DAY / 4 for place in range(1, count + 1)][::-1]


@pytest.mark.parametrize("stray", [FAR, NOW + 30 * DAY, LAST_YEAR, datetime(1, 1, 3, tzinfo=UTC)])
def test_a_live_project_ends_with_its_newest_answer_whatever_one_request_says(log, stray):
    ask(log, *lately(40), received=None)
    ask(log, stray)
    assert loop_clock.newest(log, NOW) == lately(1)[0]


@pytest.mark.parametrize("stray", [FAR, NOW, LAST_YEAR + 900 * DAY, datetime(1, 1, 3, tzinfo=UTC)])
def test_a_project_that_lives_by_last_years_rows_stays_there(log, stray):
    asked = days(LAST_YEAR, 40)
    ask(log, *asked)
    ask(log, stray)
    assert loop_clock.newest(log, NOW) == asked[-1]


def test_the_clock_goes_on_with_the_rows_and_over_a_gap_once_enough_have_come(log):
    ask(log, *days(LAST_YEAR, 200))
    one = LAST_YEAR + 51 * DAY
    ask(log, one)
    assert loop_clock.newest(log, NOW) == one
    later = days(LAST_YEAR + 300 * DAY, 30)
    ask(log, *later[:5])
    assert loop_clock.newest(log, NOW) == one
    ask(log, *later[5:])
    assert loop_clock.newest(log, NOW) == later[-1]


def test_a_live_project_that_was_quiet_for_months_is_at_its_newest_answer(log):
    ask(log, *days(NOW - 200 * DAY, 40), NOW - 2 * DAY, received=None)
    assert loop_clock.newest(log, NOW) == NOW - 2 * DAY


def test_an_answer_for_next_week_counts_when_next_week_comes(log):
    planned = NOW + 7 * DAY
    ask(log, *lately(10), received=None)
    ask(log, planned)
    assert loop_clock.newest(log, NOW) < NOW
    assert loop_clock.newest(log, planned + DAY) == planned


def test_an_empty_log_and_one_answer_are_no_trouble(log):
    assert loop_clock.newest(log, NOW) is None
    ask(log, FAR)
    assert loop_clock.newest(log, NOW) is None
    ask(log, LAST_YEAR)
    assert loop_clock.newest(log, NOW) == LAST_YEAR


def test_the_window_stays_and_what_is_dated_otherwise_is_counted(log, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    asked = days(LAST_YEAR, 40)
    ask(log, *asked, FAR, NOW, NOW)
    how = {"most_rows": 1000, "seed": 1}
    _, _, facts = windows.collect(Project(tmp_path), TABLE, windows.Asked(None, NOW, 21), **how)
    assert facts["as_of"] == (asked[-1] + timedelta(microseconds=1)).isoformat()
    assert facts["otherwise"] == 3
    assert windows.asides(facts)[0].startswith("3 requests are dated otherwise, after 2014-06-10")
    past = windows.Asked(LAST_YEAR + DAY, NOW, 21)
    assert windows.collect(Project(tmp_path), TABLE, past, **how)[2]["otherwise"] == 3


@pytest.mark.medium
@pytest.mark.parametrize("most_rows", [10_000, 2000])
def test_what_a_shadow_answered_beside_is_no_request(log, tmp_path, monkeypatch, most_rows):
    """It was counted: the window said that half of the answers were read, and costs were twice theirs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    asked = [LAST_YEAR + place * DAY / 100 for place in range(2000)]
    ask(log, *asked)
    ask(log, *asked, role="shadow")
    how = {"most_rows": most_rows, "seed": 1}
    _, _, facts = windows.collect(Project(tmp_path), TABLE, windows.Asked(None, NOW, 21), **how)
    assert facts["logged"] == 2000
    assert facts["looked_at"] <= facts["logged"]


@pytest.mark.parametrize("as_of", [datetime(1, 1, 2, tzinfo=UTC), FAR])
def test_a_window_at_either_end_of_the_calendar_is_empty_and_no_error(
    log, tmp_path, as_of, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    ask(log, *days(LAST_YEAR, 3))
    how = {"most_rows": 1000, "seed": 1}
    rows, _, _ = windows.collect(Project(tmp_path), TABLE, windows.Asked(as_of, NOW, 21), **how)
    assert rows.is_empty()
