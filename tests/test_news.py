"""The page that opens first: what a manager reads in each state, and that its numbers are the record's."""

import math
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from reading import Reads
from test_task import BARE, KINDS, YES, table

from loopbook.models.evaluation import Interval
from loopbook.models.task import task_of
from loopbook.monitoring import quality, verdict
from loopbook.monitoring.quality import Fault
from loopbook.pages import happened, news, plain, start, vitals
from loopbook.pages.news import Loop
from loopbook.pages.trends import HEIGHT, WIDTH, trend
from loopbook.project.contract import Contract
from loopbook.registry.reigns import Reign

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)
HISTORY = {
    "event_time": "at",
    "history": {
        "value": "y",
        "features": {
            "level_30d": {
                "aggregate": "mean",
                "window_days": 30,
                "over": "all",
                "meaning": "Its usual y, of 30 days.",
            }
        },
    },
}
FEATURES = {
    "bill_mm": {"type": "number", "alias": "bill_length", "example": 1.0, "meaning": "How long."}
}
TARGET = {"name": "y", "unit": "kg", "meaning": "What is predicted."}
TABLE = Contract.model_validate(
    BARE | {"target": TARGET, "features": BARE["features"] | FEATURES} | HISTORY
)
TASK = task_of(TABLE)
RULES = verdict.Rules(50, 100, 0.5, 1.0, 1.0, 14, TASK.measure, TASK.bias_measure, 1.0, 0.04, 0.9)
FINE = {"rows": 900, "due": 400, "labels": 400, "worse": Interval(-0.1, -0.4, 0.2, 400)}
NUMBERS = {
    **{"rows": 900, "due": 400, "labels": 390, "error": 29.1, "reference_error": 28.0},
    **{"error_low": 28.5, "error_high": 30.2, "error_growth": 1.1, "bias": -3.0, "inside": 0.913},
    **{"error_growth_low": -0.4, "error_growth_high": 2.0, "inside_low": 0.88, "inside_high": 0.93},
}


def record(day: int = 8, level: str = "healthy", *reasons: str, **more) -> dict:
    """The record of a window that ends on a day of March."""
    at = datetime(2025, 3, day, tzinfo=UTC)
    champion = {"name": "a-table", "version": "2", "promoted_as_of": "2025-02-01T00:00:00+00:00"}
    champion |= {"fitted": {"until": "2025-01-27T00:00:00+00:00", "rows": 8852}}
    return {
        "as_of": at.isoformat(),
        "decided_at": at.isoformat(),
        "current": [(at - timedelta(days=21)).isoformat(), at.isoformat()],
        "champion": champion,
        "verdict": {"level": level, "reasons": list(reasons) or ["no input has moved"]},
        "numbers": NUMBERS,
        "faults": [],
        "loss": TASK.metric,
        "measure": asdict(TASK.measure),
        "bias_measure": asdict(TASK.bias_measure),
    } | more


def judged(**window) -> dict:
    """A record with the verdict that the rules give."""
    given = verdict.judge(verdict.Window(**FINE | window), RULES)
    return record(8, given.level, *given.reasons)


MISSING = Fault("bill_mm", "missing", 0.25, 0.01, "bill_mm is missing in 25.0 %", is_broken=True)
STALE = Fault("level_30d", "missing", 0.25, 0.01, "level_30d is missing in 25 %", is_broken=True)


