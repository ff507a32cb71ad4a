"""Links: what the address of a page asks for, and addresses that hold a choice.

It decides how a choice stands in an address. Voila hands what follows the
question mark to the page's kernel; in JupyterLab there is none, and nothing is
asked for. Whether a choice exists is for the page to say.
"""

import os
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

QUERY = "QUERY_STRING"  # as a web server calls it, and Voila too
LONGEST = 4000  # signs: browsers and proxies cut what is longer


def asked() -> dict[str, str]:
    """What the address of this page asks for, by name; the last of two counts."""
    return dict(parse_qsl(os.environ.get(QUERY, "")[:LONGEST], keep_blank_values=True))


def to(page: str, **choice: str) -> str:
    """The address of a page that makes a choice, from any other page."""
    return of(page, choice)


def of(page: str, choice: Mapping[str, str]) -> str:
    """The same for names that no argument can have."""
    return f"{page}.ipynb?{urlencode(choice)}" if choice else f"{page}.ipynb"
