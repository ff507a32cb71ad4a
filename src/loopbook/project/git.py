"""Git: the few commands that a project's files need of it."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from loopbook.project.errors import TemplateError

# Who commits, where git does not know the person: a commit has to have an author.
AUTHOR = {
    "GIT_AUTHOR_NAME": "loopbook",
    "GIT_AUTHOR_EMAIL": "loopbook@localhost",
    "GIT_COMMITTER_NAME": "loopbook",
    "GIT_COMMITTER_EMAIL": "loopbook@localhost",
}


def git(
    folder: Path,
    *words: str,
    given: bytes | None = None,
    variables: Mapping[str, str] | None = None,
    accepted: tuple[int, ...] = (0,),
) -> bytes:
    """What git prints in a folder.

    Raises
    ------
    TemplateError
        If git is not here, or ends with another status than those accepted.
    """
    program = shutil.which("git")
    if program is None:
        raise TemplateError("git is not here. Install it (apt-get install git), then try again.")
    done = subprocess.run(
        [program, *words],
        check=False,
        cwd=folder,
        input=given,
        capture_output=True,
        env=os.environ | dict(variables or {}),
    )
    if done.returncode not in accepted:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise TemplateError(f"git {words[0]} failed in {folder}: {said}")
    return done.stdout


def answer(folder: Path, *words: str, variables: Mapping[str, str] | None = None) -> bytes | None:
    """What git prints in a folder; None where git is not here, or refuses."""
    try:
        return git(folder, *words, variables=variables)
    except TemplateError:
        return None


def author(folder: Path) -> dict[str, str]:
    """Variables that name an author where git has none; empty where it has."""
    known = git(folder, "config", "user.email", accepted=(0, 1)).strip()
    return {} if known or "GIT_AUTHOR_EMAIL" in os.environ else AUTHOR
