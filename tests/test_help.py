"""What `--help` and `make help` say: whole lines, plain, with what to type next."""

import re
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.loop.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]


def every_command(command, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and every group, the program itself first."""
    deeper = getattr(command, "commands", {}).items()
    return [words, *(w for name, sub in deeper for w in every_command(sub, (*words, name)))]


COMMANDS = every_command(typer.main.get_command(main.app))


def help_of(*words: str) -> str:
    shown = CliRunner().invoke(main.app, [*words, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    return shown.output


def cut_short(text: str) -> list[str]:
    """The lines of the list of commands that were cut."""
    return re.findall(r"^  .*\.\.\.$", text, re.MULTILINE)


@pytest.mark.medium
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_cuts_no_line_short_and_says_what_to_type_next(words):
    text = help_of(*words)
    assert not cut_short(text)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"(loopbook [a-z]+|make [a-z]+|same command)", text.split("exit.\n")[1])
    assert "--no-" not in text


def test_a_line_that_is_too_long_for_the_list_would_be_seen():
    app = typer.Typer(rich_markup_mode=None)
    app.command("one")(lambda: None)
    app.command("two", help="Print a sentence that is longer than a list of commands holds." * 2)(
        lambda: None
    )
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    assert len(cut_short(text)) == 1


def test_the_help_of_replay_names_every_scenario():
    text = " ".join(help_of("replay").split())
    named = re.search(r"Disturb the rows: (.*?)\. ", text)[1]
    assert set(re.split(r", | or ", named.replace("- ", "-"))) == set(SCENARIOS)


def test_make_help_has_every_target_on_a_line_of_80_columns():
    done = subprocess.run(["make", "help"], cwd=ROOT, text=True, capture_output=True, check=True)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^  make ([a-z]+) +\w.*$", done.stdout, re.MULTILINE)
    assert shown == targets
    assert max(map(len, done.stdout.splitlines())) <= 80
