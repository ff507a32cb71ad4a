"""What a module's code is, parsed once and remembered until its file changes."""

import json
import os

import pytest

from loopbook.pipeline import kernels, module_code
from loopbook.project.paths import Project

SOURCE = "from loopbook.data import splits  # a comment\nimport json\n\nPART = splits.PART\n"


@pytest.fixture
def parsed(monkeypatch) -> list[str]:
    """The sources that were parsed, in their order."""
    sources: list[str] = []
    parse = module_code.parsed

    def counted(source):
        sources.append(source)
        return parse(source)

    monkeypatch.setattr(module_code, "parsed", counted)
    return sources


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(SOURCE)
    return path


def test_code_is_what_runs_and_names_what_it_imports_of_ours():
    code = module_code.parsed(SOURCE)
    assert code.imports == {"data", "data.splits"}
    assert code == module_code.parsed(SOURCE.replace("# a comment", "\n"))
    assert code.digest != module_code.parsed(SOURCE.replace("PART =", "PARTS =")).digest


def test_a_module_is_parsed_once_by_all_processes_of_a_project(tmp_path, module, parsed):
    first = module_code.Memory(tmp_path / "var/code.json")
    code = first.code_of(module)
    assert first.code_of(module) == code
    first.keep()
    assert module_code.Memory(tmp_path / "var/code.json").code_of(module) == code
    assert parsed == [SOURCE]


def test_a_change_that_keeps_size_and_time_is_seen_too(tmp_path, module, parsed):
    memory = module_code.Memory(tmp_path / "code.json")
    before, stat = memory.code_of(module), module.stat()
    changed = SOURCE.replace("PART =", "TEST =")
    other = tmp_path / "other.py"
    other.write_text(changed)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(module)
    assert memory.code_of(module).digest != before.digest
    assert parsed == [SOURCE, changed]


@pytest.mark.parametrize("damage", ["another Python", "half a file", "another shape"])
def test_what_another_python_or_a_kill_left_is_not_believed(tmp_path, module, parsed, damage):
    file = tmp_path / "code.json"
    memory = module_code.Memory(file)
    code = memory.code_of(module)
    memory.keep()
    content = json.loads(file.read_text())
    content["made_by"][0] = "3.9"
    texts = {
        "another Python": json.dumps(content),
        "half a file": file.read_text()[:-20],
        "another shape": "[]",
    }
    file.write_text(texts[damage])
    assert module_code.Memory(file).code_of(module) == code
    assert len(parsed) == 2


def test_where_nothing_can_be_written_all_is_parsed(tmp_path, module):
    (tmp_path / "var").write_text("a file where a folder should be")
    memory = module_code.Memory(tmp_path / "var/code.json")
    assert memory.code_of(module).imports
    memory.keep()


def test_the_files_of_a_library_have_the_names_of_their_modules(tmp_path):
    for name in ("__init__.py", "data/__init__.py", "data/splits.py", "clock.py", "clock/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "clock/__init__.py").touch()
    files = {n: p.relative_to(tmp_path) for n, p in module_code.files_of(tmp_path).items()}
    told = {n: str(path) for n, path in files.items()}
    assert told == {
        "": "__init__.py",
        "clock": "clock.py",
        "data": "data/__init__.py",
        "data.splits": "data/splits.py",
    }


def test_a_project_has_one_memory_in_its_var(tmp_path):
    project = Project(tmp_path)
    assert module_code.memory_of(project) is module_code.memory_of(Project(tmp_path))


def test_a_warm_nursery_has_imported_all_so_no_source_is_read(monkeypatch):
    def unread():
        raise AssertionError("a source was read")
        yield

    monkeypatch.setattr(kernels.NURSERY, "is_warm", lambda: True)
    kernels.start_from_nursery(unread())
