"""What a retraining costs and pays, and when one should have retrained."""

from datetime import UTC, datetime, timedelta
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import small_classes
import test_guards
import turned
from hypothesis import given, settings
from hypothesis import strategies as st
from small_classes import NUMBER
from small_house import ROOT
from test_calibrated_verdict import QUIET, RULES, WELL

from loopbook.loop import hindsight, replay_results
from loopbook.loop import turn as loops
from loopbook.models.evaluation import Interval
from loopbook.monitoring import costs, findings, paid, verdict
from loopbook.monitoring.costs import Costs
from loopbook.pages import replays as replay_pages
from loopbook.project import clock
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.registry.reader import Version

pytestmark = pytest.mark.medium

DAY = timedelta(days=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
GROWN = Interval(0.5, 0.4, 0.6, 900)  # below the margin of RULES, which is 1.0
TOLD = Costs(retraining=100.0, loss=1.0, days=28)


def tables(steps: int):
    return st.lists(
        st.lists(st.integers(0, 9), min_size=steps, max_size=steps), min_size=steps, max_size=steps
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6).flatmap(tables), st.integers(0, 12))
def test_no_schedule_is_cheaper_than_the_best_one_and_that_one_costs_what_it_says(table, dear):
    losses = np.array(table, float)
    later = range(1, len(losses))
    every = [(0, *some) for n in range(len(losses)) for some in combinations(later, n)]
    prices = {s: hindsight.cost(losses, s, dear, tried=len(s) - 1) for s in every}
    found = hindsight.best(losses, dear)
    assert found.cost == min(prices.values()) == prices[found.steps]


def changing(days: int, change: int) -> pl.DataFrame:
    """Rows whose first number counts five times as much from a day on: no level can mend that."""
    some = small_classes.rows(NUMBER, days * 24)
    after = pl.col("at") >= START + change * DAY
    target = pl.when(after).then(pl.col("weight") + 20 * (pl.col("size") - 10)).otherwise("weight")
    return some.with_columns(
        target.alias("weight"),
        pl.col("at").dt.replace_time_zone("UTC").alias(clock.EVENT_TS),
        pl.col("at").dt.replace_time_zone("UTC").alias(clock.KNOWN_TS),
    )


@pytest.fixture(scope="module")
def asked() -> hindsight.Asked:
    """Sixteen days in steps of four from day 8 on; the relation changes on day 12."""
    knobs = read_knobs(ROOT / "env.yaml", {"test_days": 1})
    moments = [START + day * DAY for day in range(8, 25, 4)]
    return hindsight.Asked(small_classes.table(NUMBER), changing(24, 12), moments, knobs)


@pytest.fixture(scope="module")
def losses(asked) -> hindsight.Losses:
    return hindsight.losses(asked)


def test_in_hindsight_one_retrains_when_the_relation_has_changed_and_only_if_that_is_worth_it(
    losses,
):
    cheap, dear = (hindsight.best(losses.moved, price) for price in (200.0, 1e9))
    assert dear.steps == (0,)
    assert cheap.steps[:2] == (0, 2)  # as soon as it is known
    assert cheap.cost < dear.cost < 1e9
    assert (np.tril(losses.raw, -1) == 0).all()


def test_a_replay_says_what_each_retraining_paid_and_the_regret_of_each_policy(
    asked, losses, monkeypatch
):
    monkeypatch.setattr(hindsight, "losses", lambda _: losses)
    result = {
        "retrains": {"never": 0, "level": 0, "loop": 1, "scheduled": 2},
        "schedules": {"never": [0], "level": [0], "loop": [0, 2], "scheduled": [0, 1, 2]},
        "months": [
            {"policy": p, "rows": 384, "error": e}
            for p, e in {"never": 50.0, "level": 40.0, "loop": 30.0, "scheduled": 35.0}.items()
        ],
    }
    told = hindsight.of_replay(result, asked, Costs(200.0, 1.0, 28))
    assert told["answered"]["loop"] == 30 * 384 + 200
    assert told["paid"] == {"loop": 10 * 384 - 200, "scheduled": 15 * 384 / 2 - 200}
    assert min(told["regrets"].values()) >= 0
    assert told["regrets"]["loop"] < told["regrets"]["level"]
    expected = hindsight.cost(losses.moved, [0, 2], 200.0, tried=1) - told["best"]["cost"]
    assert told["regrets"]["loop"] == pytest.approx(expected)
    assert told["best"]["retrained"][0] == "2025-01-17"


