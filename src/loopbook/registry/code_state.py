"""Code state: the code that a build runs, as a commit and a patch, or as the files themselves.

It decides which files of a project are its code, and which are never kept:
secrets, rows and what is large. A project that git holds is a commit and what
was changed since; one that git does not hold, or ignores, is its files. It
reads, and changes nothing, git's index neither.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from loopbook.project.git import answer
from loopbook.project.paths import Project

MOST_OF_A_FILE, MOST_OF_ALL, MOST_FILES = 2**20, 10 * 2**20, 2_000
NONE = "none"  # the commit of a project that git does not hold
HOLDS_ROWS = "it holds rows; those that counted are in the snapshot"
ROWS = (
    *("*.csv", "*.tsv", "*.parquet", "*.jsonl", "*.ndjson", "*.feather", "*.arrow", "*.xlsx"),
    *("*.db", "*.sqlite", "*.sqlite3", "*.duckdb", "*.gz", "*.zip", "*.pkl"),
)
SECRETS = (
    *(".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keytab"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pypirc", ".npmrc", ".pgpass"),
    *("*secret*", "*credential*", "*password*"),
)
# a password in an address; one that is filled in from the environment is none
PASSWORD = re.compile(rb"(://[^/\s:@\"']*:)(?!\$\{)[^/\s@\"']+(?=@)")
UNREAD = {"node_modules", "__pycache__"}  # folders that hold no code of a project


@dataclass(frozen=True)
class Library:
    """The loopbook that a build runs.

    Attributes
    ----------
    sha256 : over the names and bytes of its modules
    place : `repository`, `installed` (from a wheel), or `elsewhere`
    folder : where it is in the project's repository, else empty
    """

    version: str
    sha256: str
    place: str
    folder: str = ""


@dataclass(frozen=True)
class CodeState:
    """The code of a project at a moment.

    Attributes
    ----------
    commit : of the repository that holds the project, or `none`
    folder : the project's, from the top of the repository
    patch : what no commit has, as git writes it
    files : by their path from the project; what no repository has
    changed : paths that no commit has as they are, of the repository
    left_out : paths of these that were not kept, and why
    """

    library: Library
    commit: str = NONE
    folder: str = ""
    patch: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_dirty(self) -> bool:
        return bool(self.changed)

    @property
    def sha256(self) -> str:
        """One digest of all of it."""
        hashed = hashlib.sha256(f"{self.commit} {self.folder} {self.library.sha256}".encode())
        hashed.update(hashlib.sha256(self.patch).digest())
        for path, content in sorted(self.files.items()):
            hashed.update(os.fsencode(path) + b"\0" + hashlib.sha256(content).digest())
        hashed.update(json.dumps(sorted(self.left_out)).encode())
        return hashed.hexdigest()


def of(project: Project) -> CodeState:
    """The code of a project as it stands now."""
    top = _repository(project)
    library = _library(project, top)
    if top is not None:
        return _in_repository(project, top, library)
    files, left_out = _kept(project.root, _files_of(project.root))
    if library.place == "elsewhere":
        files |= library_files(project)
    return CodeState(library, files=files, left_out=left_out)


def library_files(project: Project) -> dict[str, bytes]:
    """The files of the library as a project has its own: below `src/loopbook`."""
    paths = _files_of(project.library)
    return {
        f"src/loopbook/{path}": (project.library / path).read_bytes()
        for path in sorted(paths)
        if not path.endswith(".pyc")
    }


def without_passwords(content: bytes) -> bytes:
    """A text whose addresses hold no password."""
    return PASSWORD.sub(rb"\1***", content)


def _repository(project: Project) -> Path | None:
    """The top of the repository that holds the project; None if none does, or it is ignored."""
    said = answer(project.root, "rev-parse", "--show-toplevel", "HEAD")
    if said is None or answer(project.root, "check-ignore", "-q", "contract.yaml") is not None:
        return None
    return Path(os.fsdecode(said).splitlines()[0])


def running_library() -> Library:
    """The loopbook that this process runs."""
    folder = Path(__file__).parents[1]
    installed = _installed()
    return Library(installed.version if installed else "unknown", _digest_of(folder), "installed")


def _installed() -> Distribution | None:
    try:
        return distribution("loopbook")
    except PackageNotFoundError:
        return None


def _digest_of(library: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library).as_posix()
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _library(project: Project, top: Path | None) -> Library:
    digest, installed = _digest_of(project.library), _installed()
    version = installed.version if installed else "unknown"
    if top is not None and project.library.is_relative_to(top):
        folder = project.library.relative_to(top).as_posix()
        if answer(top, "check-ignore", "-q", f"{folder}/__init__.py") is None:
            return Library(version, digest, "repository", folder)
    is_wheel = installed is not None and Path(str(installed.locate_file("loopbook"))).is_dir()
    is_own = project.library == project.root / "src" / "loopbook"
    return Library(version, digest, "installed" if is_wheel and not is_own else "elsewhere")


def _in_repository(project: Project, top: Path, library: Library) -> CodeState:
    folder = project.root.resolve().relative_to(top.resolve()).as_posix().removeprefix(".")
    commit = answer(top, "rev-parse", "HEAD").decode().strip()
    where = [folder or ".", *([library.folder] if library.folder else [])]
    literally = {"GIT_LITERAL_PATHSPECS": "1"}
    listing = ("-z", "--", *where)
    differing = answer(
        top, "diff", "--name-only", "--no-renames", "HEAD", *listing, variables=literally
    )
    beside = answer(
        top, "ls-files", "--others", "--exclude-standard", *listing, variables=literally
    )
    made = f"{folder}/var/".removeprefix("/")  # a repository may not ignore what a build makes
    untracked = [
        path
        for path in _paths(beside)
        if not path.startswith(made) and not path.endswith("/") and not UNREAD & {*path.split("/")}
    ]
    changed = sorted({*_paths(differing), *untracked})
    kept, left_out = _kept(top, changed)
    gone = [path for path in changed if path not in kept and path not in left_out]
    patch = _patch(top, [*kept, *gone], untracked) if kept or gone else b""
    if not patch:
        left_out |= dict.fromkeys((*kept, *gone), "git could not write its change")
    files = library_files(project) if library.place == "elsewhere" else {}
    return CodeState(library, commit, folder, patch, files, tuple(changed), left_out)


def _paths(said: bytes | None) -> list[str]:
    return [os.fsdecode(path) for path in (said or b"").split(b"\0") if path]


def _patch(top: Path, paths: list[str], untracked: list[str]) -> bytes:
    """The changes of these files since the commit, by an index of our own."""
    with tempfile.TemporaryDirectory() as folder:
        index = answer(top, "rev-parse", "--git-path", "index")
        own = Path(folder) / "index"
        real = top / os.fsdecode(index or b"").strip()
        if real.is_file():
            shutil.copy(real, own)
        variables = {"GIT_INDEX_FILE": str(own), "GIT_LITERAL_PATHSPECS": "1"}
        fresh = sorted(set(untracked) & set(paths))
        if fresh:
            answer(top, "add", "--intent-to-add", "--", *fresh, variables=variables)
        plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
        prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=all")
        words = ("diff", "--binary", *plain, *prefixes, "HEAD", "--", *paths)
        return answer(top, *words, variables=variables) or b""


def _files_of(root: Path) -> list[str]:
    """The files below a folder that may be code, those nearest to it first."""
    found = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if _may_hold_code(Path(folder) / name))
        if Path(folder) == root and "var" in below:
            below.remove("var")
        there = Path(folder).relative_to(root)
        found += [(there / name).as_posix() for name in names]
    return sorted(found, key=lambda path: (path.count("/"), path))


def _may_hold_code(folder: Path) -> bool:
    is_known = folder.name in UNREAD or folder.name.startswith(".")
    return not is_known and not (folder / "pyvenv.cfg").exists()


def _kept(root: Path, paths: Iterable[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """The content of those files that are kept, and why the others are not."""
    kept: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    size = 0
    for path, content, why in _read(root, paths):
        size += len(content)
        is_full = size > MOST_OF_ALL or len(kept) >= MOST_FILES
        if why or is_full:
            left_out[path] = why or f"all together have more than {MOST_OF_ALL // 2**20} MB"
        else:
            kept[path] = content
    return kept, left_out


def _read(root: Path, paths: Iterable[str]) -> Iterator[tuple[str, bytes, str]]:
    """Each file with its content, or with the reason for which it is not kept."""
    for path in paths:
        file, name = root / path, Path(path).name.lower()
        if not file.exists():
            continue
        if not file.is_file():
            yield path, b"", "it is no plain file"
        elif any(fnmatch(name, pattern) for pattern in SECRETS):
            yield path, b"", "its name is that of a secret"
        elif any(fnmatch(name, pattern) for pattern in ROWS):
            yield path, b"", HOLDS_ROWS
        elif file.stat().st_size > MOST_OF_A_FILE:
            yield path, b"", f"it has {file.stat().st_size / 2**20:.1f} MB, more than 1"
        elif PASSWORD.search(content := file.read_bytes()):
            yield path, b"", "it holds a password in an address"
        else:
            yield path, content, ""
