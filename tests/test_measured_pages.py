"""What pages say of errors: in the measure of their record, whatever the target is."""

import json
import re
from dataclasses import asdict

import pytest
import turned
from reading import Reads
from test_task import BARE, KINDS, YES, table
from test_templates import INTERVAL, card, decision, window

from loopbook.models.task import task_of
from loopbook.pages import candidates as candidate_pages
from loopbook.pages import dashboards, metrics
from loopbook.pages import replays as replay_pages
from loopbook.pages import turns as turn_pages
from loopbook.pages import versions as version_pages
from loopbook.pages import windows as window_pages
from loopbook.project.paths import Project
from loopbook.registry.reader import Version

MINUTES = task_of(table(unit="minutes"))
PRICES = task_of(table(transform="log", range=[1.0, 9.0]))
CONTRACT = BARE | {"target": {"name": "y", "meaning": "What is predicted."}}
LATE = task_of(table("binary", **YES))
KIND = task_of(table("multiclass", **KINDS))


def of(task, record: dict) -> dict:
    """A record that says how its errors are shown."""
    return record | {
        "loss": task.metric,
        "metric": task.metric,
        "measure": asdict(task.measure),
        "bias_measure": asdict(task.bias_measure),
    }


def text(page: str) -> str:
    return re.sub(r"\s+", " ", Reads(page.rsplit("</style>", maxsplit=1)[-1]).text)


@pytest.mark.parametrize(
    ("task", "error", "told"),
    [
        (MINUTES, 29.1, "29.1 minutes realized mean absolute error (28.0 minutes to 31.0 minutes)"),
        (LATE, 0.474, "0.474 realized log loss (0.460 to 0.490)"),
        (PRICES, 0.1106, "11.1 % realized mean absolute log error (10.0 % to 12.0 %)"),
    ],
)
def test_an_error_stands_in_the_unit_of_its_measure(task, error, told):
    ends = {29.1: (28.0, 31.0), 0.474: (0.46, 0.49), 0.1106: (0.1, 0.12)}[error]
    numbers = window()["numbers"] | dict(zip(("error_low", "error_high"), ends, strict=True))
    record = of(task, window() | {"numbers": numbers | {"error": error}})
    assert told in text(window_pages.overview(record, [], {}))


def test_a_record_of_an_earlier_loopbook_shows_its_mape_as_that():
    """Its errors are in another unit than the contract's of today."""
    page = text(window_pages.overview(window() | {"loss": "mape"}, [], {}))
    assert "10.0 % realized error (MAPE)" in page
    over_mean = text(window_pages.performance(window() | {"loss": "mae"}, {}))
    assert "realized error (MAE over the mean)" in over_mean
    assert "error (MAPE)" in text(candidate_pages.candidates({"number": "1"}, decision()))


def test_a_bias_names_the_class_that_it_is_of():
    numbers = window()["numbers"] | {"bias": 0.021, "bias_moved": -0.01}
    record = of(KIND, window() | {"numbers": numbers, "bias_of": "b"})
    page = text(window_pages.performance(record, {}))
    assert "+2.10 points bias of the probability of b (below 0: too little)" in page
    assert "-1.00 points change of the bias" in page


def test_an_error_that_is_no_log_has_the_targets_unit_beside_one_that_is():
    found = {"n": 9.0, "absolute_log_error": 0.1, "mae": 7.5, "rmse": 12.0}
    record = of(PRICES, window() | {"metrics": found})
    page = text(window_pages.performance(record, {}, "USD"))
    assert "mean absolute error 7.50 USD root of the mean squared error 12.0 USD" in page


def test_recall_and_precision_stand_a_class_a_row():
    found = {"n": 9.0, "log_loss": 0.5, "recall_a": 0.25, "recall_b": 1.0, "precision_b": 0.5}
    assert metrics.by_class(found) == [("a", "25.0 %", "–"), ("b", "100.0 %", "50.0 %")]
    page = text(window_pages.performance(of(LATE, window() | {"metrics": found}), {}))
    assert "recall_a" not in page
    assert "log loss: what decides 0.500 rows 9" in page


def test_the_shares_of_the_classes_stand_beside_those_of_the_reference():
    answer = {"column": "answer", "labels": ["b", "a", "missing"], "reference": [0.25, 0.75, 0.0]}
    columns = [answer | {"current": [0.5, 0.5, 0.0]}]
    columns += [columns[0] | {"column": "observed", "current": [1.0, 0.0, 0.0]}]
    assert metrics.class_shares(columns, ["a", "b"]) == [
        ("a", "75.0 %", "50.0 %", "75.0 %", "0.0 %"),
        ("b", "25.0 %", "50.0 %", "25.0 %", "100.0 %"),
    ]
    assert metrics.class_shares(columns[:1], ["a"]) == []
    assert metrics.class_shares(columns, []) == []