def test_the_table_and_the_page_of_a_replay_have_costs_and_regret_where_they_are_known():
    told = {"answered": {"never": 900.0, "loop": 612.0}, "paid": {"loop": -41.0}}
    told |= {"regrets": {"never": 400.0, "loop": 112.0}, "candidate": "robust"}
    told |= {"best": {"retrained": ["2015-03-04"], "cost": 500.0, "with_level": True}}
    lines = replay_results.lines(turned.result(last_months={}, costs=told))
    by_name = {line.split("  ")[0]: line.split() for line in lines}
    assert by_name["cost"][-2:] == ["900", "612"]
    assert by_name["each paid"][-1] == "-41.0"
    assert by_name["regret"][-2:] == ["400", "112"]
    assert any("to retrain on 2015-03-04 with a level (500;" in line for line in lines)
    page = replay_pages.replay(turned.result(costs=told), None)
    assert "regret beside the best schedule: the loop" in page
    without = "\n".join(replay_results.lines(turned.result(last_months={})))
    assert "regret" not in without + replay_pages.replay(turned.result(), None)


def test_at_which_steps_another_version_began_to_serve_is_read_off_the_answers():
    moments = [START + 7 * n * DAY for n in range(5)]
    days = [0, 3, 8, 13, 15, 22, 27]
    versions = ["1", "1", "1", "1", "3", "3", "4"]
    answers = pl.DataFrame({"as_of_ts": [START + d * DAY for d in days], "version": versions})
    assert hindsight.schedule(answers.sample(fraction=1, shuffle=True, seed=1), moments) == [
        0,
        2,
        3,
    ]


# -- the turns of a loop --


def test_a_promotion_paid_what_both_versions_show_and_a_refusal_only_cost():
    turns = [
        turned.turn(1, "retrain", "promoted", "m v1"),
        turned.turn(2, "healthy", "nothing", "m v1")
        | {"compared": {"version": "1", "mean": -0.5, "requests": 300}},
        turned.turn(3, "healthy", "nothing", "m v1")
        | {"compared": {"version": "1", "mean": -0.5, "requests": 600}},
        turned.turn(4, "retrain", "refused", "m v1"),
    ]
    first, second = paid.retrainings(turns, TOLD)
    assert (first.saved, first.net, first.requests) == (300.0, 200.0, 600)
    assert (second.saved, second.net) == (None, -100.0)
    told = paid.lines(turns, TOLD)
    assert "saved 300 on 600 requests that both answered; +200" in told[2]
    assert "refused" in told[3]
    assert told[3].endswith("cost 100, saved nothing; -100")
    assert told[-1] == "  in all +100 over 2 retrainings"
    assert paid.lines(turns, None) == []
    assert paid.lines(turns[1:2], TOLD) == ["", paid.NOTHING]


# -- the verdict --


def judged(told: Costs | None, growth: Interval = GROWN, **more) -> verdict.Verdict:
    window = {**WELL.__dict__, "worse": growth, "a_day": 10.0, **more}
    return verdict.judge(
        verdict.Window(**window), verdict.Rules(**{**RULES.__dict__, "costs": told})
    )


def decides(retraining: float) -> Costs:
    return Costs(retraining, 1.0, 28, decide=True)


def test_where_costs_decide_a_growth_within_the_margin_is_retrained_if_it_surely_pays():
    """0.4 to 0.6 a request, 280 requests in 28 days: 112 to 168."""
    assert judged(None).level == judged(TOLD).level == judged(decides(150)).level == "healthy"
    surely = judged(decides(100))
    assert surely.level == "retrain"
    assert "costs 100 and would save about 140 (112 to 168) in 28 days" in surely.reasons[0]


