"""The replay's steps and its scenarios: what they change, and what counts as right."""

from datetime import UTC, datetime, timedelta

import pytest
from small_house import ROOT, loopbook, make_project

from loopbook.data import sources
from loopbook.loop import replay_results
from loopbook.loop.scenarios import SCENARIOS
from loopbook.project import clock
from loopbook.project.contract import read_contract

START = datetime(2014, 10, 1, tzinfo=UTC)
TABLE = read_contract(ROOT / "contract.yaml")


def turn(outcome: str, day: int = 0, **more) -> dict:
    told = {"outcome": outcome, "as_of": (START + timedelta(days=day)).isoformat()}
    return told | {"verdict": "watch", "verdict_reasons": ["it moved"]} | more


def test_steps_end_where_weeks_and_months_do():
    weeks = replay_results.moments(START, START + timedelta(days=20), "week")
    assert [(m - START).days for m in weeks] == [7, 14, 21]
    months = replay_results.moments(START, datetime(2015, 1, 2, tzinfo=UTC), "month")
    assert [f"{m:%Y-%m-%d}" for m in months] == [
        *("2014-11-01", "2014-12-01", "2015-01-01", "2015-02-01")
    ]


TRIED = {"attempt": "promoted"}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "concept",
            [turn("promoted", numbers={"bias": -0.14}), turn("nothing", numbers={"bias": 0.05})],
            [turn("promoted", numbers={"bias": -0.14}), turn("nothing", numbers={"bias": -0.1})],
        ),
        ("covariate", [turn("nothing")], [turn("promoted", **TRIED)]),
        ("broken-unit", [turn("investigate")], [turn("promoted", **TRIED)]),
        (
            "late-labels",
            [turn("nothing", verdict_reasons=["ground truth is late: 0 of 9"])],
            [turn("nothing")],
        ),
        ("bad-candidate", [turn("refused", attempt="refused")], [turn("promoted", **TRIED)]),
        ("bad-champion", [turn("nothing"), turn("rolled back")], [turn("nothing")]),
        (
            "storm",
            [turn("promoted", 0, **TRIED), turn("promoted", 7, **TRIED)],
            [turn("promoted", 0, **TRIED), turn("promoted", 3, **TRIED)],
        ),
    ],
)
def test_a_scenario_tells_right_from_wrong(name, right, wrong):
    assert SCENARIOS[name].is_right(right, START)
    assert not SCENARIOS[name].is_right(wrong, START)


def test_every_scenario_has_its_case():
    assert len(SCENARIOS) == 7


def test_disturbances_do_what_they_say():
    rows = sources.with_clock(sources.read_source(TABLE, ROOT), TABLE)[:2000]
    name = next(n for n in TABLE.numbers if TABLE.features[n].required)
    small = SCENARIOS["broken-unit"].change(rows, TABLE)
    assert small.height == rows.height
    assert small[name].median() < rows[name].median() / 5
    fewer = SCENARIOS["covariate"].change(rows, TABLE)
    assert fewer[name].median() > rows[name].median()
    assert fewer.join(rows, on=TABLE.key, how="anti").is_empty()
    target = rows[TABLE.target.name].to_numpy()
    assert SCENARIOS["concept"].truth(target, rows, START) == pytest.approx(target * 1.15)
    waves = SCENARIOS["storm"].truth(target, rows, rows[clock.EVENT_TS].min()) / target
    assert set(waves.round(2)) <= {1.25, 0.8}


def test_a_replays_result_is_a_table_of_three_policies_and_a_figure():
    months = [
        {"policy": p, "month": m, "rows": 10, "error": 0.1 + i / 100, "bias": -0.01}
        for i, p in enumerate(replay_results.NAMES)
        for m in ("2014-10", "2014-11")
    ]
    result = {"scenario": None, "months": months, "turns": [turn("promoted")], "failed": 0}
    result |= {"requests": 60, "retrains": {"loop": 1, "scheduled": 2}}
    errors = {"never": (0.13, -0.08), "scheduled": (0.125, -0.04), "loop": (0.117, -0.016)}
    result["last_months"] = {p: {"error": e, "bias": b} for p, (e, b) in errors.items()}
    told = "\n".join(replay_results.lines(result))
    assert "0 of 60 requests failed" in told
    assert "12.00%" in told
    assert "the error is -10.0%, the bias 0.20 of theirs" in told
    axis = replay_results.figure(result).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(
        replay_results.NAMES.values()
    )


@pytest.mark.slow
def test_what_cannot_be_replayed_is_told(tmp_path):
    folder = make_project(tmp_path / "house")
    for words, reason in (
        (["tornado"], "no scenario 'tornado'; there are concept"),
        (["--step", "day"], "no step 'day'"),
    ):
        done = loopbook(folder, "replay", *words)
        assert done.returncode == 1
        assert reason in done.stderr
