"""A release: everything of a version in one folder, installed from there and signed."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from containers import ASK, USER, Containers, given_to
from small_house import ROOT, environment

from loopbook.project.errors import SignatureError, TemplateError
from loopbook.project.git import git
from loopbook.project.paths import Project
from loopbook.provenance import signatures

TODAY = date(2026, 11, 26)
DATED = f"## Unreleased\n\n## {{version}} ({TODAY})\n\n- A line.\n"


@pytest.fixture(scope="module")
def releases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clone_with_a_key(releases: ModuleType, folder: Path) -> Path:
    """A clone of this checkout as it stands, whose version is dated and whose key is beside it."""
    clone = folder / "clone"
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    for path in git(ROOT, "diff", "HEAD", "--name-only", "--diff-filter=d").decode().split():
        shutil.copy(ROOT / path, clone / path)
    (clone / "CHANGELOG.md").write_text(DATED.format(version=releases.version_of(clone)))
    now = datetime(2026, 11, 26, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPBOOK_SIGNING_KEY", str(folder / "signing.pem"))
        signatures.create(Project(clone), "house-prices", now=now, by="a test")
    return clone


def commit(clone: Path) -> None:
    git(clone, "add", "--all")
    git(clone, "-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qm", "release")


@pytest.fixture(scope="module")
def released(releases, tmp_path_factory) -> tuple[Path, Path]:
    """A clone of this commit with a key of its own, and the folder of its release."""
    folder = tmp_path_factory.mktemp("released")
    commit(clone := clone_with_a_key(releases, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPBOOK_SIGNING_KEY", str(folder / "signing.pem"))
        lines = releases.release(clone, folder / "dist", with_images=False, today=TODAY)
    assert [line.split(":")[1] for line in lines[1:]] == [" dossier", " images"]
    return clone, folder / "dist" / releases.version_of(clone)


@pytest.mark.slow
def test_a_release_has_wheel_sources_and_lock_and_its_digests_are_those_of_sha256sum(released):
    _, folder = released
    version = folder.name
    assert {path.name for path in folder.iterdir()} == {
        f"loopbook-{version}-py3-none-any.whl",
        f"loopbook-{version}.tar.gz",
        *("requirements.lock", "SHA256SUMS", "SHA256SUMS.dsse.json"),
    }
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder)
    assert done.returncode == 0


@pytest.mark.slow
def test_a_release_that_was_changed_or_signed_by_a_stranger_is_told(releases, released, tmp_path):
    clone, folder = released
    (known,) = signatures.trusted(Project(clone).signers)
    assert releases.check(clone, folder) == known
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "requirements.lock").write_text("loopbook\n")
    with pytest.raises(TemplateError, match="is not what the files beside it come to"):
        releases.check(clone, changed)
    (changed / "SHA256SUMS").write_text(releases.sums(changed))
    with pytest.raises(TemplateError, match="is a signature of another list"):
        releases.check(clone, changed)
    strangers = yaml.safe_load((clone / "signers.yaml").read_text())
    assert strangers
    (tmp_path / "signers.yaml").write_text("{}\n")
    with pytest.raises(SignatureError):
        releases.check(tmp_path, folder)


@pytest.mark.slow
def test_the_released_wheel_is_installed_into_an_empty_environment_and_makes_a_project(
    released, tmp_path
):
    """Its dependencies too, by its own metadata, at the versions of the released lock."""
    _, folder = released
    (wheel,) = folder.glob("*.whl")
    place = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    uv = Path(sys.executable).with_name("uv")
    words = [uv, "pip", "install", "--quiet", "--python", place / "bin" / "python", wheel]
    subprocess.run([*words, "--constraint", folder / "requirements.lock"], check=True)
    alone = environment(tmp_path) | {"PYTHONPATH": ""}
    own = [place / "bin" / "loopbook", "new", "mine", "--example", "penguins"]
    done = subprocess.run(own, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [place / "bin" / "loopbook", "check"],
        cwd=tmp_path / "mine",
        env=alone,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert "are in order" in checked.stdout


@pytest.fixture(scope="module")
def shipped(releases, containers, tmp_path_factory) -> Iterator[Path]:
    """What `make release IMAGES=1` writes in a clone in which a champion was built."""
    folder = tmp_path_factory.mktemp("shipped")
    clone = clone_with_a_key(releases, folder)
    graph = clone / "pipeline.yaml"
    graph.write_text(re.sub(r"names: \[.*\]", "names: [baseline, ridge]", graph.read_text()))
    commit(clone)
    containers.make_base()
    here = Path(sys.prefix)
    as_made = [f"VENV={here}", f"--assume-old={here / '.ready'}"]  # of this checkout's lock
    key = str(folder / "signing.pem")
    variables = environment(clone, **containers.variables(), LOOPBOOK_SIGNING_KEY=key)
    for words in (["build"], ["release", "IMAGES=1"]):
        done = subprocess.run(
            ["make", *as_made, *words], cwd=clone, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "Not in it" not in done.stdout
    yield clone / "dist" / releases.version_of(clone)
    shutil.rmtree(clone)  # gigabytes, which pytest would keep


@pytest.mark.slow
@pytest.mark.nightly
def test_a_release_with_images_has_a_champions_dossier_and_is_whole(releases, shipped):
    version = shipped.name
    assert {path.name for path in shipped.iterdir()} == {
        *(f"loopbook-{version}-py3-none-any.whl", f"loopbook-{version}.tar.gz"),
        *("requirements.lock", "SHA256SUMS", "SHA256SUMS.dsse.json"),
        *(f"loopbook-dossier-{version}.zip", f"loopbook-service-{version}.tar.gz"),
        f"loopbook-workbench-{version}.tar.gz",
    }
    words = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(words, cwd=shipped).returncode == 0
    clone = shipped.parents[1]
    (known,) = signatures.trusted(Project(clone).signers)
    assert releases.check(clone, shipped) == known
    with zipfile.ZipFile(shipped / f"loopbook-dossier-{version}.zip") as dossier:
        record = json.loads(dossier.read("record.json"))
        assert "statement.dsse.json" in dossier.namelist()
    assert record["version"]["number"] == "1"


@pytest.mark.slow
@pytest.mark.nightly
def test_the_images_of_a_release_are_loaded_elsewhere_and_run(shipped, tmp_path):
    version = shipped.name
    other = Containers(Path(tempfile.mkdtemp()))  # podman takes no long path
    try:
        for target in ("service", "workbench"):  # as docs/deployment.md says
            archive = shipped / f"loopbook-{target}-{version}.tar.gz"
            with subprocess.Popen(["gunzip", "-c", archive], stdout=subprocess.PIPE) as image:
                other.podman("load", stdin=image.stdout)
        service, workbench = (f"localhost/loopbook-{t}:{version}" for t in ("service", "workbench"))
        ask = "from importlib.metadata import version; print(version('loopbook'))"
        told = other.run(workbench, "python", "-c", ask, options=("--network", "none"))
        assert told.stdout.strip() == version, told
        var = shutil.copytree(shipped.parents[1] / "var", tmp_path / "var", symlinks=True)
        given_to(USER, var)
        options = ("--volume", f"{var}:/project/var", "--read-only", "--network", "none")
        with other.running(service, options=options) as running:
            running.wait_for("python", "-c", ASK, "/health/ready")
    finally:
        other.close()
        shutil.rmtree(other.storage)  # gigabytes, which pytest would keep


def test_a_changelog_gets_the_day_of_its_release_once(releases):
    waiting = "# Changes\n\n## Unreleased\n\n- A line.\n\n## 0.1.0 (2026-01-01)\n\n- Old.\n"
    text = releases.dated(waiting, "0.2.0", TODAY)
    assert text == waiting.replace("leased\n", f"leased\n\n## 0.2.0 ({TODAY})\n", 1)
    assert releases.dated(text, "0.2.0", TODAY) is None


@pytest.mark.parametrize(
    ("changelog", "found"),
    [
        ("## Unreleased\n\n## 0.2.0\n\n- Old.\n", "the heading '## 0.2.0' without a day"),
        ("## Unreleased\n\n## 0.1.0 (2026-01-01)\n\n- Old.\n", "nothing to release"),
    ],
)
def test_a_release_without_a_section_of_its_own_is_refused(releases, changelog, found):
    with pytest.raises(TemplateError, match=found):
        releases.dated(changelog, "0.2.0", TODAY)
