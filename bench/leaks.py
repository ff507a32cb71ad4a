"""Leaks: twenty that were put into five tables, how many are named, and how many sound columns are.

Five of them are the tables' own. Each is found by what `loopbook check` asks:
`sentinel.of_table` of the rows and `sentinel.of_parts` of their split.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import yaml

from loopbook.data import sources, splits, validation
from loopbook.models import sentinel
from loopbook.project import clock, knobs
from loopbook.project.contract import Contract

ROOT = Path(__file__).parents[1]
FOLDERS = {"houses": ".", "bikes": "examples/bikes", "flights": "examples/flights"}
FOLDERS |= {"penguins": "examples/penguins", "weather": "examples/flights"}
AFTER = {
    "bikes": {"casual": "integer", "registered": "integer"},
    "flights": {"dep_delay": "number", "arr_delay": "number", "air_time": "number"},
}  # the tables' own leaks, which their contracts leave out
READINGS = ("dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
WEATHER = {
    "name": "weather",
    "meaning": "One row is an hour at an airport.",
    "task": "regression",
    "source": {"path": "data/flights_weather.parquet"},
    "unlabelled": "drop",
    "key": ["origin", "time_hour"],
    "event_time": "time_hour",
    "target": {"name": "temp", "meaning": "Temperature."},
    "ignored": ["year", "month", "day", "hour"],
}


@dataclass(frozen=True)
class Planted:
    """A leak: of which kind, in which table, and how the rows get it."""

    kind: str
    table: str
    columns: tuple[str, ...]
    make: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    change: tuple[tuple[str, object], ...] = ()


def drawn(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, name)))


def with_column(name: str, make: Callable[[pl.DataFrame, np.random.Generator], object]):
    return lambda rows: rows.with_columns(pl.Series(name, make(rows, drawn(name))))


def entered_twice(rows: pl.DataFrame) -> pl.DataFrame:
    """Some rows again, up to 300 days later."""
    some = rows.sample(2_000, seed=1)
    days = pl.Series(drawn("twice").integers(1, 300, some.height))
    moved = some.with_columns(
        pl.col("date").dt.offset_by(pl.format("{}d", days)),
        *(pl.col(n).dt.offset_by(pl.format("{}d", days)) for n in (clock.EVENT_TS, clock.KNOWN_TS)),
    ).filter(pl.col("date") <= rows["date"].max())
    return pl.concat([rows, moved]).unique(["id", "date"], keep="first", maintain_order=True)


def numbered_again(rows: pl.DataFrame) -> pl.DataFrame:
    again = pl.concat([rows, rows.sample(40, seed=2)])
    return again.with_columns(number=pl.int_range(1, again.height + 1))


def measured_thrice(rows: pl.DataFrame) -> pl.DataFrame:
    """Each bird three times, its measures a little apart."""
    draw = drawn("thrice")
    measures = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    visits = [
        rows.with_columns(
            *(pl.col(n) * pl.Series(draw.normal(1, 0.01, rows.height)) for n in measures),
            visit=visit,
        )
        for visit in (1, 2, 3)
    ]
    return pl.concat(visits).rename({"number": "bird"})


def code(rows: pl.DataFrame, _: object) -> pl.Series:
    return rows["species"].replace_strict({"Adelie": 7, "Chinstrap": 3, "Gentoo": 5})


def place(rows: pl.DataFrame) -> np.ndarray:
    return rows["species"].rank("dense").cast(pl.Float64).to_numpy()


PLANTED = [
    Planted("a copy", "houses", ("price_thousands",), with_column("price_thousands", lambda r, d: r["price"] / 1_000)),
    Planted("a copy", "weather", ("celsius",), with_column("celsius", lambda r, d: ((r["temp"] - 32) / 1.8).round(1))),
    Planted("a function", "penguins", ("colony",), with_column("colony", code)),
    Planted("a function", "flights", ("arr_delay",)),
    Planted("two columns", "bikes", ("casual", "registered")),
    Planted("two columns", "houses", ("per_sqft", "sqft_living"), with_column("per_sqft", lambda r, d: r["price"] / r["sqft_living"])),
    Planted("afterwards, by name", "flights", ("dep_delay",)),
    Planted("afterwards, by name", "bikes", ("returned",), with_column("returned", lambda r, d: r["rentals"] * d.normal(1, 0.1, r.height))),
    Planted("missing with the target", "flights", ("air_time",)),
    Planted("missing with the target", "bikes", ("note",), lambda r: r.with_columns(note=pl.when(pl.col("rentals") > 400).then(pl.lit("crowded")))),
    Planted("explains too much", "houses", ("mark",), with_column("mark", lambda r, d: r["price"] * d.lognormal(0, 0.05, r.height))),
    Planted("explains too much", "penguins", ("ratio",), with_column("ratio", lambda r, d: place(r) + d.normal(0, 0.15, r.height))),
    Planted("the same row twice", "penguins", (), numbered_again),
    Planted("the same row twice", "houses", (), entered_twice),
    Planted("the same thing in two parts", "penguins", ("bird",), measured_thrice, (("key", ["bird", "visit"]),)),
    Planted("the same thing in two parts", "weather", ("time_hour",), None, (("event_time", None),)),
    Planted("power gone with time", "bikes", ("instant",), lambda r: r.sort(clock.EVENT_TS).with_columns(instant=pl.int_range(1, r.height + 1))),
    Planted("power gone with time", "weather", ("roll",), lambda r: r.sort(clock.EVENT_TS).with_columns(roll=pl.Series(drawn("roll").integers(1, 9, r.height)).cum_sum())),
    Planted("a time to come", "flights", ("arrived",), with_column("arrived", lambda r, d: r[clock.EVENT_TS].dt.offset_by(pl.format("{}m", pl.Series(d.integers(60, 400, r.height)))).dt.to_string("%Y-%m-%dT%H:%M:%SZ"))),
    Planted("a time to come", "houses", ("deed",), with_column("deed", lambda r, d: r[clock.EVENT_TS].dt.epoch("s") + 86_400 * d.integers(30, 40, r.height))),
]  # fmt: skip


def feature(dtype: pl.DataType) -> dict[str, object]:
    kinds = ((pl.Int64, "integer", 1), (pl.Boolean, "boolean", True), (pl.String, "category", "a"))
    kind, example = next(((k, e) for t, k, e in kinds if dtype == t), ("number", 1.0))
    return {"type": kind, "example": example, "meaning": "A column."}


@cache
def prepared(name: str) -> tuple[dict, pl.DataFrame]:
    """A table's contract as it is written, and its rows with the columns that it leaves out."""
    folder = ROOT / FOLDERS[name]
    told = WEATHER | {"features": {n: feature(pl.Float64()) for n in READINGS}}
    if name != "weather":
        told = yaml.safe_load((folder / "contract.yaml").read_text(encoding="utf-8"))
    more = AFTER.get(name, {})
    wide = told | {"features": told["features"] | {n: feature(pl.Float64()) for n in more}}
    ignored = [e for e in told.get("ignored", []) if isinstance(e, str) or e["column"] not in more]
    table = Contract.model_validate(wide | {"ignored": ignored})
    rows_raw = sources.with_clock(sources.read_source(table, folder), table)
    rows, _ = validation.without_known_faults(rows_raw, table)
    rows = validation.typed(rows, table)
    return told, validation.with_unlabelled(rows, rows_raw, table)


