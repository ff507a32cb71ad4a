"""Real servers and projects for the tests that want one, their order, and the rule about skips.

On a person's machine a test whose program is missing is skipped and says what
to install. With `LOOPBOOK_NO_SKIPS`, as in CI, a skipped test fails.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from made_once import MANY_SIGNS, copied, in_order, made_once
from small_house import give, make_project

from loopbook.project import wheels

# no test is timed: a loaded machine is no fault
settings.register_profile("loopbook", deadline=None)
settings.load_profile("loopbook")

# `make test PART=fast` would hand what it was told to every `make` that a test types,
# and a CI machine the width of a terminal that is none to every command
told_to_make = re.findall(r"(\w+)=", os.environ.get("MAKEFLAGS", ""))
for inherited in (*told_to_make, "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "COLUMNS", "LINES"):
    os.environ.pop(inherited, None)


def pytest_collection_modifyitems(items):
    in_order(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("LOOPBOOK_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {report.longrepr}"
    return report


def program(name: str, package: str) -> str:
    """Where a program is; a skip that says what to install where it is not."""
    path = shutil.which(name) or next(Path("/usr/lib").glob(f"*/*/bin/{name}"), None)
    if path is None:
        pytest.skip(f"{name} is not here; install {package}")
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(is_there: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline, f"{what} did not come up"
        time.sleep(0.1)


class PostgreSQL:
    """A real server with an empty database, which can be killed and started again."""

    def __init__(self):
        self.initdb, self.pg_ctl = (program(name, "postgresql") for name in ("initdb", "pg_ctl"))
        self.folder = Path(tempfile.mkdtemp(prefix="loopbook-postgresql-"))
        self.port = free_port()
        self.address = f"postgresql://loopbook@127.0.0.1:{self.port}/postgres"
        # PostgreSQL refuses to run as root
        is_root = os.getuid() == 0
        who = {"user": "postgres", "group": "postgres", "extra_groups": []} if is_root else {}
        if is_root:
            shutil.chown(self.folder, "postgres", "postgres")
        self.quiet = {"stdout": subprocess.DEVNULL, "cwd": self.folder, **who}
        words = ["--auth=trust", "--username=loopbook", "--no-sync", "--encoding=UTF8"]
        command = [self.initdb, "-D", self.folder / "db", *words, "--locale=C"]
        subprocess.run(command, check=True, **self.quiet)

    def start(self) -> None:
        """Start it, after a kill as well: then it recovers from its own log."""
        # a kill of processes loses nothing that the kernel has, so fsync may be off
        own = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        words = ["-D", self.folder / "db", "-w", "-l", self.folder / "log", "-o", own]
        subprocess.run([self.pg_ctl, *words, "start"], check=True, **self.quiet)

    def kill(self) -> None:
        """SIGKILL, to the server and to every process of its."""
        number = (self.folder / "db" / "postmaster.pid").read_text().split()[0]
        kill_family(psutil.Process(int(number)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        stop = [self.pg_ctl, "-D", self.folder / "db", "-m", "immediate", "stop"]
        subprocess.run(stop, check=False, stderr=subprocess.DEVNULL, **self.quiet)
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_family(parent: psutil.Process) -> None:
    """SIGKILL, to a process and to all that it has started."""
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The address of a real PostgreSQL server, for every test of this process."""
    with PostgreSQL() as server:
        yield server.address


def new_database(server_address: str) -> str:
    """The address of one more empty database; it ends with its server."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    return server_address.removesuffix("postgres") + name


@pytest.fixture
def postgresql(postgresql_server) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    import psycopg

    address = new_database(postgresql_server)
    yield address
    with psycopg.connect(postgresql_server, autocommit=True) as server:
        server.execute(f"DROP DATABASE {address.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture(scope="session")
def one_version(tmp_path_factory) -> Path:
    """A project to copy, with a champion of 3,000 real rows and its features as of March 2015."""

    def make(folder: Path) -> None:
        make_project(folder)
        give(folder, 1, "champion", features_as_of="2015-03-01")

    return made_once(tmp_path_factory, "one version", make)


@pytest.fixture(scope="session")
def two_versions(one_version, tmp_path_factory) -> Path:
    """The same with a second version, the challenger."""

    def make(folder: Path) -> None:
        give(copied(one_version, folder), 2, "challenger")

    return made_once(tmp_path_factory, "two versions", make)


@pytest.fixture(scope="session")
def everything(one_version, tmp_path_factory) -> Path:
    """The first of them with one of every kept kind, to copy: see `kept`."""
    import kept
    from out_of_date import inside

    def make(folder: Path) -> None:
        copied(one_version, folder)
        with inside(folder) as project:
            kept.fill(project)

    return made_once(tmp_path_factory, "everything that is kept", make)


@pytest.fixture(scope="session")
def line(tmp_path_factory) -> Path:
    """A project to copy, whose champion is a ridge regression: it is trained in a second."""

    def make(folder: Path) -> None:
        give(make_project(folder), 1, "champion", "ridge")

    return made_once(tmp_path_factory, "a line", make)


@pytest.fixture(scope="session")
def half_built(line, tmp_path_factory) -> Path:
    """A project to copy, with a turn that was killed three times: see `out_of_date`."""
    from out_of_date import half_build

    return made_once(tmp_path_factory, "half built", lambda f: half_build(copied(line, f)))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    (path,) = made_once(tmp_path_factory, "wheel", wheels.put_own_wheel).glob("*.whl")
    return path


@pytest.fixture(scope="session")
def containers():
    """buildah and podman, which build and run this repository's images."""
    from containers import opened

    here = opened()
    yield here
    here.close()


@pytest.fixture
def house(half_built, tmp_path):
    """A copy of that project, to disturb."""
    from out_of_date import inside

    with inside(copied(half_built, tmp_path / MANY_SIGNS)) as project:
        yield project


@pytest.fixture(scope="session")
def chrome():
    """A browser for the dashboards; a test that changes its width sets it first."""
    from browsing import browser

    with browser(1200) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The address of a real Redis server, which the tests of a worker share."""
    server, port = program("redis-server", "redis-server"), free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([server, *words], stdout=subprocess.DEVNULL) as running:

        def is_up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(is_up, "redis-server")
        yield f"redis://127.0.0.1:{port}/0"
        running.terminate()


def new_prefix(server_address: str) -> str:
    """The address of one more empty place in a Redis server; it ends with its server."""
    return f"{server_address}?prefix=test_{uuid.uuid4().hex}"


@pytest.fixture
def redis_address(redis_server) -> str:
    """The address of an empty place of this test's own, whatever its project is called."""
    return new_prefix(redis_server)
