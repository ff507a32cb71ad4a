"""No traceback for something a person did: every command over every case and every contract.

A command ends well, or in a sentence and exit code 1 or 2. What is typed runs in
this process, so that an exception that nobody expected is seen as one.
"""

import contextlib
import io
import sys
import traceback
from importlib import import_module
from pathlib import Path

import cases
import pytest
import yaml
from made_once import copied
from small_house import ROOT, loopbook
from typer.main import get_command

from loopbook.cli import main as cli
from loopbook.project.paths import Project

pytestmark = pytest.mark.slow

REASON = ["--reason", "a test"]
# each command as it would be typed; a turn of the loop would run four notebooks for each table
TYPED: dict[str, list[str]] = {
    "check": [],
    "plan": [],
    "plan ": ["nonsense"],
    "picture": ["graph.svg"],
    "status": [],
    "champion": [],
    "init ": ["nowhere.csv", "--yes"],
    "champion ": ["--at", "2024-13-45"],
    "history": [],
    "why": ["0" * 32],
    "why ": ["--version", "1"],
    "why  ": ["<b>", "--value", "nonsense"],
    "diff": ["champion", "newest"],
    "diff ": ["1", "99", "--base", "nowhere"],
    "reproduce": ["7"],
    "reproduce ": ["<b>", "--into", "notebooks", "--json"],
    "promote": ["1", *REASON],
    "rollback": REASON,
    "dossier": ["1", "--into", "papers"],
    "dossier ": ["nonsense", "--sign"],
    "dossier  ": ["1", "--into", "contract.yaml"],
    "score": ["flats.csv", "out.csv"],
    "score ": ["none.csv", "out.jsonl"],
    "score  ": ["flats.csv", "out.csv", "--prediction-set"],
    "keys create": ["somebody"],
    "keys list": [],
    "keys revoke": ["nobody"],
    "keys sign ": ["--rotate"],
    "keys sign": ["--create"],
    "keys sign  ": ["--create", "--rotate"],
    "log export": ["log.parquet"],
    "log prune": ["--older-than", "2015-02-29"],
    "features materialize": [],
    "features materialize ": ["--as-of", "0001-01-01"],
    "features show": ["04103"],
    "features show ": ["<b>", "--as-of", "9999-12-31"],
    "snapshots": [],
    "snapshots prune": [],
    "snapshots restore": ["none"],
    "quarantine": [],
    "quarantine list": [],
    "quarantine show": ["1"],
    "quarantine release": ["1", *REASON],
    "quarantine drop": ["1", *REASON],
    "new": ["notebooks"],
    "init": ["flats.csv", "--target", "price", "--yes"],
    "upgrade": [],
    "verify": [],
    "verify ": ["--accept", "var/none", *REASON],
    "verify  ": ["--accept", "var/none"],
    "verify   ": ["--quick", "--seal", "--json"],
    "replay": ["concept", "--start", "1999-01-01"],
    "backup": ["var/inside.tar.gz"],
    "backup ": ["kept.tar.gz"],
    "restore": ["flats.csv"],
    "restore ": ["none.tar.gz", "--check"],
    "export": ["nonsense"],
    "export ": ["dvc", "--to", "contract.yaml"],
    "task": ["nonsense"],
    "task ": ["ingest", "--signature", "<b>"],
    "tune": ["nonsense"],
    "tune ": ["ridge", "--scheduler", "nowhere"],
    "build": ["--set", "nonsense=1"],
    "monitor": ["--as-of", "soon"],
    "loop": ["--once", "--as-of", "soon"],
}


def every_command(command, words: tuple[str, ...] = ()) -> set[str]:
    if hasattr(command, "commands"):
        below = {w for n, c in command.commands.items() for w in every_command(c, (*words, n))}
        return below | ({" ".join(words)} if words and command.invoke_without_command else set())
    return {" ".join(words)}


def test_every_command_is_typed_here():
    assert {words.strip() for words in TYPED} == every_command(get_command(cli.app))


def typed(folder: Path, *words: str) -> tuple[int, str]:
    """Type a command in a project: its exit code, and what was printed, with any traceback."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in Project(folder).environment().items():
            patch.setenv(name, value)
        patch.setenv("LOOPBOOK_SIGNING_KEY", str(folder / "signing.pem"))
        patch.setattr(sys, "argv", ["loopbook", *words])
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                cli.main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc(file=said)
                code = -1
    return code, said.getvalue()


def bad_ends(folder: Path, commands: dict[str, list[str]]) -> dict[str, str]:
    """The commands that ended in a traceback, with its last lines."""
    ends = {}
    for command, arguments in commands.items():
        code, said = typed(folder, *command.split(), *arguments)
        if code not in range(6) or "Traceback" in said:
            ends[f"{command} {' '.join(arguments)}"] = said[-1500:]
    return ends


def told(ends: dict[str, str]) -> str:
    return "\n\n".join(f"loopbook {command}\n{said}" for command, said in ends.items())


@pytest.mark.parametrize("name", cases.TABLES)
def test_no_command_ends_in_a_traceback_whatever_the_table_is(name, tmp_path):
    """What `check` refuses, a build would refuse in the same words: the others are built, if small."""
    folder = cases.of_table(name, tmp_path / "flats")
    ends = bad_ends(folder, TYPED)
    assert not ends, told(ends)
    is_small = len((folder / "flats.csv").read_text().splitlines()) < 1000
    if is_small and typed(folder, "check")[0] == 0:
        done = loopbook(folder, "build")
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said[-3000:]
        assert done.returncode in (0, 1)


def test_no_file_to_score_ends_in_a_traceback(line, tmp_path):
    folder = copied(line, tmp_path / "house")
    cases.write_to_score(folder)
    scored = {f"score {name}": [f"out-{name}"] for name in cases.TO_SCORE}
    ends = bad_ends(folder, scored | {"score na.csv": ["out.csv", "--as-of", "2015-02-29"]})
    assert not ends, told(ends)


def contracts() -> dict[str, str]:
    """Every contract of a test module, of the examples and of the project."""
    files = [ROOT / "contract.yaml", *ROOT.glob("examples/*/contract.yaml")]
    found = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if "contract" not in path.read_text().lower() or path.stem == Path(__file__).stem:
            continue
        for name, value in vars(import_module(path.stem)).items():
            if isinstance(value, str) and "features:" in value and "target:" in value:
                found[f"{path.stem}.{name}"] = value
            if isinstance(value, dict) and {"features", "target", "name"} <= value.keys():
                found[f"{path.stem}.{name}"] = yaml.safe_dump(value, sort_keys=False)
    return found


def test_no_contract_of_the_tests_makes_a_command_end_in_a_traceback(tmp_path):
    """Its rows are not there; everything that reads the contract alone goes on."""
    read = ("check", "plan", "status", "score", "features materialize", "features show", "history")
    commands = {name: TYPED[name] for name in read}
    every = contracts()
    ends = {}
    for number, (name, text) in enumerate(every.items()):
        folder = cases.project(tmp_path / str(number), text)
        ends |= {f"{name}: {c}": said for c, said in bad_ends(folder, commands).items()}
    assert len(every) > 3
    assert not ends, told(ends)


def test_a_traceback_would_be_seen(tmp_path, monkeypatch):
    folder = cases.project(tmp_path / "flats", cases.CONTRACT)
    monkeypatch.setattr(cli.paths, "current", lambda: 1 / 0)
    assert "ZeroDivisionError" in bad_ends(folder, {"status": []})["status "]
    assert yaml.safe_load(cases.CONTRACT)["name"] == "flats"
    assert Path.cwd() != folder
