"""Git trees: the files of a commit with a patch on top, without a checkout.

It decides how the code of a version is read back: from the objects of a
repository, by an index and an object store of its own, so that nothing there
changes. Files that no repository has take the same form, so that both compare.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopbook.project.git import git


@dataclass(frozen=True)
class Tree:
    """Files by their path from the project: what each is named by, and what is in it.

    `names` has the name that git gives a file's content, whether git has it or not.
    """

    names: Mapping[str, str]
    content: Mapping[str, bytes]

    def text(self, path: str) -> str | None:
        """A file as text; None where it is not there, or is no text."""
        content = self.content.get(path)
        try:
            return None if content is None else content.decode("utf-8")
        except UnicodeDecodeError:
            return None


def of_files(files: Mapping[str, bytes]) -> Tree:
    """A tree of files that are at hand."""
    return Tree({path: _name_of(content) for path, content in files.items()}, dict(files))


def of_commit(repository: Path, commit: str, places: Mapping[str, str], patch: bytes) -> Tree:
    """The files below folders of a repository, as of a commit with a patch on top.

    Parameters
    ----------
    places : mapping
        From a folder of the repository (empty for all of it) to where it is in
        the tree; of a file that is below several, the first one counts.
    patch : bytes
        As `git diff --binary` writes it, from the top; may be empty.

    Raises
    ------
    TemplateError
        If the repository does not have the commit, or the patch does not fit it.
    """
    top = Path(os.fsdecode(git(repository, "rev-parse", "--show-toplevel")).rstrip("\n"))
    with _own_index(top) as variables:
        git(top, "read-tree", commit, variables=variables)
        if patch:
            words = ("apply", "--cached", "--whitespace=nowarn", "-")
            git(top, *words, given=patch, variables=variables)
        where = [folder or "." for folder in places]
        listing = git(top, "ls-files", "--stage", "-z", "--", *where, variables=variables)
        names = dict(_listed(listing, places))
        content = _read(top, names.values(), variables)
    return Tree(names, {path: content[name] for path, name in names.items() if name in content})


@contextmanager
def _own_index(top: Path) -> Iterator[dict[str, str]]:
    """Variables by which git writes nothing into the repository."""
    objects = Path(os.fsdecode(git(top, "rev-parse", "--git-path", "objects")).rstrip("\n"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "objects").mkdir()
        yield {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": f"{folder}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((top / objects).resolve()),
            "GIT_LITERAL_PATHSPECS": "1",
        }


def _listed(listing: bytes, places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """From what git lists: path in the tree, and name, of each plain file of code."""
    for line in listing.split(b"\0"):
        if not line:
            continue
        about, path = line.split(b"\t", 1)
        mode, name, _ = about.split(b" ")
        inside = _placed(os.fsdecode(path), places)
        if mode.startswith(b"100") and inside and is_code(inside):
            yield inside, name.decode()


def _placed(path: str, places: Mapping[str, str]) -> str | None:
    for folder, there in places.items():
        if not folder or path.startswith(f"{folder}/"):
            below = path.removeprefix(f"{folder}/") if folder else path
            return f"{there}/{below}" if there else below
    return None


def is_code(path: str) -> bool:
    """Whether a file may be what a build runs or reads as its own: no rows, no pictures, no tests."""
    is_ours = path.endswith((".py", ".ipynb", ".yaml", ".yml", ".toml", ".sql", ".lock"))
    return is_ours and not path.startswith(("tests/", "docs/", "bench/", "var/", "."))


def _read(top: Path, names: Iterable[str], variables: Mapping[str, str]) -> dict[str, bytes]:
    """What is in some objects, by one process."""
    asked = "".join(f"{name}\n" for name in dict.fromkeys(names)).encode()
    said, found, place = git(top, "cat-file", "--batch", given=asked, variables=variables), {}, 0
    while place < len(said):
        end = said.index(b"\n", place)
        head = said[place:end].split(b" ")
        place = end + 1
        if head[-1] == b"missing":  # of a partial clone
            continue
        size = int(head[2])
        found[head[0].decode()] = said[place : place + size]
        place += size + 1
    return found


def _name_of(content: bytes) -> str:
    """What git names a file's content by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def differing(before: Tree, after: Tree) -> list[str]:
    """The paths whose content is not the same, or that one of the trees lacks."""
    paths = sorted({*before.names, *after.names})
    return [path for path in paths if before.names.get(path) != after.names.get(path)]
