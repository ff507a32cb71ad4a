"""Mappings: YAML files of keys and values, and what is wrong with their values.

It decides how a file is read (each key once) and how an error of Pydantic is
put: which key, what was found, what is expected, what to do. The contract, the
knobs and the service's requests say it through `misfits`.
"""

import difflib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import ValidationError

from loopbook.project.files import conflict_line


class _UniqueKeys(yaml.SafeLoader):
    """YAML as everybody reads it, except that a key may stand once only."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="found a list or a mapping as a key, expected text; "
                    "put a value with { } into quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice; remove one",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, error: type[Exception]) -> dict[str, Any]:
    """A YAML file as a dictionary, or `error` with the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        if line := conflict_line(text):
            raise error(f"{path.name}: a merge conflict stands in line {line}. Resolve it.")
        content = yaml.load(text, Loader=_UniqueKeys)
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror}). Put it back.") from None
    except UnicodeDecodeError:
        raise error(f"{path.name}: is not UTF-8 text. Save it as UTF-8.") from None
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(reason, "problem", None) or str(reason)
        raise error(f"{path.name}: {where}{problem}. Correct the YAML.") from None
    except (ValueError, RecursionError) as reason:  # a day like 2024-13-45, or braces without end
        raise error(f"{path.name}: {reason}. Correct the YAML.") from None
    if not isinstance(content, dict):
        raise error(f"{path.name}: found {type(content).__name__}, expected keys and values.")
    return content


class Misfit(NamedTuple):
    """One value that a model does not take.

    `path` leads to it; `expected` is the model's own sentence, or the reason
    that a validator gave (`refused`).
    """

    kind: Literal["missing", "unknown", "refused", "invalid"]
    path: tuple[str, ...]
    found: Any
    expected: str


KINDS = {"missing": "missing", "extra_forbidden": "unknown", "value_error": "refused"}


def misfits(error: ValidationError) -> list[Misfit]:
    """What Pydantic found, in its order."""
    return [
        Misfit(
            KINDS.get(fault["type"], "invalid"),
            tuple(str(part) for part in fault["loc"] if part != "[key]"),
            fault.get("input"),
            fault["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
        )
        for fault in error.errors()
    ]


def sentence(misfit: Misfit, known: Iterable[str], called: str = "key") -> str:
    """A misfit for people: key, found, expected, remedy.

    Parameters
    ----------
    known : iterable of str
        The names that would be right, to suggest one for an unknown key.
    called : str
        What the file's keys are called.
    """
    key = ".".join(misfit.path)
    if misfit.kind == "missing":
        return f"{key}: missing; add it"
    if misfit.kind == "unknown":
        near = difflib.get_close_matches(misfit.path[-1], list(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        return f"{key}: unknown {called}; {hint}"
    if misfit.kind == "refused":
        prefix = f"{key}: " if key else ""
        return "\n".join(prefix + line for line in misfit.expected.splitlines())
    is_shown = misfit.found is None or isinstance(misfit.found, str | int | float | bool)
    found = misfit.found if is_shown else type(misfit.found)
    return f"{key}: found {found!r}, expected {misfit.expected}"
