"""A page that is followed: its blocks typed, saved and applied in their order, as a reader would."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from conftest import kill_family, wait_for

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w./-]+\.(?:yaml|py))`")
COMMENT = re.compile(r"\s+#.*$")
# a new shell begins as the one before ended
SHELL = "set -eo pipefail; trap 'env -0 > \"$LEFT\"' EXIT\n"
MORE = "In a second terminal"


@dataclass
class Reader:
    """Where a reader is, and what the terminal has shown.

    Attributes
    ----------
    folder, variables : of the terminal, as the last block left them
    shown : what every block printed so far
    quoted : what the page says that was printed, each with what had been printed by then
    running : what goes on until Ctrl-C
    """

    folder: Path
    variables: dict[str, str]
    before: Callable[["Reader", str], None]
    shown: str = ""
    quoted: list[tuple[str, str]] = field(default_factory=list)
    running: list[subprocess.Popen] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)

    def follow(self, page: str) -> None:
        """Do what a page says, block by block."""
        end = 0
        for block in BLOCK.finditer(page):
            prose, (kind, text) = page[end : block.start()], block.groups()
            end = block.end()
            for told, real in self.addresses.items():
                text = text.replace(told, real)
            if kind == "sh":
                self.before(self, text)
                self._type(text)
            elif kind == "text":
                self.quoted += [(line, self.shown) for line in text.splitlines()]
            elif kind == "json":
                self.quoted += [(key, self.shown) for key in re.findall(r'"\w+":', text)]
            else:
                self._edit(kind, self.folder / FILE.findall(prose)[-1], text)

    def _type(self, text: str) -> None:
        stays = re.fullmatch(r"make (serve|reports)\n", text)
        left = self.folder / "left"
        words = ["bash", "-c", SHELL + text]
        given = self.variables | {"LEFT": str(left)}
        if stays:
            self._start(["make", stays[1]])
            return
        done = subprocess.run(words, cwd=self.folder, env=given, capture_output=True, text=True)
        self.shown += done.stdout + done.stderr
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        pairs = (p.partition("=") for p in left.read_text().split("\0") if p)
        self.variables = {name: value for name, _, value in pairs if name != "LEFT"}
        left.unlink()
        self.folder = Path(self.variables["PWD"])

    def _start(self, words: list[str]) -> None:
        """What answers until Ctrl-C, and at which address it really does."""
        output = self.folder / f"{words[-1]}.out"
        with output.open("w") as file:
            started = subprocess.Popen(
                words, cwd=self.folder, env=self.variables, stdout=file, stderr=file
            )
        self.running.append(started)
        found: list[str] = []

        def is_up() -> bool:
            assert started.poll() is None, output.read_text()
            found[:] = re.findall(r"http://(?:127\.0\.0\.1|localhost):\d+", output.read_text())
            return bool(found)

        wait_for(is_up, words[-1])
        port = {"serve": 8000, "reports": 8866}[words[-1]]
        self.addresses[f"http://127.0.0.1:{port}"] = found[-1]
        wait_for(lambda: is_answering(found[-1]), words[-1])

    def _edit(self, kind: str, file: Path, text: str) -> None:
        if kind == "diff":
            file.write_text(applied(text, file.read_text()))
        else:
            file.write_text(text)

    def stop(self) -> None:
        for process in self.running:
            kill_family(psutil.Process(process.pid))
            process.wait(30)


def is_answering(address: str) -> bool:
    """Whether anything answers there, also with a refusal."""
    try:
        httpx.get(address, timeout=5)
    except httpx.TransportError:
        return False
    return True


def applied(diff: str, text: str) -> str:
    """A text with the hunks of a diff; comments at the end of its lines do not count."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        old = [line[1:] for line in lines if line[0] != "+"]
        new = [line[1:] for line in lines if line[0] != "-"]
        there = text.splitlines()
        bare = [COMMENT.sub("", line) for line in there]
        places = [i for i in range(len(bare)) if bare[i : i + len(old)] == old]
        assert len(places) == 1, f"{len(places)} places have\n{chr(10).join(old)}\nin\n{text}"
        there[places[0] : places[0] + len(old)] = new
        text = "\n".join(there) + "\n"
    return text


def is_there(line: str, shown: str) -> bool:
    """Whether a line was printed, spaces aside; … stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
    return bool(re.search(".*".join(parts), " ".join(shown.split())))


def environment_of(project: Path) -> None:
    """Give a project this environment, so that `make` need not make another one."""
    place = project / ".venv"
    place.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (place / name).symlink_to(Path(sys.prefix) / name)
    (place / ".ready").touch()


def of_a_person() -> dict[str, str]:
    """The variables of a new terminal: nothing of this project's."""
    names = (
        "LOOPBOOK_PROJECT",
        "JUPYTER_CONFIG_PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PYTHONDONTWRITEBYTECODE",
    )
    return {n: v for n, v in os.environ.items() if n not in names and not n.startswith("MLFLOW_")}
