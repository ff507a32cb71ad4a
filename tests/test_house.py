"""The house keeps its own rules: imports, notebooks, settings, pictures, pins."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from loopbook.cli import main
from loopbook.pipeline import picture
from loopbook.pipeline import tasks as pipeline_tasks
from loopbook.pipeline.digests import modules_of
from loopbook.project import paths

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIBRARY = ROOT / "src/loopbook"
MODULES = sorted(LIBRARY.rglob("*.py"))

LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES = [
    name for layer in reversed(LAYERS["contracts"][0]["layers"]) for name in layer.split(" | ")
]


def imports(code: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.medium
@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("mlflow", "registry/tracking.py"),
        ("ploomber", "pipeline/graph.py"),
        ("dvc", "data/dataset_versions.py"),
        ("evidently", "monitoring/evidently_report.py"),
        ("duckdb", "data/queries.py"),
        ("openlineage", "pipeline/lineage_events.py"),
    ],
)
def test_a_heavy_library_has_one_door(library, module):
    users = {m for m in MODULES for i in imports(m.read_text()) if i.split(".")[0] == library}
    assert users == {LIBRARY / module}


def test_each_package_imports_only_from_those_below_it():
    """The layers of pyproject.toml, held by import-linter; its report is the message."""
    words = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert {folder.parent.name for folder in LIBRARY.glob("*/__init__.py")} == set(PACKAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_the_anatomy_of_all(path):
    cells = json.loads(path.read_text())["cells"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    for tag in ("title", "parameters", "inputs", "checks", "outputs", "summary"):
        assert tags.count(tag) == 1, tag
    title = "".join(cells[0]["source"])
    assert title.startswith("# ")
    assert "| Reads | Writes | Decides |" in title
    code = [c for c in cells if c["cell_type"] == "code"]
    assert 6 <= len(code) <= 20  # the method of a decision stands in its notebook
    assert not any(c["outputs"] or c["execution_count"] for c in code)
    for cell in code:
        source = "".join(cell["source"])
        assert not re.search(r"^(def|class|%|!)", source, re.MULTILINE)
    words = sum(len("".join(c["source"]).split()) for c in cells if c["cell_type"] == "markdown")
    lines = sum(len("".join(c["source"]).splitlines()) for c in code)
    assert words >= 2 * lines


def test_a_notebooks_modules_are_found_through_others():
    here = paths.Project(ROOT)
    reached = modules_of(here, ROOT / "notebooks/01_ingest.ipynb")
    assert {"data", "data.sources", "project.errors", "project.files"} <= reached.keys()
    assert "models.promotion" not in reached


def python(code: str, folder: Path, **variables: str) -> dict[str, str]:
    foreign = set(paths.Project(ROOT).environment()) | {"LOOPBOOK_PROJECT"} | set(variables)
    defaults = set(paths.NO_TELEMETRY) | set(paths.ONE_THREAD)
    clean = {k: v for k, v in os.environ.items() if k not in foreign | defaults}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, json\n{code}\nprint(json.dumps(dict(os.environ)))"],
        cwd=folder,
        env=clean | variables,
        text=True,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_telemetry_is_off_and_threads_are_one_in_every_python_of_a_project(tmp_path):
    for name in paths.MARKS:
        (tmp_path / name).touch()
    (tmp_path / "notebooks").mkdir()
    for folder in (tmp_path, tmp_path / "notebooks"):
        variables = python("", folder)
        assert {k: variables[k] for k in paths.NO_TELEMETRY} == paths.NO_TELEMETRY
        assert variables["OMP_NUM_THREADS"] == "1"
        assert str(tmp_path) in variables["MLFLOW_TRACKING_URI"]


def test_outside_a_project_a_python_of_the_environment_is_left_alone(tmp_path):
    """No variable is set and nothing of ours is imported: others work in it too."""
    code = "import sys; assert not [m for m in sys.modules if m.startswith('loopbook')]"
    variables = python(code, tmp_path)
    assert not variables.keys() & {*paths.NO_TELEMETRY, *paths.ONE_THREAD, "MLFLOW_TRACKING_URI"}


def test_a_persons_own_setting_stays_and_a_copy_never_writes_into_the_original(tmp_path):
    for name in paths.MARKS:
        (tmp_path / name).touch()
    assert python("", tmp_path, OMP_NUM_THREADS="4")["OMP_NUM_THREADS"] == "4"
    own = "http://tracking:5000"
    assert python("", tmp_path, MLFLOW_TRACKING_URI=own)["MLFLOW_TRACKING_URI"] == own
    outer = paths.Project(ROOT).environment()["MLFLOW_TRACKING_URI"]
    inherited = python("", tmp_path, MLFLOW_TRACKING_URI=outer, LOOPBOOK_PROJECT=str(ROOT))
    assert str(tmp_path) in inherited["MLFLOW_TRACKING_URI"]


def test_libraries_see_that_telemetry_is_off():
    code = (
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "from ploomber_core.telemetry.telemetry import check_telemetry_enabled\n"
        "assert is_telemetry_disabled() and not check_telemetry_enabled()"
    )
    python(code, ROOT)


def test_the_readmes_picture_and_table_are_the_graph():
    plan = pipeline_tasks.plan(paths.Project(ROOT))
    assert (ROOT / "docs/graph.svg").read_text() == picture.draw(plan)
    readme = (ROOT / "README.md").read_text()
    linked = re.findall(r"\(notebooks/(\w+)\.ipynb\)", readme)
    shown = [Path(task["notebook"]).stem for task in plan]
    for graph in ("score", "monitor"):
        text = (ROOT / f"pipeline.{graph}.yaml").read_text()
        shown += re.findall(r"source: notebooks/(\w+)\.ipynb", text)
    assert linked == list(dict.fromkeys(shown))


def commands() -> set[str]:
    """Every command as it is typed: `build`, `features show`."""
    known = {c.callback.__name__ for c in main.app.registered_commands}
    for group in main.app.registered_groups:
        known |= {
            f"{group.name} {c.name or c.callback.__name__}"
            for c in group.typer_instance.registered_commands
        }
        if group.invoke_without_command:
            known.add(group.name)
    return known


def test_every_command_and_make_target_is_documented_and_exists():
    pages = "\n".join(p.read_text() for p in [ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
    assert set(re.findall(r"`loopbook (\w+(?: [a-z]+)?)", pages)) == commands()
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", pages, re.MULTILINE)) == targets
    ci = (ROOT / ".ci/run").read_text()
    used = set(re.findall(r"^ *make ([a-z]+)", ci, re.MULTILINE))
    used |= set(re.findall(r"what=\(([a-z]+)", ci))
    assert used == {"dvc", "test"} <= targets


def test_every_pin_has_a_hash_and_conda_uses_the_same_uv():
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)(.*(?:\n    --hash=.*)*)", lock, re.MULTILINE)
    assert len(pins) > 150
    assert all("--hash=sha256" in rest for _, _, rest in pins)
    assert "index-url" not in lock
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    uv = next(version for name, version, _ in pins if name == "uv")
    assert f"uv =={uv}" in conda


def test_the_architecture_page_has_every_package_and_module_in_the_order_of_the_layers():
    """By the first lines of their docstrings, from the ground up."""
    page = (ROOT / "docs/architecture.md").read_text()
    shown = re.findall(r"^(?:### `(\w+)`|\| `(\w+)` \|.*)$", page, re.MULTILINE)
    assert [package for package, _ in shown if package] == PACKAGES
    for package in PACKAGES:
        part = page.split(f"### `{package}`\n")[1].split("\n##")[0]
        told = ast.get_docstring(ast.parse((LIBRARY / package / "__init__.py").read_text()))
        assert " ".join(told.split("\n\n")[1].split()) in part, package
        modules = [m for m in sorted((LIBRARY / package).glob("*.py")) if m.stem != "__init__"]
        for module in modules:
            first = ast.get_docstring(ast.parse(module.read_text())).splitlines()[0]
            line = f"| `{module.stem}` | {first.split(': ', 1)[-1].rstrip('.')} |"
            assert line in part, f"docs/architecture.md needs the line {line} under {package}"
        assert set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) == {m.stem for m in modules}


def test_every_link_of_a_page_leads_somewhere():
    others = [ROOT / "data/README.md", *(ROOT / "examples").rglob("*.md")]
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *others]:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_every_page_is_reached_from_the_readme():
    waiting, seen = [ROOT / "README.md"], set()
    while waiting:
        page = waiting.pop()
        seen.add(page.resolve())
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text()):
            if (page.parent / target).resolve() not in seen:
                waiting.append(page.parent / target)
    assert {p.resolve() for p in (ROOT / "docs").rglob("*.md")} <= seen


def test_a_command_that_a_page_shows_exists_with_its_options():
    """`loopbook …` and `make …` anywhere in the docs, the notebooks and the messages."""
    known = {command.split()[0] for command in commands()}
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *NOTEBOOKS, *MODULES]:
        text = page.read_text()
        assert set(re.findall(r"`(?:\. )?loopbook ([a-z]+)", text)) <= known, page.name
        assert set(re.findall(r"`make ([a-z]+)`", text)) <= targets, page.name


def test_every_route_is_documented_and_every_documented_one_exists():
    text = "\n".join(p.read_text() for p in (LIBRARY / "serving").glob("*.py"))
    routes = {f"{m.upper()} {p}" for m, p in re.findall(r'@app\.(get|post)\(\s*"([^"]+)"', text)}
    page = (ROOT / "docs/serving.md").read_text()
    assert set(re.findall(r"^\| `((?:GET|POST) [^`]+)` \|", page, re.MULTILINE)) == routes
