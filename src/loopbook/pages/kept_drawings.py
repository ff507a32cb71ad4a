"""Kept drawings: a figure of a page, drawn once for what it shows.

It decides when a figure is drawn anew: when its facts or the code that draws are
others. Matplotlib takes longer than all else on a page, which then needs none of
it. Where a figure cannot be kept, it is drawn each time.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopbook.project.files import replacing, sha256
from loopbook.project.paths import Project

MOST = 20  # of one name; the oldest go first


def drawn(
    project: Project, name: str, facts: Any, draw: Callable[[], bytes | None]
) -> bytes | None:
    """The file of a figure, or None if `draw` gives none; `facts` is all that it depends on.

    That there is nothing to draw is kept too, as an empty file.

    Parameters
    ----------
    facts : what JSON can hold
    """
    digest = sha256(json.dumps([_code(), facts], sort_keys=True, default=str).encode())
    path = project.var / "pages" / f"{name}-{digest[:16]}.svg"
    with suppress(OSError):
        return path.read_bytes() or None
    content = draw()
    with suppress(OSError):
        _keep(path, name, content or b"")
    return content


def _code() -> list[str]:
    """The digests of the pages' modules: an upgrade draws anew, and says it in its own words."""
    return [sha256(path.read_bytes()) for path in sorted(Path(__file__).parent.glob("*.py"))]


def _keep(path: Path, name: str, content: bytes) -> None:
    with replacing(path) as target:
        target.write_bytes(content)
    kept = sorted(path.parent.glob(f"{name}-*.svg"), key=lambda p: p.stat().st_mtime)
    for old in kept[:-MOST]:
        old.unlink(missing_ok=True)
