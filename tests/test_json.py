"""Each command that reports has --json, and its keys are those of docs/json.md."""

import contextlib
import io
import json
import re
import sys

import pytest
import typer
from made_once import copied
from out_of_date import inside
from small_house import ROOT

from loopbook.cli import main as cli
from loopbook.cli.printed import as_text, table

ALWAYS = "prints JSON always"
CHANGES = "changes or writes something, and says so in a line"
WITHOUT = {  # commands without --json, each with why
    "build": "its record is var/build/decision.json, and status --json has the outcome",
    "plan": ALWAYS,
    "keys create": "the key is alone on stdout",
    "features materialize": "fills a store, which features show --json reads",
    "dossier": "--into writes dossier.json",
    "restore": "says what it put back; verify --json reports on it",
    **dict.fromkeys(
        ("task", "export", "picture", "new", "init", "upgrade", "promote", "rollback"), CHANGES
    ),
    **dict.fromkeys(("keys revoke", "log export", "log prune"), CHANGES),
    **dict.fromkeys(("snapshots prune", "snapshots restore"), CHANGES),
    **dict.fromkeys(("quarantine release", "quarantine drop"), CHANGES),
}


def commands(command, words: tuple[str, ...] = ()) -> dict[str, bool]:
    """Each command, and whether it has --json."""
    deeper = getattr(command, "commands", {})
    found = {}
    if words and (not deeper or command.invoke_without_command):
        options = {option for parameter in command.params for option in parameter.opts}
        found[" ".join(words)] = "--json" in options
    for name, below in deeper.items():
        found |= commands(below, (*words, name))
    return found


def documented() -> dict[str, set[str]]:
    """The commands of the page with the keys that it names before the first remark."""
    told = {}
    for line in (ROOT / "docs/json.md").read_text().splitlines():
        if match := re.fullmatch(r"\| (`.+`) \| (.+) \|", line):
            plain = re.sub(r"\([^)]*\)", "", match[2]).partition(";")[0]
            for name in re.findall(r"`([^`]+)`", match[1]):
                told[name] = set(re.findall(r"`(\w+)`", plain))
    return told


def test_each_command_reports_as_json_or_says_why_it_does_not():
    found = commands(typer.main.get_command(cli.app))
    assert {name for name, has in found.items() if has} == found.keys() - WITHOUT.keys()
    assert WITHOUT.keys() <= found.keys()
    assert documented().keys() == found.keys() - WITHOUT.keys()


def test_a_number_that_is_none_is_null_and_a_table_shows_no_control_sign():
    assert json.loads(as_text({"a": float("nan"), "b": {"y", "x"}})) == {"a": None, "b": ["x", "y"]}
    assert "\x1b" not in "".join(table(("a", "b"), [("\x1b[31mred", "[bold]x[/bold]")]))
    assert "[bold]x[/bold]" in "".join(table(("a", "b"), [("1", "[bold]x[/bold]")]))


def reported(*words: str):
    """What a command prints as JSON; it must print nothing else on stdout."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["loopbook", *words, "--json"])
        with contextlib.suppress(SystemExit):
            cli.main()
    return json.loads(said.getvalue())


TYPED = {
    "status": (),
    "check": ("--without-table",),
    "history": (),
    "champion": (),
    "snapshots": (),
    "keys list": (),
    "keys sign": (),
    "features show": ("98115", "--as-of", "2015-03-01"),
    "quarantine show": ("r1",),
    "verify": ("--quick",),
}


@pytest.mark.slow
def test_what_is_reported_has_the_keys_of_the_page(everything, tmp_path):
    with inside(copied(everything, tmp_path / "house")):
        for name, more in TYPED.items():
            assert reported(*name.split(), *more).keys() == documented()[name], name
        assert reported("history")["turns"][0]["done_at"].startswith("2015-03-02")
        assert reported("champion")["reigns"][-1]["kind"] == "outside loopbook"
        assert reported("status")["champion"]["version"] == "1"
        assert [row["id"] for row in reported("quarantine")] == ["r1"]
        then = reported("champion", "--at", "2015-03-05")
        assert then.keys() == {"model", "serves", "at", "by_data", "by_wall"}
