"""A release: wheel, sources, dossier and images of one version, with their digests, signed.

`make release` writes dist/VERSION. The version is that of pyproject.toml, and
CHANGELOG.md has to have its section with a day. Where it has only "Unreleased", that
section gets its heading, nothing is built, and what to commit is said.
"""

import argparse
import gzip
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

from loopbook.project.contract import read_contract
from loopbook.project.errors import LoopbookError, TemplateError
from loopbook.project.files import sha256_of, write_text
from loopbook.project.git import git
from loopbook.project.paths import Project
from loopbook.provenance import signatures

ROOT = Path(__file__).resolve().parents[1]
SUMS, SIGNED = "SHA256SUMS", "SHA256SUMS.dsse.json"
KIND = "text/plain; charset=utf-8"  # of what is signed: the file of digests as it is
OPEN = "## Unreleased\n"
TARGETS = ("service", "workbench")


def version_of(root: Path) -> str:
    """The version that pyproject.toml names."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]


def dated(changelog: str, version: str, today: date) -> str | None:
    """The changelog with a dated section of this version; None if it has one.

    Raises
    ------
    TemplateError
        If there is neither, or the section of the version has no day.
    """
    heading = re.search(rf"^## {re.escape(version)}(?: \((.*)\))?$", changelog, re.MULTILINE)
    if heading and heading[1]:
        return None
    waiting = changelog.partition(OPEN)[2].partition("\n## ")[0].strip()
    if heading or not waiting:
        found = f"the heading {heading[0]!r} without a day" if heading else "nothing to release"
        raise TemplateError(
            f"CHANGELOG.md: found {found}, expected '## {version} (YYYY-MM-DD)', or lines under "
            "'## Unreleased'. Set the next version in pyproject.toml, under [project]."
        )
    return changelog.replace(OPEN, f"{OPEN}\n## {version} ({today})\n", 1)


def build(root: Path, folder: Path, *, with_images: bool) -> list[str]:
    """Write everything of a release into an empty folder; what is missing from it, and why."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d"]
    _run([*words, str(folder)], root)
    shutil.copy(root / "requirements.lock", folder)
    left_out = []
    if (root / "var" / "mlflow").exists():
        _dossier(root, folder)
    else:
        left_out.append("dossier: no champion was built here. Build one first: make build")
    if with_images:
        _images(root, folder)
    else:
        left_out.append("images: not asked for. Build them with buildah: make release IMAGES=1")
    return left_out


def _dossier(root: Path, folder: Path) -> None:
    """One file, since the releases of code hosts hold no folders."""
    with tempfile.TemporaryDirectory() as files:
        words = ["loopbook", "dossier", "champion", "--into", files]
        _run([sys.executable, "-m", *words], root)
        shutil.make_archive(str(folder / f"loopbook-dossier-{version_of(root)}"), "zip", files)


def _images(root: Path, folder: Path) -> None:
    """An archive of each image for `gunzip -c … | docker load`; 2 GiB is all that some hosts take."""
    if shutil.which("buildah") is None:
        raise TemplateError("IMAGES=1: buildah is not here. Install it, or leave IMAGES out.")
    version = version_of(root)
    for target in TARGETS:
        name = f"loopbook-{target}:{version}"
        words = ["buildah", "bud", "--format", "docker", "--target", target, "--tag", name]
        _run([*words, "--file", "deploy/Dockerfile", "."], root)
        archive = folder / f"loopbook-{target}-{version}.tar"
        _run(["buildah", "push", name, f"docker-archive:{archive}:{name}"], root)
        compressed = archive.with_name(f"{archive.name}.gz")
        with archive.open("rb") as whole, gzip.open(compressed, "wb", compresslevel=1) as less:
            shutil.copyfileobj(whole, less, 1 << 20)
        archive.unlink()


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
        raise TemplateError(f"{' '.join(words[:5])} … failed:\n" + "\n".join(said))


def sums(folder: Path) -> str:
    """The digests of all files of a release, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in files if path.name not in (SUMS, SIGNED)]
    return "".join(f"{sha256_of(p)}  {p.relative_to(folder).as_posix()}\n" for p in kept)


def sign(root: Path, folder: Path) -> list[str]:
    """Write the digests, and sign them if the project trusts a key that is here."""
    digests = sums(folder)
    write_text(folder / SUMS, digests)
    project = Project(root)
    signer = signatures.signer_of(project, read_contract(project.contract).name)
    if signer is None:
        return [f"signature: no trusted key is here. Make one: {signatures.CREATE}"]
    (folder / SIGNED).write_bytes(signatures.sign(signer, digests.encode(), KIND))
    return []


def check(root: Path, folder: Path) -> str:
    """Hold a release against its digests, and these against their signature; who signed it.

    Raises
    ------
    LoopbookError
        If a file or the list was changed, or nobody signed whom the project trusts.
    """
    said = (folder / SUMS).read_text(encoding="utf-8")
    if said != sums(folder):
        raise TemplateError(f"{folder / SUMS}: is not what the files beside it come to.")
    keys = signatures.trusted(Project(root).signers)
    payload, key = signatures.opened((folder / SIGNED).read_bytes(), keys, KIND)
    if payload.decode() != said:
        raise TemplateError(f"{folder / SIGNED}: is a signature of another list of digests.")
    return key


def release(root: Path, into: Path, *, with_images: bool, today: date) -> list[str]:
    """Make a release, whole or not at all; what was done, for people."""
    version, changelog = version_of(root), root / "CHANGELOG.md"
    if text := dated(changelog.read_text(encoding="utf-8"), version, today):
        write_text(changelog, text)
        return [
            f"CHANGELOG.md has a section {version} ({today}) now; nothing was built. Commit it: "
            f"git commit -am 'Release {version}' && git tag v{version}. Then: make release"
        ]
    if git(root, "status", "--porcelain", "--untracked-files=no").strip():
        raise TemplateError(
            "git: files differ from the last commit. Commit them, then: make release"
        )
    folder = into / version
    if folder.exists():
        raise TemplateError(f"{folder}: is there already. Move it away, or set the next version.")
    incoming = into / f".{version}"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    left_out = build(root, incoming, with_images=with_images) + sign(root, incoming)
    incoming.replace(folder)
    files = sum(path.is_file() for path in folder.rglob("*"))
    return [f"Wrote {files} files to {folder}.", *(f"Not in it: {what}." for what in left_out)]


def main() -> None:
    asked = argparse.ArgumentParser(prog="make release")
    asked.add_argument("--into", type=Path, default=ROOT / "dist")
    asked.add_argument("--images", action="store_true")
    asked.add_argument("--check", type=Path, metavar="FOLDER")
    words = asked.parse_args()
    try:
        if words.check:
            print(
                f"{words.check}: each file is as it was released, signed by {check(ROOT, words.check)}."
            )
            return
        today = datetime.now(UTC).date()
        print("\n".join(release(ROOT, words.into, with_images=words.images, today=today)))
    except (LoopbookError, OSError) as reason:
        sys.exit(f"\n{reason}")


if __name__ == "__main__":
    main()
