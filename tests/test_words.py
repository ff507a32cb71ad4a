"""What every project gets speaks of rows, the target and its unit, whatever the table is."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
from example_words import ROOT, read_by_people, words_of_the_example

LIBRARY = ROOT / "src/loopbook"
TEMPLATE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["wheel"]["hooks"]["custom"]["files"]["template"]
MADE = {"__pycache__", ".ruff_cache"}  # by tools, beside the files
HONEST = {
    ("src/loopbook/cli/projects.py", "houses"): "the name of an example: --example houses",
    ("bench/league.py", "houses"): "the name of one of its four tables",
    ("bench/levels.py", "houses"): "the name of one of its tables",
    ("bench/reproduce.py", "houses"): "the name of one of its tables",
    ("bench/monitoring.py", "sales"): "the tests' helper that answers rows of the example",
    **{
        ("bench/leaks.py", word): "the example is one of the tables in which leaks are planted"
        for word in ("houses", "price", "sqft_living")
    },
}
# what headers and units of any table may say
HONEST |= {
    (f"src/loopbook/{module}.py", word): "a word of headers or units, in a list of such words"
    for module, words in {
        "data/units": ["square feet", "sqft", "usd"],
        "proposal/ranges": ["lat"],
        "proposal/targets": ["price", "sales"],
        "proposal/texts": ["usd"],
        "proposal/wording": [
            *("lat", "dollars", "usd", "sqft", "square feet"),
            *("zipcode", "sale", "sold", "buyer", "seller"),
        ],
    }.items()
    for word in words
}


def generic_files() -> list[Path]:
    """What a project with another table gets too, and what watches and measures any table."""
    files = [p for pattern in TEMPLATE for p in ROOT.glob(pattern) if p.is_file()]
    for folder in ("src/loopbook", "bench", "deploy", "examples/empty"):
        files += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    files += [ROOT / "candidates.py"]
    return sorted({p for p in files if not MADE & {*p.parts} and p.suffix not in (".lock", ".pyc")})


def test_no_word_of_the_example_is_in_what_is_generic():
    """Prose, comments, messages, names and defaults: code, notebooks, YAML and templates."""
    files = generic_files()
    assert {p.suffix for p in files} >= {".py", ".ipynb", ".j2", ".yaml", ".yml", ".css", ".json"}
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        found = {
            word for word in words_of_the_example(path.read_text()) if (name, word) not in HONEST
        }
        assert not found, f"{name} speaks of the example: {', '.join(sorted(found))}"


def test_every_word_that_is_excused_stands_where_it_is_excused():
    for name, word in HONEST:
        assert word in words_of_the_example((ROOT / name).read_text()), (name, word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Houses are put in ten groups by their prediction.", {"houses"}),
        ('rows = "data/x.parquet"  # the Market moved', {"market"}),
        ("rows.filter(pl.col('sqft_living') > 0) & level_30d & a neighbourhood",
         {"sqft_living", "level_30d", "neighbourhood"}),
        ("12 USD for a square foot, by zip code", {"usd", "square foot", "zip code"}),
        ("warehouse, marketing, pricey, a view of this size, a long date, zip()", set()),
    ],
)  # fmt: skip
def test_a_word_of_the_example_is_recognised_where_it_stands(text, words):
    assert words_of_the_example(text) == words


def test_the_text_of_a_notebook_is_what_it_says_and_showed_and_no_picture(tmp_path):
    output = {"data": {"text/markdown": ["a pri", "ce"], "image/png": "x+price/y"}}
    cells = [
        {"cell_type": "markdown", "source": ["# The mar", "ket"]},
        {"cell_type": "code", "source": "a = 1", "outputs": [output, {"text": ["sold"]}]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    told = read_by_people(tmp_path / "a.ipynb")
    assert words_of_the_example(told) == {"market", "price", "sold"}
    assert "x+" not in told


def own_currencies(code: str) -> list[str]:
    """Amounts that a program writes with a currency of its own: `$5`, f"€{amount}"."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += re.findall(r"[$€£¥]\s?\d[\d.,]*", node.value)
        elif isinstance(node, ast.JoinedStr):
            signs = [str(getattr(v, "value", "")) for v in node.values]
            held = [isinstance(v, ast.FormattedValue) for v in [*node.values[1:], ast.Pass()]]
            found += [s for s, h in zip(signs, held, strict=True) if h and re.search("[$€£¥]$", s)]
    return found


def test_no_amount_has_a_currency_that_the_contract_does_not_name():
    assert own_currencies('a = f"cost: ${n:,.0f}"; b = "€ 5.50"') == ["cost: $", "€ 5.50"]
    assert own_currencies('a = rf"^{n}$"; b = "^(x)$"; c = "${1}T"; d = "${NAME}"') == []
    for path in generic_files():
        if path.suffix == ".py":
            assert own_currencies(path.read_text()) == [], path
        elif path.suffix == ".ipynb":
            cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
            assert not [o for c in cells for o in own_currencies("".join(c["source"]))], path
        elif path.suffix == ".j2":
            assert not re.search(r"[$€£¥]\s?(\d|\{\{)", path.read_text()), path
