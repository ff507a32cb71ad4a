"""What goes wrong on purpose, end to end: answers stay within the bound, and nothing is lost.

Each test asks a service in this process, tells it the truth by `/feedback`, makes states by
`loopbook features materialize` day by day, and asks again. The rows are calm, so that
whatever moves an answer is what was done to the truths.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from small_classes import NUMBER, START, YES_OR_NO, Shelf, rows, serving, table
from small_house import ROOT

from loopbook.cli import stores
from loopbook.data import prediction_log, quarantine
from loopbook.models.calibration_states import State
from loopbook.project.files import write_json
from loopbook.project.paths import Project
from loopbook.records import windows as window_records
from loopbook.records.roles import CHAMPION
from loopbook.registry import residuals, state_store
from loopbook.registry.reader import RESIDUALS

pytestmark = pytest.mark.medium

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
A_DAY = 12  # rows
SPREAD = 11.0  # of the residuals of a version of `small_classes`, estimated below
BOUND = 3 * SPREAD * 1.2  # from some dozens of rows
DAILY = BOUND / 14
Truth = Callable[[dict, float | str], float | str | None]


def as_it_was(_row: dict, observed):
    return observed


class World:
    """A project with a service, whose days can be lived through."""

    def __init__(self, folder, task: str, stack: ExitStack):
        self.folder, self.task, self.about = folder, task, table(task)
        self.shelf, self.stack = Shelf(task), stack
        folder.mkdir()
        for file in ("pipeline.yaml", "env.yaml"):
            shutil.copy(ROOT / file, folder)
        self.http = self.serve()
        self.project, self.target = Project(folder), self.about.target
        self.store = state_store.connect(self.project, self.about)

    def serve(self):
        """One more service on this project's log and states."""
        return self.stack.enter_context(
            serving(self.folder, self.shelf, self.about, serve_watch_s="1000")
        )

    def live(self, days: range, truth: Truth = as_it_was, late: timedelta = DAY) -> None:
        """Ask about a dozen rows a day, and tell what was observed so much later."""
        for day in days:
            some = rows(self.task, A_DAY, seed=day).drop("at").to_dicts()
            asked = [row | {"id": f"{day}-{n}"} for n, row in enumerate(some)]
            observed = [row.pop(self.target.name) for row in asked]
            for n, row in enumerate(asked):
                row["as_of"] = (START + day * DAY + n * HOUR).isoformat()
            sent = self.http.post("/predict/batch", json={"rows": asked})
            assert sent.status_code == 200, sent.text
            told = [
                (row["id"], truth(row, value), START + day * DAY + n * HOUR + late)
                for n, (row, value) in enumerate(zip(asked, observed, strict=True))
            ]
            self.tell([one for one in told if one[1] is not None])

    def tell(self, truths: list[tuple], http=None) -> dict:
        """Feedback of (id, observed, known at)."""
        sent = [
            {"key": {"id": name}, "observed": value, "known_at": known.isoformat()}
            for name, value, known in truths
        ]
        answer = (http or self.http).post("/feedback", json={"truths": sent})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def made(self, days: range) -> list[State]:
        """The champion's states of these midnights, made one after another."""
        for day in days:
            stores.materialize(as_of=(START + day * DAY).isoformat())
        return [self.at(day) for day in days]

    def at(self, day: int) -> State:
        return self.store.at(self.about.name, "1", START + day * DAY)

    def said(self, day: int, http=None) -> float:
        """The answer of a service to one row as of a day, by the states that there are."""
        http = http or self.http
        http.app.app.state.service.versions.refresh()
        asked = {"size": 11.0, "width": 2.5, "zone": "north"}
        asked["as_of"] = (START + day * DAY).isoformat()
        answer = http.post("/predict", json=asked).json()
        if self.target.classes:
            return answer["probabilities"][self.target.classes[0]]
        return answer[self.target.answer_column]

    @property
    def raw(self) -> float:
        """The answer that no state moves."""
        return self.said(-300)

    def truths_logged(self) -> int:
        log = prediction_log.connect(self.project, self.about)
        count, _ = log.truth_count()
        log.close()
        return count

    def judged(self, day: int, level: str, why: str = "weight is in another unit") -> None:
        """A window of the monitoring that ends at a day."""
        at = (START + day * DAY).isoformat()
        verdict = {"level": level, "reasons": [why], "sentence": why}
        record = {"as_of": at, "current": [START.isoformat(), at], "numbers": {}}
        folder = window_records.window_folder(self.project, at)
        folder.mkdir(parents=True)
        write_json(folder / window_records.RECORD, record | {"verdict": verdict})


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[Callable[[str], World]]:
    monkeypatch.delenv(prediction_log.ADDRESS, raising=False)
    with ExitStack() as stack:

        def begin(task: str) -> World:
            made = World(tmp_path / "project", task, stack)
            monkeypatch.chdir(made.folder)
            return made

        yield begin


