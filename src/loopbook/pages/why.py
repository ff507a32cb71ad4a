"""Why: the page of one answer or version, from its cause on.

It decides how an explanation is laid out. It computes nothing: what it shows is
`provenance.told`'s, and its template escapes every value.
"""

from loopbook.pages.rendering import render
from loopbook.provenance.told import Told


def page(told: Told) -> str:
    """An explanation as a whole HTML page of its own, without a script."""
    return render("why", told=told)
