"""Documents: an executed notebook as people read it.

It decides which code is folded, and that the title is followed by links to the
sections. A notebook of the project is never changed: what is done here is done
to the document of a run, in which every cell stays where it is.
"""

import ast
import re
from typing import Any
from urllib.parse import quote

FOLDED = ("parameters", "injected-parameters", "inputs", "outputs")
HIDE_INPUT = "hide-input"  # what Jupyter Book folds
LEAST_SECTIONS = 3  # of fewer nobody needs a list
LISTED = "**Contents:** "
_HEADING = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_KEPT = "?/:@!$&'()*+,;="  # as nbconvert names a heading; JupyterLab finds it by the same


def as_document(notebook: Any) -> None:
    """Fold and list a document of nbformat 4, in place; done twice it is as done once."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and _is_plumbing(cell):
            _fold(cell["metadata"])
    title = next((cell for cell in notebook["cells"] if "title" in _tags_of(cell)), None)
    listed = contents(notebook)
    if title and listed and listed not in _source(title):
        title["source"] = f"{_source(title).rstrip()}\n\n{listed}"


def contents(notebook: Any) -> str:
    """Links to the sections in Markdown; empty where there are few."""
    prose = (_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    headings = [heading for text in prose for heading in _HEADING.findall(text)]
    if len(headings) < LEAST_SECTIONS:
        return ""
    links = (f"[{heading}](#{anchor(heading)})" for heading in headings)
    return f"{LISTED}{' · '.join(links)}"


def as_written(source: str) -> str:
    """The text of a cell without the links that a document has beside it."""
    return source.partition(f"\n\n{LISTED}[")[0]


def anchor(heading: str) -> str:
    """Where a link to a heading leads."""
    return quote(heading.replace("`", "").replace(" ", "-"), safe=_KEPT)


def _is_plumbing(cell: Any) -> bool:
    """Whether a cell says what is read or written, and nothing of what is found."""
    return bool(set(FOLDED) & set(_tags_of(cell))) or _only_imports(_source(cell))


def _only_imports(code: str) -> bool:
    try:
        body = ast.parse(code).body
    except SyntaxError:  # a magic is no import
        return False
    return bool(body) and all(isinstance(part, ast.Import | ast.ImportFrom) for part in body)


def _fold(metadata: Any) -> None:
    metadata["jupyter"] = {**metadata.get("jupyter", {}), "source_hidden": True}
    # a page of nbconvert's has no fold, so there it is left out
    metadata["transient"] = {"remove_source": True}
    tags = list(metadata.get("tags", []))
    metadata["tags"] = tags if HIDE_INPUT in tags else [*tags, HIDE_INPUT]


def _tags_of(cell: Any) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def _source(cell: Any) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)