def test_the_metrics_of_a_card_have_the_unit_of_the_target():
    rows = dict(
        metrics.rows(
            {
                "n": 5.0,
                "mae": 29.13,
                "rmse": 40.0,
                "r2": 0.5,
                "mape": 0.2,
                "bias": -1.5,
                "absolute_error": 29.13,
            },
            *("absolute_error", (MINUTES.measure, MINUTES.bias_measure), "minutes"),
        )
    )
    assert next(iter(rows)) == "mean absolute error: what decides"
    assert "mean absolute error" not in rows
    assert rows["root of the mean squared error"] == "40.0 minutes"
    assert rows["bias"] == "-1.50 minutes"
    assert "mean absolute percentage error (MAPE)" not in rows
    assert rows["rows"] == 5
    log = metrics.rows(
        {"mape": 0.2, "absolute_log_error": 0.1},
        "absolute_log_error",
        (PRICES.measure, PRICES.bias_measure),
    )
    assert log == [
        ("mean absolute log error: what decides", "10.0 %"),
        ("mean absolute percentage error (MAPE)", "20.0 %"),
    ]


def test_differences_of_candidates_and_slices_are_in_the_measures_unit():
    record = of(MINUTES, decision())
    page = text(candidate_pages.candidates({"number": "1"}, record))
    assert "Change of the mean absolute error in minutes, with its interval" in page
    assert "+0.100 0 +0.200 5" in page
    shown = text(version_pages.model_card({"number": "1", "run_id": "r"}, card(), record))
    assert "Change of the mean absolute error in minutes on rows that it had not seen" in shown
    assert "Rise of the mean absolute error when one feature is shuffled" in shown
    assert INTERVAL["mean"] == 0.1


def about(target: dict, **more) -> str:
    told = card() | {"target": {"name": "y", "unit": None, "meaning": "What."} | target} | more
    return text(version_pages.model_card({"number": "1", "run_id": "r"}, told, decision()))


def test_a_card_says_which_classes_there_are_and_when_yes_is_said():
    costs = {"false_positive": 1.0, "false_negative": 5.0}
    target = {"classes": ["no", "yes"], "positive": "yes", "costs": costs}
    page = about(target, decision={"threshold": 0.17, "cost": 0.31, "rows": 900})
    assert "predicts y (one of “no”, “yes”; “yes” is the positive class)" in page
    assert "yes is answered from a probability of 17.0 % mean cost of a row with it 0.310" in page
    assert (
        "rows on which it was chosen 900 cost of a false positive 1 cost of a false negative 5"
        in page
    )
    assert "and 88 more" in about({"classes": [str(n) for n in range(100)]})
    assert "When does it answer" not in about({"unit": "USD"}, decision=None)


def test_a_table_without_a_time_has_no_unknown_days():
    fitted = {"rows": 9, "since": None, "until": None}
    assert "Fitted on 9 rows. How good" in about({"unit": "kg"}, fitted=fitted)
    champion = window()["champion"] | {"fitted": fitted}
    overview = text(window_pages.overview(window() | {"champion": champion}, [], {}))
    assert "fitted on 9 rows." in overview
    build = text(candidate_pages.candidates({"number": "1"}, decision() | {"as_of": None}))
    assert "data as of" not in build
    assert "decided at " in build
    assert "decided as of" in text(candidate_pages.candidates({"number": "1"}, decision()))
    known = text(window_pages.performance(window() | {"metrics": {}}, {}))
    assert "None is known before ground truth has come." in known


@pytest.mark.parametrize(
    ("names", "told"), [("ab", ", whatever the threshold."), ("abc", "one. class")]
)
def test_only_of_two_classes_may_a_threshold_decide(names, told):
    found = {f"recall_{name}": 0.5 for name in names}
    record = of(LATE, window() | {"metrics": found})
    assert told in text(window_pages.performance(record, {}))


def test_a_year_has_no_comma_in_a_range():
    feature = {"type": "integer", "meaning": "When.", "range": [1900.0, 2100.0]}
    wide = {"type": "number", "meaning": "How many.", "range": [0.0, 25000.0]}
    contract = {"meaning": "A row.", "features": {"year": feature, "count": wide}}
    page = about({"unit": "kg"}, contract=contract)
    assert "1900 to 2100" in page
    assert "0 to 25,000" in page


