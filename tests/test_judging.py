"""A number, yes or no and one of several are judged by one loss, in words of its unit."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopbook.loop import probation
from loopbook.models import evaluation, margins, promotion
from loopbook.models.evaluation import ALL, Confidence, Interval
from loopbook.models.margins import Scale
from loopbook.models.measures import of_record
from loopbook.models.task import task_of
from loopbook.monitoring import drift, findings, verdict
from loopbook.pages import formats
from loopbook.pipeline.progress import champion_lines, window_lines
from loopbook.project.contract import Contract
from loopbook.registry import challenge, evidence, reference
from loopbook.registry.reader import Version

SURE = Confidence(0.95, 300, 1)
MEASURES = ("measure", "bias_measure")
AT = datetime(2025, 1, 1, tzinfo=UTC)
TARGETS = {
    "regression": {"name": "delay", "unit": "minutes"},
    "binary": {"name": "state", "classes": ["on time", "late"]},
    "multiclass": {"name": "kind", "classes": ["a", "b", "c"]},
}


def table(task: str) -> Contract:
    size = {"type": "number", "example": 1.0, "meaning": "How large."}
    return Contract.model_validate(
        {
            "name": f"a-{task}",
            "meaning": "A row is a thing.",
            "task": task,
            "source": {"path": "rows.parquet"},
            "key": ["id"],
            "target": TARGETS[task] | {"meaning": "What is predicted."},
            "features": {"size": size},
        }
    )


TASKS = {name: task_of(table(name)) for name in TARGETS}


def rows(name: str, count: int, seed: int = 0, shift: float = 0.0) -> pl.DataFrame:
    """Rows answered as they should be, but that the truth moved by `shift` towards the last class."""
    task, draw = TASKS[name], np.random.default_rng(seed)
    size = draw.normal(size=count)
    if not task.classes:
        observed, said = 10 * size + shift + draw.normal(size=count), 10 * size
    else:
        odds = np.column_stack([size * place for place in range(task.width)])
        said = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        odds[:, -1] += shift
        drawn = (odds + draw.gumbel(size=odds.shape)).argmax(axis=1)
        observed = np.array(task.classes, dtype=object)[drawn]
    known = pl.Series("observed", list(observed), dtype=task.observed_type)
    return pl.DataFrame({"size": size}).with_columns(known, task.column(said))


def window(name: str, count: int, **more) -> pl.DataFrame:
    at = [AT + place * timedelta(hours=1) for place in range(count)]
    flags = [pl.lit(value=True).alias(flag) for flag in (findings.IS_CURRENT, findings.IS_JUDGED)]
    instants = pl.Series("as_of_ts", at).cast(pl.Datetime("us", "UTC"))
    return rows(name, count, **more).with_columns(instants, *flags)


def frozen(name: str, count: int = 1200) -> pl.DataFrame:
    part = pl.Series("part", ["train", "test"] * (count // 2))
    return rows(name, count, seed=9).with_columns(part)


def judged(name: str, current: pl.DataFrame) -> tuple[findings.Performance, verdict.Verdict]:
    task, before = TASKS[name], frozen(name)
    about = table(name)
    found = findings.find_performance(current, before, about, ["size"], SURE, least_slice_rows=50)
    usual = reference.scale(Version("m", "1", "r", {}), before, about)
    rules = verdict.Rules(
        50, 200, 0.5, 0.06 * usual.loss, 0.06 * usual.bias, 14, task.measure, task.bias_measure
    )
    told = findings.as_window(
        {"wanting": []},
        rows=current.height,
        columns=findings.find_drift(
            current, before, about, ["size"], findings.DriftRules(0.01, 0.05, 50, 1)
        ),
        faults=findings.find_faults(
            current, before, about, ["size"], margin=0.05, least_rows=50
        ),
        errors=found,
        champion_age_days=30,
    )  # fmt: skip
    return found, verdict.judge(told, rules)


def test_a_reason_has_the_distance_that_the_table_of_columns_has():
    """0.099 stood in the reason and 0.0989 in the table, on one page."""
    column = drift.ColumnDrift("size", 0.098912, 0.068861, [], [], [])
    window = findings.as_window(
        {"wanting": []},
        rows=900,
        columns=[column],
        faults=[],
        errors=findings.Performance(),
        champion_age_days=30,
    )
    (told,) = window.drifted
    assert told == (
        f"size moved: distance {formats.distance(column.distance)} from the reference, "
        f"up to {formats.distance(column.threshold)} may be chance"
    )


@pytest.mark.medium
@pytest.mark.parametrize("name", TARGETS)
def test_a_window_like_the_reference_is_healthy_and_has_its_errors(name):
    found, said = judged(name, window(name, 900))
    assert said.level == "healthy", said.reasons
    assert found.error.mean == pytest.approx(found.reference_error, rel=0.15)
    assert found.metrics[TASKS[name].metric] == pytest.approx(found.error.mean)
    assert found.estimated == pytest.approx(found.error.mean, rel=0.3)
    assert [name for name in found.slices if name != ALL]
    findings.Performance.from_dict(found.as_dict())


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "shift", "told"),
    [
        ("regression", 3.0, "predicts too little: its bias is -2.98 minutes"),
        ("binary", 1.0, "predicts too little of late: its bias is -1"),
        ("multiclass", 1.5, "predicts too little of c: its bias is -"),
    ],
)
def test_a_target_that_moved_calls_for_retraining_in_the_words_of_its_unit(name, shift, told):
    found, said = judged(name, window(name, 900, shift=shift))
    assert said.level == "retrain"
    assert told in said.reasons[0]
    unit = {"regression": "minutes", "binary": "points", "multiclass": "points"}[name]
    assert f" {unit} (" in said.reasons[0]
    assert found.bias_of == {"regression": None, "binary": "late", "multiclass": "c"}[name]


def test_picking_the_class_that_is_farthest_off_raises_no_false_alarm():
    """Forty classes whose rates are as they were said are called biased as often as one would be."""
    classes = [str(place) for place in range(40)]
    about = table("multiclass")
    target = about.target.model_copy(update={"classes": classes})
    task = task_of(about.model_copy(update={"target": target}))
    alarms, single = 0, 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        observed = draw.integers(0, 40, 800).astype(float)
        answers = np.full((800, 40), 1 / 40)
        of = evaluation.farthest_off(task, observed, answers)
        i = evaluation.bias(task, observed, answers, SURE, of=of)
        alarms += not i.low <= 0 <= i.high
        alone = SURE.mean(task.signed_errors(observed, answers)[of])
        single += not alone.low <= 0 <= alone.high
    assert alarms <= 9  # 3 are expected; more with a chance of one in a hundred
    assert single > 40  # each interval by itself: what the picking would do


def test_a_yes_that_is_expected_once_in_a_hundred_rows_and_does_not_happen_is_no_bias():
    """All signed errors are the same then: their own interval would have no width."""
    task, answers = TASKS["binary"], np.tile([0.99, 0.01], (250, 1))
    i = evaluation.bias(task, np.zeros(250), answers, SURE, of="late")
    assert i.mean == pytest.approx(0.01)
    assert i.low < 0 < i.high


@pytest.mark.medium
@pytest.mark.parametrize("name", TARGETS)
def test_answers_are_compared_between_windows_as_people_know_them(name):
    moved = window(name, 600).with_columns(
        TASKS[name].column(TASKS[name].of_column(window(name, 600)["answer"])[[0] * 600])
    )
    rules = findings.DriftRules(0.01, 0.05, 50, 1)
    found = findings.find_drift(moved, frozen(name), table(name), ["size"], rules)
    moved_columns = {column.column for column in found if column.has_drifted}
    expected = {
        "regression": {"answer"},
        "binary": {"answer", "probability of late"},
        "multiclass": {"answer", "probability of a", "probability of b", "probability of c"},
    }[name]
    assert moved_columns == expected
    faults = findings.find_faults(
        moved, frozen(name), table(name), ["size"], margin=0.05, least_rows=50
    )
    assert [fault.kind for fault in faults] == ["constant"]


def test_of_a_thousand_classes_a_dozen_probabilities_are_compared():
    about = table("multiclass")
    classes = [str(place) for place in range(1000)]
    target = about.target.model_copy(update={"classes": classes})
    about = about.model_copy(update={"target": target})
    weights = np.arange(1, 1001) / np.arange(1, 1001).sum()
    some = pl.DataFrame([task_of(about).column(np.tile(weights, (3, 1)))])
    _, _, names = drift.with_shown(some, some, about)
    assert len(names) == 1 + drift.MOST_PROBABILITIES
    assert "probability of 999" in names
    assert "probability of 0" not in names


def test_the_answers_that_are_compared_are_those_that_were_given():
    """Yes is answered from the champion's threshold on, far below a half here."""
    about = table("binary")
    task = task_of(about)
    chance = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]])
    some = pl.DataFrame([task.column(chance)])
    decision = {"threshold": 0.25}
    shown, _, _ = drift.with_shown(some, some, about, decision)
    assert shown["answer"].to_list() == task.decided(chance, decision)
    assert drift.with_shown(some, some, about)[0]["answer"].to_list() == task.decided(chance)
    assert task.decided(chance) != task.decided(chance, decision)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([12.3456, 45.6789, 78.9012], ["under 12.3", "from 12.3", "from 45.7", "from 78.9"]),
        ([1007.52, 1010.61, 1012.93], ["under 1008", "from 1008", "from 1011", "from 1013"]),
        ([-2.0, 0.5], ["under -2", "from -2", "from 0.5"]),
    ],
)
def test_a_bin_is_named_in_as_few_digits_as_tell_it_from_the_next(values, labels):
    column = pl.Series("size", np.repeat(values, 40))
    assert drift.binning(column).labels == [*labels, drift.MISSING]