@pytest.mark.parametrize(
    ("window", "told"),
    [
        ({}, "its errors and its inputs are what they were when it was promoted"),
        ({"rows": 9}, "only 9 of the 50 requests needed to judge it have come"),
        ({"rows": 1}, "only 1 of the 50 requests needed to judge it has come"),
        ({"labels": 20}, "the outcomes are late: 20 of 400 that are due have come"),
        ({"due": 1, "labels": 1}, "the outcome of 1 request is known, and 100 are needed"),
        ({"labels": 1}, "the outcomes are late: 1 of 400 that are due has come"),
        ({"due": 9, "labels": 9}, "the outcomes of 9 requests are known, and 100 are needed"),
        ({"bias": Interval(-3.0, -4.0, -2.0, 400)}, "it predicts too little, by 3.00 kg on average"),
        ({"worse": Interval(1.1, 1.05, 1.3, 400)}, "its error has grown by 1.10 kg since its promotion"),
        ({"inside": Interval(0.8, 0.78, 0.82, 400)}, "its intervals hold 91.3 % of the outcomes, and 90 %"),
        ({"at_bound": "at 3 kg"}, "its automatic correction is at its limit"),
        ({"apart": {"bill_mm under 2": Interval(3.0, 2.0, 4.0, 90)}}, "it errs otherwise for bill length under 2 than"),
        ({"drifted": ["bill_mm moved: distance 0.169 from the reference, up to 0.118 may be chance"]}, "“bill length” differs from"),
        ({"drifted": ["the answers moved: distance 0.2 from the reference, up to 0.1 may be chance"]}, "its answers differ from"),
        ({"wanting": ["nothing was ever asked of the service; start it: make serve"]}, "nobody has asked it anything yet"),
        ({"wanting": ["nothing was asked from 2025-03-01 to 2025-03-08; choose another --as-of"]}, "nobody asked it anything from 1 March 2025 to 8 March 2025"),
        ({"labels": 0, "due": 0, "estimated": 2.0}, "the outcomes of 0 requests are known, and 100"),
        ({"bias": Interval(3.0, 2.0, 4.0, 400), "champion_age_days": 3.0}, "it predicts too much, by 3.00 kg"),
    ],
)  # fmt: skip
def test_each_reason_of_a_verdict_has_words_that_need_no_explanation(window, told):
    """The reasons are those that the rules really give."""
    causes = plain.causes(judged(**window), TABLE)
    assert causes[0].startswith(told)
    for cause in causes:
        assert not re.search(r"n =|distance|bias|chance|bill_mm|champion|[()]", cause), cause


def test_a_broken_input_is_told_by_its_alias_and_what_a_program_named_by_its_meaning():
    faults = [asdict(fault) for fault in (MISSING, STALE)]
    told = record(8, "investigate", *[f["sentence"] for f in faults], faults=faults)
    assert list(plain.by_reason(told, TABLE).values()) == [
        "“bill length” is missing in 25.0 % of the requests, and was in 1.0 % before",
        "“Its usual y, of 30 days” is missing in 25.0 % of the requests, and was in 1.0 % before",
    ]
    first, second = news.actions(told, TABLE, Loop(1440), NOW)
    assert (first.who, first.page) == ("A data scientist", "2_drift")
    assert (second.who, second.command) == ("A data engineer", "loopbook features materialize")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("bill_mm moved: distance 0.169", "bill length moved: distance 0.169"),
        ("bill_mm under 2 drifts apart: its bias", "bill length under 2 drifts apart: its bias"),
        ("bill_mm lies outside 1 to 9", "bill length lies outside 1 to 9"),
        (MISSING.sentence, "bill length is missing in 25.0 %"),
        (STALE.sentence, "Its usual y, of 30 days is missing in 25 %"),
        ("the answers moved: distance 0.2", "the answers moved: distance 0.2"),
        ("the error has grown by +1.10 kg", "the error has grown by +1.10 kg"),
    ],
)
def test_a_recorded_reason_is_read_with_the_names_of_the_contract(reason, told):
    assert plain.with_names(reason, TABLE) == told
    shown = plain.readable(record(8, "watch", reason, faults=[{"sentence": reason}]), TABLE)
    assert shown["verdict"]["reasons"] == [told]
    assert shown["faults"] == [{"sentence": told}]


