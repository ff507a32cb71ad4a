"""Printed: what a command reports, as a table that fits the terminal or as JSON.

It decides the form alone: how a table fits, what an instant or a number that is
none becomes in JSON. What is reported is the command's.
"""

import io
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from loopbook.project.terminal import say, width, wrapped

LABEL = 12  # columns before what a label is for
LEAST_TEXT = 30  # columns in which a text still reads well
LEAST_LAST = 16  # and those of a table's last column
GAP = 3  # columns between two of a table
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def report(record: Any, lines: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """Print a record as JSON, or the lines that tell it to a person."""
    if as_json:
        print(as_text(record))
    else:
        say(*lines())


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
    parts = whole.splitlines() or [whole]
    if not sys.stdout.isatty():
        return parts
    place = LABEL + hanging
    if width() - place < LEAST_TEXT:
        place = LABEL + 2  # below its label
    return [line for part in parts for line in wrapped(part, rest=" " * place) or [""]]


def table(
    names: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Iterable[int] = ()
) -> list[str]:
    """Rows under their names: on a terminal the last column breaks between words to fit.

    Where the other columns leave too little for it, each row is told below the one
    before, a line for each of its cells: no cell is cut.

    Parameters
    ----------
    names : sequence of str
        A name may have two lines, and so may a cell.
    numbers : iterable of int
        The places of columns that stand at the right.
    """
    from loopbook.pages.formats import in_terminal

    cells = [["\n".join(map(in_terminal, str(v).split("\n"))) for v in row] for row in rows]
    *fixed, last = (_columns_of(column) for column in zip(names, *cells, strict=True))
    least = sum(fixed) + GAP * len(fixed) + min(last, LEAST_LAST)
    return (
        _grid(names, cells, set(numbers)) if least <= width() else _one_below_another(names, cells)
    )


def _columns_of(texts: Iterable[str]) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))


def _grid(names: Sequence[str], rows: Iterable[Sequence[str]], right: set[int]) -> list[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, name in enumerate(names):
        is_last = place == len(names) - 1
        justify = "right" if place in right else "left"
        shown.add_column(name, overflow="fold", no_wrap=not is_last, justify=justify)
    for row in rows:
        shown.add_row(*map(Text, row))
    written = io.StringIO()
    Console(file=written, width=width(), color_system=None, highlight=False).print(shown)
    return [line.rstrip() for line in written.getvalue().splitlines()]


def _one_below_another(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows with an empty line between them; where a name and its cell have lines, each has its own."""
    hanging = max(map(_columns_of, zip(names))) + 2
    options = {"subsequent_indent": " " * hanging, "break_on_hyphens": False}
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for name, cell in zip(names, row, strict=True):
            labels, texts = name.split("\n"), cell.split("\n")
            if len(labels) != len(texts):
                labels, texts = [", ".join(labels)], [", ".join(texts)]
            for label, text in zip(labels, texts, strict=True):
                lines += textwrap.wrap(f"{label:<{hanging}}{text}", width(), **options)
    return lines
