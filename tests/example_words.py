"""The words of the repository's own example, recognised in any text, whoever wrote it."""

import json
import re
from functools import cache
from pathlib import Path

from loopbook.project.contract import read_contract

ROOT = Path(__file__).parents[1]
DWELLINGS = (
    "houses?|homes|dwellings?|bedrooms?|bathrooms?|neighbou?rhoods?|(?:zip|postal) ?codes?|"
    "prices?|priced|pricing|sales?|sold|sells?|sellers?|buyers?|markets?|real estate|"
    "dollars?|usd|square f(?:oo|ee)t|sqft|king county|seattle"
)
# names of the example's contract that are plain words of any program or contract
PLAIN = {"id", "date", "view", "condition", "long", "lot", "size", "built", "latitude", "longitude"}


@cache
def _pattern() -> re.Pattern:
    """Columns, aliases and subject of the example, as whole words."""
    table = read_contract(ROOT / "contract.yaml")
    names = {*table.columns, *(f.alias for f in table.features.values() if f.alias)}
    names |= {*table.trailing, *table.derived}
    columns = "|".join(re.escape(name) for name in sorted(names - PLAIN))
    return re.compile(rf"\b(?:{columns}|{DWELLINGS})\b", re.IGNORECASE)


def words_of_the_example(text: str) -> set[str]:
    return {word.lower() for word in _pattern().findall(text)}


def read_by_people(path: Path) -> str:
    """The text of a file; of a notebook, its cells and what they showed, without the pictures.

    A picture is thousands of random signs, among which any short word stands.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", text)
    said = []
    for cell in json.loads(text)["cells"]:
        said += ["".join(cell["source"])]
        for output in cell.get("outputs", []):
            shown = {"text/plain": output.get("text", "")} | output.get("data", {})
            said += ["".join(v) for kind, v in shown.items() if kind.startswith("text/")]
    return re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", "\n".join(said))