def test_slices_have_the_names_that_people_know():
    told = plain.by_slice({"all rows": 1, "bill_mm under 2": 2, "level_30d from 4": 3}, TABLE)
    names = ["all rows", "bill length under 2", "Its usual y, of 30 days from 4"]
    assert list(told.items()) == list(zip(names, (1, 2, 3), strict=True))


def test_an_unknown_category_is_told_by_the_name_of_its_column():
    before, now = (pl.DataFrame({"bill_mm": [text] * 9}) for text in ("a", "b"))
    (found,) = quality.faults(before, now, TABLE, ["bill_mm"], margin=0.05)
    assert plain.with_names(found.sentence, TABLE) == (
        "in 100.0 % of the rows bill length is one that training has not seen, most often b"
    )


def test_the_first_sentence_says_how_it_is_since_when_and_what_was_before():
    early = record(1, "watch", "too little ground truth: 9 answers have it, 100 are needed to")
    some = [early, record(4), record(6), record(8)]
    assert news.how(some, TABLE) == (
        "The model has been well since 4 March 2025: its errors and its inputs are what they were "
        "when it was promoted. Before, it could not be judged: the outcomes of 9 requests are "
        "known, and 100 are needed to judge its error."
    )
    worse = record(8, "retrain", "the error has grown by +1.10 kg (+0.9 kg to +1.3 kg, n = 400)")
    assert news.how([some[1], worse], TABLE).startswith("The model has had to learn again since 8")


def test_a_model_that_was_never_judged_says_so_and_since_when_it_serves():
    """Whatever happened before its first window, nothing was judged then."""
    few = "too little ground truth: 9 answers have it, 100 are needed to"
    some = [record(1, "watch", few), record(4, "watch", few)]
    assert news.how(some, TABLE) == (
        "The model has served since 1 February 2025 and has never been judged: the outcomes of 9 "
        "requests are known, and 100 are needed to judge its error."
    )
    none = record(1, "watch", "there is no champion yet; make one", champion={})
    assert news.how([none], TABLE) == "The model has never been judged: no model serves yet."
    early = record(1, "watch", few, champion={"version": "2", "promoted_at": "2025-02-03T00:00"})
    assert "has served since 3 February 2025 and" in news.how([early], TABLE)
    assert "never" not in news.how([record(1), *some[1:]], TABLE)


def test_inputs_of_which_the_same_is_said_share_a_sentence_and_a_task():
    gone = "in 100.0 % of the requests, and was in 0.0 % before"
    told = [f"“{name}” is missing {gone}" for name in "abcdef"]
    other = "“g” is missing in 5.0 % of the requests, and was in 0.0 % before"
    gone = "in 100.0 % of the requests, and were in 0.0 % before"
    assert plain.together([told[0], other, *told[1:], told[0]]) == [
        f"“a”, “b”, “c”, “d” and 2 more are missing {gone}",
        other,
    ]
    assert plain.together(told[:2]) == [f"“a” and “b” are missing {gone}"]
    faults = [
        asdict(Fault(name, "missing", 1.0, 0.0, f"{name} is missing", is_broken=True))
        for name in ("bill_mm", "sex")
    ]
    some = record(8, "investigate", *[f["sentence"] for f in faults], faults=faults)
    (todo,) = news.actions(some, TABLE, Loop(1440), NOW)
    assert todo.what.endswith(f"“bill length” and “sex” are missing {gone}")


def test_inputs_of_which_something_else_is_said_share_a_task_too():
    """There is one thing to do about all of them: a page to open, or a command to type."""
    other = replace(MISSING, column="sex", share=0.4, sentence="sex is missing")
    far = replace(MISSING, kind="implausible", sentence="bill_mm is far outside")
    faults = [asdict(fault) for fault in (MISSING, other, far)]
    some = record(8, "investigate", *[f["sentence"] for f in faults], faults=faults)
    (todo,) = news.actions(some, TABLE, Loop(1440), NOW)
    assert todo.what == (
        "should look at its inputs: “bill length” is missing in 25.0 % of the requests, and was in "
        "1.0 % before; “sex” is missing in 40.0 % of the requests, and was in 1.0 % before; and 1 "
        "more reason"
    )
    later = [asdict(replace(STALE, share=n / 9, sentence=f"{n}")) for n in (1, 2)]
    both = record(8, "investigate", "1", "2", faults=later)
    (todo,) = news.actions(both, TABLE, Loop(1440), NOW)
    assert todo.command == "loopbook features materialize"