def test_parity_is_told_in_what_it_is_measured_in():
    measured = {"rows": 900, "largest": 2e-6, "tolerance": 1e-4}
    of_old = about({"unit": "USD"}, parity=measured)
    assert (
        "On 900 rows the largest difference is 0.000002 of the answer; allowed is 0.0001" in of_old
    )
    assert "Nobody has measured it." in about({"unit": "USD"}, parity={"passed": True})
    spread = measured | {"spread": 1.0}
    assert "0.000002 of the target's spread" in about({"unit": "USD"}, parity=spread)
    assert "0.000002 of probability" in about({"classes": ["no", "yes"]}, parity=spread)


def test_where_nothing_serves_the_page_says_why_and_names_the_ways_on():
    told = {"sentence": "Refused: not better", "ways_on": ["more rows", "loopbook promote 3"]}
    page = text(version_pages.no_champion({"number": "3"}, told))
    assert "v3 was built and not promoted. Refused: not better. What can you do?" in page
    assert "more rows loopbook promote 3" in page
    assert "loopbook promote 3 --reason" in text(
        version_pages.no_champion({"number": "3", "gate_reason": "Refused: slow"}, {})
    )
    assert "Nothing serves: what can you do? more rows" in text(
        candidate_pages.candidates({"number": "3"}, decision() | told)
    )
    by_hand = {"number": "3", "promoted_at": "2025-01-01T00:00"}
    assert "Nothing serves" not in text(candidate_pages.candidates(by_hand, decision() | told))


class Registered:
    """A registry with one version, which was refused."""

    def versions(self, name):
        return [Version(name, "1", "r", {"gate_reason": "Refused: slow"})]

    def held(self, name, alias):
        return None

    def content(self, version, *names):
        return '{"sentence": "Refused: not better", "ways_on": ["more rows"]}'


@pytest.mark.parametrize("page", ["overview", "drift", "performance"])
def test_a_page_about_windows_says_first_why_nothing_serves(tmp_path, monkeypatch, page):
    """No window can be monitored before something serves."""
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    monkeypatch.setattr(dashboards, "current", lambda: Project(tmp_path))
    monkeypatch.setattr(dashboards.registry_reader, "connect", lambda _: Registered())
    shown = text(dashboards.show(page).children[-1].value)
    assert "v1 was built and not promoted. Refused: not better." in shown
    assert "make monitor" not in shown


def test_a_turn_and_a_replay_are_told_in_their_measure():
    turn = turned.turn(8, "retrain", "promoted", "m v8")
    turn["numbers"] |= {"error": 29.1, "bias": -3.0, "error_growth": 1.5, "coverage": 0.96}
    assert "whose bias is told late" in text(turn_pages.turn(of(LATE, turn | {"bias_of": "late"})))
    page = text(turn_pages.turn(of(MINUTES, turn)))
    for told in (
        *("what an error is mean absolute error", "realized error 29.1 minutes"),
        *("bias (below 0: too little) -3.00 minutes", "growth of the error since promotion +1.50"),
        *("has come 96.0 %", "error of the baseline on the judged rows 0.310 minutes"),
    ):
        assert told in page, told
    replay = text(replay_pages.replay(of(LATE, turned.result()), None))
    assert "month answers error bias, points error bias, points" in replay
    assert "2014-10 900 0.131 0" in replay
    assert "The error is the log loss. Bias of the probability below 0" in replay


def test_a_model_card_tells_its_inputs_in_the_words_that_people_know():
    record = decision() | {"importance": [{"feature": "dewp", "rise": 0.01}]}
    called = {"dewp": "dew point (degrees)"}.get
    page = text(
        version_pages.model_card({"number": "1", "run_id": "r"}, card(), record, called=called)
    )
    assert "What does it look at?" in page
    assert "dew point (degrees) +" in page


def test_a_model_card_names_accepted_leaks_and_what_the_parts_share():
    about = card()["contract"] | {"ignored": ["note", {"column": "closed", "known": "after"}]}
    told = card() | {"contract": about, "accepted_leaks": {"deposit": "Paid with the order."}}
    leak = {"kind": "group", "columns": ["patient"], "remedy": "group: patient", "accepted": None}
    leak |= {"evidence": "40 of 50 rows that judge have a patient of which other rows teach"}
    record = decision() | {"leaks": [leak, leak | {"columns": ["deposit"], "accepted": {}}]}
    page = text(version_pages.model_card({"number": "1", "run_id": "r"}, told, record))
    assert "Known only afterwards, so no input: closed." in page
    assert "deposit knows the target, and was accepted: Paid with the order." in page
    assert "patient 40 of 50 rows that judge have a patient of which other rows teach" in page
    assert page.count("40 of 50 rows") == 1
