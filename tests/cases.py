"""Projects that people brought, each as its contract and its files: what was typed ended badly."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from small_house import ROOT, set_knobs

CONTRACT = """
name: flats
meaning: One row is a flat that was let.
task: regression
source: {path: flats.csv}
key: [id]
event_time: day
target: {name: rent, unit: EUR, range: [50, 20000], transform: log, per: size, meaning: Rent.}
features:
  size: {type: number, unit: m2, range: [5, 1000], required: true, example: 55.5, meaning: Area., alias: area}
  rooms: {type: integer, unit: count, range: [0, 30], example: 3, meaning: Rooms.}
  balcony: {type: boolean, example: true, meaning: Has a balcony.}
  postcode: {type: category, example: "01067", meaning: Post code., alias: district}
"""
HEADER = "id,day,size,rooms,balcony,postcode,rent"
THREE = ("41.7,1,false,04103,542.96", "139.0,4,false,04105,1281.82", "39.0,1,true,04105,681.82")
BERLIN = {"time_zone": "Europe/Berlin"}


def table(*rows: str, header: str = HEADER) -> str:
    return "\n".join((header, *rows)) + "\n"


def of_days(*days: str) -> str:
    return table(
        *(f"{n},{day},{rest}" for n, (day, rest) in enumerate(zip(days, THREE, strict=False), 1))
    )


def _mixed() -> str:
    numbers = [f"{n},2024-01-0{n % 9 + 1},{THREE[n % 3]}" for n in range(10_001)]
    return table(*numbers, f"A-1,2024-01-02,{THREE[0]}")


def _with_noise(rows: int, header: str, last: Callable[[int], str]) -> str:
    lines = []
    for n in range(rows):
        size, day = 30 + n * 7 % 90, f"2024-{n * 12 // rows + 1:02d}-{n % 28 + 1:02d}"
        rent = size * (9 + n % 5)
        lines.append(f"{n:05d},{day},{size},{size // 25},true,0410{n % 7},{rent},{last(n)}")
    return table(*lines, header=f"{HEADER},{header}")


SPREAD = {
    "features": {
        "min": {"type": "number", "example": 5.0, "meaning": "Least noise."},
        "max": {"type": "number", "example": 15.0, "meaning": "Greatest noise."},
    },
    "derived": {"spread": {"formula": "max - min", "meaning": "Span."}},
}
LIFT = {
    "features": {"lift": {"type": "integer", "range": [0, 5], "example": 1, "meaning": "Lifts."}}
}
FAULT = {"known_faults": [{"reason": "a test", "columns": ["id"], "rows": [["00017"]]}]}

# what the contract has besides, and the table
TABLES: dict[str, tuple[dict[str, Any], Callable[[], str]]] = {
    "leading zeros in a key": ({}, lambda: table(*(f"{k},2024-01-0{n},{THREE[n]}" for n, k in ((1, "0012"), (2, "12"))))),
    "a text after ten thousand numbers": ({}, _mixed),
    "an hour that did not exist": (BERLIN, lambda: of_days("2024-03-30T10:30:00", "2024-03-31T02:30:00", "2024-04-01T10:30:00")),
    "instants of PostgreSQL": ({}, lambda: of_days("2024-01-01 09:30:00.25+01", "2024-07-01 10:30:00+02")),
    "times without seconds": (BERLIN, lambda: of_days("2024-01-01 10:30", "2024-07-01 10:30")),
    "a day that is none": ({}, lambda: of_days("2024-02-30", "0000-00-00", "9999-12-31")),
    "an index column": ({}, lambda: table(*(f"{n},{n},2024-01-0{n + 1},{row}" for n, row in enumerate(THREE)), header=f",{HEADER}")),
    "an index column that is ignored": ({"ignored": [""]}, lambda: table(*(f"{n},{n},2024-01-0{n + 1},{row}" for n, row in enumerate(THREE)), header=f",{HEADER}")),
    "counts written as floats": ({}, lambda: table("1,2024-01-01,41.7,1.0,false,04103,542.96", "2,2024-01-02,139,,false,04105,1281", "3,2024-01-03,39,1.5,true,04105,681.82")),
    "a decimal comma": ({"source": {"path": "flats.csv", "dialect": {"separator": ";", "decimal_comma": True}}}, lambda: of_days("2024-01-01", "2024-01-02").replace(",", ";").replace(".", ",")),
    "a query with a clock": ({"source": {"path": "flats.csv", "query": "SELECT * EXCLUDE (day), now() AS day FROM source"}}, lambda: of_days("2024-01-01", "2024-01-02")),
    "columns called min and max": (SPREAD, lambda: _with_noise(60, "min,max", lambda n: f"{n / 7},{10 + n / 4}")),
    "a column that is new": (LIFT, lambda: _with_noise(900, "lift", lambda n: "1" if n > 880 else "")),
    "no row": ({}, table),
    "one row": ({}, lambda: of_days("2024-01-01")),
    "the same target everywhere": ({}, lambda: table(*(f"{n},2024-01-{n % 28 + 1:02d},50,2,true,04103,500" for n in range(60)))),
    "NA and a dash": ({}, lambda: table("1,2024-01-01,NA,-,false,04103,542.96", "2,2024-01-02,139,4,perhaps,,NA")),
    "an empty file": ({}, lambda: ""),
    "binary": ({}, lambda: "PAR1\0\1\2\3"),
    "another header": ({}, lambda: "a,b\n1,2\n"),
    "a row too long": ({}, lambda: table("1,2024-01-01,41.7,1,false,04103,542.96,7,8,9")),
    "markup": ({}, lambda: table("<b>,2024-01-01,41.7,1,false,<img src=x onerror=alert(1)>,542.96", "%s{0}{{x}},2024-01-02,50,1,true,${HOME},600")),
}  # fmt: skip


def project(folder: Path, contract: str, **files: str) -> Path:
    """A project with this contract, and a graph of two candidates."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("notebooks", "reports"):
        shutil.copytree(ROOT / name, folder / name)
    for path in (*ROOT.glob("pipeline*.yaml"), ROOT / "env.yaml", ROOT / "requirements.lock"):
        shutil.copy(path, folder)
    graph = folder / "pipeline.yaml"
    names = graph.read_text().partition("names: [")[2].partition("]")[0]
    graph.write_text(graph.read_text().replace(names, "baseline, ridge"))
    (folder / "contract.yaml").write_text(contract)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return set_knobs(folder, bootstrap_resamples="200")


