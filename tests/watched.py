"""A command in a network namespace of its own: which names it asks for, what it leaves at home.

There is nothing but this machine in the namespace, and a resolver that writes
down each name and knows none. A look-up by a C library counts as one by Python.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from loopbook.project.paths import NO_TELEMETRY

IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount")
NOT_POSSIBLE = "a network namespace is not allowed here; allow user namespaces"
RECORD = "var/asked.json"
# what Jupyter, Matplotlib and npm keep for a person: settings, caches, who runs
OF_PEOPLE = (".local/share/jupyter/", ".ipython/", ".jupyter/", ".cache/matplotlib/", ".npm/")
UP = 0x1 | 0x40  # IFF_UP | IFF_RUNNING
# libraries ask for less where they find one of these, so no watched command has them
OF_CI = (
    *("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL"),
    *("CODEBUILD_BUILD_ID", "BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER"),
)


@dataclass(frozen=True)
class Seen:
    done: subprocess.CompletedProcess
    names: set[str]
    at_home: set[str]


def watched(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Seen:
    """Run a command to its end where nobody else is, with an empty home folder.

    It finds no sign of continuous integration: what is seen is what a person's machine does.
    """
    if not is_possible():
        pytest.skip(NOT_POSSIBLE)
    with tempfile.TemporaryDirectory(prefix="watched-") as name:
        place = Path(name)
        home = place / "home"
        home.mkdir()
        (place / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        (place / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        own = {"HOME": str(home)} | {n: "" for n in os.environ if n.startswith("XDG_")}
        inside = [sys.executable, __file__, str(place), *command]
        done = subprocess.run(
            [*IN_A_NAMESPACE, *inside],
            cwd=folder,
            env={n: v for n, v in {**environment, **own}.items() if v and n not in OF_CI},
            text=True,
            capture_output=True,
        )
        names = place / "names.json"
        left = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
        return Seen(done, set(json.loads(names.read_text())) if names.exists() else {"?"}, left)


def watched_if_possible(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess:
    """Run a command that is run anyway, watched where that is allowed: see `asked_for`.

    It finds none of the settings that this process has from our own project.
    """
    theirs = {n: v for n, v in environment.items() if n not in NO_TELEMETRY}
    if not is_possible():
        return subprocess.run(command, cwd=folder, env=theirs, text=True, capture_output=True)
    seen = watched(command, folder, theirs)
    record = {"names": sorted(seen.names), "at_home": sorted(seen.at_home)}
    (folder / RECORD).write_text(json.dumps(record))
    return seen.done


def asked_for(folder: Path) -> tuple[list[str], list[str]]:
    """The names that the watched command of a folder asked for, and what it left at home."""
    if not (folder / RECORD).exists():
        pytest.skip(NOT_POSSIBLE)
    record = json.loads((folder / RECORD).read_text())
    strange = [name for name in record["at_home"] if not name.startswith(OF_PEOPLE)]
    return record["names"], strange


def is_possible() -> bool:
    """Whether this machine lets us make such a namespace."""
    if shutil.which(IN_A_NAMESPACE[0]) is None:
        return False
    return subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True).returncode == 0


def name_asked(question: bytes) -> str:
    """The name in a DNS question, in lower case."""
    labels, at = [], 12
    while at < len(question) and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += 1 + question[at]
    return b".".join(labels).decode(errors="replace").lower()


# -- inside the namespace ----------------------------------------------------


def _raise_loopback() -> None:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, 0x8914, struct.pack("16sh", b"lo", UP))  # SIOCSIFFLAGS


def _resolve(server: socket.socket, names: list[str]) -> None:
    """Write down every name, and say of each that there is none (NXDOMAIN)."""
    while True:
        question, whom = server.recvfrom(4096)
        names.append(name_asked(question))
        server.sendto(question[:2] + b"\x81\x83" + question[4:6] + b"\0" * 6 + question[12:], whom)


def _inside(place: Path, command: list[str]) -> int:
    import threading

    _raise_loopback()
    for name in ("resolv.conf", "nsswitch.conf"):
        target = os.path.realpath(f"/etc/{name}")
        subprocess.run(["mount", "--bind", str(place / name), target], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    names: list[str] = []
    threading.Thread(target=_resolve, args=(server, names), daemon=True).start()
    status = subprocess.run(command).returncode
    # a machine asks for itself; that leaves it no more than `localhost` does
    own = {"localhost", socket.gethostname().lower()}
    outside = [n for n in names if n not in own and not re.fullmatch(r"(.*\.)?in-addr\.arpa", n)]
    (place / "names.json").write_text(json.dumps(sorted(set(outside))))
    return status


if __name__ == "__main__":
    sys.exit(_inside(Path(sys.argv[1]), sys.argv[2:]))
