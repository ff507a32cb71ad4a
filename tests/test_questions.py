"""`loopbook init` in a terminal: what is asked, what counts as an answer, and how it ends."""

import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from small_house import environment
from test_proposal import NOW, project

from loopbook.cli import projects
from loopbook.cli.init import Options
from loopbook.cli.questions import asked
from loopbook.project.errors import SourceError
from loopbook.proposal import opened, proposals
from loopbook.proposal.columns import read_table
from loopbook.proposal.wishes import Wishes

INTERRUPT = b"\x03"  # as a signal: no shell gives this terminal to the command


def rides(rows: int = 500) -> pl.DataFrame:
    draw = random.Random(2)
    return pl.DataFrame({
        "day": [date(2023, 1, 1) + timedelta(days=i // 2) for i in range(rows)],
        "wind": [draw.gauss(5, 1) for _ in range(rows)],
        "churn": [draw.choice(["yes", "no"]) for _ in range(rows)],
        "trips": [draw.randint(1, 90) for _ in range(rows)],
    })  # fmt: skip


def answered(folder: Path, *answers: object, **wishes) -> tuple[Wishes, list[str], list[object]]:
    """Wishes after a person's answers ("" takes what is proposed), the questions, what is left."""
    rides().write_parquet(folder / "t.parquet")
    table = read_table(opened.opened(str(folder / "t.parquet"), folder))
    questions, left = [], list(answers)

    def ask(question: str, *, default: object, **_: object) -> object:
        questions.append(question)
        return left.pop(0) or default

    said = asked(Wishes(**wishes), lambda some: proposals.proposed(table, some, now=NOW), ask)
    return said, questions, left


def test_what_is_asked_follows_from_the_answers_before_it(tmp_path):
    said, questions, _ = answered(tmp_path, "churn", "", 3, 1, 5)
    assert said == Wishes(target="churn", time=("day",), label_delay_days=3, costs=(1, 5))
    assert "to answer yes wrongly" in questions[3]
    said, questions, _ = answered(tmp_path, "trips", "none")
    assert (said.no_time, len(questions)) == (True, 2)


def test_what_a_person_named_is_not_asked(tmp_path):
    _, questions, _ = answered(tmp_path, target="trips", time=("day",), label_delay_days=1.0)
    assert questions == []


def test_an_answer_that_cannot_be_is_said_and_asked_again(tmp_path, capsys):
    said, questions, left = answered(tmp_path, "trip", "trips", "wind", "day", -1, 2)
    assert (said.target, said.time, said.label_delay_days, left) == ("trips", ("day",), 2, [])
    assert len(questions) == 6
    told = capsys.readouterr().out
    assert "did you mean 'trips'?" in told
    assert "is no time that can be read" in told
    assert "-1: expected a number from 0 on" in told


def typed(folder: Path, *keys: bytes) -> tuple[int, str]:
    """`loopbook init` in a terminal of its own; each key is pressed after another question.

    An interrupt is pressed again where nothing comes of it, as a person would: a signal that
    arrives between the question and the read of its answer does not end the read.
    """
    terminal, end = pty.openpty()
    words = [sys.executable, "-m", "loopbook", "init", "t.csv"]
    running = subprocess.Popen(
        words, cwd=folder, stdin=end, stdout=end, stderr=end, env=environment(folder),
        # a script in the background ignores the signal, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    os.close(end)
    shown, left, interrupted, until = "", list(keys), None, time.monotonic() + 120
    while time.monotonic() < until:
        if not select.select([terminal], [], [], 5)[0]:
            if shown == interrupted:
                running.send_signal(signal.SIGINT)
            continue
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other side is closed
            break
        if left and shown.rstrip().endswith("]:"):
            key = left.pop(0)
            shown += "\n"
            if key == INTERRUPT:
                running.send_signal(signal.SIGINT)
                interrupted = shown
            else:
                os.write(terminal, key)
    os.close(terminal)
    return running.wait(60), shown


@pytest.mark.medium
@pytest.mark.parametrize("key", [b"\x04", INTERRUPT], ids=["end of input", "interrupt"])
def test_a_person_who_leaves_a_question_finds_nothing_written(tmp_path, key):
    project(tmp_path)
    rides().write_csv(tmp_path / "t.csv")
    form = (tmp_path / "contract.yaml").read_bytes()
    code, shown = typed(tmp_path, b"churn\n", key)
    assert (code, "Nothing was written" in shown, "Traceback" in shown) == (1, True, False), shown
    assert (tmp_path / "contract.yaml").read_bytes() == form


@pytest.mark.medium
def test_answers_in_a_terminal_become_the_contract(tmp_path):
    project(tmp_path)
    rides().write_csv(tmp_path / "t.csv")
    code, shown = typed(tmp_path, b"churn\n", b"\n", b"2\n", b"1\n", b"4\n")
    assert code == 0, shown
    text = (tmp_path / "contract.yaml").read_text()
    assert "label_delay_days: 2" in text
    assert "costs: {false_positive: 1.0, false_negative: 4.0}" in text
    assert "GUESSED: targets are often" not in text


@pytest.mark.medium
def test_without_a_terminal_it_is_said_what_to_give(tmp_path):
    project(tmp_path)
    rides().write_csv(tmp_path / "t.csv")
    done = subprocess.run(
        [sys.executable, "-m", "loopbook", "init", "t.csv"],
        cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL, text=True, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, "--yes" in done.stderr) == (1, True)


def test_a_table_that_is_refused_leaves_no_project_behind(tmp_path):
    rides().write_csv(tmp_path / "t.csv")
    options = Options(target="tripps", yes=True)
    with pytest.raises(SourceError, match="did you mean 'trips'"):
        projects.from_table(tmp_path / "mine", str(tmp_path / "t.csv"), "", options)
    assert not (tmp_path / "mine").exists()


@pytest.mark.medium
def test_a_project_is_made_of_an_address(tmp_path, capsys):
    (tmp_path / "web").mkdir()
    rides().write_csv(tmp_path / "web/t.csv")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/t.csv"
        projects.from_table(tmp_path / "mine", address, "", Options(target="trips", yes=True))
        server.shutdown()
    assert f"url: {address}" in (tmp_path / "mine/contract.yaml").read_text()
    assert "&& make build" in capsys.readouterr().out
