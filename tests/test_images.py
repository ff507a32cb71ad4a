"""The images are built as the Dockerfile says, and run as a cluster would run them.

Not as root, with a read-only root, without a capability, without a network: what
works then works everywhere.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from containers import ASK, USER, given_to
from made_once import new_project
from small_house import FULL, ROOT

from loopbook.project.template import with_knobs

pytestmark = pytest.mark.slow
# What a cluster with the pod security standard "restricted" does, and no network at all.
RESTRICTED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--network", "none"),
)
GENTOO = {
    "island": "Biscoe", "bill_length": 47.5, "bill_depth": 14.2, "flipper_length": 217,
    "body_mass": 5200, "sex": "female", "year": 2008,
}  # fmt: skip


@pytest.fixture(scope="module")
def service(containers) -> str:
    return containers.build("service")


@pytest.fixture(scope="module")
def workbench(containers) -> str:
    return containers.build("workbench")


@pytest.fixture(scope="module")
def served(containers, service, line, tmp_path_factory):
    """The service on a var/ that was built elsewhere, under another path."""
    var = tmp_path_factory.mktemp("elsewhere") / "var"
    shutil.copytree(line / "var", var, symlinks=True)
    given_to(USER, var)
    mounts = ("--volume", f"{var}:/project/var", "--volume", f"{ROOT / 'data'}:/project/data:ro")
    options = (*RESTRICTED, *mounts, "--env", "LOOPBOOK_PORT=8123")
    with containers.running(service, options=options) as running:
        running.wait_for("python", "-c", ASK, "/health/ready")
        yield running


def test_the_service_image_has_nothing_but_the_service(containers, service):
    looked_for = "pip uv ensurepip jupyterlab sklearn mlflow pytest ploomber setuptools"
    code = (
        "import importlib.util as i, shutil, sys\n"
        f"there = [m for m in '{looked_for}'.split() if i.find_spec(m)]\n"
        "tools = 'gcc cc make pip pip3 uv jupyter git curl wget'.split()\n"
        "print(there, [t for t in tools if shutil.which(t)])"
    )
    done = containers.run(
        service, "-c", code, options=("--entrypoint", "python", "--network", "none")
    )
    assert done.stdout.strip() == "[] []", done
    assert containers.size(service) < 550e6


def test_the_images_run_as_a_number_and_the_services_modules_are_compiled(containers, service):
    settings = containers.settings(service)
    assert settings["User"] == f"{USER}:{USER}"  # runAsNonRoot refuses a name
    code = (
        "import pathlib, loopbook, fastapi, polars\n"
        "for package in (loopbook, fastapi, polars):\n"
        "    for path in pathlib.Path(package.__file__).parent.rglob('*.py'):\n"
        "        kept = path.parent / '__pycache__' / (path.stem + '.cpython-311.pyc')\n"
        "        kept.exists() or print(path)"
    )
    done = containers.run(
        service, "-c", code, options=("--entrypoint", "python", "--network", "none")
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_registry_that_was_built_elsewhere_is_served_without_rights(served):
    told = served.exec("loopbook", "keys", "create", "me", "--scope", "predict")
    key = told.stdout.split()[0]
    asked = served.exec("python", "-c", ASK, "/predict", key, json.dumps(FULL))
    assert json.loads(asked.stdout)["version"] == "1"
    status = Path(f"/proc/{served.pid()}/status").read_text()
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert served.exec("touch", "/app/x", check=False).returncode


def test_features_are_materialized_in_the_service_image(served):
    done = served.exec("loopbook", "features", "materialize", "--as-of", "2015-03-01")
    assert "change points" in done.stdout
    shown = served.exec("loopbook", "features", "show", "98115", "--as-of", "2015-03-01")
    assert "none" not in shown.stdout.splitlines()[2]


def test_the_health_check_asks_the_port_that_is_set_and_no_poll_is_logged(
    containers, service, served
):
    check = containers.settings(service)["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    before = served.logs().count('"request"')
    for _ in range(3):
        served.exec(*check[1:])
    served.exec("python", "-c", ASK, "/metadata", check=False)  # 401 without a key, and logged
    assert served.logs().count('"request"') == before + 1
    wrong = served.exec(*check[1:], options=("--env", "LOOPBOOK_PORT=8124"), check=False)
    assert wrong.returncode


def test_no_process_of_the_image_calls_anybody(served):
    """The kernel counts what found no way out; a call on purpose shows that it does."""

    def called() -> int:
        words = Path(f"/proc/{served.pid()}/net/snmp").read_text().splitlines()
        ip = dict(zip(*(line.split() for line in words if line.startswith("Ip:")), strict=True))
        six = Path(f"/proc/{served.pid()}/net/snmp6").read_text().split()
        return int(ip["OutNoRoutes"]) + int(six[six.index("Ip6OutNoRoutes") + 1])

    assert called() == 0
    code = "import socket; socket.socket(2, 2).connect(('192.0.2.1', 53))"
    assert "unreachable" in served.exec("python", "-c", code, check=False).stderr
    assert called() > 0


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (("--volume", "{folder}:/project/var"), "user 10001 has no right to it; /project/var"),
        (("--tmpfs", "/project/var:size=16k,mode=777"), "free s"),
        (("--volume", "{folder}:/project/var:ro"), "mounted read-only"),
    ],
)
def test_a_volume_that_cannot_be_written_is_told(containers, service, tmp_path, volume, said):
    tmp_path.chmod(0o755)
    mounted = [word.format(folder=tmp_path) for word in volume]
    done = containers.run(service, options=(*RESTRICTED, *mounted))
    assert done.returncode not in (0, None)
    assert said in done.stderr.replace("Free", "free"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_workbench_builds_an_example_and_has_what_people_open(
    containers, workbench, tmp_path_factory
):
    """As one who may not write outside var/, without a network."""
    example, own = ROOT / "examples" / "penguins", tmp_path_factory.mktemp("workbench")
    knobs = with_knobs((ROOT / "env.yaml").read_text(), (example / "env.yaml").read_text())
    (own / "env.yaml").write_text(knobs)
    (var := own / "var").mkdir()
    own.chmod(0o755)
    given_to(USER, var)
    read_only = [own / "env.yaml", example / "contract.yaml", example / "data"]
    mounts = [f"{var}:/project/var", *(f"{path}:/project/{path.name}:ro" for path in read_only)]
    options = (*RESTRICTED, *(word for m in mounts for word in ("--volume", m)))
    commands = (
        "id -u && ls -A && jupyter lab --version && voila --version && loopbook build && "
        "loopbook status"
    )
    done = containers.run(workbench, "sh", "-c", commands, options=options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.startswith(f"{USER}\n")
    assert not {".git", ".venv", ".env"} & set(done.stdout.split())
    assert (var / "mlflow" / "mlflow.db").exists()


def test_a_wrong_tracking_address_is_told_before_anything_is_run(containers, workbench):
    away = ("--env", "MLFLOW_TRACKING_URI=http://127.0.0.1:9", "--tmpfs", "/project/var:mode=777")
    done = containers.run(workbench, "loopbook", "build", options=(*RESTRICTED, *away))
    assert done.returncode == 1
    assert "MLFLOW_TRACKING_URI http://127.0.0.1:9: is away" in done.stderr
    assert "nothing was run" in done.stderr


def test_a_projects_own_images_build_its_champion_and_serve_it(containers, wheel, tmp_path_factory):
    """A project as `loopbook new` makes it, with two candidates; nothing of this checkout."""
    own = tmp_path_factory.mktemp("own")
    project = new_project(own / "my penguins", wheel, name="my-penguins", example="penguins")
    graph = project / "pipeline.yaml"
    graph.write_text(re.sub(r"names: \[.*\]", "names: [baseline, ridge]", graph.read_text()))
    (var := own / "var").mkdir()
    given_to(USER, var)
    options = (*RESTRICTED, "--volume", f"{var}:/project/var")
    workbench = containers.build("workbench", project)
    built = containers.run(workbench, "loopbook", "build", options=options)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    service = containers.build("service", project)
    with containers.running(service, options=options) as running:
        running.wait_for("python", "-c", ASK, "/health/ready")
        key = running.exec("loopbook", "keys", "create", "me", "--scope", "predict").stdout.split()
        asked = running.exec("python", "-c", ASK, "/predict", key[0], json.dumps(GENTOO))
        answer = json.loads(asked.stdout)
        assert (answer["version"], answer["predicted_species"]) == ("1", "Gentoo"), answer
        uids = Path(f"/proc/{running.pid()}/status").read_text().partition("Uid:")[2].split()
        assert uids[:4] == [str(USER)] * 4
        assert running.exec("touch", "/app/x", check=False).returncode