def shifts(states: list[State], place: int = 0) -> np.ndarray:
    return np.array([state.shift[place] for state in states])


def assert_bounded(states: list[State], bound: float = BOUND, daily: float = DAILY) -> None:
    for place in range(len(states[0].shift)):
        found = shifts(states, place)
        assert np.abs(found).max() <= bound
        assert np.abs(np.diff(found)).max() <= daily


def assert_same_bits_again(world: World, days: range) -> None:
    """Made anew in another order, in a store that lost them, they are what they were."""
    before = [world.at(day) for day in days]
    with world.store.database.transaction() as cursor:
        cursor.execute("DELETE FROM calibration_states")
    for day in reversed(days):
        stores.materialize(as_of=(START + day * DAY).isoformat())
    assert [world.at(day) for day in days] == before


def test_truths_in_another_unit_for_a_week_move_answers_within_the_bound_and_are_forgotten(world):
    """Ounces for kilograms: what the target cannot be is set aside, and the rest is bounded."""
    here = world(NUMBER)
    in_ounces = lambda row, kg: kg * 35.27  # noqa: E731
    here.live(range(25))
    here.live(range(25, 32), in_ounces)
    here.live(range(32, 75))
    states = here.made(range(20, 75, 3))
    assert_bounded(states, daily=3 * DAILY)
    assert np.ptp(shifts(states)) > 1  # it was felt, or nothing was bounded
    assert abs(states[-1].shift[0]) < 0.5 * SPREAD
    aside = quarantine.waiting_count(here.project)
    assert (aside > 0, here.truths_logged() + aside) == (True, 75 * A_DAY)
    assert here.said(31) - here.raw == pytest.approx(here.at(31).shift[0], abs=1e-4)
    assert_same_bits_again(here, range(26, 75, 6))


def test_inverted_truths_of_one_client_leave_the_others_answers_almost_alone(world):
    """Of his rows, one in six, each yes is a no from some day on."""
    here = world(YES_OR_NO)

    def inverted(row: dict, said: str) -> str:
        is_his = int(row["id"].split("-")[1]) % 6 == 0
        return {"yes": "no", "no": "yes"}[said] if is_his else said

    here.live(range(30))
    here.live(range(30, 70), inverted)
    states = here.made(range(20, 70, 2))
    assert_bounded(states, bound=2 * np.log(2), daily=2 * np.log(2) / 7)
    assert shifts(states)[-1] > shifts(states)[3]  # they were heard
    assert abs(here.said(69) - here.raw) < 0.15
    assert here.truths_logged() == 70 * A_DAY
    assert_same_bits_again(here, range(32, 70, 8))


def test_labels_that_come_two_months_late_move_no_answer_before_and_then_a_day_at_a_time(world):
    """Meanwhile what is remembered ends, and the state says that it falls back."""
    here = world(NUMBER)
    heavier = lambda row, kg: kg + 2 * SPREAD  # noqa: E731
    here.live(range(5))
    here.live(range(5, 70), heavier, late=61 * DAY)
    states = here.made(range(4, 82))
    assert_bounded(states)
    assert {state.truths for state in states[3:60]} == {5 * A_DAY}
    assert states[-1].truths > 100 + 5 * A_DAY
    assert shifts(states)[-1] > SPREAD > 5 * np.abs(shifts(states)[3:60]).max()
    assert_same_bits_again(here, range(60, 82, 5))