def test_margins_are_shares_of_the_loss_of_the_baseline():
    task = TASKS["binary"]
    observed, prior = np.array([0.0, 0, 0, 1]), np.tile([0.75, 0.25], (4, 1))
    found = margins.scale(task, observed, prior)
    assert found.loss == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert found.bias == pytest.approx((3 * 0.25 + 0.75) / 4)
    assert margins.from_tags(found.as_tags()) == found
    assert margins.from_tags({}) is None
    assert margins.of_constant(task, observed, observed) == found


@pytest.mark.parametrize("name", TARGETS)
def test_a_version_without_a_scale_takes_that_of_one_answer_to_all(name):
    """As an earlier loopbook registered it; one of this loopbook has its own."""
    task, before = TASKS[name], frozen(name)
    old = reference.scale(Version("m", "1", "r", {}), before, table(name))
    tested = before.filter(pl.col("part") == "test")
    loss = task.losses(task.observed(tested["observed"]), task.of_column(tested["answer"])).mean()
    assert old.loss > loss > 0
    own = Scale(3.0, 4.0)
    assert reference.scale(Version("m", "2", "r", own.as_tags()), before, table(name)) == own


def gate_says(name: str, overall: Interval, **more) -> promotion.Decision:
    better = {ALL: Interval(-1.0, -1.1, -0.9, 900)}
    found = promotion.Evidence(
        rows=900, parity=1e-9, latency_ms=0.1, scale=Scale(20.0, 10.0), against_baseline=better,
        against_champion={ALL: overall}, **more,
    )  # fmt: skip
    gate = promotion.Gate(
        margin=0.015, slice_margin=0.12, min_rows=200, latency_ms=10, bias_margin=0.06
    )
    return promotion.decide(found, gate, TASKS[name])


