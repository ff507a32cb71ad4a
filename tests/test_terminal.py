"""What a person sees who types a command: it fits the terminal, waits visibly, and is usage as the README has it."""

import ast
import json
import re
import subprocess
import sys

import pytest
from small_house import ROOT
from test_help import COMMANDS, help_of

from loopbook.cli import main as cli
from loopbook.cli import printed, why
from loopbook.pipeline.progress import window_lines
from loopbook.project.terminal import fitted, say
from loopbook.provenance.told import Section
from loopbook.registry.reader import Version, no_version

CLI = ROOT / "src/loopbook/cli"
NAMES = ("snapshot", "rows", "MB", "first event\nlast event", "used by")
ROW = ("6854bf3c1305", "21,611", "0.6", "2014-05-02\n2015-05-15", "v1, the build in var/build")


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns."""

    def of(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return of


def test_a_table_that_is_wider_than_the_terminal_cuts_no_cell_and_no_row(terminal):
    terminal(60)
    names, row = ("made (UTC)", *NAMES), ("2026-11-27 13:52", *ROW)
    lines = printed.table(names, [row, row], numbers=(2, 3))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 60
    assert all(text.count(part) == 2 for part in ("21,611", "2015-05-15", "v1, the build"))
    assert re.search(r"^first event +2014-05-02\nlast event +2015-05-15$", text, re.MULTILINE)


def test_a_text_breaks_in_its_column_and_below_its_label_where_that_is_too_narrow(terminal):
    terminal(60)
    told = f"{'split':<28}  notebooks/03_build_features.ipynb has changed; code has changed"
    lines = printed.labelled("stale", told, hanging=30)
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * printed.LABEL) for line in lines[1:])
    assert [part for line in lines for part in fitted(line)] == lines


def test_a_number_is_not_parted_from_its_sign(terminal):
    terminal(60)
    line = "verdict     " + "word " * 8 + "in 82.4 % of the rows and 0.2 % of the reference"
    for lines in (fitted(line), printed.labelled("verdict", line[12:])):
        assert len(lines) > 1
        assert not any(re.search(r"\d$", part) or part.lstrip().startswith("%") for part in lines)


def test_a_verdict_and_its_reasons_fit_the_terminal(terminal, capsys):
    """A reason had 168 columns on a terminal of 80."""
    reason = "late_3d is missing in 82.4 % of the rows; it was in 0.2 % of the reference; see there"
    record = {"current": ["2013-12-17", "2014-01-14"], "champion": None, "loss": "mae"}
    record |= {"numbers": {"rows": 1496}, "target": {"unit": "USD", "is_log": False}}
    record |= {"verdict": {"level": "investigate", "reasons": [reason, reason]}}
    terminal(80)
    say(*window_lines(record))
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert " ".join(told.split()).count(reason) == 2
    assert re.search(r"^ {12}- late_3d.*\n {14}\S", told, re.MULTILINE)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_usage_is_written_as_in_the_readme(words):
    usage = help_of(*words).partition("\n\n")[0]
    assert not re.search(r"[{}<>]|\[\[|\.\.\.\.", usage)
    assert not re.search(r"^  \S+.* <[a-z,]+>", help_of(*words), re.MULTILINE)


def test_the_readme_names_the_arguments_that_the_help_names():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in COMMANDS:
        usage = help_of(*words).partition("\n\n")[0].replace("[OPTIONS]", "").split()
        arguments = usage[2 + len(words) :]  # after "Usage:" and the program
        if arguments and "COMMAND" not in arguments:
            typed = f"`loopbook {' '.join((*words, *arguments))}"
            assert typed in readme or typed.replace("[", "").replace("]", "") in readme, typed


GUARD = """
import contextlib, io, json, sys
from loopbook.cli import main as cli
from loopbook.project import waits

HEAVY = {"mlflow", "sklearn", "ploomber", "onnxruntime", "pandas", "evidently", "scipy", "dask"}
class Stopped(BaseException): pass
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise Stopped(name if waits._current.get() is None else "")
sys.meta_path.insert(0, Guard())
silent = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["loopbook", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main()
        except Stopped as stopped:
            if str(stopped):
                silent[" ".join(words)] = str(stopped)
        except SystemExit:
            pass
print(json.dumps(silent))
"""
SLOW_TO_IMPORT = [
    ["build"], ["check"], ["monitor"], ["status"], ["champion"], ["history"], ["verify"],
    ["promote", "1", "--reason", "x"], ["rollback", "--reason", "x"],
    ["snapshots"], ["snapshots", "prune"], ["snapshots", "restore", "0"],
    ["tune", "ridge"], ["reproduce", "1"], ["diff", "1", "2"], ["why", "--version", "1"],
    ["dossier", "1"], ["features", "materialize"], ["replay", "concept"], ["loop", "--once"],
]  # fmt: skip


@pytest.mark.medium
def test_a_command_says_that_it_works_before_it_imports_for_seconds():
    done = subprocess.run(
        [sys.executable, "-c", GUARD, json.dumps(SLOW_TO_IMPORT)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {}


def test_what_a_command_prints_is_fitted_to_the_terminal():
    """Only `printed` writes to people; elsewhere `print` has what nothing may break."""
    printing = {
        path.name
        for path in sorted(CLI.glob("*.py"))
        if path.name != "printed.py"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print"
    }
    assert printing == {
        "differences.py",  # JSON and Markdown
        "export.py",  # JSON
        "init.py",  # lines of contract.yaml, to be copied
        "main.py",  # JSON
        "stores.py",  # a key
        "warm.py",  # names for the process that asked
    }


NO_VERSION = r"penguins: it has no version 'v9'; there are v11, v10, .* and 1 more\."


def test_a_version_that_there_is_not_is_told_in_one_form():
    """Three commands said it in three forms, and `reproduce v9` waited for *vv9*."""
    there = [Version("penguins", str(n), "run", {}) for n in range(1, 12)]
    assert re.search(NO_VERSION, no_version("penguins", "v9", there))
    assert no_version("penguins", "9", []).endswith("Build one: loopbook build")
    assert "nobody is its challenger" in no_version("p", "challenger", there, is_role=True)


@pytest.mark.parametrize("words", [["history", "--from"], ["champion", "--at"]])
def test_newest_is_no_instant_where_no_table_is_asked(words, capsys, monkeypatch):
    """`history --from newest` printed everything, as if nothing had been typed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["loopbook", *words, "newest"])
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert f"{words[1]} newest: expected a day such as 2014-10-01." in told


def test_a_label_and_its_text_keep_their_columns_and_named_columns_are_a_table(terminal):
    terminal(80)
    labels = Section("Which run?", "", ("", ""), [("commit", "a" * 40), ("run", "b")])
    assert why._table(labels) == [f"  commit  {'a' * 40}", "  run     b"]
    names = ("feature", "as used", "from", "which is", "same")
    row = ("level_30d", "354.70587", "earlier facts", "354.70588235294116", "yes")
    lines = why._table(Section("Which features?", "", names, [row] * 2))
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