def test_a_thousand_truths_of_one_key_are_one_witness_and_of_one_entity_fifty(world):
    """A thousand corrections of one row, and a thousand rows of one thing, on one day."""
    here = world(NUMBER)
    here.live(range(40))
    calm = here.made(range(39, 42))
    late = START + 40 * DAY
    for part in range(10):
        here.tell([("39-3", 900.0 + n, late + (100 * part + n) * HOUR / 1000) for n in range(100)])
    corrected = here.made(range(41, 44))
    assert abs(corrected[0].shift[0] - calm[-1].shift[0]) < 1
    flood = [{"size": 11.0, "width": 2.5, "zone": "north", "id": f"one-{n}"} for n in range(1000)]
    asked = [row | {"as_of": (START + 41 * DAY).isoformat()} for row in flood]
    assert here.http.post("/predict/batch", json={"rows": asked}).status_code == 200
    for part in range(0, 1000, 100):
        named = [row["id"] for row in flood[part : part + 100]]
        here.tell([(name, here.raw + 40 * SPREAD, START + 42 * DAY) for name in named])
    here.live(range(42, 56))
    flooded = here.made(range(42, 56))
    assert_bounded([*calm, *corrected[:1], *flooded])
    assert flooded[-1].truths > 1000 + 50 * A_DAY
    assert 1 < shifts(flooded)[-1] < BOUND / 2
    assert_same_bits_again(here, range(42, 56, 4))


def test_corrections_of_old_truths_count_from_then_on_and_move_no_more_than_a_day_may(world):
    """All of two weeks at once: what was said before stays, and there is no leap back."""
    here = world(NUMBER)
    here.live(range(30))
    here.live(range(30, 45), lambda row, kg: kg + 3 * SPREAD)
    before = here.made(range(29, 46))
    truth = {f"{day}-{n}": kg for day in range(30, 45) for n, kg in enumerate(weights(day))}
    here.tell([(name, kg, START + 46 * DAY) for name, kg in truth.items()])
    after = here.made(range(46, 70))
    assert_bounded([*before, *after])
    assert here.made(range(29, 46)) == before
    assert shifts(before)[-1] > SPREAD > 2 * abs(shifts(after)[-1])
    assert here.truths_logged() == (45 + 15) * A_DAY
    assert_same_bits_again(here, range(31, 70, 8))


def weights(day: int) -> list[float]:
    return rows(NUMBER, A_DAY, seed=day)["weight"].to_list()


def test_a_store_that_lost_its_states_answers_raw_and_then_as_before_to_the_bit(world):
    here = world(NUMBER)
    here.live(range(40), lambda row, kg: kg + 10)
    here.made(range(35, 41))
    said = [here.said(day) for day in range(35, 41)]
    with here.store.database.transaction() as cursor:
        cursor.execute("DELETE FROM calibration_states")
    assert here.said(40) == here.raw
    here.made(range(35, 41))
    assert [here.said(day) for day in range(35, 41)] == said != [here.raw] * 6


def test_a_store_that_was_lost_while_states_stood_still_stands_where_it_stood(world):
    """There is no earlier state to repeat, so that of before the broken window is made again."""
    here = world(NUMBER)
    here.live(range(45), lambda row, kg: kg + 10)
    here.made(range(38, 40))
    here.judged(40, "investigate")
    here.judged(43, "investigate")
    before = here.made(range(40, 45))
    assert all(state.stands_still for state in before)
    with here.store.database.transaction() as cursor:
        cursor.execute("DELETE FROM calibration_states")
    (alone,) = here.made(range(44, 45))
    assert alone.stands_still
    assert alone.shift[0] == pytest.approx(before[-1].shift[0], abs=DAILY)
    assert alone.shift[0] > 0.5 * SPREAD


