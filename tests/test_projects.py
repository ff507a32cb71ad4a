"""A project of one's own: made whole or not at all, and upgraded without a loss."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import httpx
import polars as pl
import pytest
from conftest import wait_for
from made_once import new_project
from small_house import ROOT, answers, environment, give, loopbook, make_project
from typer.testing import CliRunner

from loopbook.cli.main import app
from loopbook.loop import confirmation
from loopbook.pipeline import digests
from loopbook.project import clock, new, template, upgrade, wheels
from loopbook.project.errors import TemplateError
from loopbook.project.git import git
from loopbook.project.paths import Project
from loopbook.project.template import FOLDER, SKELETON
from loopbook.records import roles, services
from loopbook.registry import owners

LATER = "99.0.0"


@pytest.fixture(scope="session")
def made(wheel, tmp_path_factory) -> Path:
    """A project with the example's contract, to copy."""
    folder = tmp_path_factory.mktemp("made") / "my houses"
    return new_project(folder, wheel, name="my-houses", example="houses")


@pytest.fixture
def project(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "my houses"))


def another(wheel: Path, folder: Path, version: str, **changes: bytes | None) -> Path:
    """A wheel of another version: files of its template changed, added, or (None) dropped."""
    target = folder / f"loopbook-{version}-py3-none-any.whl"
    changed = {path.replace("__", "/"): content for path, content in changes.items()}
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as other:
        for name in old.namelist():
            path = name.removeprefix(f"{FOLDER}/").removeprefix(f"{SKELETON}/")
            content = changed.pop(path, old.read(name))
            if content is not None:
                other.writestr(name, content)
        for path, content in changed.items():
            other.writestr(f"{FOLDER}/{path}", content)
    return target


def edit(project: Path, path: str, old: str, by: str) -> None:
    text = (project / path).read_text(encoding="utf-8")
    assert old in text
    (project / path).write_text(text.replace(old, by), encoding="utf-8")


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qm", "mine")


def state(project: Path) -> tuple[bytes, bytes]:
    """What git sees: the last commit, and what differs from it."""
    return git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain")


def newer(text: str, old: str, by: str) -> bytes:
    assert old in text
    return text.replace(old, by).encode()


# -- new ---------------------------------------------------------------------


@pytest.mark.medium
def test_the_wheel_holds_each_file_of_the_template_as_it_stands_here(wheel):
    """One source of truth: the bytes of the repository, none of them twice."""
    inside = wheels.members(wheel, FOLDER)
    for path, content in inside.items():
        source = path.replace("tests/", "tests/project/", 1) if path.startswith("tests/") else path
        assert content == (ROOT / source).read_bytes(), path
    committed = set(git(ROOT, "ls-files", "notebooks", "reports", "serving").decode().split())
    assert committed <= set(inside)


@pytest.mark.medium
def test_a_new_project_has_one_clean_commit_its_name_and_no_library_code(made):
    assert len(git(made, "log", "--oneline").splitlines()) == 1
    assert git(made, "status", "--porcelain") == b""
    assert (made / "contract.yaml").read_text().count("\nname: my-houses\n") == 1
    assert not (made / "src").exists()
    text = (made / "pyproject.toml").read_text()
    assert 'name = "my-houses"' in text
    series = ".".join(wheels.version_of(_wheel_of(made)).split(".")[:2])
    assert f'"loopbook[postgresql,redis]~={series}"' in text


def _wheel_of(project: Path) -> Path:
    (path,) = (project / "vendor").glob("*.whl")
    return path


@pytest.mark.medium
def test_the_lock_knows_the_hash_of_the_wheel_and_every_pin_has_one(made):
    lock = (made / "requirements.lock").read_text()
    assert f"loopbook=={wheels.version_of(_wheel_of(made))} \\\n" in lock
    assert f"--hash=sha256:{wheels.sha256(_wheel_of(made))}" in lock
    pins = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert lock.count("--hash=sha256:") >= len(pins) > 100


def test_blocks_of_this_repository_are_left_out_and_those_of_a_project_come_in():
    text = "a\n# >>> loopbook\nb\n# <<<\n# >>> project\n# c: 1\n#\n# <<<\nd\n"
    assert template.adapted(text) == "a\nc: 1\n\nd\n"


