"""Module code: what each module's code is and what it imports of ours, parsed once a change.

It decides what of a module counts: its code without comments and layout, since
these cannot change a result. Every build asks for hundreds of modules, and to
parse them takes longer than all else that it asks; so what was parsed is
remembered in `var/`, as long as a file's size, times and inode are what they were.
"""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopbook.project.files import read_json, write_text
from loopbook.project.paths import Project

PACKAGE = "loopbook"
FILE = "module-code.json"  # below var/
SUFFIX = ".py"
PACKAGES_OWN = "__init__.py"


@dataclass(frozen=True)
class Code:
    """A module's code; `imports` names what it imports of ours, with every package above it."""

    digest: bytes
    imports: frozenset[str]


class Memory:
    """The code of modules, by their files, as it was parsed for a project."""

    def __init__(self, file: Path):
        self._file = file
        self._known = _kept(file)
        self._is_new = False

    def code_of(self, path: Path) -> Code:
        """A module's code as it is now."""
        stamp, name = _stamp(path), str(path)
        known, code = self._known.get(name, (None, None))
        if known != stamp or code is None:
            code = parsed(path.read_text(encoding="utf-8"))
            self._known[name] = (stamp, code)
            self._is_new = True
        return code

    def keep(self) -> None:
        """Write down what was parsed since."""
        if self._is_new:
            files = [
                [name, stamp, code.digest.hex(), sorted(code.imports)]
                for name, (stamp, code) in sorted(self._known.items())
                if Path(name).exists()
            ]
            with suppress(OSError):  # where nothing can be written, all is parsed the next time
                write_text(self._file, json.dumps({"made_by": _made_by(), "files": files}))
            self._is_new = False


@lru_cache(maxsize=8)
def memory_of(project: Project) -> Memory:
    """The memory that a project has in its `var/`."""
    return Memory(project.var / FILE)


def parsed(source: str) -> Code:
    """What some Python source is."""
    tree = ast.parse(source)
    digest = hashlib.sha256(ast.dump(tree).encode()).digest()
    return Code(digest, frozenset(imported(tree)))


def imported(tree: ast.AST) -> set[str]:
    """What a tree imports of ours, from the package on: with every package above it."""
    dotted: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".")[1:] for name in dotted if name.startswith(f"{PACKAGE}.")]
    return {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}


def files_of(library: Path) -> dict[str, Path]:
    """The file of each module and package of a library, by its name from the package on."""
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(library):
        above = Path(folder).relative_to(library).parts
        for name in names:
            if name == PACKAGES_OWN:  # of a module and a package of one name, the module counts
                files.setdefault(".".join(above), Path(folder, name))
            elif name.endswith(SUFFIX):
                files[".".join((*above, name.removesuffix(SUFFIX)))] = Path(folder, name)
    return files


def _kept(file: Path) -> dict[str, tuple[list[int], Code]]:
    """What was written down by this Python and this module; nothing if it was another."""
    try:
        content: Mapping[str, Any] = read_json(file)
        if content["made_by"] != _made_by():
            return {}
        return {
            name: (stamp, Code(bytes.fromhex(digest), frozenset(imports)))
            for name, stamp, digest, imports in content["files"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _made_by() -> list[Any]:
    """Other Pythons dump a tree otherwise, and another loopbook may read another thing out of it."""
    return [sys.version, _stamp(Path(__file__))]


def _stamp(path: Path) -> list[int]:
    """What changes with a file; `ctime` also where a tool sets the time of change."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
