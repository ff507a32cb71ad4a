"""Volumes: what a person is told of a folder that cannot be written to.

It decides which faults of a file system are a person's to mend: no rights, a
read-only mount, no space. Every other one is a fault of ours and stays one.
"""

import errno
import os
from pathlib import Path

from loopbook.project.paths import Project

NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def told(error: OSError, project: Project | None) -> str | None:
    """What to do about a fault of the file system; None if that is not for a person to mend."""
    place = _place(error, project)
    if error.errno in NO_SPACE:
        return (
            f"{place}: no space is left there ({error.strerror}), and what was there is as it was. "
            "Free some, or give var/ a larger volume; then try again."
        )
    if error.errno not in NO_RIGHTS:
        return None
    user, folder = os.geteuid(), _there(Path(place))
    about = folder.stat()
    if error.errno == errno.EROFS:
        return f"{place}: is mounted read-only. Mount it so that user {user} may write there."
    return (
        f"{place}: user {user} has no right to it; {folder} belongs to user {about.st_uid} "
        f"(mode {about.st_mode & 0o777:o}). Give it to the user: chown -R {user} {folder}; or run "
        f"as its owner, in a container with --user {about.st_uid}:{about.st_gid}."
    )


def _place(error: OSError, project: Project | None) -> str:
    """The file that an error names, or the folder that all is written to."""
    return str(error.filename or (project and project.var) or Path.cwd())


def _there(path: Path) -> Path:
    """A path, or the nearest folder above it that is there and may be looked at."""
    for one in (path, *path.parents):
        try:
            one.stat()
        except OSError:
            continue
        return one
    return Path("/")
