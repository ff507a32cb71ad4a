"""Field changes: what two files of keys and values say otherwise, key by key.

It decides what one difference is: of a contract, of knobs, of settings, of a
lock. Layout, comments and the order of a mapping do not count. Pure: no file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ADDED, REMOVED, CHANGED, REORDERED = "added", "removed", "changed", "in another order"
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?\s*==\s*([^\s;\\]+)")
_HASH = re.compile(r"--hash=(\S+)")


@dataclass(frozen=True)
class FieldChange:
    """One field that differs; `before` is None where it was added, `after` where it was removed."""

    path: str
    kind: str
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "kind": self.kind, "before": self.before, "after": self.after}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """The fields that differ, in the order of `after`, those that it lacks last.

    A list is one value: of `range: [0, 10]` nobody would want to read that its
    second place differs. A mapping that is there on one side only is one field.
    """
    return list(_within("", before, after))


def _within(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[FieldChange]:
    for name, value in after.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in before:
            yield FieldChange(where, ADDED, None, value)
        elif isinstance(value, Mapping) and isinstance(before[name], Mapping):
            yield from _within(where, before[name], value)
        elif not _same(before[name], value):
            yield FieldChange(where, CHANGED, before[name], value)
    for name, value in before.items():
        if name not in after:
            yield FieldChange(f"{path}.{name}" if path else str(name), REMOVED, value, None)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one; `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def packages(lock: str) -> dict[str, dict[str, Any]]:
    """What a lock pins, by name: version, and the hashes that are allowed.

    A line that pins nothing (an option, a comment, a path) does not count.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in lock.replace("\\\n", " ").splitlines():
        if pinned := _PINNED.match(line.strip()):
            name = re.sub(r"[-_.]+", "-", pinned[1]).lower()
            before = found.get(name, {"version": "", "hashes": []})
            versions = [v for v in (before["version"], pinned[3]) if v]  # one a marker
            hashes = sorted({*before["hashes"], *_HASH.findall(line)})
            found[name] = {"version": ", ".join(versions), "hashes": hashes}
    return found


def compare_packages(before: str, after: str) -> list[FieldChange]:
    """The packages that differ between two locks, by name.

    Of one whose version is the same and whose hashes are others, the hashes are
    the difference: another file under the same number.
    """
    one, other = packages(before), packages(after)
    found = []
    for name in sorted({*one, *other}):
        held, new = one.get(name), other.get(name)
        if held is None or new is None:
            kind = ADDED if held is None else REMOVED
            found.append(FieldChange(name, kind, *(p and p["version"] for p in (held, new))))
        elif held["version"] != new["version"]:
            found.append(FieldChange(name, CHANGED, held["version"], new["version"]))
        elif held["hashes"] != new["hashes"]:
            found.append(FieldChange(f"{name} hashes", CHANGED, held["hashes"], new["hashes"]))
    return found


def written(value: Any) -> str:
    """A value as a person reads it in a line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
