"""What is heard of the loop from outside: the webhook, the service's metrics, `loopbook status`."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest
import turned
from small_house import ROOT

from loopbook.cli import status
from loopbook.loop import confirmation, guards
from loopbook.loop import turn as loops
from loopbook.loop.growth import Growth
from loopbook.loop.guards import Limits
from loopbook.monitoring import notifications
from loopbook.pages import turns as turn_pages
from loopbook.project.errors import LoopbookError
from loopbook.project.files import write_json
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.records.roles import SHADOW
from loopbook.records.turns import Attempt, State
from loopbook.registry import champions
from loopbook.registry.reigns import Reign
from loopbook.registry.tracking import CHAMPION, Version
from loopbook.serving.metrics import Metrics

NOW = datetime(2015, 4, 6, tzinfo=UTC)
DAY = timedelta(days=1)


class Outside(http.server.BaseHTTPRequestHandler):
    """A webhook, and a service that answers with version 1."""

    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"version": "1"}')

    def log_message(self, *_):
        pass


@pytest.fixture
def outside(monkeypatch) -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outside) as server:
        server.heard = []
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(notifications.ADDRESS, f"{server.address}/secret")
        yield server
        server.shutdown()


class Stages:
    """What the stages of a turn would do, without a notebook and without MLflow."""

    def __init__(self, project: Project):
        self.project, self.level, self.probation = project, "healthy", "waits"
        self.breaks, self.promotes = None, False
        self.held = {CHAMPION: "2", SHADOW: "1"}

    def build(self, project: Project, changes: dict, graph=None) -> None:
        if self.breaks:
            raise self.breaks
        if graph is not None:
            record = {"as_of": changes["as_of"], "numbers": {}}
            record["verdict"] = {"level": self.level, "reasons": [f"it is {self.level}"]}
            write_json(project.var / "monitor" / "record.json", record)
            return
        who = {"label": "m v3", "version": "3", "candidate": "ridge", "run_id": "r"}
        told = {"promoted": self.promotes, "challenger": who, "sentence": "the gate has spoken"}
        told |= {"snapshot_sha256": "0" * 64, "snapshot_rows": 9, "errors": {}}
        write_json(project.var / "build" / "decision.json", told)

    def holder(self, _client, name: str, alias: str) -> Version:
        return Version(name, self.held[alias], "r", {})

    def reigns(self, *_) -> list[Reign]:
        """The alias was moved in MLflow's own pages: the ledger alone knows since when."""
        then = (NOW - DAY).isoformat()
        return [Reign("2", then, then, champions.SEEN, "unknown", "seen now")]

    def roll_back(self, _client, name: str, **_) -> tuple[Version, Version]:
        barred, back = (self.holder(None, name, alias) for alias in (CHAMPION, SHADOW))
        self.held[CHAMPION] = back.number
        return barred, back

    def judge(self, *_, **__) -> tuple[str, str]:
        return self.probation, "house-prices v2 is worse"