def test_the_gate_holds_minutes_against_a_share_of_the_baselines_minutes():
    """Of 20 minutes 1.5 per cent are 0.3."""
    assert gate_says("regression", Interval(-0.1, -0.5, 0.29, 900)).promoted
    refused = gate_says("regression", Interval(-0.1, -0.5, 0.31, 900))
    assert not refused.promoted
    assert "margin +0.300 minutes" in refused.sentence
    assert "-0.100 minutes on the same 900 rows" in refused.sentence


def test_the_gate_names_the_class_whose_bias_is_mended():
    bias = {
        "champion": Interval(-0.9, -1.0, -0.8, 900),
        "challenger": Interval(-0.1, -0.2, 0.0, 900),
    }
    said = gate_says("multiclass", Interval(0.1, -0.2, 0.4, 900), bias=bias, bias_of="b")
    assert said.promoted
    assert "mends a bias of b: -10.0 points against -90.0 points" in said.sentence


def test_a_check_that_failed_says_what_can_be_done():
    refused = gate_says("binary", Interval(-1.0, -1.1, -0.9, 900))
    assert refused.promoted
    poor = {"rows": 3, "against_baseline": {ALL: Interval(0.1, 0.0, 0.2, 3)}}
    found = promotion.Evidence(parity=1e-9, latency_ms=0.1, scale=Scale(1, 1), **poor)
    gate = promotion.Gate(0.015, 0.12, 200, 10, 0.06)
    ways = promotion.decide(found, gate, TASKS["binary"]).remedies
    assert len(ways) == 2
    assert "gate_min_rows" in ways[0]
    assert "another candidate" in ways[1]


@pytest.mark.parametrize("name", TARGETS)
def test_probation_compares_both_versions_by_the_loss_of_the_table(name):
    """The one before answers as it should, the champion as if it knew nothing; then the same."""
    task, some = TASKS[name], rows(name, 400)
    said = task.of_column(some["answer"])
    worse = task.column(task.constant(task.observed(some["observed"]), 400))
    pairs = some.with_columns(answer_before=some["answer"]).with_columns(worse)
    pairs = pairs.with_columns(id=pl.int_range(pl.len()))
    terms = probation.Terms(28, 200, 0.001, task.measure)
    who = {"label": "m v2", "promoted_as_of": AT.isoformat()}
    at = {"champion": who, "as_of": AT + timedelta(days=3)}
    interval = probation.difference(task, pairs, SURE)
    state, why = probation.judge(interval, terms, **at)
    assert state == "failed", why
    assert task.measure.said_change(interval.mean) in why
    same = pairs.with_columns(task.column(said))
    assert probation.judge(probation.difference(task, same, SURE), terms, **at)[0] == "waits"


