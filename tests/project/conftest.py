"""A build of this project on a sample of its rows, made once for all tests."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from loopbook.data import sources
from loopbook.project.clock import EVENT_TS
from loopbook.project.contract import read_contract
from loopbook.project.paths import Project, find_root

HERE = Project(find_root(Path(__file__).parent))
SAMPLE = 5_000  # rows, the newest
KNOBS = {"gate_min_rows": 30, "bootstrap_resamples": 200}  # that a sample can bear
MADE = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
FOLDERS = ("notebooks", "serving")
FILES = ("env.yaml", "pipeline.yaml", "pipeline.monitor.yaml", "requirements.lock", "candidates.py")


@pytest.fixture(scope="session")
def project() -> Project:
    """This project, as it is."""
    return HERE


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Project:
    """A copy with the newest rows only and two candidates, built up to the gate's decision."""
    sample = Project(tmp_path_factory.mktemp("sample") / "project")
    sample.root.mkdir()
    for name in FOLDERS:
        shutil.copytree(HERE.root / name, sample.root / name, ignore=MADE)
    for name in FILES:
        if (HERE.root / name).exists():
            shutil.copy(HERE.root / name, sample.root)
    give_rows(sample)
    graph = sample.graph.read_text()
    sample.graph.write_text(re.sub(r"names: \[[^]]*\]", "names: [baseline, ridge]", graph))
    knobs = sample.knobs.read_text(encoding="utf-8")
    for knob, value in KNOBS.items():
        knobs = re.sub(rf"^{knob}:.*$", f"{knob}: {value}", knobs, flags=re.MULTILINE)
    sample.knobs.write_text(knobs, encoding="utf-8")
    run(sample, "build")
    return sample


@pytest.fixture(scope="session")
def check(built) -> str:
    """What `loopbook check` says of the sample, right after its build."""
    return run(built, "check")


def give_rows(sample: Project) -> None:
    """The newest rows of the source as the sample's own, read through its contract."""
    contract = read_contract(HERE.contract)
    rows = sources.read_source(contract, HERE.root)
    if contract.event_time:
        clocked = sources.with_clock(rows, contract)
        rows = clocked.sort(EVENT_TS).select(rows.columns)
    (sample.root / "data").mkdir()
    rows.tail(SAMPLE).select(contract.columns).write_parquet(sample.root / "data/sample.parquet")
    text = yaml.safe_load(HERE.contract.read_text(encoding="utf-8"))
    text |= {"source": {"path": "data/sample.parquet"}, "ignored": []}
    sample.contract.write_text(yaml.safe_dump(text, sort_keys=False, allow_unicode=True))


@pytest.fixture(scope="session")
def service(built) -> Iterator[httpx.Client]:
    """The sample's service in a process of its own, when it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "serving", "--port", str(port), "--quiet"]
    process = subprocess.Popen(words, cwd=built.root, env=variables(built))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        deadline = time.monotonic() + 60
        while not is_ready(client):
            assert process.poll() is None, "the service stopped; see the lines above"
            assert time.monotonic() < deadline, "the service did not become ready"
            time.sleep(0.2)
        yield client
    process.terminate()
    process.wait(30)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


def variables(project: Project) -> dict[str, str]:
    """The environment of a process in a project, with nothing of another one's."""
    own = {"LOOPBOOK_PROJECT", *project.environment()}
    return {name: value for name, value in os.environ.items() if name not in own}


def run(project: Project, *words: str) -> str:
    """A command of loopbook in a project; what it printed."""
    command = [sys.executable, "-m", "loopbook", *words]
    done = subprocess.run(
        command,
        cwd=project.root,
        env=variables(project),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
