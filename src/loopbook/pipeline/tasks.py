"""Tasks: what the graph's file says, resolved for any engine and without Ploomber.

It decides what a task is to an engine: its notebook, its parameters, what it
needs and what it writes. It reads of a `pipeline.yaml` what a graph of notebooks
uses (params, a grid, products) and refuses the rest of what Ploomber knows. It
runs nothing.
"""

import ast
import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from loopbook.pipeline import graph_files
from loopbook.pipeline.notebooks import read_notebook
from loopbook.project.errors import BuildFailed
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project

KEYS = {"name", "source", "params", "grid", "product", "static_analysis"}
GRAPH_KEYS = {"tasks", "executor", "on_finish"}  # the last two are for Ploomber alone
FOR_PLOOMBER = ("loopbook.pipeline.graph",)  # what runs the graph, and imports Ploomber
KNOB = re.compile(r"\{\{ *(\w+) *\}\}")
FROM_GRID = re.compile(r"\[\[ *(\w+) *\]\]")
EXECUTED = "nb"  # the product that is the executed notebook


@dataclass(frozen=True)
class Task:
    """A notebook with its parameters; `needs` has the products of each task before it."""

    name: str
    notebook: str  # from the project's folder
    parameters: dict[str, Any]
    needs: dict[str, dict[str, str]]
    products: dict[str, str]
    knobs: tuple[str, ...] = ()  # of env.yaml, that its parameters are made of

    @property
    def upstream(self) -> list[str]:
        return sorted(self.needs)

    def as_json(self) -> dict[str, Any]:
        """The task as `loopbook plan` prints it."""
        return {
            "name": self.name,
            "notebook": self.notebook,
            "parameters": self.parameters,
            "upstream": self.upstream,
            "products": self.products,
        }

    def signature(self, project: Project) -> str:
        """A short digest of all that an engine's file says of this task.

        Values of parameters do not count, since a run reads them anew.
        """
        products = {key: relative(project, path) for key, path in self.products.items()}
        told = [self.name, self.notebook, self.upstream, products, sorted(self.parameters)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def relative(project: Project, path: str) -> str:
    """A path of the project from its folder, whatever the system; another one as it is."""
    whole = Path(path)
    return (
        whole.relative_to(project.root).as_posix() if whole.is_relative_to(project.root) else path
    )


def plan(project: Project, changes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The resolved tasks, in an order in which they can run, for any engine.

    Returns
    -------
    list of dict
        `name`, `notebook` (from the project's folder), `parameters` for
        Papermill (with `upstream` and `product`, paths absolute), `upstream`
        names and `products`; JSON all through.
    """
    return [task.as_json() for task in resolve(project, changes)]


def resolve(
    project: Project,
    changes: Mapping[str, Any] | None = None,
    graph: Path | None = None,
    only: str | None = None,
) -> list[Task]:
    """The tasks of a graph (by default for training), in an order in which they can run.

    With `only`, the digests in the parameters of other tasks are left out, since
    they cost time.

    Raises
    ------
    LoopbookError
        The contract, env.yaml, a knob, the graph or the source is wrong.
    """
    path = graph or project.graph
    knobs = read_knobs(project.knobs, changes).model_dump()
    graph_files.refuse_absent_names(path, but=FOR_PLOOMBER)
    with inside(project.root), _importable(project.root):
        made: list[Task] = []
        for spec in _specs(path):
            made += _Spec(project, path.name, spec, knobs).tasks(only)
        return _in_order(_with_needs(project, made, path.name), path.name)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """With a folder as the working directory, as notebooks and digests expect."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """With the modules of a project to import, as in its notebooks."""
    before = list(sys.path)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path[:] = before


def _specs(path: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as reason:
        raise BuildFailed(
            f"{path.name}: cannot be used, and nothing was run. Correct it:\n{reason}"
        ) from None
    tasks = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(spec, dict) for spec in tasks):
        raise BuildFailed(f"{path.name}: expected a list `tasks`, each with source and product.")
    if others := sorted(set(content) - GRAPH_KEYS):
        raise BuildFailed(_only_ploomber(path.name, "the file", others))
    return tasks


def _only_ploomber(file: str, what: str, keys: Iterable[str]) -> str:
    return (
        f"{file}: {what} has {', '.join(keys)}, which only Ploomber knows, so no plan for other "
        "engines can be made. Take it out; `loopbook build` runs the graph as it is."
    )


@dataclass(frozen=True)
class _Spec:
    """An entry of `tasks`: one task, or one for each member of a grid."""

    project: Project
    file: str
    spec: Mapping[str, Any]
    knobs: Mapping[str, Any]

    def tasks(self, only: str | None) -> list[Task]:
        where = f"{self.file}: task {self.spec.get('name', self.spec.get('source'))!r}"
        if others := sorted(set(self.spec) - KEYS):
            raise BuildFailed(_only_ploomber(self.file, where.partition(": ")[2], others))
        source, product = self.spec.get("source"), self.spec.get("product")
        if not isinstance(source, str) or not source.endswith(".ipynb"):
            raise BuildFailed(f"{where}: expected a notebook as its source, found {source!r}.")
        if not isinstance(product, dict) or EXECUTED not in product:
            raise BuildFailed(f"{where}: expected products by name, with {EXECUTED} among them.")
        name = str(self.spec.get("name", Path(source).stem))
        if "grid" not in self.spec:
            return [self._task(name, {}, None, only)]
        made = []
        for number, member in enumerate(self._members()):
            of_member = FROM_GRID.sub(lambda m, member=member: str(member[m[1]]), name)
            of_member = of_member if FROM_GRID.search(name) else f"{name}{number}"
            made.append(self._task(of_member, member, number, only))
        return made

    def _task(
        self, name: str, member: Mapping[str, Any], number: int | None, only: str | None
    ) -> Task:
        params = self.spec.get("params") or {}
        is_wanted = only in (None, name)
        values = {
            key: None if not is_wanted and _is_call(raw) else self._value(raw)
            for key, raw in params.items()
        }
        names = dict.fromkeys(KNOB.findall(json.dumps([params, self.spec.get("grid")])))
        products = {
            key: str(self._product(str(self._filled(path)), member, number))
            for key, path in self.spec["product"].items()
        }
        parameters = {**member, **values, "product": products}
        return Task(name, self.spec["source"], parameters, {}, products, tuple(names))

    def _product(self, path: str, member: Mapping[str, Any], number: int | None) -> Path:
        """Where a product lies; that of a member of a grid has its number before the suffix."""
        whole = Path(self.project.root, path)
        if number is not None:
            suffix = "".join(whole.suffixes)
            whole = whole.with_name(f"{whole.name.removesuffix(suffix)}-{number}{suffix}")
        return Path(FROM_GRID.sub(lambda m: str(member[m[1]]), str(whole))).resolve()

    def _members(self) -> Iterator[dict[str, Any]]:
        """Every combination of the values of a grid, the last key's the fastest."""
        grids = self.spec["grid"] if isinstance(self.spec["grid"], list) else [self.spec["grid"]]
        for grid in grids:
            values = {key: self._value(raw) for key, raw in grid.items()}
            lists = [v if isinstance(v, list | tuple) else [v] for v in values.values()]
            for chosen in itertools.product(*lists):
                yield dict(zip(values, chosen, strict=True))

    def _value(self, raw: Any) -> Any:
        filled = self._filled(raw)
        return self._called(filled) if _is_call(filled) else filled

    def _filled(self, raw: Any) -> Any:
        """A value with the knobs in it; one that is a knob and nothing else keeps its type."""
        if isinstance(raw, dict):
            return {key: self._filled(value) for key, value in raw.items()}
        if isinstance(raw, list):
            return [self._filled(value) for value in raw]
        if not isinstance(raw, str):
            return raw
        if unknown := [name for name in KNOB.findall(raw) if name not in self.knobs]:
            raise BuildFailed(f"{self.file}: {unknown[0]!r} is no knob of env.yaml. Correct it.")
        if whole := KNOB.fullmatch(raw.strip()):
            return self.knobs[whole[1]]
        return KNOB.sub(lambda m: str(self.knobs[m[1]]), raw)

    def _called(self, call: Mapping[str, Any]) -> Any:
        words = dict(call)
        return self._function(str(words.pop("dotted_path")))(**words)

    def _function(self, dotted: str) -> Callable[..., Any]:
        module, _, name = dotted.replace("::", ".").rpartition(".")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as reason:
            raise BuildFailed(f"{self.file}: {dotted} cannot be imported ({reason}).") from None


def _is_call(raw: Any) -> bool:
    return isinstance(raw, dict) and "dotted_path" in raw


def _with_needs(project: Project, tasks: list[Task], file: str) -> list[Task]:
    """The tasks with the products of those that their notebooks name as upstream."""
    products = {task.name: task.products for task in tasks}
    if len(products) < len(tasks):
        raise BuildFailed(f"{file}: two tasks have one name. Give each its own.")
    made = []
    for task in tasks:
        needs, told = {}, {}
        for name in _upstream_of(project.root / task.notebook):
            if name in products:
                needs[name] = told[name] = products[name]
                continue
            matching = {one: p for one, p in products.items() if fnmatchcase(one, name)}
            if "*" not in name or not matching:
                raise BuildFailed(
                    f"{task.notebook}: names {name!r} as upstream, which {file} has no task for; "
                    f"there are {', '.join(products)}."
                )
            needs |= matching
            told[name] = matching
        parameters = {**task.parameters, "upstream": told or None}
        made.append(Task(task.name, task.notebook, parameters, needs, task.products, task.knobs))
    return made


def _upstream_of(notebook: Path) -> list[str]:
    """The names that the cell tagged `parameters` gives to `upstream`."""
    for cell in read_notebook(notebook)["cells"]:
        if "parameters" not in (cell.get("metadata") or {}).get("tags", []):
            continue
        try:
            tree = ast.parse("".join(cell["source"]))
            for node in tree.body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "upstream":
                    return list(ast.literal_eval(node.value) or [])
        except (SyntaxError, ValueError) as reason:
            raise BuildFailed(
                f"notebooks/{notebook.name}: its parameters cannot be read ({reason}). Expected "
                'a line such as upstream = ["split"], or upstream = None.'
            ) from None
    raise BuildFailed(
        f"notebooks/{notebook.name}: no cell tagged `parameters` says what is upstream. Add "
        "the tag, and a line such as upstream = None."
    )


def _in_order(tasks: list[Task], file: str) -> list[Task]:
    """Each task after all that it needs; otherwise as they stand in the file."""
    waiting, done = list(tasks), {}
    while waiting:
        free = [task for task in waiting if task.needs.keys() <= done.keys()]
        if not free:
            names = ", ".join(task.name for task in waiting)
            raise BuildFailed(f"{file}: {names} wait for each other, so none can run.")
        done |= {task.name: task for task in free}
        waiting = [task for task in waiting if task.name not in done]
    return list(done.values())
