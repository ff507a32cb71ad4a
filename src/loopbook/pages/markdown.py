"""Markdown: sections as one comment of a pull request.

It decides that nothing of the data becomes markup, a link or a mention there,
and what is left out where a comment would be too long. The first line is a mark
that nobody sees: whoever posts the comment finds the earlier one by it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from loopbook.pages.escapes import escaped, within_html
from loopbook.pages.formats import Amount, cell

if TYPE_CHECKING:
    from loopbook.pages.differences import Lines, Section, Table

MARK = "<!-- loopbook diff -->"
MOST_SIGNS = 60_000  # GitHub takes 65,536 in a comment
LEFT_OUT = "_More does not fit into a comment: `loopbook diff` shows all of it._"


def comment(title: str, sections: Sequence["Section"]) -> str:
    """A comment: the first section open, the others folded; parts that do not fit are named."""
    parts = [MARK, f"### {escaped(title)}", *_open(sections[0])]
    parts += [_folded(section) for section in sections[1:]]
    kept: list[str] = []
    size = len(LEFT_OUT) + 2
    for part in parts:
        size += len(part) + 2
        if size > MOST_SIGNS:
            kept.append(LEFT_OUT)
            break
        kept.append(part)
    return "\n\n".join(kept) + "\n"


def _open(section: "Section") -> list[str]:
    return [f"**{escaped(section.sentence)}**", *_content(section)]


def _folded(section: "Section") -> str:
    head = f"<b>{within_html(section.title)}</b>: {within_html(section.sentence)}"
    inside = "\n\n".join(_content(section))
    return f"<details><summary>{head}</summary>\n\n{inside}\n\n</details>"


def _content(section: "Section") -> Iterator[str]:
    yield from (f"- {escaped(note)}." for note in section.notes)
    yield from (_table(table) for table in section.tables)
    yield from (_code(code) for code in section.code)


def _table(table: "Table") -> str:
    lines = [_row(table.names), _row(["---"] * len(table.names), is_rule=True)]
    lines += [_row(row) for row in table.rows]
    more = f"\n\nAnd {table.more:,} more." if table.more else ""
    return "\n".join(lines) + more


def _row(values: Iterable[Any], *, is_rule: bool = False) -> str:
    shown = values if is_rule else [escaped(_said(value)) for value in values]
    return f"| {' | '.join(shown)} |"


def _said(value: Any) -> str:
    return str(value) if isinstance(value, Amount) else cell(value)


def _code(code: "Lines") -> str:
    """Lines as a block that nothing in them can end."""
    longest = max((len(run) for run in re.findall(r"`+", "\n".join(code.lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{escaped(code.title)}\n\n{fence}diff\n" + "\n".join(code.lines) + f"\n{fence}"