def of_table(name: str, folder: Path) -> Path:
    """A project of one of `TABLES`."""
    more, rows = TABLES[name]
    contract = yaml.safe_load(CONTRACT)
    features = contract["features"] | more.get("features", {})
    contract |= {**more, "features": features}
    return project(folder, yaml.safe_dump(contract, sort_keys=False), flats__csv=rows())


# files to score with the example's champion, as their text or their columns
TO_SCORE: dict[str, str | dict[str, list[Any]]] = {
    "na.csv": "size,bedrooms\n1800,NA\n",
    "leap.csv": "size,date\n1800,2015-02-29\n",
    "bool.csv": "size,waterfront\n1800,perhaps\n",
    "both.csv": "size,sqft_living\n1800,5000\n",
    "rows.csv": "size,rooms,zipcode\n1800,3,98115\n1800,3,98115 \n1800,3,９８１15\n",
    "comma.csv": "size;rooms;lat\n1800;3;47,68\n1900;2;47,60\n",
    "early.csv": "size,date\n1800,0001-01-01\n1800,9999-12-31\n",
    "empty.csv": "",
    "header.csv": "size,rooms\n",
    "twice.csv": "size,size\n1800,1900\n",
    "binary.csv": "PAR1\0\1\2\3",
    "other.xlsx": "PK",
    "none.csv": "",
    "nested.parquet": {"size": [1800], "rooms": [[3, 4]]},
    "frac.parquet": {"size": [1800.0, 1800.0], "rooms": [3.7, 3.0]},
    "nullsize.parquet": {"size": [1800, None], "rooms": [3, 3]},
    "text.jsonl": '{"size": "1800"}\n{"size": {"a": 1}}\n{\n',
}


def write_to_score(folder: Path) -> None:
    """The files of `TO_SCORE`, all but none.csv, which is not there."""
    for name, content in TO_SCORE.items():
        if isinstance(content, dict):
            pl.DataFrame(content).write_parquet(folder / name)
        elif name != "none.csv":
            (folder / name).write_text(content)
