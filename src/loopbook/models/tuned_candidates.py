"""Tuned candidates: what a search found, as one more function of candidates.py.

It decides how that function is written and which text of the file is ours to
replace: the function that an earlier search wrote, known by the comment above
it, and nothing that a person wrote.
"""

import ast
from dataclasses import dataclass

from loopbook.models import own_candidates
from loopbook.models.grid import LIBRARY
from loopbook.models.own_candidates import FILE
from loopbook.models.search_spaces import FILE as SPACES
from loopbook.models.tuning import Search
from loopbook.project.errors import TuningError
from loopbook.project.files import replacing
from loopbook.project.paths import Project

SUFFIX = "_tuned"


@dataclass(frozen=True)
class Place:
    """The lines of candidates.py that an earlier search wrote; none if `first` is `last`."""

    first: int
    last: int


def name_of(candidate: str) -> str:
    """What the candidate of a search is called."""
    return candidate + SUFFIX


def place_of(candidate: str, project: Project) -> Place:
    """Where the function of a candidate goes; refused if a person's stands there.

    Raises
    ------
    TuningError
        If candidates.py has a function of that name without the comment of a search.
    CandidateError
        If that file is wrong.
    """
    name = name_of(candidate)
    function = own_candidates.functions(project).get(name)
    lines = _lines(project)
    if function is None:
        return Place(len(lines), len(lines))
    above = function.lineno - 2
    if above < 0 or not lines[above].startswith(_mark(candidate)):
        raise TuningError(
            f"{FILE}, line {function.lineno}: {name} was not written by a search, so it stays as "
            "it is and nothing was tried. Rename it, or take it out."
        )
    return Place(above, function.end_lineno)


def write(search: Search, day: str, project: Project) -> str:
    """Put what was found into candidates.py; the name of the candidate that it is now."""
    place = place_of(search.candidate, project)
    lines = _lines(project)
    before = lines[: place.first]
    while before and not before[-1].strip():
        before.pop()
    after = "".join(lines[place.last :]).strip("\n")
    text = "".join(before).rstrip("\n") + "\n\n\n" if before else ""
    text += function_of(search, day) + (f"\n\n{after}\n" if after else "")
    ast.parse(text)
    with replacing(project.root / FILE) as path:
        path.write_text(text, encoding="utf-8")
    return name_of(search.candidate)


def function_of(search: Search, day: str) -> str:
    """The function, with the settings of the best trial."""
    candidate, best = search.candidate, search.best
    settings = "".join(f"        {name}={value!r},\n" for name, value in best.settings.items())
    made = f"{candidate}(contract, random_seed)"
    library = ""
    if candidate in LIBRARY:
        library = "    from loopbook.models import candidates\n\n"
        made = f'candidates.build("{candidate}", contract, random_seed, rows={search.rows})'
    return (
        f"{_mark(candidate)} {len(search.trials)} trials of {SPACES} on {day}: "
        f"{best.loss:.4g} on validation, {search.as_is:.4g} as it is.\n"
        f"def {name_of(candidate)}(contract, random_seed):\n"
        f'    """{candidate} with the settings that were best on validation."""\n'
        f"{library}    model = {made}\n    return model.set_params(\n{settings}    )\n"
    )


def _mark(candidate: str) -> str:
    return f"# loopbook tune {candidate}:"


def _lines(project: Project) -> list[str]:
    path = project.root / FILE
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