def test_where_costs_decide_a_retraining_that_would_not_pay_is_not_asked_for():
    far = Interval(2.0, 1.8, 2.2, 900)
    assert judged(None, far).level == "retrain"
    shown = judged(Costs(1000, 1.0, 28), far)
    assert shown.level == "retrain"
    assert "would save about 560" in shown.reasons[-1]
    dear = judged(decides(1000), far)
    assert dear.level == "watch"
    assert "the error has grown by" in dear.reasons[0]
    assert "a retraining costs 1,000 and would save about 560" in dear.reasons[0]
    assert judged(decides(500), far).level == "retrain"


def test_costs_ask_for_nothing_while_ground_truth_is_wanting_or_inputs_are_broken():
    sure = decides(1)
    assert judged(sure, labels=10).level == "watch"
    assert judged(sure, broken=["size is broken"]).level == "investigate"
    assert judged(sure, growth=QUIET).level == "healthy"
    young = judged(sure, champion_age_days=3)
    assert young.level == "watch"
    assert "it is given time" in young.reasons[0]


def test_costs_that_nobody_said_are_none_and_answers_a_day_are_of_all_that_were_logged():
    knobs = read_knobs(ROOT / "env.yaml")
    assert costs.of_knobs(knobs) is None
    said = read_knobs(ROOT / "env.yaml", {"costs_retraining": 50, "costs_loss": 2})
    assert costs.of_knobs(said) == Costs(50, 2, 28, decide=False)
    current = [START.isoformat(), (START + 20 * DAY).isoformat()]
    facts = {"wanting": [], "looked_at": 1000, "logged": 4000, "current": current}
    options = {"columns": [], "faults": [], "errors": findings.Performance()}
    window = findings.as_window(facts, rows=500, champion_age_days=1, **options)
    assert window.a_day == 100


# -- what a turn does for it --


@pytest.fixture
def turn(tmp_path) -> loops._Turn:
    """A turn whose stages are called one by one; it has a champion, and no project."""
    knobs = read_knobs(ROOT / "env.yaml")
    record = {"as_of": (START + 40 * DAY).isoformat()}
    about = small_classes.table(NUMBER).model_copy(update={"history": None})
    return loops._Turn(Project(tmp_path), about, knobs, None, {}, record)


def test_a_turn_keeps_how_a_champion_did_beside_its_predecessor_on_all_requests(turn, monkeypatch):
    """Of the sample that was read, which is a half here."""
    reign = SimpleNamespace(as_of=START.isoformat())
    monkeypatch.setattr(loops.champions, "reigns", lambda *_: [reign])
    monkeypatch.setattr(
        loops.probation, "read", lambda *_, **__: (test_guards.answers(-0.05, 400), 0.5)
    )
    tags = {"baseline_loss": "0.3", "baseline_bias": "0.3"}
    champion, before = (Version("m", number, "run", tags) for number in ("2", "1"))
    turn._judged(champion, before)
    told = turn.record["compared"]
    assert (told["version"], told["n"], told["requests"]) == ("2", 400, 800)
    assert told["low"] < told["mean"] < told["high"]


@pytest.mark.parametrize(
    ("level", "stood", "times"),
    [("healthy", False, 1), ("healthy", True, 2), ("investigate", False, 2)],
)
def test_a_turn_makes_states_anew_where_the_window_changes_whether_they_may_move(
    turn, monkeypatch, level, stood, times
):
    made = []
    state = SimpleNamespace(as_dict=lambda: {"stands_still": stood})
    monkeypatch.setattr(loops.calibration, "made", lambda *_: made.append(1) or [state])
    monkeypatch.setattr(turn, "_monitor", lambda: level)
    monkeypatch.setattr(turn, "_rolled_back", lambda: True)
    turn._may_build()
    assert len(made) == times
