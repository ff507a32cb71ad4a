"""Escapes: a text of the data inside Markdown, as text.

It decides which signs could be markup, a link or a mention. It imports no page,
because the notebooks write their tables with it and would depend on all of them.
"""

import html
import re

from loopbook.pages.formats import one_line

BETWEEN = "<!-- -->"  # no escape keeps `@name` and `#12` from a call and a link; this does
_SPECIAL = re.compile(r"([\\`*_{}\[\]()+!|~<>&$:.-])")
_CALLS = re.compile(r"([@#])")


def escaped(text: str) -> str:
    """A text in one line, of which nothing is markup: each sign that could be is escaped."""
    plain = _SPECIAL.sub(r"\\\1", one_line(text)).replace(r"\<", "&lt;")
    return _CALLS.sub(rf"\1{BETWEEN}", plain)


def within_html(text: str) -> str:
    """The same within HTML, where Markdown is not read."""
    return _CALLS.sub(rf"\1{BETWEEN}", html.escape(one_line(text), quote=False))
