"""Executed: the document of a run as HTML that runs nothing.

It decides that a document is shown as it was written by the run, with its code
folded where the document folds it. What stands in an output may be anybody's:
whoever shows this shuts it in a frame without scripts, and the document itself
asks the browser to fetch nothing.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
body {font: 15px/1.5 system-ui, sans-serif; margin: 1em auto; padding: 0 1em; max-width: 60em;
  color: #1a1a1a; background: #ffffff} p, li, pre {overflow-wrap: anywhere}
.output_html {overflow-x: auto}
h1 {font-size: 1.5em} h2 {font-size: 1.2em; margin-top: 1.6em} a.anchor-link {display: none}
img, svg {max-width: 100%; height: auto} pre {white-space: pre-wrap; background: #f4f4f4;
  padding: .6em .8em; font-size: .87em} table {border-collapse: collapse; display: block;
  overflow-x: auto; max-width: 100%} th, td {text-align: left; padding: .25em .8em .25em 0;
  border-bottom: 1px solid #d5d5d5} [style*="right"] {white-space: nowrap}
th[style*="right"] {white-space: normal} summary {cursor: pointer; color: #555555; font-size: .87em}
.prompt {display: none} .output_stderr pre, .output_error pre {background: #fbe3d6}
"""
FETCHES_NOTHING = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
FENCE = "~~~~~~"
KINDS = {  # of folded code, by the tag of its cell
    "injected-parameters": "the parameters of this run",
    "parameters": "parameters",
    "inputs": "what is read",
    "outputs": "what is written",
}


def page(executed: Path) -> str:
    """The document of a run as a page by itself.

    Raises
    ------
    OSError, ValueError
        If it cannot be read.
    """
    import nbformat  # with nbconvert a second: only who opens a document waits for it
    from nbconvert import HTMLExporter

    folded = _with_folds(json.loads(executed.read_bytes()))
    document = nbformat.reads(json.dumps(folded), as_version=4)  # lines are joined
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(document)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{FETCHES_NOTHING}">'
        f"<title>{escape(executed.stem)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


def _with_folds(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, each folded cell's code in a part that a reader opens."""
    cells = []
    for place, cell in enumerate(document["cells"]):
        metadata = cell.get("metadata", {})
        if cell["cell_type"] == "code" and metadata.get("jupyter", {}).get("source_hidden"):
            code = "".join(cell["source"])
            text = (
                f"<details><summary>Code: {_kind(cell)}</summary>\n\n{FENCE}python\n{code}\n{FENCE}"
                "\n\n</details>"
            )
            told = {"cell_type": "markdown", "metadata": {}, "id": f"folded-{place}"}
            cells.append(told | {"source": text})
            metadata = metadata | {"transient": {"remove_source": True}}
        told = [output for output in cell.get("outputs", []) if not _is_empty(output)]
        outputs = {"outputs": told} if cell["cell_type"] == "code" else {}
        cells.append(cell | {"metadata": metadata} | outputs)
    return document | {"cells": cells}


def _is_empty(output: dict[str, Any]) -> bool:
    """Whether a library showed nothing at all, as a progress bar that has ended."""
    shown = output.get("data", {})
    texts = {"text/plain", "text/html"}
    return shown.keys() == texts and not "".join(shown["text/plain"]).strip()


def _kind(cell: dict[str, Any]) -> str:
    """What folded code is for: its tag says so, and code without one imports."""
    tags = cell.get("metadata", {}).get("tags", [])
    return next((words for tag, words in KINDS.items() if tag in tags), "imports")
