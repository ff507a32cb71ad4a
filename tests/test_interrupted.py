"""Ctrl-C ends every command with a line that says what it leaves and what to type, and code 130."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
from small_graph import project
from small_house import environment
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.project import waits
from loopbook.records import turns

LEFT = {  # what is typed, what is interrupted in it, what is said
    "tune ridge": ("models.tuning.rows_of_build", "no trial was kept, and candidates.py stays"),
    "backup b.tar": ("backups.archive.writing", "no file was written"),
    "restore b.tar": ("backups.archive.unpacked", "nothing was put back"),
    "restore --check b.tar": ("backups.archive.unpacked", "nothing was put back"),
    "verify": ("provenance.verification.verify", "Quicker: loopbook verify --quick"),
    "reproduce 1": ("provenance.reproduction.reproduce", "same command again: it begins anew"),
    "reproduce 1 --into d": ("provenance.reproduction.reproduce", "Delete d or name another"),
    "promote 1 --reason r": ("registry.champions.promote_by_hand", "who serves: loopbook champion"),
    "rollback --reason r": ("registry.champions.roll_back", "who serves: loopbook champion"),
    "upgrade": ("project.upgrade.facts_of", "nothing was changed"),
    "new other": ("project.new.put_own_wheel", "no project was made"),
    "init t.csv --yes": ("proposal.columns.read_table", "nothing was written"),
    "score a.csv b.csv": ("serving.scoring.score", "finished parts are kept"),
    "replay": ("loop.replay.run", "what is done stays"),
    "loop": ("loop.turn.turn", "between two turns. Start it again: loopbook loop"),
    "history": ("cli.history.record", "before it was done. Type the same command again."),
    "keys list": ("serving.api_keys.connect", "before it was done. Type the same command again."),
    "snapshots": ("cli.snapshot_uses.record", "before it was done. Type the same command again."),
}


def interrupted(*_given, **_named):
    raise KeyboardInterrupt


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of a project of two columns, in which commands are typed."""
    folder = project(tmp_path / "p", "tasks: []").root
    (folder / "tune.yaml").write_text("ridge:\n  ridge__alpha: [0.1, 1.0]\n")
    (folder / "b.tar").touch()
    (folder / "t.csv").write_text("size,weight\n1,2\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOOPBOOK_PROJECT", str(folder))
    return folder


def typed(*words: str) -> str:
    """What a command says that Ctrl-C ended."""
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 130, done.output
    return " ".join(done.stderr.split())


@pytest.mark.medium
@pytest.mark.parametrize("words", LEFT)
def test_a_command_says_what_ctrl_c_leaves(here, monkeypatch, words):
    place, sentence = LEFT[words]
    module, name = place.rsplit(".", 1)
    monkeypatch.setattr(import_module(f"loopbook.{module}"), name, interrupted)
    if words == "backup b.tar":
        (here / "b.tar").unlink()
    said = typed(*words.split())
    assert sentence in said
    assert said.count("Interrupted") == (0 if words == "loop" else 1)


def test_what_was_said_within_is_not_said_again_further_out(capsys):
    with (
        pytest.raises(waits.Interrupted),
        waits.leaving("all is as it was."),
        waits.leaving("a half is there."),
    ):
        interrupted()
    assert capsys.readouterr().err == "\nInterrupted: a half is there.\n"


def test_a_turn_that_is_interrupted_says_where_the_next_one_goes_on(here, monkeypatch):
    begun = {"turn": 4, "stage": "build", "as_of": "2026-11-27T00:00:00+00:00"}
    turns.note(main.paths.current(), begun)
    monkeypatch.setattr(import_module("loopbook.loop.turn"), "turn", interrupted)
    said = typed("loop", "--once")
    assert "Turn 4 stopped at build, and the next one goes on there: loopbook loop" in said


@pytest.mark.medium
def test_ctrl_c_in_a_terminal_is_told_below_the_wait_and_without_a_traceback(here):
    """`verify` in a terminal of its own, interrupted when its wait is there to be seen."""
    terminal, end = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "loopbook", "verify"],
        **{"stdin": end, "stdout": end, "stderr": end, "env": environment(here)},
        # a script in the background ignores the signal, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    os.close(end)
    shown, is_pressed = "", False
    with closing(os.fdopen(terminal, "rb", buffering=0)) as screen:
        while True:
            try:
                shown += screen.read(4096).decode(errors="replace")
            except OSError:  # the other side is closed
                break
            if "verify" in shown and not is_pressed:
                is_pressed = True
                running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130, shown
    assert "Traceback" not in shown
    assert shown.count("Interrupted") == 1
