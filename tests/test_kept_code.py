"""What made a version is kept with its run: its code, its knobs, its environment."""

import json
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from remade import git, write
from small_house import ROOT

from loopbook.project.contract import read_contract
from loopbook.project.errors import RegistryError
from loopbook.project.paths import Project
from loopbook.registry import code_state, environments, kept_code, reader, tracking

pytestmark = pytest.mark.medium

FILES = {
    "contract.yaml": "name: rents\n",
    "pipeline.yaml": "tasks: []\n",
    "notebooks/05_train.ipynb": "{}\n",
    "notes.txt": "old\n",
}


@pytest.fixture
def rents(tmp_path) -> Path:
    """A project in a folder of a repository, committed."""
    folder = write(tmp_path / "team's [x]" / "rents", FILES)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return folder


def test_a_commit_and_its_patch_give_the_files_as_they_were(rents):
    (rents / "notes.txt").unlink()
    write(rents, {"notebooks/05_train.ipynb": '{"a": 1}\n', "new *.py": "x = 1\n"})
    (rents / "picture.bin").write_bytes(bytes(range(256)))
    before = git(rents, "status", "--porcelain")
    state = code_state.of(Project(rents))
    assert (state.folder, state.is_dirty) == ("team's [x]/rents", True)
    assert git(rents, "status", "--porcelain") == before, "git's index is not touched"
    git(rents, "stash", "-qu")
    subprocess.run(["git", "apply"], cwd=rents.parents[1], input=state.patch, check=True)
    assert (rents / "notebooks/05_train.ipynb").read_text() == '{"a": 1}\n'
    assert (rents / "new *.py").read_text() == "x = 1\n"
    assert (rents / "picture.bin").read_bytes() == bytes(range(256))
    assert not (rents / "notes.txt").exists()


def test_a_tree_without_changes_is_a_commit_alone_and_another_folder_does_not_count(rents):
    write(rents.parent, {"other/model.py": "x = 1\n"})
    state = code_state.of(Project(rents))
    assert (state.commit, state.patch, state.changed) == (
        git(rents, "rev-parse", "HEAD").strip(),
        b"",
        (),
    )


def test_what_a_build_makes_is_no_code_where_the_repository_ignores_nothing(rents):
    before = code_state.of(Project(rents)).sha256
    write(rents, {"var/build/split.ipynb": "{}", "__pycache__/candidates.pyc": "x"})
    assert code_state.of(Project(rents)).sha256 == before


SECRET = "http://ada:" + "hunter2@host/x"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (".env", "KEY=1", "secret"),
        ("id_rsa", "PRIVATE", "secret"),
        ("keys/own.pem", "PRIVATE", "secret"),
        ("rows.csv", "a,b\n1,2\n", "rows"),
        ("large.txt", "x" * (2**20 + 1), "more than 1"),
        ("settings.py", f"URL = '{SECRET}'\n", "password"),
    ],
)
def test_secrets_rows_and_what_is_large_are_named_and_not_kept(rents, name, content, why):
    write(rents, {name: content, "kept.py": "y = 2\n"})
    state = code_state.of(Project(rents))
    assert why in state.left_out[f"team's [x]/rents/{name}"]
    assert b"kept.py" in state.patch
    assert content.encode() not in state.patch


def test_a_password_from_the_environment_is_none():
    said = b"url: postgresql://ada:${PW}@host/db"
    assert code_state.without_passwords(said) == said
    assert code_state.without_passwords(SECRET.encode()) == b"http://ada:***@host/x"


@pytest.mark.parametrize("holder", ["nobody", "a repository that ignores it"])
def test_a_project_that_git_does_not_hold_is_its_files(tmp_path, holder):
    folder = write(tmp_path / "var" / "rents", FILES | {"rows.csv": "a\n1\n", "var/x.txt": "x"})
    if holder != "nobody":
        write(tmp_path, {".gitignore": "var/\n"})
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "one")
    state = code_state.of(Project(folder))
    assert (state.commit, state.patch) == ("none", b"")
    own = {path for path in state.files if not path.startswith("src/loopbook/")}
    assert own == set(FILES)
    # this loopbook is a checkout: without its files nobody could build so again
    assert state.library.place == "elsewhere"
    assert (
        state.files["src/loopbook/__init__.py"] == (ROOT / "src/loopbook/__init__.py").read_bytes()
    )


@pytest.mark.parametrize("path", ["notebooks/05_train.ipynb", "candidates.py"])
def test_the_digest_of_the_code_changes_with_it(rents, path):
    before = code_state.of(Project(rents)).sha256
    assert code_state.of(Project(rents)).sha256 == before
    write(rents, {path: "changed = 1\n"})
    assert code_state.of(Project(rents)).sha256 != before


