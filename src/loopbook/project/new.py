"""New: a project of one's own, made from the template.

It decides nothing about its content (`template` does). It writes the folder
whole or not at all: beside its place, then moved there.
"""

import errno
import shlex
import shutil
import tempfile
import uuid
from pathlib import Path

from loopbook.project.errors import TemplateError
from loopbook.project.git import author, git
from loopbook.project.paths import refuse_unusable
from loopbook.project.template import NAME, Facts, files_of, safe_name, with_example
from loopbook.project.wheels import put_own_wheel


def make_project(folder: Path, *, name: str, example: str) -> Path:
    """Make a project in a new or empty folder, with a git history of one commit; its path.

    Parameters
    ----------
    name : str
        Lower case letters, digits and hyphens: the model's name everywhere.
    example : str
        Whose contract and data it begins with; `empty` for a form to fill in.

    Raises
    ------
    LoopbookError
        If the name cannot be used, the folder is not empty, git is not here or
        the disk is full; nothing is left behind.
    """
    check_place(folder, name)
    folder = folder.absolute()
    git(Path.cwd(), "--version")
    try:
        return _made(folder, Facts(name, uuid.uuid4().hex), example)
    except OSError as error:
        room = "Free space" if error.errno == errno.ENOSPC else "Correct the folder's rights"
        raise TemplateError(
            f"{folder}: cannot be written ({error.strerror}). Nothing is left there. "
            f"{room}, then try again."
        ) from None


def check_place(folder: Path, name: str) -> None:
    """Refuse a name that cannot be used, or a folder that is not empty.

    Raises
    ------
    LoopbookError
        What is wrong with either, and what to type.
    """
    if not NAME.match(name):
        raise TemplateError(
            f"name {name!r}: expected lower case letters, digits and hyphens. "
            f"Try: loopbook new {shlex.quote(str(folder))} --name {safe_name(name)}"
        )
    folder = folder.absolute()
    refuse_unusable(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TemplateError(
            f"{folder}: exists and is not empty, and nothing in it was touched. "
            "Choose another folder, or empty this one."
        )


def _made(folder: Path, facts: Facts, example: str) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        wheel = put_own_wheel(Path(beside) / "wheel")
        files = with_example(wheel, files_of(wheel, facts), example, facts.name)
        project = Path(beside) / "project"
        write_files(project, files)
        git(project, "init", "--quiet", "--initial-branch=main")
        git(project, "add", "--all")
        message = f"A project of loopbook: {facts.name}"
        git(project, "commit", "--quiet", "--message", message, variables=author(project))
        if folder.exists():
            folder.rmdir()
        shutil.move(project, folder)
    return folder


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
