"""The images of this repository, built and run without a registry and without a daemon.

The base comes from Debian by mmdebstrap, under the name that the Dockerfile's
FROM asks for. It and every layer stay in one folder below the temporary one, so
that the next session builds what has changed only; delete that folder to begin
anew. In CI that folder is in memory where there is room. Where a machine cannot
do this, a test is skipped and says why.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from conftest import program
from filelock import FileLock

ROOT = Path(__file__).parents[1]
BASE = "docker.io/library/python:3.11-slim"
PACKAGES = "buildah, podman, crun, mmdebstrap and netavark: apt-get install --no-install-recommends"
# What a registry's python:3.11-slim has, and Debian has under other names.
LIKE_THE_REGISTRYS = 'ln -s /usr/bin/python3.11 "$1/usr/local/bin/python"'
INCLUDED = "python3.11,python3-venv,python3-pip,ca-certificates"
# Where a registry can be reached, its base would take the place of the one that is made here.
NO_REGISTRY = """
[aliases]
"python" = "docker.io/library/python"
[[registry]]
location = "docker.io"
blocked = true
"""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
# cgroups of a container are nothing that a test asks, and no machine of CI lends them
WITHOUT_CGROUPS = ("--cgroups=disabled", "--no-healthcheck")
USER = 10001  # of both images
ROOM = 16 * 2**30  # bytes: images, what builds them and what runs
ASK = """
import json, os, sys, urllib.request as u
path, *rest = sys.argv[1:]
key, body = (*rest, None, None)[:2]
headers = {"X-API-Key": key, "content-type": "application/json"} if key else {}
asked = u.Request("http://127.0.0.1:" + os.environ["LOOPBOOK_PORT"] + path, body and body.encode(), headers)
print(u.urlopen(asked, timeout=20).read().decode())
"""


def folder() -> Path:
    """Where images and containers are, for every session of this user."""
    return Path(tempfile.gettempdir()) / f"loopbook-images-{os.getuid()}"


def given_to(user: int, folder: Path) -> Path:
    """A folder and all below it, for a user of a container."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
    return folder