def test_a_slice_of_a_truth_value_is_yes_or_no():
    slices = plain.by_slice({"bill_mm under 2": 1, "sex false": 2, "sex true": 3}, TABLE)
    assert list(slices) == ["bill length under 2", "sex no", "sex yes"]


def test_inputs_that_differ_share_a_sentence():
    moved = [f"{name} moved: distance 0.9" for name in ("bill_mm", "level_30d")]
    few = "too little ground truth: 9 answers have it, 100 are needed to"
    some = [record(1, "watch", few, *moved, "the answers moved: distance 0.2")]
    assert news.also(some, TABLE) == [
        "“bill length” and “Its usual y, of 30 days” differ from what it has learned.",
        "Its answers differ from what it has learned.",
    ]
    assert news.also([record(1, "watch", few, moved[0])], TABLE) == [
        "“bill length” differs from what it has learned."
    ]


@pytest.mark.parametrize(
    ("told", "loop", "command"),
    [
        (record(), Loop(1440), None),
        (record(8, "retrain", "the calibration is at its bound"), Loop(1440), "make build"),
        (record(8, "watch", "there is no champion yet; make one"), Loop(1440), "make build"),
        (record(8, "watch", "nothing was ever asked"), Loop(1440), "make status"),
        (record(8, set_aside=3), Loop(1440), "loopbook quarantine"),
        (record(1), Loop(60), "make monitor"),
        (record(1), Loop(14 * 1440), None),
    ],
)
def test_a_person_is_told_what_to_type_and_nobody_where_nothing_is_to_do(told, loop, command):
    todo = news.actions(told, TABLE, loop, NOW)
    assert [action.command for action in todo] == ([command] if command else [])


def turn(outcome: str = "nothing", **more) -> dict:
    ended = (NOW - timedelta(hours=2)).isoformat()
    return {
        "turn": 9,
        "as_of": ended,
        "ended_at": ended,
        "outcome": outcome,
        "reason": "why",
    } | more


def test_what_happens_next_has_its_hour_where_a_loop_runs_and_its_command_where_none_does():
    running = Loop(1440, turn())
    assert news.next_step(running, "healthy", NOW)[0].endswith("on 11 March 2025 at 10:00 UTC.")
    assert "learn again" in news.next_step(running, "retrain", NOW)[0]
    assert not news.actions(record(8, "retrain", "the calibration is at"), TABLE, running, NOW)
    gone, command = news.next_step(Loop(30, turn()), "healthy", NOW)
    assert "the loop does not run; its last turn was on 10 March 2025" in gone
    assert command == news.next_step(Loop(30), None, NOW)[1] == "make loop"
    asked = Loop(1440, turn(), asked={"by": "ana", "reason": "a new source"})
    assert "ana asked for a retraining (a new source)" in news.next_step(asked, "healthy", NOW)[0]
    begun = [turn(began_at=(NOW - timedelta(hours=hours)).isoformat()) for hours in (3, 30)]
    assert "at work now" in news.next_step(Loop(30, open_turn=begun[0]), "healthy", NOW)[0]
    assert "does not run" in news.next_step(Loop(30, open_turn=begun[1]), "healthy", NOW)[0]
    failed = news.actions(record(), TABLE, Loop(1440, turn("error")), NOW)
    assert failed[0].command == "loopbook loop --once"