NOTEBOOK = {"metadata": {"papermill": {"parameters": {"random_seed": 8, "upstream": None}}}}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A project and a version of it, whose run holds what made it."""
    folder = tmp_path_factory.mktemp("kept") / "rents"
    own = {name: (ROOT / name).read_text() for name in ("contract.yaml", "env.yaml")}
    write(folder, FILES | own)
    made = {"nb": str(folder / "n.ipynb"), "snapshot": str(folder / "s.json")}
    write(folder, {"n.ipynb": json.dumps(NOTEBOOK), "s.json": '{"sha256": "00"}'})
    project = Project(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
            patch.setenv(name, project.environment()[name])
        client = tracking.connect(project)
        run = client.create_run(tracking.experiment_id(client, "rents")).info.run_id
        client.set_tag(run, "code_sha256", "another")
        table = read_contract(project.contract)
        digest = kept_code.keep(client, run, project, table, {"ingest": made})
        client.create_registered_model("rents")
        client.create_model_version("rents", f"runs:/{run}", run, {kept_code.TAG: digest})
    registry = reader.connect(project.environment()["MLFLOW_TRACKING_URI"])
    return project, registry, registry.versions("rents")[0]


def test_what_made_a_version_is_read_back_without_the_project(version):
    project, registry, held = version
    environment = environments.present(project)
    origin = kept_code.of_version(registry, held)
    (project.root / "contract.yaml").unlink()
    assert origin.content("contract.yaml") == (ROOT / "contract.yaml").read_bytes()
    assert origin.json(kept_code.KNOBS) == {"random_seed": 8}, "as it ran, not as env.yaml says"
    assert origin.json(kept_code.SNAPSHOT) == {"sha256": "00"}
    names = zipfile.ZipFile(BytesIO(origin.content(kept_code.ZIP))).namelist()
    assert {"notebooks/05_train.ipynb", "src/loopbook/__init__.py"} <= set(names)
    assert environments.differences(origin.environment, environment) == []
    assert origin.manifest["changed_during_build"] is True
    assert "requirements.lock" not in origin
    with pytest.raises(RegistryError, match=r"origin/requirements.lock was not kept"):
        origin.content("requirements.lock")


def test_a_promotion_that_is_repeated_leaves_what_was_kept(version, monkeypatch):
    project, registry, held = version
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        monkeypatch.setenv(name, project.environment()[name])
    before = kept_code.of_version(registry, held).content("env.yaml")
    (project.root / "env.yaml").write_text("random_seed: 9\n")
    again = {"nb": str(project.root / "n.ipynb"), "snapshot": str(project.root / "s.json")}
    table = read_contract(ROOT / "contract.yaml")
    digest = kept_code.keep(
        tracking.connect(project), held.run_id, project, table, {"ingest": again}
    )
    assert digest == held.tags[kept_code.TAG]
    assert kept_code.of_version(registry, held).content("env.yaml") == before


class Altered:
    """A registry one of whose files has another byte."""

    def __init__(self, registry, name: str):
        self.registry, self.name = registry, name

    def content(self, version, file: str, *where) -> bytes:
        content = self.registry.content(version, file, *where)
        return content.replace(b'"', b"'", 1) if file == self.name else content


@pytest.mark.parametrize("name", [kept_code.MANIFEST, kept_code.KNOBS])
def test_a_kept_file_that_was_changed_is_refused(version, name):
    _, registry, held = version
    with pytest.raises(RegistryError, match=rf"origin/{name} has SHA-256 .* It was changed"):
        kept_code.of_version(Altered(registry, name), held).content(kept_code.KNOBS)


def test_a_version_of_a_loopbook_that_kept_nothing_has_no_origin(version):
    _, registry, held = version
    earlier = reader.Version(held.name, held.number, held.run_id, {}, held.artifacts)
    assert kept_code.of_version(registry, earlier) is None


def test_environments_differ_by_packages_python_and_processor(tmp_path):
    now = environments.Environment("3.11.7", "Linux", "x86_64, A, avx2", "0", {"numpy": "2.1"})
    then = environments.Environment("3.12.1", "Linux", "x86_64, B, avx2", "1", {"scipy": "1.0"})
    found = [(d.what, d.then, d.now) for d in environments.differences(then, now)]
    assert found == [
        ("lock", "numpy absent", "numpy 2.1"),
        ("lock", "scipy 1.0", "scipy absent"),
        ("python", "3.12.1", "3.11.7"),
        ("processor", "x86_64, B, avx2", "x86_64, A, avx2"),
    ]
    (tmp_path / "cpuinfo").write_text("model name\t: Z 80\nflags\t\t: fpu avx2 avx sse4_2 vme\n")
    assert environments.processor(tmp_path / "cpuinfo").endswith(", Z 80, sse4_2 avx avx2")