def test_a_version_without_stored_residuals_is_bounded_by_what_it_served_first(world, capsys):
    """A flood that goes on for months is not measured against itself."""
    here = world(NUMBER)
    here.live(range(30))
    (early,) = here.made(range(30, 31))
    assert "it has no rows of its own build, only served ones" in capsys.readouterr().out
    here.live(range(30, 170, 2), lambda row, kg: kg + 60 * SPREAD)
    states = [early, *here.made(range(160, 170, 5))]
    assert np.abs(shifts(states)).max() <= BOUND
    assert states[-1].at_bound
    assert "at its bound" in states[-1].reason
    assert here.said(169) - here.raw == pytest.approx(states[-1].shift[0], abs=1e-4)


def test_residuals_that_were_changed_are_said_and_what_was_served_counts_alone(world, capsys):
    here = world(NUMBER)
    version = here.shelf.held(here.about.name, CHAMPION)
    tags = version.tags | {residuals.TAG: "0" * 64}
    here.shelf.versions = lambda _: [replace(version, tags=tags)]
    here.shelf.held = lambda _, alias: here.shelf.versions("")[0] if alias == CHAMPION else None
    here.shelf.files["1"] = here.shelf.files["1"] | {RESIDUALS: b"another file"}
    here.live(range(30), lambda row, kg: kg + 10)
    (state,) = here.made(range(30, 31))
    assert "It was changed; restore it, or build anew." in capsys.readouterr().out
    assert (state.truths, state.shift[0] > 3) == (29 * A_DAY + 1, True)
    assert here.said(30) == pytest.approx(here.raw + state.shift[0], abs=1e-4)


def test_two_services_on_one_state_while_it_changes_say_the_same_as_of_the_same_day(world):
    here = world(NUMBER)
    other = here.serve()
    here.live(range(30), lambda row, kg: kg + 10)
    for day in range(30, 40):
        here.live(range(day, day + 1), lambda row, kg: kg + 10, late=40 * DAY)
        told = [
            (f"{day}-{n}", kg + 10, START + (day + 1) * DAY) for n, kg in enumerate(weights(day))
        ]
        here.tell(told, other)
        (state,) = here.made(range(day, day + 1))
        both = [here.said(day, http) for http in (here.http, other)]
        assert both[0] == both[1] == pytest.approx(here.raw + state.shift[0], abs=1e-4)
    assert_bounded([here.at(day) for day in range(30, 40)])
    assert here.truths_logged() == 40 * A_DAY
    assert_same_bits_again(here, range(30, 40, 3))


def test_a_clock_that_is_set_back_gives_the_states_of_then_and_no_answer_changes(world):
    here = world(NUMBER)
    here.live(range(50), lambda row, kg: kg + 10)
    every = range(40, 50)
    before, said = here.made(every), [here.said(day) for day in every]
    assert here.made(range(43, 45)) == before[3:5]
    assert [here.said(day) for day in every] == said
    stores.materialize(as_of="newest")
    assert [here.said(day) for day in every] == said
    assert len(here.store.listed(here.about.name, "1")) == len(every) + 1


def test_a_state_that_stood_still_goes_on_from_there_by_a_days_bound_a_day(world):
    """Neither three weeks of standing still nor what is taken out is caught up with at once."""
    here = world(NUMBER)
    here.live(range(30))
    here.live(range(30, 75), lambda row, kg: kg + 4 * SPREAD)
    before = here.made(range(28, 36))
    here.judged(29, "healthy")
    here.judged(36, "investigate")
    still = here.made(range(36, 53, 4))
    here.judged(53, "healthy")
    after = here.made(range(53, 75))
    stood = [state.stands_still for state in (*before, *still, *after)]
    assert stood == [False] * 8 + [True] * 5 + [False] * 22
    assert set(shifts(still)) == {before[-1].shift[0]}
    assert_bounded([*before, *still, *after])
    assert after[-1].shift[0] > 2 * SPREAD
    assert_same_bits_again(here, range(54, 75, 5))