@pytest.mark.medium
def test_an_empty_project_begins_with_a_form_whose_blanks_are_named(tmp_path, wheel):
    folder = new_project(tmp_path / "flats", wheel, name="flats", example="empty")
    words = [sys.executable, "-m", "loopbook", "check"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert "contract.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.medium
@pytest.mark.parametrize(
    ("folder", "proposed"),
    [("Mes Données", "mes-donnees"), ("2_b", "2-b"), ("—", "model"), ("a/", None)],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(tmp_path, folder, proposed):
    done = CliRunner().invoke(app, ["new", str(tmp_path / folder)])
    if proposed is None:
        assert done.exit_code == 0, done.output
        return
    assert isinstance(done.exception, TemplateError)
    assert f"--name {proposed}" in str(done.exception)
    assert not (tmp_path / folder).exists()


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TemplateError, match="exists and is not empty"):
        new.make_project(tmp_path, name="a", example="empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_git_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TemplateError, match=r"git is not here. Install it"):
        new.make_project(tmp_path / "a", name="a", example="empty")
    assert not (tmp_path / "a").exists()


def test_on_a_full_disk_nothing_is_left_behind(tmp_path, wheel, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new, "write_files", full)
    with pytest.raises(TemplateError, match=r"No space left on device.*Free space"):
        new_project(tmp_path / "a", wheel, name="a", example="empty")
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_is_not_there_is_named_with_those_that_are(tmp_path, wheel):
    with pytest.raises(TemplateError, match="no example 'boats'; there are bikes, flights, houses"):
        new_project(tmp_path / "a", wheel, name="a", example="boats")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.medium
def test_the_wheel_packed_from_installed_files_has_the_content_of_the_first(wheel, tmp_path):
    """Where loopbook is installed and no checkout: what `loopbook new` takes from there."""
    target = tmp_path / "site"
    words = ["pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([Path(sys.executable).with_name("uv"), *words], check=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom loopbook.project import wheels\n"
        "assert wheels.__file__.startswith(sys.argv[1])\n"
        "print(wheels.put_own_wheel(Path(sys.argv[2])))"
    )
    words = [sys.executable, "-S", "-c", code, str(target), str(tmp_path / "again")]
    done = subprocess.run(words, capture_output=True, text=True)
    again = Path(done.stdout.strip())
    assert again.is_file(), done.stderr
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        names = {name for name in first.namelist() if not name.endswith("RECORD")}
        assert {n for n in second.namelist() if not n.endswith("RECORD")} == names
        assert all(first.read(name) == second.read(name) for name in names)


def test_without_a_lock_a_task_depends_on_the_versions_that_are_installed(tmp_path, monkeypatch):
    """An upgraded library is seen, and loopbook itself counts by its modules only."""

    def digest(**versions: str) -> str:
        installed = [SimpleNamespace(name=n, version=v) for n, v in versions.items()]
        monkeypatch.setattr(digests, "distributions", lambda: installed)
        digests.installed_digest.cache_clear()
        return digests.environment_digest(Project(tmp_path))

    try:
        before = digest(sklearn="1.9.0", loopbook="0.2.0")
        assert digest(loopbook="0.3.0", sklearn="1.9.0") == before
        assert digest(sklearn="1.9.1", loopbook="0.2.0") != before
        (tmp_path / "requirements.lock").write_text("sklearn==1.9.0")
        locked = digest(sklearn="1.9.0")
        assert locked != before
        assert digest(sklearn="1.9.1") == locked
    finally:
        digests.installed_digest.cache_clear()


# -- what is the user's own ---------------------------------------------------


def cell(source: str, *tags: str) -> dict:
    return {
        "cell_type": "code",
        "id": f"own-{len(source)}",
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


@pytest.mark.slow
def test_a_step_of_ones_own_between_two_of_ours_as_the_docs_show_it(project):
    """Every block of docs/projects.md, put where it says; the rows of `split` come through it."""
    page = (ROOT / "docs/projects.md").read_text().split("### A step between")[1].split("\n## ")[0]
    parameters, body = re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
    task = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    notebook = json.loads((project / "notebooks/04_split.ipynb").read_text())
    own = notebook | {"cells": [cell(parameters, "parameters"), cell(body)]}
    (project / "notebooks/03b_recent.ipynb").write_text(json.dumps(own))
    edit(project, "pipeline.yaml", "  - name: split\n", f"{task}\n  - name: split\n")
    path = "notebooks/04_split.ipynb"
    edit(project, path, 'upstream = [\\"build_features\\"]', 'upstream = [\\"recent\\"]')
    edit(project, path, 'upstream[\\"build_features\\"]', 'upstream[\\"recent\\"]')
    plan = json.loads(loopbook(project, "plan").stdout)
    names = [task["name"] for task in plan]
    assert names[2:5] == ["build_features", "recent", "split"]
    for task in plan[:5]:
        Path(task["products"]["nb"]).parent.mkdir(parents=True, exist_ok=True)
        (project / "parameters.json").write_text(json.dumps(task["parameters"]))
        words = ["papermill", task["notebook"], task["products"]["nb"], "-f", "parameters.json"]
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=project,
            env=environment(project),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    rows = pl.read_parquet(project / "var/build/split_rows.parquet")
    assert rows[clock.EVENT_TS].min().date() == date(2014, 6, 1)


# -- upgrade -----------------------------------------------------------------


@pytest.mark.medium
def test_a_newer_template_reaches_files_that_were_not_edited_and_joins_edits(
    project, wheel, tmp_path
):
    """Edits on both sides of one file, a file added, one dropped; the user's own stay."""
    knobs = (project / "env.yaml").read_text()
    last = knobs.rstrip().splitlines()[-1]
    edit(project, "env.yaml", "random_seed: 7", "random_seed: 8")
    (project / "candidates.py").write_text("def mine(): ...\n")
    edit(project, "contract.yaml", "name: my-houses", "name: my-houses # mine")
    commit(project)
    later = another(
        wheel,
        tmp_path,
        LATER,
        **{
            "env.yaml": newer((ROOT / "env.yaml").read_text(), last, f"{last}\nnew_knob: 1"),
            "notebooks__13_more.ipynb": b"{}\n",
            "Jenkinsfile": None,
        },
    )
    told = "\n".join(upgrade.upgrade(project, str(later), dry_run=False))
    knobs = (project / "env.yaml").read_text()
    assert "random_seed: 8" in knobs
    assert knobs.endswith("new_knob: 1\n")
    assert (project / "notebooks/13_more.ipynb").exists()
    assert not (project / "Jenkinsfile").exists()
    assert (project / "candidates.py").read_text() == "def mine(): ...\n"
    assert "name: my-houses # mine" in (project / "contract.yaml").read_text()
    assert [path.name for path in (project / "vendor").iterdir()] == [later.name]
    assert f"--hash=sha256:{wheels.sha256(later)}" in (project / "requirements.lock").read_text()
    assert template.facts_of(project)[1] == LATER
    assert "deleted   Jenkinsfile" in told
    assert "make build" in told
    commit(project)
    assert "already" in upgrade.upgrade(project, str(later), dry_run=False)[0]


@pytest.mark.medium
@pytest.mark.parametrize(
    "path", ["env.yaml", "Makefile", "notebooks/04_split.ipynb", "pipeline.yaml", ".gitignore"]
)
def test_edits_of_one_line_on_both_sides_are_a_conflict_marked_as_git_marks_it(
    project, wheel, tmp_path, path
):
    line = (project / path).read_text().splitlines()[1]
    edit(project, path, line, f"{line} mine")
    commit(project)
    theirs = newer((ROOT / path).read_text(), line, f"{line} theirs")
    later = another(wheel, tmp_path, LATER, **{path.replace("/", "__"): theirs})
    told = "\n".join(upgrade.upgrade(project, str(later), dry_run=False))
    text = (project / path).read_text()
    assert "<<<<<<<" in text
    assert f"{line} mine" in text
    assert f"{line} theirs" in text
    assert f"UU {path}" in git(project, "status", "--porcelain").decode().splitlines()
    assert "1 in conflict" in told
    assert told.count("CONFLICT") == 1
    assert f"CONFLICT (content): Merge conflict in {path}" in told
    assert "Yours alone: git checkout --ours FILE" in told


@pytest.mark.medium
def test_a_file_that_the_user_renamed_gets_the_newer_lines_under_its_new_name(
    project, wheel, tmp_path
):
    git(project, "mv", "reports/2_drift.ipynb", "reports/9_my_drift.ipynb")
    commit(project)
    text = (ROOT / "reports/2_drift.ipynb").read_text()
    later = another(wheel, tmp_path, LATER, **{"reports__2_drift.ipynb": text.encode() + b"\n"})
    upgrade.upgrade(project, str(later), dry_run=False)
    assert (project / "reports/9_my_drift.ipynb").read_text() == text + "\n"
    assert not (project / "reports/2_drift.ipynb").exists()


@pytest.mark.medium
def test_what_is_the_users_own_survives_an_upgrade(project, wheel, tmp_path):
    """An own page, an own route, an own candidate and an edited notebook, byte for byte."""
    shutil.copy(project / "reports/2_drift.ipynb", project / "reports/9_mine.ipynb")
    edit(project, "serving/routes.py", "def extend(app", "MINE = 1\n\n\ndef extend(app")
    edit(project, "candidates.py", '"""The project', '"""My project')
    edit(project, "notebooks/02_validate.ipynb", "Check every row", "Check each row")
    commit(project)
    own = ("reports/9_mine.ipynb", "serving/routes.py", "candidates.py", "contract.yaml")
    own += ("notebooks/02_validate.ipynb",)
    before = {path: (project / path).read_bytes() for path in own}
    later = another(wheel, tmp_path, LATER, **{"notebooks__13_more.ipynb": b"{}\n"})
    upgrade.upgrade(project, str(later), dry_run=False)
    assert {path: (project / path).read_bytes() for path in own} == before


@pytest.mark.medium
def test_a_file_that_the_user_reformatted_keeps_both_sides(project, wheel, tmp_path):
    """Every line is another one then: what is new stands beside it, marked."""
    lines = (project / "pipeline.yaml").read_text().splitlines()
    (project / "pipeline.yaml").write_text("\n".join(f"{line} " for line in lines) + "\n")
    commit(project)
    theirs = newer((ROOT / "pipeline.yaml").read_text(), "workers: 2", "workers: 3")
    later = another(wheel, tmp_path, LATER, **{"pipeline.yaml": theirs})
    upgrade.upgrade(project, str(later), dry_run=False)
    text = (project / "pipeline.yaml").read_text()
    assert "workers: 3" in text
    assert "workers: 2 \n" in text
    assert "<<<<<<<" in text


@pytest.mark.medium
def test_a_file_that_the_user_deleted_and_that_is_new_is_a_conflict_that_says_so(
    project, wheel, tmp_path
):
    git(project, "rm", "-q", "reports/2_drift.ipynb")
    commit(project)
    text = (ROOT / "reports/2_drift.ipynb").read_text()
    later = another(wheel, tmp_path, LATER, **{"reports__2_drift.ipynb": text.encode() + b"\n"})
    told = "\n".join(upgrade.upgrade(project, str(later), dry_run=False))
    assert "CONFLICT (modify/delete): reports/2_drift.ipynb" in told
    assert b"reports/2_drift.ipynb" in git(project, "diff", "--name-only", "--diff-filter=U")


@pytest.mark.medium
def test_a_file_that_the_user_deleted_stays_deleted_where_nothing_is_new_in_it(
    project, wheel, tmp_path
):
    git(project, "rm", "-q", "Jenkinsfile")
    commit(project)
    upgrade.upgrade(project, str(another(wheel, tmp_path, LATER)), dry_run=False)
    assert not (project / "Jenkinsfile").exists()


@pytest.mark.medium
def test_a_dry_run_says_what_would_change_and_changes_nothing(project, wheel, tmp_path):
    before = state(project)
    later = another(wheel, tmp_path, LATER, **{"notebooks__13_more.ipynb": b"{}\n"})
    told = "\n".join(upgrade.upgrade(project, str(later), dry_run=True))
    assert "added     notebooks/13_more.ipynb" in told
    assert "Nothing was written" in told
    assert state(project) == before


@pytest.mark.medium
def test_the_changelog_between_the_two_versions_is_shown(project, wheel, tmp_path):
    version = wheels.version_of(wheel)
    log = f"# Changelog\n\n## {LATER}\n\n- Bells.\n\n## {version}\n\n- Old.\n"
    later = another(wheel, tmp_path, LATER, **{"CHANGELOG.md": log.encode()})
    told = "\n".join(upgrade.upgrade(project, str(later), dry_run=True))
    assert "- Bells." in told
    assert "- Old." not in told
    assert told.index("- Bells.") < told.index("would change")  # which a long list hid


@pytest.mark.medium
def test_with_uncommitted_changes_nothing_is_merged(project, wheel, tmp_path):
    edit(project, "env.yaml", "random_seed: 7", "random_seed: 8")
    before = state(project)
    later = another(wheel, tmp_path, LATER)
    with pytest.raises(TemplateError, match=r"1 uncommitted files \(env.yaml\).*Commit or stash"):
        upgrade.upgrade(project, str(later), dry_run=False)
    assert state(project) == before


def test_an_older_version_is_refused(project, wheel, tmp_path):
    older = another(wheel, tmp_path, "0.0.1")
    with pytest.raises(TemplateError, match=r"0.0.1 is older than"):
        upgrade.upgrade(project, str(older), dry_run=False)


@pytest.mark.medium
def test_a_wheel_whose_hash_is_not_the_locks_is_refused(project, wheel, tmp_path):
    """Somebody changed the vendored wheel: what the project began with is not known."""
    changed = another(wheel, tmp_path, wheels.version_of(wheel), Makefile=b"evil:\n")
    shutil.copy(changed, project / "vendor")
    commit(project)
    with pytest.raises(TemplateError, match=r"its hash is not the one in requirements.lock"):
        upgrade.upgrade(project, str(another(wheel, tmp_path, LATER)), dry_run=False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loopbook-99.0.0-py3-none-any.whl", "found nothing"),
        ("other-1.0-py3-none-any.whl", "found another file"),
        ("loopbook-98.0.0-py3-none-any.whl", "cannot be read"),
    ],
)
def test_a_wheel_that_is_none_is_refused(project, tmp_path, name, reason):
    if "another" in reason or "read" in reason:
        (tmp_path / name).write_bytes(b"no zip")
    before = state(project)
    with pytest.raises(TemplateError, match=reason):
        upgrade.upgrade(project, str(tmp_path / name), dry_run=False)
    assert state(project) == before


def test_a_project_that_loopbook_did_not_make_is_told_so(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(TemplateError, match=r"no \[tool.loopbook\] with id and template"):
        upgrade.upgrade(tmp_path, "", dry_run=False)


# -- two projects on one machine -----------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[Path]:
    """Two projects of one name, each with a champion of its own in its own `var/`."""
    folder = tmp_path_factory.mktemp("two")
    made = []
    for seed, name in enumerate(("one", "other"), 1):
        house = make_project(folder / name, serve_watch_s="0.3")
        text = f'[project]\nname = "x"\n[tool.loopbook]\nid = "{name}"\ntemplate = "0.2.0"\n'
        (house / "pyproject.toml").write_text(text)
        give(house, seed, roles.CHAMPION, "ridge")
        made.append(house)
    return made


@contextlib.contextmanager
def serving(house: Path) -> Iterator[Project]:
    """The service of a project, started as a person does: with no port named."""
    words = [sys.executable, "-m", "serving", "--quiet"]
    process = subprocess.Popen(words, cwd=house, env=environment(house), stdout=subprocess.DEVNULL)
    here = Project(house)
    try:
        wait_for(lambda: services.address(here) is not None, "the service")
        wait_for(lambda: answers(f"{services.address(here)}/health/ready"), "the service")
        yield here
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_two_services_take_a_port_each_and_a_loop_asks_that_of_its_own_project(two):
    with serving(two[0]) as one, serving(two[1]) as other:
        addresses = [services.address(project) for project in (one, other)]
        assert len(set(addresses)) == 2
        runs = [httpx.get(f"{address}/metadata").json()["run_id"] for address in addresses]
        assert len(set(runs)) == 2
        for project in (one, other):
            sentence = confirmation.confirmed(project, confirmation.HERE, "1", 5)
            assert sentence.startswith("the service answers with v1")
        logs = [project.var / "predictions.db" for project in (one, other)]
        httpx.post(f"{addresses[0]}/predict", json={"size": 1800})
        assert [_rows(log) for log in logs] == [1, 0]
    assert services.address(one) is None
    sentence = confirmation.confirmed(one, confirmation.HERE, "1", 5)
    assert sentence.startswith("no service is reached: none of this project runs")


def _rows(log: Path) -> int:
    with contextlib.closing(sqlite3.connect(log)) as connection:
        return connection.execute("SELECT count(*) FROM predictions").fetchone()[0]


@pytest.mark.slow
def test_in_a_registry_that_two_projects_share_a_name_belongs_to_the_first(two):
    """The second is refused before anything runs; the first goes on."""
    address = Project(two[0]).environment()["MLFLOW_TRACKING_URI"]
    done = loopbook(two[1], "build", MLFLOW_TRACKING_URI=address)
    assert done.returncode == 1
    assert "the name 'house-prices' is another project's there, so nothing was run" in done.stderr
    assert not (two[1] / "var/build/ingest.ipynb").exists()
    owners.refuse_anothers(Project(two[0]), "house-prices")