def named(name: str, planted: Planted | None = None) -> tuple[list[sentinel.Answered], int]:
    """What is said of a table with a leak or without one, and of how many columns."""
    told, rows = prepared(name)
    contract = dict(told)
    for key, value in planted.change if planted else ():
        contract.pop(key)
        contract |= {key: value} if value else {}
    taken = {e if isinstance(e, str) else e["column"] for e in told.get("ignored", [])}
    if planted and planted.make:
        rows = planted.make(rows)
    new = [c for c in (planted.columns if planted else ()) if c not in told["features"]]
    new = [c for c in new if c not in contract["key"]]
    contract["features"] = told["features"] | {c: feature(rows.schema[c]) for c in new}
    contract["ignored"] = [*(taken - set(new))]
    table = Contract.model_validate(contract)
    if table.event_time is None:
        rows = rows.drop(clock.EVENT_TS, clock.KNOWN_TS, strict=False)
    own = yaml.safe_load((ROOT / FOLDERS[name] / "env.yaml").read_text(encoding="utf-8"))
    knob = knobs.read_knobs(ROOT / "env.yaml", own)
    days = {k: getattr(knob, k) for k in ("validation_days", "test_days", "holdout_share")}
    days |= {"least_rows": knob.gate_min_rows}
    parted, _ = splits.split(rows.drop_nulls(table.target.name), table, **days)
    found = [*sentinel.of_table(rows, table), *sentinel.of_parts(parted, table)]
    return found, len(table.features)


def run() -> Iterator[str]:
    """A line for each leak, and one for each table as it is."""
    yield "| leak | table | column | named | evidence |"
    yield "|---|---|---|---|---|"
    hits = 0
    for planted in PLANTED:
        found, _ = named(planted.table, planted)
        of_it = [a.leak for a in found if set(planted.columns) <= set(a.leak.columns)]
        of_it = of_it if planted.columns else [a.leak for a in found if a.leak.kind == "twice"]
        hits += bool(of_it)
        said = f"{of_it[0].certainty} | {of_it[0].evidence}" if of_it else "no | "
        yield f"| {planted.kind} | {planted.table} | {', '.join(planted.columns) or 'rows'} | {said} |"
    yield ""
    yield f"{hits} of {len(PLANTED)} are named."
    yield ""
    yield "| table | columns | named though sound |"
    yield "|---|---|---|"
    for name in FOLDERS:
        found, columns = named(name)
        wrong = "; ".join(a.leak.evidence for a in found) or "none"
        yield f"| {name} | {columns} | {wrong} |"
