"""What is shipped: the container holds what the service imports, and nothing else."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from loopbook.project.template import adapted

ROOT = Path(__file__).parents[1]


def pins(path: str) -> set[tuple[str, str]]:
    text = (ROOT / path).read_text()
    return set(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def test_the_container_has_the_locks_pins_and_no_tool_for_training_or_tests():
    assert pins("deploy/service.lock") <= pins("requirements.lock")
    names = {name for name, _ in pins("deploy/service.lock")}
    unwanted = {"mlflow", "scikit-learn", "jupyterlab", "ploomber", "pytest", "uv", "skops", "dvc"}
    assert not names & unwanted
    text = (ROOT / "deploy/service.lock").read_text()
    assert "index-url" not in text
    assert text.count("--hash=sha256") >= len(names)


@pytest.mark.parametrize("extra", ["dvc", "wandb"])
def test_the_lock_of_an_extra_changes_no_version_and_has_a_hash_for_each_pin(extra):
    """DVC and Weights & Biases come on top, by `make`; the environment itself is without them."""
    base, added = dict(pins("requirements.lock")), dict(pins(f"requirements-{extra}.lock"))
    assert extra in added
    assert extra not in base
    assert {name: base[name] for name in added if name in base}.items() <= added.items()
    text = (ROOT / f"requirements-{extra}.lock").read_text()
    assert "index-url" not in text
    assert text.count("--hash=sha256") >= len(added)


def test_a_projects_lock_has_the_drivers_of_the_back_ends_that_its_compose_file_names():
    """Its loop and its MLflow run from the workbench, which is made of this lock."""
    lock = "src/loopbook/project/skeleton/requirements.lock"
    assert {"psycopg", "psycopg-binary", "redis"} <= dict(pins(lock)).keys()
    assert pins(lock) <= pins("requirements.lock")


def test_airflow_is_in_no_environment_of_ours_and_its_lock_has_a_hash_for_each_pin():
    """It wants other versions, and lives in one of its own, by `make airflow`."""
    for ours in ("requirements.lock", "requirements-dvc.lock", "deploy/service.lock"):
        assert not {name for name, _ in pins(ours) if name.startswith("apache-airflow")}
    text, own = (ROOT / "requirements-airflow.lock").read_text(), pins("requirements-airflow.lock")
    assert {"apache-airflow-core", "apache-airflow-providers-standard"} <= dict(own).keys()
    assert "index-url" not in text
    assert text.count("--hash=sha256") >= len(own)


def test_the_lock_of_other_engines_has_a_hash_for_each_pin_and_fastapi_of_our_series():
    text, own = (ROOT / "requirements-engines.lock").read_text(), pins("requirements-engines.lock")
    assert {"kfp", "hera", "dagster", "flyte"} <= dict(own).keys()
    series = [dict(p)["fastapi"].rsplit(".", 1)[0] for p in (own, pins("requirements.lock"))]
    assert series[0] == series[1]
    assert text.count("--hash=sha256") >= len(own)


@pytest.mark.medium
def test_what_the_service_imports_is_in_the_container():
    """Every distribution behind a module of a loaded service has its pin."""
    code = (
        "import json, sys, loopbook.serving.app, serving.__main__, loopbook.cli.main, uvloop, httptools\n"
        "import httptools, uvicorn.protocols.http.httptools_impl, sqlalchemy, httpx\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    known = packages_distributions()
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()  # noqa: E731
    there = {name for name, _ in pins("deploy/service.lock")} | {"loopbook"}
    behind = {m: {normal(d) for d in known[m]} for m in json.loads(done.stdout) if m in known}
    absent = {m for m, distributions in behind.items() if not distributions & there}
    # httpx, anyio, numpy, FastAPI and uvicorn use these where they happen to be
    optional = {"brotli", "_brotli", "sniffio", "setuptools", "_distutils_hack"}
    assert absent <= optional | {"multipart", "ujson", "watchfiles"}, absent


def test_the_compose_file_keeps_its_schema_and_the_image_its_promises():
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*words, ROOT / "deploy/compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["service"]
    assert service["read_only"]
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "USER 10001:10001" in last  # a name would be refused where nobody may be root
    assert any(line.startswith("HEALTHCHECK") for line in last)
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            needed = [
                source for source in sources if "[" not in source
            ]  # a pattern may match nothing
            assert all((ROOT / source).exists() for source in needed), line


@pytest.mark.medium
@pytest.mark.parametrize("whose", ["loopbook", "a project"])
def test_hadolint_finds_nothing_in_the_dockerfile(whose, tmp_path):
    """That of this repository, and what `loopbook new` makes of it."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    (tmp_path / "Dockerfile").write_text(text if whose == "loopbook" else adapted(text))
    words = [Path(sys.executable).parent / "hadolint", "--no-color", tmp_path / "Dockerfile"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_projects_dockerfile_has_the_wheel_of_its_vendor_folder_and_no_source_of_ours():
    text = adapted((ROOT / "deploy/Dockerfile").read_text())
    assert "COPY src" not in text
    assert "/build/vendor/loopbook-*.whl" in text
    assert re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)[-1] == "service"
    assert "--editable" not in text


def test_no_image_gets_what_runs_and_tools_leave():
    """Gigabytes that would be sent for each build, and what is nobody else's to read."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    named = {".git", ".venv*", "var", "dist", "deploy/secrets", "**/__pycache__", "**/.env"}
    assert named <= set(ignored)