@pytest.fixture
def stages(tmp_path, monkeypatch) -> Stages:
    for name in ("contract.yaml", "env.yaml", "pipeline.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    made = Stages(Project(tmp_path))
    silent = lambda *_, **__: None  # noqa: E731
    for module, name, stands_in in (
        *((loops.tracking, "connect", silent), (loops.tracking, "log_turn", lambda *_: "run")),
        *((loops.tracking, "holder", made.holder), (loops.champions, "reconciled", silent)),
        (loops.champions, "reigns", made.reigns),
        (loops.tracking, "run_of", lambda *_: SimpleNamespace(data=SimpleNamespace(tags={}))),
        *((loops.champions, "roll_back", made.roll_back), (loops.graph, "build", made.build)),
        *((loops.materialize, "materialize", silent), (loops.probation, "judge", made.judge)),
        *((loops.upkeep, "look", lambda *_: {}), (loops.upkeep, "tell_head", silent)),
        (loops.probation, "read", lambda *_, **__: (pl.DataFrame(), 1.0)),
        (loops.probation, "paired", lambda *_: pl.DataFrame()),
        *((confirmation, "CONNECTING_S", 0), (confirmation, "POLLED_S", 0.05)),
    ):
        monkeypatch.setattr(module, name, stands_in)
    return made


def turn(stages: Stages, day: int = 0, **knobs) -> dict:
    changes = {"loop_service": "", "loop_alert_failures": 3} | knobs
    return loops.turn(stages.project, as_of=NOW + day * DAY, changes=changes)


# -- the webhook ---------------------------------------------------------------


@pytest.mark.medium
def test_turns_that_failed_one_after_the_other_send_one_message_and_fewer_none(stages, outside):
    stages.breaks = LoopbookError("the lights went out")
    assert [turn(stages, day)["outcome"] for day in range(2)] == ["error", "error"]
    assert outside.heard == []
    turn(stages, 2)
    (heard,) = outside.heard
    assert "3 turns of the loop failed" in heard["text"]
    assert "the lights went out" in heard["text"]
    assert heard["turn"]["turn"] == 3


@pytest.mark.medium
def test_a_fault_of_ours_ends_the_turn_with_a_record_and_is_counted(stages, outside):
    stages.breaks = KeyError("promoted_as_of")
    told = turn(stages, loop_alert_failures=1)
    assert told["reason"] == "unexpected KeyError: 'promoted_as_of'"
    assert "Traceback" in told["traceback"]
    assert turn_records.open_turn(stages.project) is None
    assert len(outside.heard) == 1


@pytest.mark.medium
def test_a_turn_that_went_well_begins_the_count_anew(stages, outside):
    dark = LoopbookError("the lights went out")
    for day, breaks in enumerate((dark, dark, None, dark, dark)):
        stages.breaks = breaks
        turn(stages, day)
    assert outside.heard == []


@pytest.mark.medium
def test_a_rollback_sends_one_message(stages, outside):
    stages.probation = "failed"
    assert turn(stages)["outcome"] == "rolled back"
    (heard,) = outside.heard
    assert "rolled back to v1" in heard["text"]
    assert "house-prices v2 is worse" in heard["text"]
    assert heard["turn"]["outcome"] == "rolled back"


@pytest.mark.medium
@pytest.mark.parametrize("is_there", [True, False])
def test_a_promotion_that_the_service_does_not_confirm_sends_one_message(stages, outside, is_there):
    stages.level, stages.promotes = "retrain", True
    service = outside.address if is_there else "http://127.0.0.1:9"
    record = turn(stages, loop_service=service, loop_confirm_s=1)
    assert record["outcome"] == "promoted"
    (heard,) = outside.heard
    told = "answers with v1 and not with v3" if is_there else "no service is reached"
    assert told in heard["text"]
    assert told in record["confirmed"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("level", "promotes", "outcome"),
    [("healthy", False, "nothing"), ("retrain", False, "refused"), ("retrain", True, "promoted")],
)
def test_what_needs_nobody_sends_nothing(stages, outside, level, promotes, outcome):
    stages.level, stages.promotes = level, promotes
    assert turn(stages)["outcome"] == outcome
    assert outside.heard == []


@pytest.mark.medium
@pytest.mark.parametrize(
    ("level", "shadow", "knobs", "outcome"),
    [
        ("healthy", None, {}, "refused"),
        ("watch", None, {}, "refused"),
        ("healthy", None, {"costs_decide": True}, "refused"),  # no costs are said
        ("healthy", "1", {}, "nothing"),  # the champion is on probation
        ("healthy", None, {"loop_growth": 1.6}, "nothing"),
        ("healthy", None, {"loop_growth": 0}, "nothing"),
        (
            "healthy",
            None,
            {"costs_decide": True, "costs_retraining": 1, "costs_loss": 1},
            "nothing",
        ),
        ("investigate", None, {}, "investigate"),
    ],
)
def test_half_as_many_rows_again_are_learned_from_whatever_the_verdict(
    stages, monkeypatch, level, shadow, knobs, outcome
):
    monkeypatch.setattr(loops.growth, "since_last_build", lambda *_: Growth(1500, 1000))
    stages.level, stages.held[SHADOW] = level, shadow or stages.held[CHAMPION]
    record = turn(stages, **knobs)
    assert record["outcome"] == outcome
    if outcome == "refused":
        assert record["growth"] == {"known": 1500, "learned": 1000}


def test_a_source_that_cannot_be_counted_ends_no_turn_and_is_in_its_record(stages, monkeypatch):
    def away(*_):
        raise LoopbookError("the source is away")

    monkeypatch.setattr(loops.growth, "since_last_build", away)
    stages.held[SHADOW] = stages.held[CHAMPION]
    record = turn(stages)
    assert record["outcome"] == "nothing"
    assert record["growth"] == {"unknown": "the source is away"}
    assert "not counted: the source is away" in turn_pages.turn(record)


# -- metrics -------------------------------------------------------------------


def ended(number: int, outcome: str, ago: timedelta, **more) -> dict:
    at = (NOW - ago).isoformat()
    return {**turned.turn(number, "watch", outcome, "m v1"), "ended_at": at} | more


def test_the_state_of_the_loop_is_that_of_its_newest_records(tmp_path):
    turned.keep_turns(
        tmp_path,
        [
            ended(1, "error", 5 * DAY),
            ended(2, "promoted", 2 * DAY),
            ended(3, "error", 0.7 * DAY),
            ended(4, "refused", DAY / 2),
            ended(5, "error", DAY / 3, attempt="failed"),
            ended(6, "error", DAY / 4),
        ],
    )
    found = turn_records.state(Project(tmp_path), now=NOW)
    assert found == State("error", NOW - DAY / 4, failures=2, retrains=2)


def test_a_loop_that_never_turned_has_a_state_and_so_has_one_with_spoilt_records(tmp_path):
    assert turn_records.state(Project(tmp_path), now=NOW) == State()
    turned.keep_turns(tmp_path, [ended(k, "nothing", DAY) | {"ended_at": k} for k in (1, 2)])
    killed = ended(3, "error", DAY)
    del killed["ended_at"], killed["began_at"]
    turned.keep_turns(tmp_path, [killed])
    (tmp_path / "var/loop/turns/000004.json").write_text("{")
    assert turn_records.state(Project(tmp_path), now=NOW) == State("error", None, 1, 0)


def test_of_many_turns_a_scrape_reads_few(tmp_path, monkeypatch):
    turned.keep_turns(tmp_path, [ended(k, "nothing", (60 - k) * DAY) for k in range(1, 60)])
    read, one = [], turn_records.read_json
    monkeypatch.setattr(turn_records, "read_json", lambda path: read.append(path) or one(path))
    turn_records.state(Project(tmp_path), now=NOW)
    assert len(read) <= 2


def test_prometheus_is_told_the_state_of_the_loop():
    metrics = Metrics()
    metrics.tell_loop(State("rolled back", NOW, 0, 3))
    metrics.tell_loop(State("error", NOW, 2, 1))
    page = metrics.page().decode()
    told = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[:14] == "loopbook_loop_")
    outcomes = {f'loopbook_loop_outcome{{outcome="{o}"}}': o for o in turn_records.EXIT_CODES}
    assert {name: float(value) for name, value in told.items()} == {
        **{name: float(outcome == "error") for name, outcome in outcomes.items()},
        "loopbook_loop_ended_timestamp_seconds": NOW.timestamp(),
        **{"loopbook_loop_failures": 2, "loopbook_loop_retrains": 1},
    }
    metrics.tell_loop(State())
    assert "loopbook_loop_outcome{" not in metrics.page().decode()


