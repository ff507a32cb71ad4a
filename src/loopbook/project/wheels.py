"""Wheels: the file that loopbook came from, what is in it, and its hash.

It decides how a project gets the wheel that its lock names: built from a
checkout, or packed again from the installed files. It installs nothing.
"""

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from loopbook.project.errors import TemplateError

NAME = "loopbook"
FILE_NAME = re.compile(r"^loopbook-(?P<version>\d+(?:\.\d+)*[a-z0-9.+]*)-py3-none-any\.whl$")
# what an installer adds to the files of a wheel
INSTALLERS = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same files, the same bytes


def version_of(wheel: Path) -> str:
    """The version in a wheel's file name.

    Raises
    ------
    TemplateError
        If the file is not there or is no wheel of loopbook.
    """
    named = FILE_NAME.match(wheel.name)
    if not named or not wheel.is_file():
        raise TemplateError(
            f"{wheel}: found {'another file' if wheel.exists() else 'nothing'}, expected "
            "loopbook-VERSION-py3-none-any.whl. Name the wheel's path."
        )
    return named["version"]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare: `0.10.1` is (0, 10, 1)."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version)[0].split("."))


def sha256(wheel: Path) -> str:
    """The hash of a wheel's bytes, as a lock writes it."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def members(wheel: Path, folder: str) -> dict[str, bytes]:
    """The files below a folder of a wheel, by their path from there.

    Raises
    ------
    TemplateError
        If the wheel is broken, or has no such folder.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = {
                str(PurePosixPath(name).relative_to(folder)): archive.read(name)
                for name in sorted(archive.namelist())
                if name.startswith(f"{folder}/") and not name.endswith("/")
            }
    except (OSError, zipfile.BadZipFile) as error:
        raise TemplateError(f"{wheel}: cannot be read ({error}). Get the wheel again.") from None
    if not inside:
        raise TemplateError(
            f"{wheel}: holds no template ({folder}). Use a wheel of loopbook 0.2 on."
        )
    return inside


def put_own_wheel(folder: Path) -> Path:
    """Write the wheel of the loopbook that runs into a folder; its path.

    Raises
    ------
    TemplateError
        If it runs from files that are neither a checkout nor installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkout = Path(__file__).parents[3]
    if (checkout / "hatch_build.py").is_file():
        return _built(checkout, folder)
    return _packed_again(folder)


def _built(checkout: Path, folder: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, check=False, cwd=checkout, capture_output=True, text=True)
    wheels = sorted(folder.glob(f"{NAME}-*.whl"))
    if done.returncode or not wheels:
        raise TemplateError(
            f"{checkout}: no wheel could be built of this checkout.\n{done.stderr.strip()}\n"
            "Make its environment: make env"
        )
    return wheels[-1]


def _packed_again(folder: Path) -> Path:
    """A wheel of the installed files: the same content as the one that was installed."""
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:
        raise TemplateError(
            f"{NAME} is not installed in {sys.prefix}. Install its wheel: uv pip install WHEEL"
        ) from None
    target = folder / f"{NAME}-{installed.version}-py3-none-any.whl"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(installed.files or [], key=str):
            path = PurePosixPath(file)
            is_ours = path.parts[0].startswith(NAME)  # a script is made by the installer
            if not is_ours or path.suffix == ".pyc" or path.name in INSTALLERS:
                continue
            content = Path(installed.locate_file(file)).read_bytes()
            archive.writestr(zipfile.ZipInfo(str(path), EPOCH), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow([path, f"sha256={digest.decode()}", len(content)])
        name = f"{NAME}-{installed.version}.dist-info/RECORD"
        lines.writerow([name, "", ""])
        archive.writestr(zipfile.ZipInfo(name, EPOCH), record.getvalue())
    return target
