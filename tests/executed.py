"""What people see of executed notebooks: their outputs, and which figure nothing explains."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

OF_FRAMES = re.compile(r"shape: \(|\b[fiu](?:8|16|32|64)\b|\bstr\b</|┌|class=\"dataframe\"")


def documents(folder: Path) -> dict[str, list[dict]]:
    """The cells of each executed notebook of a project, by its name."""
    paths = sorted({*folder.glob("var/build/**/*.ipynb"), *folder.glob("var/monitor/*.ipynb")})
    return {path.stem: json.loads(path.read_text())["cells"] for path in paths}


def shown(cell: dict) -> Iterator[dict[str, str]]:
    """What a cell shows, in its order: texts by their kind."""
    for output in cell.get("outputs", []):
        if "data" in output:
            yield {k: "".join(v) for k, v in output["data"].items() if not isinstance(v, dict)}
        else:
            yield {"text/plain": "".join(output.get("text", ""))}


def of_frames(cells: list[dict]) -> list[str]:
    """Outputs in which a frame or a type stands as a program sees it."""
    texts = (
        text for c in cells for some in shown(c) for k, text in some.items() if "image" not in k
    )
    return [text for text in texts if OF_FRAMES.search(text)]


def unexplained(cells: list[dict]) -> list[str]:
    """The ids of cells of which a figure is followed by no sentence with a number in it."""
    found = []
    for cell in cells:
        kinds = [("image" in " ".join(some), some.get("text/markdown", "")) for some in shown(cell)]
        for (is_figure, _), (_, text) in zip(kinds, [*kinds, (False, "")][1:], strict=True):
            if is_figure and not text.strip().endswith((".", r"\.")):
                found.append(cell["id"])
    return found
