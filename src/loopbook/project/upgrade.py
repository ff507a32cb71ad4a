"""Upgrade: the template of a newer loopbook, merged into a project.

It decides what is refused before anything changes. The merge is git's own: of
the template that the project began with, the newer one, and the project as it
is committed. So a file that the user renamed, deleted or rewrote is treated as
in any merge, and a conflict is marked as git marks it.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopbook.project import waits
from loopbook.project.counts import counted
from loopbook.project.errors import TemplateError
from loopbook.project.git import AUTHOR, git
from loopbook.project.new import write_files
from loopbook.project.template import LOCK, changes_between, facts_of, files_of
from loopbook.project.wheels import put_own_wheel, release, sha256, version_of

NOTE = re.compile(rb"CONFLICT \([^)]*\): ")  # git's sentence, which its short name comes before
WORDS = {"A": "added", "M": "changed", "D": "deleted", "R": "renamed", "T": "changed"}


@dataclass(frozen=True)
class Merge:
    """A merge that was computed and not written yet.

    Attributes
    ----------
    tree : the merged files, as git names a tree
    changed : what differs from the last commit, a line a file
    stages : the entries of git's index for the files in conflict
    conflicts : their paths
    notes : what git says of them
    """

    tree: str
    changed: list[str]
    stages: bytes
    conflicts: list[str]
    notes: list[str]


def upgrade(root: Path, to: str, *, dry_run: bool) -> list[str]:
    """Merge the template of another version into a project; lines for people.

    Parameters
    ----------
    to : str
        A version whose wheel is in `vendor/` or installed, or a wheel's path;
        empty: the loopbook that runs.

    Raises
    ------
    TemplateError
        If the project has uncommitted changes, the wheel is older or not the
        one that was locked, or git cannot merge; nothing has changed then.
    """
    facts, older = facts_of(root)
    _refuse_uncommitted(root)
    began_with = _began_with(root, older)
    with _newer_wheel(root, to) as wheel:
        newer = version_of(wheel)
        if release(newer) < release(older):
            raise TemplateError(
                f"{newer} is older than {older}, which this project has. Going back is git's: "
                "git revert the commit of the upgrade."
            )
        if newer == older and sha256(wheel) == sha256(began_with):
            return [f"This project has loopbook {older} already; nothing was changed."]
        merge = _merged(root, files_of(began_with, facts), files_of(wheel, facts))
        news = changes_between(wheel, older)
    if not dry_run:
        _write(root, merge)
    return _told(merge, older, newer, news, dry_run=dry_run)


def _refuse_uncommitted(root: Path) -> None:
    if not (root / ".git").exists():
        raise TemplateError(
            f"{root}: is not a git repository of its own, so an upgrade could not be undone. "
            "Make it one: git init && git add -A && git commit -m start"
        )
    dirty = git(root, "status", "--porcelain").decode().splitlines()
    if dirty:
        shown = ", ".join(line[3:] for line in dirty[:5])
        raise TemplateError(
            f"{root}: {len(dirty)} uncommitted files ({shown}). Nothing was changed. Commit or "
            "stash them first, so that the upgrade can be told from your own work."
        )


def _began_with(root: Path, version: str) -> Path:
    """The wheel whose template the project has, as its lock names it."""
    wheel = root / "vendor" / f"loopbook-{version}-py3-none-any.whl"
    if not wheel.exists():
        raise TemplateError(
            f"{wheel}: is not there, and the files that this project began with are in it. "
            "Put it back from git: git checkout HEAD~ -- vendor"
        )
    lock = root / LOCK
    if not lock.exists() or f"sha256:{sha256(wheel)}" not in lock.read_text(encoding="utf-8"):
        raise TemplateError(
            f"{wheel}: its hash is not the one in {LOCK}. Nothing was changed. "
            "Put both back from git, or take the wheel from where it came."
        )
    return wheel


@contextmanager
def _newer_wheel(root: Path, to: str) -> Iterator[Path]:
    """The wheel to upgrade to; one that is made from the running loopbook goes away again."""
    if to.endswith(".whl"):
        yield Path(to).absolute()
        return
    vendored = root / "vendor" / f"loopbook-{to}-py3-none-any.whl"
    if to and vendored.exists():
        yield vendored
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = put_own_wheel(Path(folder))
        if to and version_of(wheel) != to:
            raise TemplateError(
                f"loopbook {to} is not here: the installed one is {version_of(wheel)}, and "
                f"vendor/ has no wheel of {to}. Give the wheel: loopbook upgrade --to PATH.whl"
            )
        yield wheel


def _merged(root: Path, base: dict[str, bytes], theirs: dict[str, bytes]) -> Merge:
    began = _commit(root, _tree(root, base))
    ours = _commit(root, git(root, "rev-parse", "HEAD^{tree}").decode().strip(), began)
    newer = _commit(root, _tree(root, theirs), began)
    words = ("merge-tree", "--write-tree", "-z", "--messages", ours, newer)
    said = git(root, *words, accepted=(0, 1)).split(b"\0")
    tree, rest = said[0].decode(), said[1:]
    end = rest.index(b"") if b"" in rest else len(rest)
    entries = [entry for entry in rest[:end] if entry]
    differs = git(root, "diff", "--name-status", "HEAD", tree).decode().splitlines()
    return Merge(
        tree=tree,
        changed=[_shown(line) for line in differs],
        stages=b"".join(entry + b"\0" for entry in entries),
        conflicts=sorted({entry.split(b"\t", 1)[1].decode() for entry in entries}),
        notes=[word.decode().strip() for word in rest[end:] if NOTE.match(word)],
    )


def _tree(root: Path, files: dict[str, bytes]) -> str:
    """Files as a tree of git's, without a trace in the project's index."""
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder) / "files"
        write_files(content, files)
        own = {"GIT_INDEX_FILE": str(Path(folder) / "index"), "GIT_WORK_TREE": str(content)}
        own["GIT_DIR"] = git(root, "rev-parse", "--absolute-git-dir").decode().strip()
        git(content, "add", "--all", "--force", ".", variables=own)
        return git(content, "write-tree", variables=own).decode().strip()


def _commit(root: Path, tree: str, *parents: str) -> str:
    """A commit that no branch names: what git needs to know what a merge begins with."""
    before = [word for parent in parents for word in ("-p", parent)]
    words = ("commit-tree", tree, *before, "-m", "loopbook upgrade")
    return git(root, *words, variables=AUTHOR).decode().strip()


def _write(root: Path, merge: Merge) -> None:
    """The merged files into work tree and index; the files in conflict as git has them."""
    with waits.leaving("some files were merged. Undo it: git reset --hard"):
        git(root, "read-tree", "-m", "-u", "HEAD", merge.tree)
        _mark_conflicts(root, merge)


def _mark_conflicts(root: Path, merge: Merge) -> None:
    if merge.conflicts:
        gone = b"".join(b"0 " + b"0" * 40 + b"\t" + p.encode() + b"\0" for p in merge.conflicts)
        git(root, "update-index", "-z", "--index-info", given=gone + merge.stages)


def _shown(line: str) -> str:
    status, *paths = line.split("\t")
    return f"  {WORDS.get(status[0], status):<9} {' to '.join(paths)}"


def _told(merge: Merge, older: str, newer: str, news: str, *, dry_run: bool) -> list[str]:
    """What is new comes first: it may be longer than a screen, and the files are what counts."""
    would = "would change" if dry_run else "changed"
    step = f"{older} to {newer}" if older != newer else f"{older} to another build of it"
    lines = ["What is new:", news, ""] if news else []
    lines += [f"loopbook {step}: {counted(len(merge.changed), 'file')} {would}"]
    lines += merge.changed or ["  none: your files have all of it already"]
    if merge.conflicts:
        lines += ["", f"{len(merge.conflicts)} in conflict, marked as git marks them:"]
        lines += [f"  {note}" for note in merge.notes] or [f"  {p}" for p in merge.conflicts]
    if dry_run:
        return [*lines, "", "Nothing was written. Next: loopbook upgrade"]
    settle = ""
    if merge.conflicts:
        both = "Yours alone: git checkout --ours FILE. Loopbook's alone: git checkout --theirs FILE"
        lines, settle = [*lines, both], "settle the conflicts, git add -A, "
    following = f"Next: {settle}git diff HEAD, make build, git commit. Back: git reset --hard"
    return [*lines, "", following]
