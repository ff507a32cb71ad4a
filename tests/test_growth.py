"""Growth: how many rows are known against those of the last build, and when that asks for a new one."""

from datetime import UTC, datetime

import pytest
from small_house import ROOT, make_project

from loopbook.data import sources
from loopbook.loop import growth
from loopbook.loop.growth import Growth
from loopbook.project import clock
from loopbook.project.contract import read_contract
from loopbook.project.errors import SourceError
from loopbook.project.paths import Project
from loopbook.records.turns import PROMOTED, REFUSED, Attempt

NOW = datetime(2015, 3, 1, tzinfo=UTC)
TABLE = read_contract(ROOT / "contract.yaml")


def champion(rows: int) -> dict[str, str]:
    """The tags of the run that made a champion of so many rows."""
    return {"snapshot_rows": str(rows)}


@pytest.mark.parametrize(
    ("known", "times", "asks"),
    [(1499, 1.5, False), (1500, 1.5, True), (9000, 0, False), (900, 1.5, False)],
)
def test_it_asks_once_so_many_times_the_rows_are_known_and_never_with_nought(known, times, asks):
    reason = Growth(known, 1000).reason(times)
    assert (reason is not None) == asks
    if asks:
        assert reason == "1,500 rows are known, 1.5 times the 1,000 of the last build"


def test_the_rows_known_are_those_that_a_build_would_begin_with(tmp_path):
    project = Project(make_project(tmp_path / "house"))
    table = read_contract(project.contract)
    rows = sources.read(table, project.root).rows
    known, _ = sources.known_by(rows, NOW, table, now=clock.utc_now())
    assert 0 < known.height < rows.height
    found = growth.since_last_build(project, table, champion(1000), [], NOW)
    assert found == Growth(known.height, 1000)


def test_a_later_attempt_counts_so_that_a_refused_one_is_not_repeated_every_week(tmp_path):
    project = Project(make_project(tmp_path / "house"))
    table = read_contract(project.contract)
    tried = [Attempt(NOW, REFUSED, 5000), Attempt(NOW, PROMOTED, 3000), Attempt(NOW, REFUSED)]
    assert growth.since_last_build(project, table, champion(1000), tried, NOW).learned == 5000
    assert growth.since_last_build(project, table, {}, tried, NOW).learned == 5000


def test_of_a_version_from_outside_no_growth_is_known(tmp_path):
    assert (
        growth.since_last_build(Project(tmp_path), TABLE, {}, [Attempt(NOW, REFUSED)], NOW) is None
    )


def test_a_source_that_is_away_is_told(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        growth.since_last_build(Project(tmp_path), TABLE, champion(1000), [], NOW)
