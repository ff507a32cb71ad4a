"""A version is built again from what was kept, and held against itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from made_once import copied, made_once
from remade import built, committed, environment, git, register, rows, write
from typer.testing import CliRunner

from loopbook.cli import main
from loopbook.data import dataset_versions
from loopbook.project.errors import BuildFailed, ProvenanceError
from loopbook.project.paths import Project
from loopbook.provenance import compared, laid_out, reasons, rebuilt, recipes, reproduction
from loopbook.provenance.compared import DIFFERENT, EQUAL, IDENTICAL
from loopbook.provenance.reproduction import IMPOSSIBLE, How
from loopbook.registry import environments, reader

pytestmark = pytest.mark.medium


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """A repository whose project has a version, to copy."""

    def make(top: Path) -> None:
        folder = committed(top)
        with pytest.MonkeyPatch.context() as patch:
            environment(Project(folder), patch)
            register(folder)

    return made_once(tmp_path_factory, "a version with all that made it", make)


@pytest.fixture
def project(kept, tmp_path, monkeypatch) -> Project:
    """A copy of it: v1, from a commit with a line that no commit has."""
    top, place = tmp_path / "top", Path("team") / "penguins"
    shutil.copytree(kept, top, ignore=shutil.ignore_patterns("team"))
    own = Project(copied(kept / place, top / place))
    environment(own, monkeypatch)
    return own


def reproduced(project: Project, **how) -> reproduction.Reproduction:
    return reproduction.reproduce(project, "1", How(**how), lambda _: None)


def laid(project: Project, folder: Path) -> tuple[Path, recipes.Recipe, list[reasons.Reason]]:
    recipe = recipes.of_version(project, "v1")
    registry = reader.connect(project.environment()["MLFLOW_TRACKING_URI"])
    folder.mkdir()
    doubts = laid_out.lay_out(recipe, project, registry, folder)
    return laid_out.root_in(folder, recipe), recipe, doubts


def test_the_folder_has_the_code_knobs_and_rows_of_then_whatever_became_of_them(project, tmp_path):
    head = git(project.root, "rev-parse", "HEAD")
    write(project.root, {"notebooks/05_train.ipynb": "{}", "contract.yaml": "name: another\n"})
    git(project.root, "commit", "-qam", "two")
    git(project.root, "checkout", "-q", head.strip(), "--", "contract.yaml")
    root, recipe, doubts = laid(project, tmp_path / "again")
    assert doubts == list(recipe.doubts) == []
    assert (root / "notebooks/05_train.ipynb").read_text() == '{"edited": 1}\n'
    assert yaml.safe_load((root / "env.yaml").read_text())["random_seed"] == 8
    tasks = yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]
    assert tasks[0]["source"] == laid_out.RESTORE
    assert (root / laid_out.RESTORE).exists()
    record = json.loads((root / "var/reproduction/snapshot.json").read_text())
    assert pl.read_parquet(record["path"])["number"].to_list() == [1, 2]
    assert Path(record["path"]).is_relative_to(root)


def test_a_project_that_is_a_repository_of_its_own_is_laid_out_from_its_commit(
    tmp_path, monkeypatch
):
    """As `loopbook new` makes it; its folder in the repository has no name."""
    folder = committed(tmp_path / "own", place=".")
    environment(Project(folder), monkeypatch)
    root, recipe, doubts = laid(register(folder), tmp_path / "again")
    assert doubts == list(recipe.doubts) == list(recipe.obstacles) == []
    assert (root / "notebooks/05_train.ipynb").read_text() == '{"edited": 1}\n'
    assert (root / "contract.yaml").read_bytes() == (folder / "contract.yaml").read_bytes()


def test_a_project_that_no_repository_holds_is_built_from_its_files(tmp_path, monkeypatch):
    folder = committed(tmp_path / "top")
    shutil.rmtree(tmp_path / "top" / ".git")
    environment(Project(folder), monkeypatch)
    project = register(folder)
    (folder / "notebooks/05_train.ipynb").unlink()
    root, recipe, _ = laid(project, tmp_path / "again")
    assert recipe.commit == "none"
    assert (root / "notebooks/05_train.ipynb").read_text() == '{"edited": 1}\n'


def test_only_its_candidate_and_the_baseline_are_trained_where_that_is_asked(project, tmp_path):
    root, recipe, _ = laid(project, tmp_path / "again")
    laid_out.only(root, recipe.candidate)
    tasks = yaml.safe_load((root / "pipeline.yaml").read_text())["tasks"]
    (grid,) = [task["grid"] for task in tasks if "grid" in task]
    assert grid["candidate"]["names"] == ["baseline", "ridge"]


def obstacle(project: Project) -> tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilt, "build", lambda *_: pytest.fail("it was built"))
        done = reproduced(project)
    assert (done.outcome, done.parts) == (IMPOSSIBLE, ())
    return done.reasons[0].kind, done.reasons[0].sentence


def test_a_commit_that_is_not_here_is_named_with_how_to_get_it(project):
    commit = git(project.root, "rev-parse", "HEAD").strip()
    shutil.rmtree(project.root.parents[1] / ".git")
    git(project.root.parents[1], "init", "-q")
    kind, told = obstacle(project)
    assert kind == reasons.CODE
    assert f"expected commit {commit[:12]}. Type: git fetch origin {commit}" in told


def test_a_shallow_clone_is_told_to_fetch_the_rest(project, tmp_path):
    git(project.root, "commit", "-qam", "two")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{project.root.parents[1]}", str(clone))
    shutil.copytree(project.var, clone / "team/penguins/var")
    kind, told = obstacle(Project(clone / "team" / "penguins"))
    assert (kind, "Type: git fetch --unshallow" in told) == (reasons.CODE, True)


def test_a_snapshot_that_was_pruned_or_changed_is_named_with_how_to_get_it(project, monkeypatch):
    (path,) = project.snapshots.glob("*.parquet")
    path.chmod(0o644)
    path.write_bytes(b"other rows")
    kind, told = obstacle(project)
    assert kind == reasons.DATA
    assert f"then: loopbook snapshots restore {path.stem[:12]}" in told
    path.unlink()
    kind, told = obstacle(project)
    assert kind == reasons.DATA
    assert f"Copy {path.name} from the machine that built it" in told


def test_a_snapshot_that_is_not_here_is_fetched_by_its_pointer(project, monkeypatch):
    """The pointer is what DVC needs; it comes with the version's tags."""
    (path,) = project.snapshots.glob("*.parquet")
    content, pointers = path.read_bytes(), []
    path.unlink()

    def restore(folder: Path, sha256: str, pointer: str) -> None:
        pointers.append(pointer)
        (folder / f"{sha256}.parquet").write_bytes(content)

    monkeypatch.setattr(dataset_versions, "restore", restore)
    tags = {"snapshot_sha256": path.stem, "snapshot_pointer": "outs: []"}
    version, obstacles = reader.Version("penguins", "1", "r", tags), []
    found = recipes._snapshot(project, version, {"snapshot_rows": "2"}, obstacles)
    assert (found.path, found.rows, obstacles, pointers) == (str(path), 2, [], ["outs: []"])


