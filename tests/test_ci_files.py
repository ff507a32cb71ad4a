"""The files of GitHub Actions, GitLab CI and Jenkins: valid, thin, pinned, and run as written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tree_sitter_groovy
import yaml
from tree_sitter import Language, Node, Parser

from loopbook.project.template import adapted

ROOT = Path(__file__).parents[1]
SKELETON = ROOT / "src/loopbook/project/skeleton"
WORKFLOWS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, SKELETON)
    for path in (folder / ".github/workflows").glob("*.yml")
)
GITLAB = [".gitlab-ci.yml", "src/loopbook/project/skeleton/.gitlab-ci.yml"]
JENKINS = ["Jenkinsfile", "src/loopbook/project/skeleton/Jenkinsfile"]
# what a platform puts in the place of an expression of its own
EVENTS = {
    "github.event.pull_request.base.sha": "abc123",
    "github.event.pull_request.number": "7",
    "github.token": "t",
    "vars.LOOPBOOK_FOLDER": ".",
    "secrets.LOOPBOOK_SERVICE_KEY": "k",
    "secrets.LOOPBOOK_SIGNING_KEY": "k",
}
SET = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc123", "CI_MERGE_REQUEST_IID": "7"}
SET |= {"CHANGE_TARGET": "main", "LOOPBOOK_FOLDER": ".", "CI_COMMIT_TAG": "v1", "DIFF_TOKEN": "t"}


def read(file: str) -> dict:
    return yaml.load((ROOT / file).read_text(), yaml.BaseLoader)


def filled(text: str) -> str:
    return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: EVENTS[found[1]], text)


def nodes(node: Node) -> list[Node]:
    return [node, *(inner for child in node.children for inner in nodes(child))]


def groovy(file: str) -> Node:
    text = (ROOT / file).read_bytes()
    return Parser(Language(tree_sitter_groovy.language())).parse(text).root_node


def github_commands() -> list:
    return [
        pytest.param(file, step["run"], step.get("env", {}), id=f"{file}: {step['run'][:40]}")
        for file in WORKFLOWS
        for job in read(file)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]


def gitlab_commands() -> list:
    return [
        pytest.param(file, line, {}, id=f"{file}: {line[:40]}")
        for file in GITLAB
        for job in read(file).values()
        if isinstance(job, dict)
        for line in job.get("script", [])
    ]


def jenkins_commands() -> list:
    words = [(file, re.findall(r"\bsh '([^']*)'", (ROOT / file).read_text())) for file in JENKINS]
    return [
        pytest.param(f, line, {}, id=f"{f}: {line[:40]}") for f, lines in words for line in lines
    ]


COMMANDS = [*github_commands(), *gitlab_commands(), *jenkins_commands()]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("schema", "file"),
    [*(("github-workflows", f) for f in WORKFLOWS), *(("gitlab-ci", f) for f in GITLAB)],
)
def test_ci_files_keep_their_published_schemas(schema, file):
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*words, ROOT / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_linter_of_workflows_finds_nothing():
    """zizmor: actions that a tag may move, tokens that stay behind, text that becomes a command."""
    zizmor = Path(sys.executable).with_name("zizmor")
    words = ["--offline", "--no-progress", "--quiet", "--no-config"]
    done = subprocess.run(
        [zizmor, *words, *(ROOT / f for f in WORKFLOWS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS)
def test_every_action_is_pinned_by_digest_and_says_which_version_that_is(file):
    used = re.findall(r"uses: (.*)", (ROOT / file).read_text())
    pins = dict(
        re.findall(r"uses: ([\w-]+/[\w-]+@[0-9a-f]{40}) # (v\d+\.\d+\.\d+)\n", everywhere())
    )
    assert all(re.sub(r" #.*", "", use) in pins for use in used), used
    names = [pin.split("@")[0] for pin in pins]
    assert len(names) == len(set(names)), "one version of each action"


def everywhere() -> str:
    return "\n".join((ROOT / file).read_text() for file in WORKFLOWS)


@pytest.mark.parametrize("file", JENKINS)
def test_the_jenkinsfile_is_groovy_and_every_stage_has_steps(file):
    tree = groovy(file)
    assert not tree.has_error, [n.start_point for n in nodes(tree) if n.type == "ERROR"]
    called = [n.children[0].text for n in nodes(tree) if n.type == "method_invocation"]
    assert called[0] == b"pipeline"
    assert called.count(b"stage") == called.count(b"steps") >= 1
    broken = (ROOT / file).read_text().replace("stages {", "stages (", 1).encode()
    assert Parser(Language(tree_sitter_groovy.language())).parse(broken).root_node.has_error


@pytest.fixture(scope="module")
def clones(tmp_path_factory) -> dict[str, Path]:
    """What a runner checks out, of this repository and of a project, with a `make` that runs nothing."""
    folder = tmp_path_factory.mktemp("ci")
    real = shutil.which("make")
    tools = folder / "tools"
    tools.mkdir()
    for name, text in {
        "make": f'echo "make $*" >> "$TOLD"\n{real} -n "$@" >/dev/null || exit 9\n'
        'case "$*" in *diff*) mkdir -p var; echo "<!-- mark -->" > var/diff.md ;; esac\n',
        "apt-get": "exit 0\n",
        "gh": 'echo "gh $*" >> "$TOLD"\n',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}")
        (tools / name).chmod(0o755)
    ours, theirs = folder / "loopbook", folder / "project"
    for clone, makefile in ((ours, str), (theirs, adapted)):
        shutil.copytree(ROOT / ".ci", clone / ".ci")
        (clone / "Makefile").write_text(makefile((ROOT / "Makefile").read_text()))
        locks = [path.name for path in ROOT.glob("*.lock")]
        for name in (*locks, "pyproject.toml", "src/loopbook_environment.pth"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
        (clone / ".venv/bin").mkdir(parents=True)
        (clone / ".venv/bin/python").symlink_to(sys.executable)
    (theirs / ".ci/run").unlink()
    return {"": ours, "src/loopbook/project/skeleton/": theirs, "tools": tools}


@pytest.mark.medium
@pytest.mark.parametrize(("file", "command", "variables"), COMMANDS)
def test_each_jobs_commands_run_as_they_are_written(clones, tmp_path, file, command, variables):
    """In the shell of the platform; make is dry, and refuses a target that is not there."""
    clone = clones["src/loopbook/project/skeleton/" if file.startswith("src") else ""]
    told = tmp_path / "told"
    own = {name: filled(value) for name, value in variables.items()}
    known = {"PATH": f"{clones['tools']}:{os.environ['PATH']}", "TOLD": str(told)}
    known |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_REF_NAME": "v1"}
    known |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_REPOSITORY": "a/b"}
    (clone / "var").mkdir(exist_ok=True)
    (clone / "var/diff.md").write_text("<!-- mark -->\n")
    shell = ["sh", "-e"] if "GITLAB" in file.upper() or "Jenkins" in file else ["bash", "-e"]
    words = [*shell, "-c", filled(command)]
    done = subprocess.run(words, cwd=clone, env=SET | known | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told.exists() or list(tmp_path.iterdir()) or "apt-get" in command


@pytest.mark.parametrize("files", [WORKFLOWS, GITLAB, JENKINS])
def test_each_platform_runs_all_that_there_is_to_run(files):
    """Code, a schedule, data: in this repository and in a project."""
    ours = "\n".join((ROOT / f).read_text() for f in files if not f.startswith("src"))
    theirs = "\n".join((ROOT / f).read_text() for f in files if f.startswith("src"))
    for wanted in (".ci/run check", ".ci/run slow", ".ci/run nightly", "make replay", "make diff"):
        assert wanted in ours
    assert "make release" in ours
    for text in (ours, theirs if files is not WORKFLOWS else ours):
        assert "make data" in text
        assert re.search(r"make -C \S+ turn", text)


def test_no_test_is_run_twice_by_the_jobs_of_one_change(tmp_path):
    """`check` and `slow` share nothing, and together are what a push runs."""
    wanted = {}
    for way in ("check", "slow", "push", "nightly"):
        told = subprocess.run(
            ["bash", "-c", f"sed -n 's/^  {way}) what=(\\(.*\\)) ;;/\\1/p' .ci/run"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        ).stdout.split()
        recipe = subprocess.run(["make", "-n", *told], cwd=ROOT, capture_output=True, text=True)
        marks = re.findall(r"pytest -q (?:-m '([^']*)')?", recipe.stdout)
        wanted[way] = marks[-1]
    assert wanted == {
        "check": "not slow and not nightly",
        "slow": "slow and not nightly",
        "push": "not nightly",
        "nightly": "",
    }


@pytest.mark.medium
def test_what_make_was_told_reaches_no_make_that_a_test_types(tmp_path):
    """`.ci/run` types `make test PART=fast`, and a test under it asks what `make test` runs."""
    asks = "tests/test_ci_files.py::test_no_test_is_run_twice_by_the_jobs_of_one_change"
    line = f"'{sys.executable}' -m pytest -q -p no:cacheprovider {asks}"
    (tmp_path / "Makefile").write_text(f"test:\n\tcd '{ROOT}' && {line}\n")
    words = ["make", "-C", str(tmp_path), "test", "PART=fast", "ALL=1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_turn_fails_only_where_a_person_has_to_look(tmp_path):
    """The recipe of `make turn`, with a loop that ends with each outcome."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    stub = tmp_path / ".venv/bin/loopbook"
    stub.parent.mkdir(parents=True)
    text = (ROOT / "Makefile").read_text()
    needed = re.search(r"^\$\(READY\): (.*)$", text, re.MULTILINE)[1].split()
    for name in [*needed, ".venv/.ready"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for code, is_well in {0: True, 10: True, 20: True, 30: False, 40: False, 1: False}.items():
        stub.write_text(f"#!/bin/sh\n[ \"$*\" = 'loop --once' ] || exit 99\nexit {code}\n")
        stub.chmod(0o755)
        done = subprocess.run(["make", "turn"], cwd=tmp_path, capture_output=True)
        assert (done.returncode == 0) == is_well, code