class Containers:
    """podman and buildah on one storage, in one mount namespace, so that `exec` finds `run`."""

    def __init__(self, storage: Path):
        self.storage = storage
        self.storage.mkdir(exist_ok=True)
        for name in ("buildah", "podman", "crun", "mmdebstrap", "unshare", "nsenter"):
            program(name, PACKAGES)
        self.in_memory = self._put_into_memory()
        # crun wants a cgroup2 tree where there may be one of the first version
        prepared = "mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep infinity"
        self.held = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", prepared], stdout=subprocess.PIPE, text=True
        )
        if self.held.stdout.readline().strip() != "ready":
            self.held.wait()
            self.held.stdout.close()
            pytest.skip("no mount namespace can be made here: run as root, on Linux")
        # each has its own network and containers' state, and all have the same images
        self.base_words = (
            *("--root", str(self.storage / "storage")),
            *("--runroot", str(self.storage / "run")),
        )

    def close(self) -> None:
        self.held.kill()
        self.held.wait()
        self.held.stdout.close()
        if self.in_memory:
            self._done(["umount", "--lazy", "--recursive", str(self.storage)], True)

    def _put_into_memory(self) -> bool:
        """In CI, whose images serve nobody afterwards: a disk takes longer to delete a layer than to write it."""
        is_free = psutil.virtual_memory().available > ROOM and not any(self.storage.iterdir())
        if not (os.environ.get("LOOPBOOK_NO_SKIPS") and is_free):
            return False
        of_images = ["-t", "tmpfs", "-o", f"size={ROOM}", "loopbook-images"]
        return not subprocess.run(["mount", *of_images, str(self.storage)], check=False).returncode

    def podman(
        self, *words: str, check: bool = True, **more: object
    ) -> subprocess.CompletedProcess:
        """A command of podman, in the namespace; its output as text."""
        command = [
            *("nsenter", "-m", "-t", str(self.held.pid), "--", "podman", *self.base_words),
            *("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", *words),
        ]
        return self._done(command, check, **more)

    def buildah(self, *words: str, **more: object) -> subprocess.CompletedProcess:
        return self._done(["buildah", *words], True, env=os.environ | self.variables(), **more)

    def variables(self) -> dict[str, str]:
        """What makes `buildah`, whoever calls it, build here: storage, layers, base and certificates."""
        storage = (
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.storage / "storage"}"\n'
            f'runroot = "{self.storage / "run"}"\n'
        )
        certified = {  # of a machine whose way out has a certificate of its own
            CERTIFICATES: CERTIFICATES,
            self._kept("uv.toml", "system-certs = true\n"): "/etc/uv/uv.toml",
            self._kept("pip.conf", f"[global]\ncert = {CERTIFICATES}\n"): "/etc/pip.conf",
        }
        volumes = json.dumps([f"{ours}:{inside}:ro" for ours, inside in certified.items()])
        (temporary := self.storage / "tmp").mkdir(exist_ok=True)
        return {
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_LAYERS": "true",
            "CONTAINERS_CONF": str(
                self._kept("containers.conf", f"[containers]\nvolumes = {volumes}\n")
            ),
            "CONTAINERS_REGISTRIES_CONF": str(self._kept("registries.conf", NO_REGISTRY)),
            "CONTAINERS_STORAGE_CONF": str(self._kept("storage.conf", storage)),
            "TMPDIR": str(temporary),
        }

    @staticmethod
    def _done(command: Sequence[str], check: bool, **more: object) -> subprocess.CompletedProcess:
        done = subprocess.run(command, text=True, capture_output=True, **more)
        if check and done.returncode:
            last = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
        return done

    def make_base(self) -> None:
        """The base, from Debian's packages, unless an earlier session made it."""
        with FileLock(self.storage / "base.lock"):
            if BASE in self.podman("images", "--format", "{{.Repository}}:{{.Tag}}").stdout:
                return
            tar = self.storage / "base.tar"
            debian = Path("/etc/apt/sources.list.d/debian.sources")
            sources = [str(debian)] if debian.exists() else []
            made = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}"]
            hook = f"--customize-hook={LIKE_THE_REGISTRYS}"
            self._done([*made, hook, "bookworm", str(tar), *sources], True)
            self.podman("import", "--quiet", str(tar), BASE)  # its user is root, as a registry's is
            tar.unlink()

    def build(self, target: str, context: Path = ROOT) -> str:
        """An image of a Dockerfile's target; its name. What has not changed is not built again."""
        self.make_base()
        whose = hashlib.sha256(str(context).encode()).hexdigest()[:8]
        name = f"localhost/loopbook-{target}:{whose}"
        with FileLock(self.storage / f"build-{whose}.lock"):
            self.buildah(
                *("bud", "--format", "docker", "--target", target, "--tag", name),
                *("--file", str(context / "deploy" / "Dockerfile"), str(context)),
            )
        return name

    def _kept(self, name: str, text: str) -> Path:
        path = self.storage / name
        path.write_text(text)
        return path

    def size(self, image: str) -> int:
        """Bytes of an image, with its base."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image).stdout)

    def settings(self, image: str) -> dict:
        """What an image says of how it is run: user, environment, health check."""
        (told,) = json.loads(self.podman("image", "inspect", image).stdout)
        return told["Config"] | {"Healthcheck": told.get("Healthcheck")}

    @contextlib.contextmanager
    def running(
        self, image: str, *arguments: str, options: Sequence[str] = ()
    ) -> Iterator["Container"]:
        """A container in the background; it is removed at the end, whatever happens."""
        name = f"loopbook-{uuid.uuid4().hex[:12]}"
        words = ("--detach", "--name", name, *LIMITS, *WITHOUT_CGROUPS)
        try:
            self.podman("run", *words, *options, image, *arguments)
            yield Container(self, name)
        finally:
            self.podman("rm", "--force", "--time", "2", name, check=False)

    def run(
        self, image: str, *arguments: str, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess:
        """A container to its end: code, output, errors."""
        words = ("--rm", *LIMITS, *WITHOUT_CGROUPS)
        return self.podman("run", *words, *options, image, *arguments, check=False)


class Container:
    """One that runs."""

    def __init__(self, containers: Containers, name: str):
        self.containers, self.name = containers, name

    def exec(
        self, *words: str, options: Sequence[str] = (), check: bool = True
    ) -> subprocess.CompletedProcess:
        """A command inside, by its user."""
        return self.containers.podman("exec", *options, self.name, *words, check=check)

    def logs(self) -> str:
        done = self.containers.podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def pid(self) -> int:
        """Its first process, as this machine numbers it."""
        told = self.containers.podman("inspect", "--format", "{{.State.Pid}}", self.name)
        return int(told.stdout)

    def wait_for(self, *words: str, seconds: float = 120) -> None:
        """Until a command inside ends well."""
        deadline = time.monotonic() + seconds
        while self.exec(*words, check=False).returncode:
            assert time.monotonic() < deadline, self.logs()[-3000:]
            time.sleep(0.1)


def opened() -> Containers:
    """Containers of this session; a skip that says why where there can be none."""
    if platform.system() != "Linux" or os.getuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("images are built as root on a Debian machine only")
    return Containers(folder())
