"""Environments: the Python, the packages and the processor that a build runs on.

It decides what of them is kept with a run, and how two of them differ. It
installs nothing.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from loopbook.project.files import sha256
from loopbook.project.paths import Project

LOCK, OURS = "requirements.lock", "loopbook"
# what BLAS, NumPy and gradient boosting choose their code by
SIMD = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "asimd")


@dataclass(frozen=True)
class Environment:
    """What a build ran on; `packages` are the versions by name, without loopbook's own."""

    python: str
    system: str
    processor: str
    lock_sha256: str
    packages: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """All but the packages, which are a file of their own."""
        return {key: value for key, value in asdict(self).items() if key != "packages"}


@dataclass(frozen=True)
class Difference:
    """One difference of two environments: `lock`, `python` or `processor`."""

    what: str
    then: str
    now: str


def present(project: Project) -> Environment:
    """The environment of this process, beside the lock of the project."""
    packages: dict[str, str] = {}
    for found in distributions():  # the first on the path is the one that is imported
        packages.setdefault(found.name.lower(), found.version)
    packages.pop(OURS, None)
    system = platform.system()
    return Environment(
        platform.python_version(), system, processor(), lock_digest(project), packages
    )


def lock_digest(project: Project) -> str:
    """SHA-256 of the project's lock, or `none`."""
    lock = project.root / LOCK
    return sha256(lock.read_bytes()) if lock.exists() else "none"


def processor(described: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's kind, name and the instructions that numerical code chooses by."""
    lines = described.read_text(errors="replace").splitlines() if described.exists() else []
    said = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = set((said.get("flags") or said.get("Features") or "").split())
    name = said.get("model name") or platform.processor()
    parts = (platform.machine(), name, " ".join(flag for flag in SIMD if flag in flags))
    return ", ".join(part for part in parts if part)


def as_text(packages: Mapping[str, str]) -> str:
    """Packages a line each, as an installer reads them."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))


def from_text(text: str) -> dict[str, str]:
    """Read what `as_text` wrote."""
    pairs = (line.partition("==") for line in text.splitlines() if "==" in line)
    return {name: version for name, _, version in pairs}


def differences(then: Environment, now: Environment) -> list[Difference]:
    """How two environments differ, the packages first."""
    found = [
        Difference("lock", f"{name} {before or 'absent'}", f"{name} {after or 'absent'}")
        for name in sorted({*then.packages, *now.packages})
        if (before := then.packages.get(name)) != (after := now.packages.get(name))
    ]
    both = ((then.python, now.python, "python"), (then.processor, now.processor, "processor"))
    return found + [Difference(what, a, b) for a, b, what in both if a != b]
