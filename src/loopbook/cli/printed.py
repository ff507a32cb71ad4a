"""Printed: what a command reports, as a table that fits the terminal or as JSON.

It decides the form alone: how wide a table is, where a cell breaks, what an
instant or a number that is none becomes in JSON. What is reported is the
command's.
"""

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any, TextIO

import typer

UNBROKEN = 100_000  # columns, where no terminal says how wide it is: a row stays one line
LEAST_WIDTH = 60
LABEL = 12  # columns before what a label is for
LABELLED = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")  # a label, before the text that it is for
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def report(record: Any, lines: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """Print a record as JSON, or the lines that tell it to a person."""
    print(
        as_text(record) if as_json else "\n".join(part for line in lines() for part in fitted(line))
    )


def fitted(line: str, stream: TextIO | None = None) -> list[str]:
    """A line in the width of the terminal: what is longer breaks between words, after its label.

    `stream` is where it is written; without one, stdout.
    """
    if not (stream or sys.stdout).isatty() or len(line) <= width():
        return [line]
    label = LABELLED.match(line)
    place = label.end() if label else len(line) - len(line.lstrip()) + 4
    indent = " " * min(place, width() // 2)
    options = {"break_on_hyphens": False, "break_long_words": False}
    parts = textwrap.wrap(line, width(), subsequent_indent=indent, **options)
    # a digest that is longer than its column stays beside its label
    return [line] if label and len(parts[0]) <= label.end() else parts


def as_text(record: Any) -> str:
    """JSON of two spaces; a number that is none is `null`, an instant is ISO 8601."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(record, default=_plain, option=options).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


@contextmanager
def only_json(as_json: bool) -> Iterator[None]:
    """While a command works, what it tells people goes to stderr; stdout is for the JSON."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def labelled(label: str, text: str, hanging: int = 0) -> list[str]:
    """A text after its label; on a terminal it breaks between words and stays in its column.

    `hanging` is how many columns further in the lines after the first begin.
    """
    whole = f"{label:<{LABEL - 1}} {text}"
    if not sys.stdout.isatty():
        return whole.splitlines() or [whole]
    parts = whole.splitlines() or [whole]
    indent = " " * (LABEL + hanging)
    return [
        line
        for part in parts
        for line in textwrap.wrap(
            part, width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        or [""]
    ]


def width() -> int:
    """The columns of the variable COLUMNS or of the terminal; in a pipe nothing is broken."""
    return max(LEAST_WIDTH, shutil.get_terminal_size((UNBROKEN, 24)).columns)


def table(
    names: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Iterable[int] = ()
) -> list[str]:
    """Rows under their names: on a terminal the last column breaks between words to fit.

    Parameters
    ----------
    names : sequence of str
        A name may have two lines, and so may a cell.
    numbers : iterable of int
        The places of columns that stand at the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from loopbook.pages.formats import in_terminal

    shown, right = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False), set(numbers)
    for place, name in enumerate(names):
        is_last = place == len(names) - 1
        justify = "right" if place in right else "left"
        shown.add_column(name, overflow="fold", no_wrap=not is_last, justify=justify)
    for row in rows:
        cells = ["\n".join(in_terminal(line) for line in str(v).split("\n")) for v in row]
        shown.add_row(*map(Text, cells))
    written = io.StringIO()
    Console(file=written, width=width(), color_system=None, highlight=False).print(shown)
    return [line.rstrip() for line in written.getvalue().splitlines()]
