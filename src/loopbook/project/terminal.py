"""Terminal: lines for people, each in the width of the terminal that they are read in.

It decides where a line breaks. In a pipe or a file no line does, so that grep
finds it whole.
"""

import re
import shutil
import sys
import textwrap
from typing import TextIO

UNBROKEN = 100_000  # columns, where no terminal says how wide it is: a row stays one line
LEAST_WIDTH = 60
LABELLED = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")  # a label, before the text that it is for
PER_CENT = re.compile(r"(?<=\d) (?=%)")
HARD_SPACE = "\N{NO-BREAK SPACE}"


def say(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines for people, each in the width of the terminal; without a stream on stdout."""
    single = [one for line in lines for one in line.splitlines() or [""]]
    parts = [part for line in single for part in fitted(line, stream)]
    print("\n".join(parts), file=stream, flush=True)


def fitted(line: str, stream: TextIO | None = None) -> list[str]:
    """A line in the width of the terminal: what is longer breaks between words, after its label.

    `stream` is where it is written; without one, stdout.
    """
    if not (stream or sys.stdout).isatty() or len(line) <= width():
        return [line]
    label, text = LABELLED.match(line), line.lstrip()
    begins = len(line) - len(text)
    place = label.end() if label else begins + (2 if text.startswith("- ") else 4)
    first, rest = (" " * min(columns, width() // 2) for columns in (begins, place))
    parts = wrapped(text, first, rest)
    # a digest that is longer than its column stays beside its label
    return [line] if label and len(parts[0]) <= label.end() else parts


def wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    """A text in lines of the terminal's width, with an indent each; a number stays with its sign."""
    kept = PER_CENT.sub(HARD_SPACE, text)
    lines = textwrap.wrap(
        kept,
        width(),
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace(HARD_SPACE, " ") for line in lines]


def width() -> int:
    """The columns of the variable COLUMNS or of the terminal; in a pipe nothing is broken."""
    return max(LEAST_WIDTH, shutil.get_terminal_size((UNBROKEN, 24)).columns)
