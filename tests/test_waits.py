"""A wait says what is done, what is left and how long it may take, on stderr and never on stdout."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from loopbook.pipeline import progress as progress_lines
from loopbook.pipeline.progress import Progress
from loopbook.project import waits


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(is_terminal: bool = False) -> tuple[waits.Wait, Clock, io.StringIO]:
    said, clock = io.StringIO(), Clock()
    console = Console(file=said, force_terminal=is_terminal, width=80)
    return waits.Wait("backup", console, clock), clock, said


def test_what_is_done_and_left_is_said_and_how_long_it_takes_at_that_pace():
    wait, clock, _ = told()
    wait.at("copying files")
    assert wait.sentence == "backup: copying files"
    wait.expect(1000, "files", done=200)
    clock.now += 10
    wait.advance(200)
    assert wait.sentence == "backup: copying files, 400 of 1,000 files, about 30 s left"
    wait.advance(600)
    assert wait.sentence == "backup: copying files, 1,000 of 1,000 files"


def test_where_there_is_no_terminal_lines_are_rare_and_plain():
    wait, clock, said = told()
    wait.expect(100, "[red]files")
    for _ in range(100):
        clock.now += 1
        wait.advance(1)
    lines = said.getvalue().splitlines()
    assert lines[0] == "  backup: 2 of 100 [red]files, about 98 s left".replace("98 s", "2 min")
    assert 5 < len(lines) < 30
    assert all(line.isprintable() for line in lines)


def test_what_is_over_within_two_seconds_says_nothing():
    wait, clock, said = told()
    wait.expect(3, "files")
    clock.now += 1.9
    wait.advance(3)
    assert said.getvalue() == ""


def test_work_that_nobody_waits_for_says_nothing_and_a_wait_leaves_stdout_alone(capsys):
    waits.at("working")
    waits.expect(3, "rows")
    with waits.waiting("score"):
        waits.at("working")
        waits.advance()
        print("the result")
    assert capsys.readouterr() == ("the result\n", "")


def test_a_build_elsewhere_is_followed_by_its_log(tmp_path):
    log = tmp_path / "build.txt"
    log.write_text("  9/9 of an earlier build  done\n")
    since = log.stat().st_size
    wait, _, _ = told()
    token = waits._current.set(wait)
    try:
        waits.follow(log, since)
        assert wait.total is None
        with log.open("a") as lines:
            lines.write(
                "  1/13 ingest    done    2.0 s\n  \u2026  split\n  2/13 validate done 1 s\n"
            )
        waits.follow(log, since)
    finally:
        waits._current.reset(token)
    assert (wait.done, wait.total, wait.unit) == (2, 13, "tasks")


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_a_duration_has_one_unit(seconds, text):
    assert waits.spoken(seconds) == text


def test_a_build_says_how_long_its_other_tasks_took_when_they_last_ran(capsys):
    with Progress(["one", "two", "three"], {"one": 1, "two": 40, "three": 20}, 2) as progress:
        progress.started("one")
        progress.finished("one")
        progress.started("two")
        progress.failed("two")
    said = capsys.readouterr()
    assert said.out == ""
    assert "1/3 one" in said.err
    assert "about 40 s left" in said.err
    assert "about 20 s left" in said.err


def on_screen(text: str) -> list[str]:
    """The lines that a terminal shows after a text with Rich's movements of its cursor."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[AK]|\x1b\[[\d;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return lines


def test_the_line_of_a_task_stays_while_the_bars_below_it_move(capsys, monkeypatch):
    """Two threads print and a third draws: none may write over the line of another."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(progress_lines, "REFRESHED_S", 0.0005, raising=False)
    names = [f"task-{number}" for number in range(100)]

    def run(name: str) -> None:
        progress.started(name)
        progress.cell(name, 1, 2)
        progress.finished(name)

    with Progress(names, workers=2) as progress, ThreadPoolExecutor(2) as pool:
        list(pool.map(run, names))
    shown = [
        words[1] for line in on_screen(capsys.readouterr().err) if len(words := line.split()) > 2
    ]
    assert sorted(shown) == sorted(names)


def test_a_build_whose_tasks_never_ran_promises_nothing(capsys):
    with Progress(["one", "two"], {"one": 1}, 2) as progress:
        progress.started("one")
        progress.finished("one")
    assert "left" not in capsys.readouterr().err