def test_a_remote_that_is_away_is_named(project, monkeypatch):
    """The version was made under DVC, and what DVC says is told."""
    recipe = recipes.of_version(project, "1")
    for path in project.snapshots.glob("*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    monkeypatch.setattr(dataset_versions, "is_installed", lambda: False)
    version = reader.Version(
        *(recipe.version.name, "1", recipe.version.run_id),
        {**recipe.version.tags, "snapshot_pointer": "outs: []"},
    )
    obstacles: list[reasons.Reason] = []
    assert recipes._snapshot(project, version, {}, obstacles) is None
    assert "DVC is not installed" in obstacles[0].sentence


def test_a_changed_file_of_its_origin_is_no_origin(project):
    (patch,) = project.mlflow.rglob("changes.patch")
    patch.write_text(patch.read_text().replace("edited", "forged"))
    kind, told = obstacle(project)
    assert kind == reasons.CODE
    assert "origin/changes.patch has SHA-256" in told


def test_an_unknown_version_is_told_with_those_that_there_are(project):
    with pytest.raises(ProvenanceError, match=r"penguins: it has no version '7'; there are v1\."):
        reproduction.reproduce(project, "7", How())


def test_a_folder_that_holds_something_is_left_alone(project, tmp_path):
    write(tmp_path / "mine", {"a.txt": "precious"})
    with pytest.raises(ProvenanceError, match="is not empty"):
        reproduced(project, into=tmp_path / "mine")
    assert (tmp_path / "mine" / "a.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("products", "outcome", "first"),
    [
        ({}, IDENTICAL, ""),
        ({"answer": 0.5 + 1e-8, "graph": "g"}, EQUAL, "answers: found answer 0.50000001 in row 0"),
        (
            {"answer": 0.51, "graph": "g"},
            DIFFERENT,
            "answers: found answer 0.51 in row 0, expected 0.5",
        ),
        ({"loss": 0.26}, DIFFERENT, "card: found validation.loss 0.26, expected 0.25"),
        ({"graph": "other"}, EQUAL, "graph: found SHA-256"),
    ],
)
def test_it_is_identical_equal_or_different_and_the_first_difference_is_told(
    project, monkeypatch, products, outcome, first
):
    registry = (project.mlflow / "mlflow.db").read_bytes()
    monkeypatch.setattr(rebuilt, "build", lambda root, *_: built(root, **products))
    done = reproduced(project)
    assert (done.outcome, done.first_difference[: len(first)]) == (outcome, first)
    assert (done.gate, done.seconds) == ("promoted, as then", (7, 8))
    assert (project.mlflow / "mlflow.db").read_bytes() == registry


def test_a_build_that_fails_is_a_reason_with_its_last_lines(project, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    done = reproduced(project)
    assert done.outcome == IMPOSSIBLE
    assert [reason.kind for reason in done.reasons] == [reasons.BUILD]


def test_a_process_that_builds_sees_nothing_that_leads_to_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("LOOPBOOK_PREDICTION_LOG", "postgresql://real")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://real")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    seen = rebuilt.environment(tmp_path / "src" / "loopbook")
    assert "real" not in " ".join(seen.values())
    assert seen["PYTHONPATH"] == f"{tmp_path / 'src'}{os.pathsep}/mine"


NOW = environments.Environment("3.11.7", "Linux", "x86_64, A", "0", {"numpy": "2.2", "a": "1"})


@pytest.mark.parametrize(
    ("then", "kind", "told"),
    [
        (
            {"packages": {"numpy": "2.1", "a": "1"}},
            reasons.LOCK,
            "found numpy 2.2, expected numpy 2.1",
        ),
        ({"python": "3.12.1"}, reasons.PYTHON, "found 3.11.7, expected 3.12.1. Use Python 3.12.1"),
        ({"processor": "arm64"}, reasons.PROCESSOR, "found x86_64, A, expected arm64"),
    ],
)
def test_what_differs_in_the_environment_is_a_typed_reason(then, kind, told):
    before = environments.Environment(**{**vars(NOW), **then})
    (reason,) = reasons.of_environment("rents v3", before, NOW)
    assert reason.kind == kind
    assert told in reason.sentence


def test_the_same_environment_is_no_reason():
    assert reasons.of_environment("rents v3", NOW, NOW) == []


def test_what_made_no_difference_is_no_reason_and_is_told_all_the_same(project, monkeypatch):
    monkeypatch.setattr(environments, "processor", lambda: "another")
    monkeypatch.setattr(rebuilt, "build", lambda root, *_: built(root))
    monkeypatch.chdir(project.root)
    done = reproduced(project)
    assert (done.outcome, done.reasons) == (IDENTICAL, ())
    assert [doubt.kind for doubt in done.doubts] == [reasons.PROCESSOR]
    told = CliRunner().invoke(main.app, ["reproduce", "1"]).output
    assert "\nalthough    processor: another" in told


def test_files_that_were_not_kept_are_named_where_the_result_differs(tmp_path, monkeypatch):
    folder = committed(tmp_path / "top")
    write(folder, {"large.py": "x = 1\n" * 200_000, "rows.csv": "a\n1\n"})
    environment(Project(folder), monkeypatch)
    project = register(folder)
    monkeypatch.setattr(rebuilt, "build", lambda root, *_: built(root, loss=0.3))
    (reason,) = reproduced(project).reasons
    assert reason.kind == reasons.DIRTY
    assert "no copy of team/penguins/large.py (it has 1.1 MB" in reason.sentence
    assert "rows.csv" not in reason.sentence


def test_a_version_of_an_earlier_loopbook_is_built_from_its_commit_and_marked(
    tmp_path, monkeypatch
):
    folder = committed(tmp_path / "top")
    environment(Project(folder), monkeypatch)
    project = register(folder, is_kept=False)
    root, recipe, _ = laid(project, tmp_path / "again")
    assert (root / "notebooks/05_train.ipynb").read_text() == "{}\n"
    assert yaml.safe_load((root / "env.yaml").read_text())["random_seed"] == 8
    told = " ".join(reason.sentence for reason in recipe.doubts)
    assert "an earlier loopbook built it" in told
    assert "changes that were not committed, and not kept" in told


@pytest.mark.parametrize(
    ("outcome", "code"), [(IDENTICAL, 0), (EQUAL, 3), (DIFFERENT, 4), (IMPOSSIBLE, 5)]
)
def test_the_exit_code_is_the_outcome(project, monkeypatch, outcome, code):
    done = reproduction.Reproduction(
        recipes.of_version(project, "1"), outcome, (), (), project.var / "x"
    )
    monkeypatch.setattr(reproduction, "reproduce", lambda *_: done)
    monkeypatch.chdir(project.root)
    for words in ([], ["--json"]):
        shown = CliRunner().invoke(main.app, ["reproduce", "1", *words])
        assert (shown.exit_code, outcome in shown.output) == (code, True), shown.output
    assert json.loads(shown.output)["outcome"] == outcome


def test_a_difference_without_a_reason_is_said_to_have_none(project, monkeypatch):
    monkeypatch.setattr(rebuilt, "build", lambda root, *_: built(root, loss=0.3))
    monkeypatch.chdir(project.root)
    shown = CliRunner().invoke(main.app, ["reproduce", "1"])
    assert (
        "reason      unknown: code, rows, packages and processor are as they were" in shown.output
    )
    assert "code        commit" in shown.output


def test_tables_differ_in_their_rows_before_their_answers():
    other = rows(0.6).with_columns(a=pl.Series([1.0, 2.0, 4.0]))
    part = compared.of_rows(other, rows())
    assert (part.outcome, part.found, part.expected) == (DIFFERENT, "a 4.0 in row 2", "3.0")
    assert compared.of_rows(rows()[:2], rows()).outcome == DIFFERENT
    shares = pl.DataFrame({"answer": [[0.5, 0.5], [0.1, 0.9]]})
    near = pl.DataFrame({"answer": [[0.5, 0.5], [0.1, 0.9 + 1e-9]]})
    assert compared.of_rows(near, shares).outcome == EQUAL


def test_an_environment_without_a_lock_or_its_python_is_not_made(tmp_path):
    with pytest.raises(ProvenanceError, match="no lock was kept"):
        rebuilt.made_environment(tmp_path, tmp_path, "3.11.7", tmp_path / "log")
    write(tmp_path, {"requirements.lock": "numpy==2.1\n"})
    with pytest.raises(ProvenanceError, match=r"no python3\.2 is here. Install Python 3\.2"):
        rebuilt.made_environment(tmp_path, tmp_path, "3.2.1", tmp_path / "log")


def test_a_command_that_ends_badly_is_told_with_what_it_said_last(tmp_path):
    python = write(tmp_path, {"python": "#!/bin/sh\necho no module\nexit 1\n"}) / "python"
    python.chmod(0o755)
    with pytest.raises(BuildFailed, match=r"(?s)did not end well.*no module"):
        rebuilt.build(tmp_path, python, None, tmp_path / "log")


def test_an_interrupted_build_ends_with_its_process(tmp_path):
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(words)
    rebuilt._end(process)
    assert process.poll() is not None
