"""The command `why`: from an answer or a version back to its cause.

It decides words and exit codes, as `cli` does for the rest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loopbook.cli import completion
from loopbook.cli.printed import Json, report, table
from loopbook.pages.formats import in_terminal
from loopbook.project import paths, waits
from loopbook.project.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopbook.provenance.told import Section, Told

WIDEST = 40
VERSION = re.compile(r"v?(\d{1,9})")  # an id has 32 digits
DIFFERENT = 3  # the exit code where something is missing or was changed
Id = Annotated[str, typer.Argument(metavar="ID", help="The prediction_id of an answer of the log.")]
Number = Annotated[
    str,
    typer.Option(
        "--version",
        metavar="N",
        autocompletion=completion.versions,
        help="Explain this version and no answer.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--value",
        metavar="NAME=VALUE",
        help="The value of a sensitive column, which the log does not hold; may be repeated.",
    ),
]
Facts = Annotated[
    bool, typer.Option("--facts", help="Walk all facts behind it, however many they are.")
]
Html = Annotated[str, typer.Option("--html", metavar="FILE", help="Write one HTML page too.")]


def why(
    name: Id = "",
    number: Number = "",
    values: Values = None,
    *,
    facts: Facts = False,
    as_json: Json = False,
    html: Html = "",
) -> None:
    """Trace an answer or a version back to its cause.

    The answer is computed again and compared with the log. Exit code 0: identical to the last bit, nothing missing; 3: something is
    missing or was changed, and named; 1 error.
    """
    from loopbook.project.errors import ProvenanceError

    if bool(name) == bool(number):
        raise ProvenanceError(
            "why: expected the prediction_id of an answer, or --version N. "
            "Every answer of the service has one."
        )
    if version := VERSION.fullmatch(name):
        raise ProvenanceError(
            f"why: {name!r} is a version and no prediction_id of an answer. Explain it: loopbook why "
            f"--version {version[1]}"
        )
    given = _given(values or [])
    with waits.waiting("why"):
        told = _of_version(number) if number else _of_answer(name, given, walks_all=facts)
    if html:
        from loopbook.pages import why as page
        from loopbook.project.files import replacing

        with replacing(Path(html)) as target:
            target.write_text(page.page(told), encoding="utf-8")
    report(told.record, lambda: lines(told), as_json=as_json)
    if html and not as_json:
        say(f"Wrote {html}.")
    if not told.is_well:
        raise typer.Exit(DIFFERENT)


def lines(told: Told) -> list[str]:
    """An explanation for people, a step after the other."""
    text = [told.title, told.sentence]
    for section in told.sections:
        text += ["", section.title]
        text += [section.sentence] if section.sentence else []
        text += _table(section)
    return [in_terminal(line) for line in text]


def _table(section: Section) -> list[str]:
    """A section's rows under each other; labels and their texts where its columns have no names."""
    if not section.rows:
        return []
    if any(section.names):
        return table(section.names, section.rows)
    label = min(max(len(name) for name, _ in section.rows), WIDEST)
    return [f"  {name:{label}}  {text}" for name, text in section.rows]


def _given(pairs: Sequence[str]) -> dict[str, str]:
    from loopbook.project.errors import ProvenanceError

    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ProvenanceError(f"--value {wrong[0]}: expected NAME=VALUE, such as age=41.")
    return dict(pair.split("=", 1) for pair in pairs)


def _of_answer(name: str, given: dict[str, str], *, walks_all: bool) -> Told:
    from loopbook.provenance import explained_answers, told

    with explained_answers.looked_up(paths.current(), walks_all=walks_all) as place:
        return told.of_answer(explained_answers.explain(place, name, given))


def _of_version(number: str) -> Told:
    from loopbook.project.contract import read_contract
    from loopbook.provenance import lineage, told
    from loopbook.registry import reader

    here = paths.current()
    contract = read_contract(here.contract)
    registry = reader.connect(paths.tracking_address(here))
    version = lineage.find(registry, contract.name, number)
    return told.of_version(lineage.of_version(here, contract, registry, version))


COMMANDS = {why: "Who serves and since when: loopbook champion"}
