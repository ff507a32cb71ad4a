"""Done at and as of: whoever served or decided is told by both clocks, and neither as the other."""

import dataclasses
import io
import json
import re
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from small_classes import NUMBER, as_yaml, table
from small_house import ROOT

from loopbook.cli import history, printed, status
from loopbook.pages import windows
from loopbook.project import terminal
from loopbook.project.clock import both_clocks
from loopbook.project.errors import RegistryError
from loopbook.project.files import write_json
from loopbook.project.paths import Project
from loopbook.records import turns
from loopbook.registry import reader, reigns
from loopbook.registry.reader import Version
from loopbook.registry.reigns import Reign

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LEDGER = [  # a replay: on one evening of 2026, half a year of 2015
    Reign("1", "2026-11-25T20:00:00+00:00", "2015-01-05T00:00:00+00:00", "gate", "ann", "first"),
    Reign("2", "2026-11-25T20:09:00+00:00", "2015-03-02T00:00:00+00:00", "gate", "ann", "better"),
    Reign("1", "2026-11-26T09:00:00+00:00", "2015-03-20T00:00:00+00:00", "by hand", "bob", "safer"),
]
BOTH = "as of 2015-03-02 00:00 UTC, done at 2026-11-25 20:09 UTC"


def turn(number: int, day: str, outcome: str, champion: str) -> dict:
    done = f"2026-11-25T20:0{number}:00+00:00"
    about = {"turn": number, "as_of": f"{day}T00:00:00+00:00", "ended_at": done}
    return about | {"outcome": outcome, "reason": "why", "champion": champion, "verdict": "healthy"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three turns, of which the second promoted v2; v1 was put back by hand later."""
    here = Project(tmp_path)
    here.contract.write_text(as_yaml(table(NUMBER)), encoding="utf-8")
    shutil.copy(ROOT / "env.yaml", here.knobs)
    name = table(NUMBER).name
    days = ("2015-02-02", "nothing", 1), ("2015-03-02", "promoted", 2), ("2015-03-09", "nothing", 2)
    for number, (day, outcome, version) in enumerate(days, 1):
        turns.keep(here, turn(number, day, outcome, f"{name} v{version}"))
    tags = {f"{reigns.ENTRY}{n:06d}": _as_tag(reign) for n, reign in enumerate(LEDGER, 1)}
    shelf = SimpleNamespace(model_tags=lambda _: tags)
    monkeypatch.setattr(reader, "connect", lambda _: shelf)
    return here


def _as_tag(reign: Reign) -> str:
    return json.dumps(asdict(reign))


def test_one_moment_by_both_clocks_is_told_once():
    """A table without an event time has no other clock."""
    at = "2026-11-25T20:09:41+00:00"
    assert both_clocks(at, at) == both_clocks(None, at) == "done at 2026-11-25 20:09 UTC"


@pytest.mark.parametrize(
    ("moment", "of_the_data", "on_the_wall"),
    [
        (datetime(2015, 3, 5, tzinfo=UTC), "house v2", "nobody"),
        (datetime(2014, 1, 1, tzinfo=UTC), "nobody", "nobody"),
        (datetime(2026, 11, 25, 20, 5, tzinfo=UTC), "house v1", "house v1"),
        (datetime(2026, 11, 26, 8, tzinfo=UTC), "house v1", "house v2"),
    ],
)
def test_who_served_then_is_told_by_either_clock(moment, of_the_data, on_the_wall):
    text = history.served_then(LEDGER, "house", moment)
    (data,) = [line for line in text if "clock of the data" in line]
    (wall,) = [line for line in text if "clock on the wall" in line]
    assert data.split(": ")[1].startswith(of_the_data)
    assert wall.split(": ")[1].startswith(on_the_wall)


def test_a_stretch_has_its_turns_and_the_promotions_that_no_turn_made(project):
    told = history.record(project, datetime(2015, 3, 1, tzinfo=UTC), None)
    assert [turn["turn"] for turn in told["turns"]] == [2, 3]
    (by_hand,) = told["promotions"]  # v2 is told by its turn, and not by the ledger again
    assert (by_hand["version"], by_hand["by"], by_hand["reason"]) == ("1", "bob", "safer")
    text = "\n".join(history.lines(told))
    assert text.index("2015-03-09") < text.index("by hand") < text.index("safer")
    assert re.search(r"2 +2015-03-02 00:00 .*\n +2026-11-25 20:02 ", text)


@pytest.mark.parametrize("columns", ["80", "160"])
def test_history_and_champions_fit_the_terminal_and_a_reason_stays_in_its_column(
    project, monkeypatch, columns
):
    monkeypatch.setenv("COLUMNS", columns)
    long = "the error of the newest answers has grown beyond the margin since promotion, twice"
    turns.keep(project, turn(4, "2015-03-30", "promoted", "small-regression v2") | {"reason": long})
    reign = dataclasses.replace(LEDGER[1], reason=long)
    told = history.lines(history.record(project, None, None))
    for text in (told, history.champions([reign], "house")):
        assert max(map(len, text)) <= int(columns)
        head = next(line for line in text if line.endswith("reason"))
        begins = head.index("reason")
        (first,) = [place for place, line in enumerate(text) if "the error of" in line]
        words = " ".join(line[begins:] for line in text[first : first + 4])
        assert " ".join(words.split()).startswith(long)


def test_in_a_pipe_a_row_is_one_line_so_that_grep_finds_it_whole(monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", io.StringIO())
    cells = [("33ead2c14aa3", "v1, " * 60 + "the build in var/build")]
    *_, row = printed.table(("snapshot", "used by"), cells)
    assert row.endswith("v1, the build in var/build")
    assert "33ead2c14aa3" in row


def test_status_keeps_its_columns_on_a_terminal_and_breaks_no_line_elsewhere(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stale = {"split": ["a knob has changed"] * 4, "train-ridge": ["split would run before it"]}
    assert len(status._stale_lines(stale)) == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    first, second, *_, last = status._stale_lines(stale)
    assert max(map(len, (first, second, last))) <= 80
    assert first.startswith("stale       split        a knob has changed; a knob")
    assert second.startswith(" " * 25)
    assert second[25] != " "
    assert last == "            train-ridge  split would run before it"


def test_tasks_with_one_reason_are_told_it_once():
    """Of a grid of seven candidates the same four lines stood seven times."""
    stale = {"train-a": ["x has changed"], "train-b": ["x has changed"], "last": ["y"]}
    assert [line.split(None, 1)[1] for line in status._stale_lines(stale)[1:]] == [
        "as train-a",
        "y",
    ]


def test_a_long_line_of_a_report_breaks_between_words_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    line = "  decided  " + "word " * 30
    printed.report({}, lambda: [line], as_json=False)
    assert capsys.readouterr().out == f"{line}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    printed.report({}, lambda: [line, "short"], as_json=False)
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert max(len(first), len(second)) <= 60
    assert second.startswith(" " * len("  decided  ") + "word")
    assert last == "short"
    assert len(terminal.fitted("word " * 30, io.StringIO())) == 1  # an error that goes to a file
    digest = "  model.onnx (SHA-256)  " + 64 * "f"
    assert terminal.fitted(digest) == [digest]


def test_a_champion_that_serves_again_after_a_rollback_is_told_as_such_with_the_reason():
    """Made so at one moment of both clocks, which is told once and in good English."""
    tags = {"promoted_at": LEDGER[2].at, "promoted_as_of": LEDGER[2].at}
    tags |= {"promoted_kind": "rollback", "promoted_by": "the loop", "promoted_reason": "worse"}
    told = status.of_champion(Version("house", "1", "r", tags), NOW)
    champion, rollback, _ = status.champion_lines(told)
    assert champion.endswith("serves again since 2026-11-26 09:00 UTC, less than a day ago")
    assert rollback == "rollback    by the loop: worse"


def test_status_ends_with_what_a_verdict_asks_for():
    """A broken input is looked at on the pages; what is stale is built first."""
    windows = [None, {"verdict": "healthy"}, {"verdict": "investigate"}]
    told = [status.following({}, window) for window in windows]
    assert told == ["make lab, make mlflow"] * 2 + ["make reports"]
    assert status.following({"split": ["why"]}, windows[2]) == "make build"


def test_who_promoted_by_hand_and_why_is_in_the_status():
    tags = {"promoted_at": LEDGER[2].at, "promoted_as_of": LEDGER[2].as_of}
    tags |= {"promoted_kind": "by hand", "promoted_by": "bob", "promoted_reason": "safer"}
    text = status.champion_lines(status.of_champion(Version("house", "1", "r", tags), NOW))
    assert "by hand     by bob: safer" in text
    text = "\n".join(history.champions(LEDGER, "house"))
    assert text.startswith("house v1 serves.")
    assert re.search(r"by hand +safer\n.* by bob", text)


def test_the_end_of_a_stretch_is_no_part_of_it_and_an_empty_one_says_so(project):
    end = datetime(2015, 3, 2, tzinfo=UTC)
    assert [turn["turn"] for turn in history.record(project, None, end)["turns"]] == [1]
    (line,) = history.lines(history.record(project, datetime(2016, 1, 1, tzinfo=UTC), None))
    assert line.startswith("Nothing happened as of 2016-01-01 00:00 UTC or later.")


def test_a_loop_that_has_not_turned_says_so_beside_the_ledger(project):
    for path in (project.var / "loop" / "turns").glob("*.json"):
        path.unlink()
    told = history.record(project, None, None)
    assert [entry["version"] for entry in told["promotions"]] == ["1", "2", "1"]
    assert history.lines(told)[-1] == "The loop has not turned yet. Next: make loop"


def test_turns_are_told_where_the_registry_is_away(project, monkeypatch):
    def away(_):
        raise RegistryError("registry x: is away")

    monkeypatch.setattr(reader, "connect", lambda _: SimpleNamespace(model_tags=away))
    told = history.record(project, None, None)
    assert len(told["turns"]) == 3
    assert history.lines(told)[-1] == "Promotions by hand cannot be told: registry x: is away"


def test_status_and_overview_say_both_moments_of_one_promotion(tmp_path):
    tags = {"promoted_at": LEDGER[1].at, "promoted_as_of": LEDGER[1].as_of}
    version = Version("house", "2", "run", tags)
    assert BOTH in "\n".join(status.champion_lines(status.of_champion(version, NOW)))
    (event,) = windows.happenings([], [tags | {"number": "2", "promoted_reason": "better"}])
    assert event == ("2015-03-02 00:00", "2026-11-25 20:09", "v2 promoted", "better")


def test_the_last_gate_and_the_last_turn_say_both_moments(project):
    record = {"as_of": LEDGER[1].as_of, "decided_at": LEDGER[1].at, "sentence": "Promoted: better"}
    write_json(project.var / "build" / "decision.json", record)
    text = status.last_lines(status.last(project))
    gate, last = [s for s in text if s.startswith(("last gate", "last turn"))]
    assert BOTH in gate
    assert "as of 2015-03-09 00:00 UTC, done at 2026-11-25 20:03 UTC" in last