def test_pairs_without_a_loss_are_left_out_of_a_probation():
    task, some = TASKS["binary"], rows("binary", 40)
    strange = some.with_columns(observed=pl.lit("cancelled"), answer_before=some["answer"])
    assert probation.difference(task, strange, SURE) is None


def test_a_champion_that_predicts_other_classes_cannot_be_compared():
    target = {"unit": None, "name": "kind", "classes": ["a", "b"]}
    other = challenge.Champion(Version("m", "1", "r", {}), b"", {"inputs": [], "target": target})
    told = challenge.obstacle(other, pl.DataFrame(), table("multiclass"))
    assert told == "m v1 predicts kind as one of a, b, another target"
    number = replace(other, card={"inputs": [], "target": {"unit": None, "name": "kind"}})
    assert "as a number" in challenge.obstacle(number, pl.DataFrame(), table("multiclass"))


def test_a_record_of_an_earlier_loopbook_is_read_as_what_it_is():
    assert of_record({"loss": "mape"})[0].said(0.1106) == "11.1 %"
    assert of_record({"loss": None})[0].title == "error (MAPE)"
    assert of_record({"loss": "mae"})[0].title == "error (MAE over the mean)"


def with_costs(**costs: float) -> tuple:
    about = table("binary")
    target = about.target.model_dump() | {"costs": costs or None}
    about = Contract.model_validate(about.model_dump(mode="json") | {"target": target})
    return about, task_of(about)


def test_the_threshold_is_the_cheapest_and_what_it_saves_is_in_the_evidence():
    """Five times as dear to miss the yes: it is answered from a sixth on, and a row costs less."""
    _, task = with_costs(false_positive=1.0, false_negative=5.0)
    some = rows("binary", 4000)
    observed, said = task.observed(some["observed"]), task.of_column(some["answer"])
    decision = task.decision(observed, said)
    assert decision["threshold"] == pytest.approx(1 / 6, abs=0.06)
    found = evidence.costs(task, observed, {"challenger": said}, {"challenger": decision})
    challenger = found["challenger"]
    assert challenger["with_threshold"] == pytest.approx(decision["cost"])
    assert challenger["without"] == pytest.approx(decision["cost_at_half"])
    assert challenger["with_threshold"] < 0.8 * challenger["without"]


@pytest.mark.parametrize("name", TARGETS)
def test_without_costs_nothing_is_decided_by_them(name):
    task, some = TASKS[name], rows(name, 50)
    pair = task.observed(some["observed"]), task.of_column(some["answer"])
    assert task.decision(*pair) is None
    assert evidence.costs(task, pair[0], {"challenger": pair[1]}, {}) is None


def test_where_nothing_serves_the_end_of_a_build_names_the_ways_on():
    found = promotion.Evidence(
        rows=40, parity=1e-9, latency_ms=0.1, scale=Scale(1, 1),
        against_baseline={ALL: Interval(-0.1, -0.2, -0.05, 40)},
    )  # fmt: skip
    decision = promotion.decide(found, promotion.Gate(0.015, 0.12, 200, 10, 0.06), TASKS["binary"])
    ways = challenge._ways_on(Version("m", "1", "r", {}), decision)
    told = {"champion": None, "sentence": decision.sentence, "ways_on": ways}
    lines = champion_lines(told)
    assert "40 rows that no compared model has seen, needed 200" in lines[0]
    assert lines[1:3] == ["ways on", f"  - {ways[0]}"]
    assert 'loopbook promote 1 --reason "…"' in lines[2]
    assert "gate_min_rows" in lines[3]


def test_a_window_is_told_in_the_measure_of_its_record():
    measures = {name: asdict(getattr(TASKS["regression"], name)) for name in MEASURES}
    numbers = {"rows": 9, "error": 29.13, "error_low": 28.0, "error_high": 30.0, "labels": 5}
    numbers |= {"due": 6, "reference_error": 27.0, "estimated_error": 31.0}
    record = {"current": ["2025-01-01", "2025-02-01"], "numbers": numbers, "champion": {}}
    record |= {"verdict": {"level": "watch", "reasons": ["few rows"]}}
    told = "\n".join(window_lines(record | measures))
    assert "mean absolute error 29.1 minutes (28.0 minutes to 30.0 minutes)" in told
    assert "estimated   31.0 minutes" in told
    before = "\n".join(window_lines(record | {"loss": "mape"}))
    assert "error (MAPE) 2,913 %" in before
