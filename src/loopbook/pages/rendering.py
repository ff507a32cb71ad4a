"""Rendering: a template of the pages, filled.

It decides that a value stays text: every template is escaped, without a way
around it; and that no line breaks between a number and its unit. The only module
that knows Jinja2, and it imports it when the first page is made, because the
notebooks import the pages too.
"""

import base64
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopbook.pages import drawings, formats
from loopbook.pages.colours import LEVELS, OUTCOMES, UNKNOWN
from loopbook.pages.recorded import Told
from loopbook.project.counts import counted

if TYPE_CHECKING:
    from jinja2 import Environment

PAGES = {
    "0_start": "Start",
    "1_overview": "Window",
    "2_drift": "Drift",
    "3_performance": "Performance",
    "4_candidates": "Candidates",
    "5_model_card": "Model card",
    "6_what_if": "What if",
    "7_loop": "The loop",
    "8_pipeline": "Notebooks",
}
LONG = 8  # rows of a table from which on a reader sorts it
# what no reader sees as prose: a tag with its attributes, and what is there to be copied
NO_PROSE = re.compile(r"(<(pre|code|style)\b.*?</\2>|<[^>]*>)", re.DOTALL)
FORMS = (
    *(formats.instant, formats.day, formats.share, formats.count, formats.cell),
    *(formats.said, formats.changed, formats.distance, formats.date, counted),
)


def render(template: str, **content: Any) -> str:
    """The HTML of a template.

    Raises
    ------
    LookupError
        If the template asks for what a record does not have.
    """
    from jinja2 import UndefinedError

    try:
        page = environment().get_template(f"{template}.html.j2").render(content).strip()
    except UndefinedError as error:
        raise LookupError(f"page {template}: {error}") from error
    return _unbroken(page)


def _unbroken(page: str) -> str:
    """A page whose prose and tables have every number in one line with its unit."""
    parts, place = [], 0
    for match in NO_PROSE.finditer(page):
        parts += [formats.unbroken(page[place : match.start()]), match[0]]
        place = match.end()
    return "".join([*parts, formats.unbroken(page[place:])])


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """Jinja2 as every page uses it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("loopbook.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for form in FORMS:
        jinja.filters[form.__name__] = form
    jinja.tests["told"] = lambda value: isinstance(value, Told)
    jinja.tests["amount"] = lambda value: isinstance(value, formats.Amount)
    jinja.tests["instant"] = formats.is_instant
    jinja.filters["drawing"] = drawings.read
    jinja.filters["base64"] = lambda content: base64.b64encode(content).decode()
    jinja.globals |= {"PAGES": PAGES, "LEVELS": LEVELS, "OUTCOMES": OUTCOMES, "UNKNOWN": UNKNOWN}
    jinja.globals["LONG"] = LONG
    return jinja