@pytest.mark.parametrize(
    ("ends", "word"),
    [((-2.0, -0.1), "better than"), ((-0.4, 2.0), "not worse than"), ((0.1, 2.0), "worse than")],
)
def test_better_not_worse_and_worse_than_promised_are_three_things(ends, word):
    numbers = NUMBERS | dict(zip(("error_growth_low", "error_growth_high"), ends, strict=True))
    error = vitals.vitals([record(numbers=numbers)], TABLE, NOW)[0]
    assert f"That is {word} promised. Promised was 28.0 kg." in error.means
    assert error.value == "29.1 kg"


def test_the_four_are_told_in_the_contracts_words_and_in_days():
    error, inside, volume, fresh = vitals.vitals([record(1), record()], TABLE, NOW)
    assert error.means.startswith("On average an answer is 29.1 kg away from the y.")
    assert inside.value == "91.3 %"
    assert "should lie in 90 % of cases. It did in as many cases as promised." in inside.means
    assert volume.means == "Requests answered from 15 February 2025 to 8 March 2025, 43 a day."
    assert fresh.value == "40 days"
    assert "390 of 400 outcomes that are due have come." in fresh.means
    assert "last looked at 2 days ago" in fresh.means


def test_nearly_all_is_not_all_and_a_table_without_dates_has_no_age():
    """99.7 % of answers that were right are not 100 of 100."""
    several = table("multiclass", **KINDS)
    classes = record(metrics={"accuracy": 0.997}, champion={"version": "1", "fitted": {}})
    error, _, _, fresh = vitals.vitals([classes], several, NOW)
    assert error.means.startswith("In 99.7 % of cases the likeliest y was the true one.")
    assert (fresh.value, fresh.trend) == ("no age", None)
    assert fresh.means.startswith("Its table has no dates, so what it has learned has no age.")


def test_what_is_not_known_is_said_and_is_no_number():
    nothing = dict.fromkeys(NUMBERS) | {"rows": 0, "due": 0, "labels": 0}
    found = vitals.vitals([record(numbers=nothing)], TABLE, NOW)
    assert [vital.value for vital in found[:3]] == ["not known yet", "not known yet", "0 requests"]
    late = table("binary", **YES)
    of_classes = record(numbers=NUMBERS | {"error": 0.4}, metrics={"accuracy": 0.87})
    assert (
        "In 87.0 % of cases the likeliest y was the true one."
        in vitals.vitals([of_classes], late, NOW)[0].means
    )


def test_a_trend_is_a_line_with_gaps_inside_its_box():
    values = [("a", 1.0, "1"), ("b", 3.0, "3"), ("c", None, "?"), ("d", 2.0, "2")]
    line = trend(values, "Error", promised=2.0)
    assert [point.told for point in line.points] == ["a: 1", "b: 3", "d: 2"]
    assert len(line.lines) == 1  # one value beside a gap is a point
    assert all(0 < p.x < WIDTH and 0 < p.y < HEIGHT for p in line.points)
    assert line.promised == line.points[-1].y
    assert line.told == "Error. From a: 1 to d: 2."
    one = trend([("a", 1.0, "1")], "Error")
    assert (one.lines, one.below) == ([], "a")
    assert trend([("a", None, "?")], "Error") is None
    assert trend([("a", 1.0, "1"), ("a", 2.0, "2")], "Error").below == "a"
    assert not math.isnan(trend([("a", 0.0, "0"), ("b", 0.0, "0")], "Rows").points[0].y)


def test_a_window_that_nobody_asked_is_no_part_of_the_watch_before():
    nothing = record(
        8, "watch", "nothing was asked from 2025-02-15 to 2025-03-08; choose another --as-of"
    )
    nothing |= {"numbers": dict.fromkeys(NUMBERS) | {"rows": 0, "due": 0, "labels": 0}}
    some = [record(4, "watch", "bill_mm moved: distance 0.2"), nothing]
    assert news.how(some, TABLE).startswith("The model has not been judged since 8 March 2025")
    days = [event.day for event in happened.happened(some, (), (), TABLE)]
    assert days == ["8 March 2025", "4 March 2025"]
    volume = vitals.vitals(some, TABLE, NOW)[2]
    assert volume.means == "No request was answered from 15 February 2025 to 8 March 2025."