# -- loopbook status -----------------------------------------------------------


def told_of(*attempts: tuple[float, str], age_days: float = 100, shadow: bool = False) -> str:
    """The loop's lines of the status, after retrainings that were tried some hours ago."""
    turns = [
        {"as_of": (NOW - timedelta(hours=hours)).isoformat(), "attempt": outcome}
        for hours, outcome in attempts
    ]
    tags = {"promoted_as_of": (NOW - age_days * DAY).isoformat()}
    champion, before = Version("m", "2", "r", tags), Version("m", "1", "r", {})
    knobs = read_knobs(ROOT / "env.yaml")
    quiet = [{"as_of": NOW.isoformat()}]
    found = status.of_loop(champion, before if shadow else None, [*turns, *quiet], knobs, NOW)
    return "\n".join(status.loop_lines(found))


@pytest.mark.parametrize(
    ("attempts", "age_days", "reason", "free"),
    [
        ([(0.5, "failed")], 100, "the last 1 retrainings failed", NOW + timedelta(minutes=30)),
        ([(2, "failed"), (1.5, "failed")], 100, "the last 2 retrain", NOW + timedelta(hours=22)),
        ([(48, "refused")], 100, "the gate refused a challenger", NOW + 4 * DAY),
        ([], 10, "m v2 serves since", NOW + 4 * DAY),
        ([(5, "promoted"), (3, "promoted")], 100, "2 are allowed", NOW + timedelta(hours=19)),
        ([(48, "refused")], 13, "the gate refused a challenger", NOW + 4 * DAY),
    ],
)
def test_the_status_says_what_the_loop_waits_for_and_until_when(attempts, age_days, reason, free):
    told = told_of(*attempts, age_days=age_days)
    assert reason in told
    assert f"retrains    not before {free:%Y-%m-%d %H:%M} UTC" in told


def test_a_loop_that_waits_for_nothing_says_so():
    told = told_of((400, "refused"), (300, "promoted"))
    assert "waits" not in told
    assert "retrains    as soon as the verdict is retrain" in told
    assert status.of_loop(None, None, [], read_knobs(ROOT / "env.yaml"), NOW) is None
    assert status.loop_lines(None) == []


def test_the_status_names_who_is_compared_on_probation_and_until_when():
    told = told_of(age_days=20, shadow=True)
    until = NOW + 8 * DAY
    assert f"m v2 is compared with m v1 until {until:%Y-%m-%d %H:%M} UTC" in told
    assert "probation" not in told_of(age_days=20)


def test_what_the_status_says_is_what_the_guards_do():
    """One minute before the moment that is told it waits, and at that moment it retrains."""
    limits = Limits(most_a_day=2, refused_days=6, backoff_minutes=60)
    for hours, outcome in ((0.5, "failed"), (48, "refused"), (3, "promoted")):
        tried = [Attempt(NOW - timedelta(hours=hours + k), outcome) for k in (1, 0)]
        free = max(until for until, _ in guards.waits(tried, limits, NOW))
        words = {"asked": None, "attempts": tried, "limits": limits}
        assert guards.may_retrain("retrain", **words, as_of=free).granted, outcome
        soon = free - timedelta(minutes=1)
        assert not guards.may_retrain("retrain", **words, as_of=soon).granted, outcome
