"""The template: the files that a project of one's own begins with.

It decides what differs from one project to the next (its name, loopbook's
version and hash) and which files are the user's alone from the first day. The
files are this repository's own, taken into the wheel when it is built: see
`tool.loopbook.template` in pyproject.toml. It writes nothing.

In a file, lines between `# >>> loopbook` and `# <<<` are for loopbook's own
repository and are left out; lines between `# >>> project` and `# <<<` are
comments here and lines of a project there.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopbook.project.errors import TemplateError
from loopbook.project.wheels import members, sha256, version_of

FOLDER = "loopbook/project/template"
SKELETON = "loopbook/project/skeleton"
EXAMPLES = "loopbook/project/examples"
KNOBS = "env.yaml"
EMPTY, SHARED = "empty", "shared"  # a form to fill in; what every project begins with
CHANGELOG = "CHANGELOG.md"
LOCK = "requirements.lock"
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
# They have a line `name:` or `namespace:` that is the project's.
NAMED = ("environment.yml", "deploy/compose.yaml", "kustomization.yaml")
BLOCK = re.compile(r"^# >>> (loopbook|project)\n(.*?)^# <<<\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Facts:
    """What a project's files are told about it."""

    name: str
    identity: str  # tells two projects of one name apart


def named(text: str, name: str) -> str:
    """A YAML file whose first line `name:`, or `namespace:`, is this name."""
    return re.sub(r"^(name|namespace): .*$", rf"\1: {name}", text, count=1, flags=re.MULTILINE)


def safe_name(text: str) -> str:
    """The nearest name that a project may have: lower case, digits, hyphens."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "model"


def adapted(text: str) -> str:
    """A file of this repository as it stands in a project."""

    def kept(block: re.Match) -> str:
        if block[1] == "loopbook":
            return ""
        return re.sub(r"^# ?", "", block[2], flags=re.MULTILINE)

    return BLOCK.sub(kept, text)


def files_of(wheel: Path, facts: Facts) -> dict[str, bytes]:
    """The template of a wheel as a project's files, by path: all that an upgrade may change."""
    version = version_of(wheel)
    files = {
        path: adapted(content.decode()).encode() if _is_text(content) else content
        for path, content in members(wheel, FOLDER).items()
    }
    for path, content in files.items():
        if path.endswith(NAMED):
            files[path] = named(content.decode(), facts.name).encode()
    words = {
        "PROJECT_NAME": facts.name,
        "PROJECT_ID": facts.identity,
        "LOOPBOOK_VERSION": version,
        "LOOPBOOK_SERIES": ".".join(version.split(".")[:2]),
    }
    for path, content in members(wheel, SKELETON).items():
        files[path] = _filled(content.decode(), words).encode()
    pin = f"loopbook=={version} \\\n    --hash=sha256:{sha256(wheel)}\n"
    files[LOCK] += pin.encode()
    files[f"vendor/{wheel.name}"] = wheel.read_bytes()
    del files[CHANGELOG]
    return files


def with_example(
    wheel: Path, template: Mapping[str, bytes], example: str, name: str
) -> dict[str, bytes]:
    """The template's files with those of an example: its contract, its data and its knobs.

    An example's env.yaml has the knobs that differ: the template's, with what
    each does, gets their values.

    Raises
    ------
    TemplateError
        If there is no such example.
    """
    everything = members(wheel, EXAMPLES)
    names = sorted({path.split("/")[0] for path in everything} - {EMPTY, SHARED})
    if example not in (*names, EMPTY):
        raise TemplateError(f"no example {example!r}; there are {', '.join(names)}.")
    files = {
        path.removeprefix(f"{folder}/"): content
        for folder in (SHARED, example)
        for path, content in everything.items()
        if path.startswith(f"{folder}/")
    }
    files["contract.yaml"] = named(files["contract.yaml"].decode(), name).encode()
    knobs = with_knobs(template[KNOBS].decode(), files.pop(KNOBS, b"").decode())
    return {**template, **files, KNOBS: knobs.encode()}


def with_knobs(text: str, others: str) -> str:
    """An env.yaml with the values that another one has, and its own comments."""
    for knob, value in re.findall(r"^(\w+): *([^#\n]*[^#\s])", others, re.MULTILINE):
        text = re.sub(rf"^({knob}:) *[^#\n]*[^#\s]", rf"\1 {value}", text, flags=re.MULTILINE)
    return text


def changes_between(wheel: Path, older: str) -> str:
    """The changelog of a wheel after a version: its sections above that version's."""
    text = members(wheel, SKELETON)[CHANGELOG].decode()
    sections = re.split(r"(?m)^(?=## )", text)[1:]
    newer = []
    for section in sections:
        if re.match(rf"## \[?v?{re.escape(older)}\b", section):
            break
        newer.append(section.strip())
    return "\n\n".join(newer)


def facts_of(root: Path) -> tuple[Facts, str]:
    """What a project's pyproject.toml says of it: its facts, and its template's version.

    Raises
    ------
    TemplateError
        If the folder was not made by `loopbook new`, or the file is broken.
    """
    path = root / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        ours = content["tool"]["loopbook"]
        return Facts(content["project"]["name"], ours["id"]), ours["template"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read ({error}). Correct it.") from None
    except (KeyError, TypeError):
        raise TemplateError(
            f"{path}: has no [tool.loopbook] with id and template, so nobody knows which files "
            "this project began with. Put them back from git, or make a project: loopbook new DIR"
        ) from None


def identity_of(root: Path) -> str | None:
    """What tells a project from another one of its name; None if `loopbook new` did not make it."""
    try:
        return facts_of(root)[0].identity
    except TemplateError:
        return None


def _is_text(content: bytes) -> bool:
    return b"\0" not in content


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