def test_the_time_line_has_what_happened_with_its_day_the_newest_first():
    first = Reign("1", "2025-02-01T00:00", "2025-02-01T00:00", "gate", "loop", "no champion stands")
    second = Reign(
        "2", "2025-03-05T00:00", "none", "by hand", "ana", "promoted by hand: it is asked"
    )
    back = Reign(
        "1", "2025-03-07T00:00", "2025-03-07T00:00", "rollback", "loop", "it was worse (n = 4)"
    )
    refused = turn("refused", challenger={"version": "3"}, as_of="2025-03-06T00:00:00+00:00")
    refused["reason"] = "Refused: not better than the champion (+0.1 points, n = 9)"
    some = [record(1), record(2, "retrain", "the calibration is at its bound"), record(8)]
    told = happened.happened(some, [first, second, back], [turn(), refused], TABLE)
    assert [(event.day, event.what) for event in told] == [
        ("8 March 2025", f"It was well again: {plain.AS_PROMISED}."),
        ("7 March 2025", "Version 1 was taken back into service: it was worse."),
        ("6 March 2025", "Version 3 was made and not taken: not better than the version before."),
        ("5 March 2025", "Ana put version 2 into service: promoted by hand: it is asked."),
        ("2 March 2025", "It had to learn again: its automatic correction is at its limit."),
        ("1 March 2025", f"It was well: {plain.AS_PROMISED}."),
        ("1 February 2025", "Version 1 went into service, the first: it had to be better than the simplest rule."),
    ]  # fmt: skip
    assert len(happened.happened([], [first] * 40, [], TABLE)) == happened.MOST
    third = Reign("3", some[1]["as_of"][:16], "none", "gate", "loop", "better")
    led = happened.happened(some[1:2], [first, third], [], TABLE)
    assert [event.what[:21] for event in led[:2]] == [
        "Version 3 went into s",
        "It had to learn again",
    ]


def text(known: start.Known) -> str:
    return re.sub(r"\s+", " ", Reads(start.page(known).rsplit("</style>", maxsplit=1)[-1]).text)


def test_the_page_reads_well_without_a_model_without_a_champion_and_without_a_window():
    bare = text(start.Known(TABLE, Loop(1440), now=NOW))
    assert "There is no model yet. What is there to do? A data scientist should make a" in bare
    assert "Nothing, before a model serves. What happened lately? Nothing yet." in bare
    way = ("not better than the baseline", ["collect more rows"])
    refused = text(start.Known(TABLE, Loop(1440), refused=way, now=NOW))
    assert "A model was made, and none serves: not better than the baseline." in refused
    assert "should choose: collect more rows" in refused
    serves = text(start.Known(TABLE, Loop(1440), champion={"number": "2"}, now=NOW))
    assert "Version 2 serves, and nobody has checked yet whether it is well." in serves
    assert "make monitor" in serves


def test_every_number_of_the_page_is_one_of_the_record():
    """Or a day, or what a target promises, or a count of days and requests that is named."""
    told = record()
    page = text(start.Known(TABLE, Loop(1440, turn()), [told], now=NOW))
    measure = TASK.measure
    known = {measure.said(NUMBERS[name]).split()[0] for name in ("error", "reference_error")}
    known |= {"91.3", "900", "400", "390", "8,852", "2"}  # of the record
    known |= {"90"}  # target.interval
    known |= {"43", "40"}  # a day, and days since it has learned
    page = re.sub(r"\b\d{1,2} (January|February|March) 2025( at \d\d:\d\d)?", "", page)
    assert set(re.findall(r"\d[\d.,]*\d|\d", page)) == known
    for word in ("healthy", "bias", "distance", "level_30d", "bill_mm", "n ="):
        assert word not in page
