"""Real servers for the tests that want one, and the rule about skips.

On a person's machine a test whose program is missing is skipped and says what
to install. With `LOOPBOOK_NO_SKIPS`, as in CI, a skipped test fails.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("LOOPBOOK_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {report.longrepr}"
    return report


def program(name: str, package: str) -> str:
    """Where a program is; a skip that says what to install where it is not."""
    found = shutil.which(name) or next(Path("/usr/lib").glob(f"*/*/bin/{name}"), None)
    if found is None:
        pytest.skip(f"{name} is not here; install {package}")
    return str(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(is_there: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline, f"{what} did not come up"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a real PostgreSQL server with an empty database."""
    initdb, pg_ctl = program("initdb", "postgresql"), program("pg_ctl", "postgresql")
    folder = Path(tempfile.mkdtemp(prefix="loopbook-postgresql-"))
    # PostgreSQL refuses to run as root
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    if who:
        shutil.chown(folder, "postgres", "postgres")
    port, quiet = free_port(), {"stdout": subprocess.DEVNULL, "cwd": folder, **who}
    words = ["--auth=trust", "--username=loopbook", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run([initdb, "-D", folder / "db", *words], check=True, **quiet)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    start = [pg_ctl, "-D", folder / "db", "-w", "-l", folder / "log", "-o", options, "start"]
    subprocess.run(start, check=True, **quiet)
    yield f"postgresql://loopbook@127.0.0.1:{port}/postgres"
    stop = [pg_ctl, "-D", folder / "db", "-m", "immediate", "stop"]
    subprocess.run(stop, check=False, **quiet)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_address() -> Iterator[str]:
    """The address of a real, empty Redis server."""
    server, port = program("redis-server", "redis-server"), free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([server, *words], stdout=subprocess.DEVNULL) as running:

        def is_up() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(is_up, "redis-server")
        yield f"redis://127.0.0.1:{port}/0"
        running.terminate()
