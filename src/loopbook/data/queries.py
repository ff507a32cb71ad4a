"""Queries: the SQL of the contract over the places of its source. The only importer of DuckDB.

It decides what a query may read: the rows of the places, as tables of their
names, and nothing else of this machine. The result lies below `var/landing`,
one file for each content of the places and each query, and is read from there
like any other table. The same rows give the same file.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from loopbook.data import formats, query_faults
from loopbook.data.places import NamedPlace, landing_folder, places_of
from loopbook.data.source_files import digest_of_files, files_of
from loopbook.project.contract import Contract
from loopbook.project.counts import listed
from loopbook.project.errors import SourceError
from loopbook.project.files import replacing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pyarrow.dataset import Dataset

BATCH_ROWS = 50_000
SPARE = ".spare-"
A_DAY_S = 86_400
RAW, RESULT = " raw", " result"  # no name in a contract has a space
# One thread: several would add doubles up in another order each time. What does
# not fit into the memory is put on the disk.
SETTINGS = {
    "threads": 1,
    "memory_limit": "1GB",
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
SPILLED = "20GB"
CHANGING = """
    SELECT DISTINCT function_name FROM duckdb_functions()
    WHERE stability <> 'CONSISTENT'
       OR regexp_matches(macro_definition, 'current_(date|time)|now\\(|today\\(|random\\(')
"""


def queried(contract: Contract, root: Path) -> Path:
    """The Parquet file with the result of the source's query; asks it where there is none.

    Raises
    ------
    SourceError
        If a place cannot be read, or the query is wrong, fails or finds nothing.
    """
    files = {named: files_of(named, root) for named in places_of(contract)}
    folder = landing_folder(root)
    result = folder / f"queried-{_identity(contract, files)}.parquet"
    if result.exists():
        return result
    _clear(folder, {named.folder(folder) for named in files})
    with (
        replacing(result) as incoming,
        tempfile.TemporaryDirectory(prefix=SPARE, dir=folder) as spare,
    ):
        tables = {n: _table(n, found, Path(spare)) for n, found in files.items()}
        _ask(contract, tables, incoming, Path(spare))
    for old in folder.glob("queried-*"):
        if old != result:
            old.unlink(missing_ok=True)
    return result


def _clear(folder: Path, places: Collection[Path]) -> None:
    """Remove what came from places that the contract has no more, and what a killed query left."""
    for left in folder.glob("parts/*"):
        if left not in places:
            shutil.rmtree(left, ignore_errors=True)
    for left in folder.glob(f"{SPARE}*"):
        if time.time() - left.stat().st_mtime > A_DAY_S:  # one of today may still be running
            shutil.rmtree(left, ignore_errors=True)


def _identity(contract: Contract, files: dict[NamedPlace, list[Path]]) -> str:
    """What the result depends on."""
    from duckdb import __version__

    parts = [
        [n.table, n.place.format, str(n.place.dialect), _content(n, found)]
        for n, found in files.items()
    ]
    content = [__version__, contract.source.query, contract.null_values, parts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _content(named: NamedPlace, files: list[Path]) -> str:
    """What is in a place; a landed file is named by it."""
    return files[0].name if named.is_remote else digest_of_files(named, files)


def _table(named: NamedPlace, files: list[Path], spare: Path) -> "Dataset":
    """The rows of a place, of which only the columns that a query names are read.

    What is not one Parquet file is made one: text stays text, as everywhere.
    """
    import pyarrow as pa
    from pyarrow.dataset import dataset
    from pyarrow.fs import LocalFileSystem

    form = formats.format_of(files[0], named.place)
    if form is None:
        raise SourceError(formats.unknown(str(named), named.key("format")))
    try:
        if form != "parquet" or len(files) > 1:
            tables = [formats.scan(file, form, named.place) for file in files]
            _refuse_other_columns(named, files, tables)
            columns = tables[0].collect_schema().names()
            whole = pl.concat([t.select(columns) for t in tables], how="vertical_relaxed")
            files = [spare / f"{named.table}.parquet"]
            whole.sink_parquet(files[0])
        table = dataset(str(files[0]), format="parquet", filesystem=LocalFileSystem())
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, UnicodeDecodeError) as reason:
        raise SourceError(formats.unreadable(str(named), form, reason)) from None
    query_faults.refuse_twins(table.schema.names, str(named))
    return table


def _refuse_other_columns(named: NamedPlace, files: list[Path], tables: list[pl.LazyFrame]) -> None:
    """Files of one place have the same columns; those of a place in a query nobody describes."""
    first = set(tables[0].collect_schema().names())
    for file, table in zip(files, tables, strict=True):
        other = first ^ set(table.collect_schema().names())
        if other:
            raise SourceError(
                f"{named}: {files[0].name} and {file.name} have not the same columns "
                f"({listed(sorted(other))} in one of them only). Give each file the same columns, "
                "or make two places of them."
            )


def _ask(
    contract: Contract, tables: dict[NamedPlace, "Dataset"], result: Path, spare: Path
) -> None:
    """Write what the query finds, in an order that depends on the rows alone."""
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, rows = {n.table: t.schema.names for n, t in tables.items()}, 0
    with _engine(contract, tables, spare) as engine:
        _refuse_unusable(engine, contract.source.query, columns)
        try:
            _refuse_unkept(engine, contract.source.query)
            engine.execute(f"CREATE VIEW {_quoted(RESULT)} AS\n{contract.source.query}")
            ordered = engine.sql(f"SELECT * FROM {_quoted(RESULT)} ORDER BY ALL")
            with (
                ordered.to_arrow_reader(BATCH_ROWS) as found,
                pq.ParquetWriter(result, found.schema, compression="zstd") as writer,
            ):
                for batch in found:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except (duckdb.Error, pa.ArrowException) as reason:
            raise SourceError(query_faults.told(reason, columns)) from None
        except OSError as reason:
            raise SourceError(
                f"source.query: its result cannot be written to {result.parent} "
                f"({reason.strerror or reason}). Make room there, or correct the folder's rights."
            ) from None
    if rows == 0:
        raise SourceError(
            "source.query: found 0 rows, expected at least one. Correct the conditions in "
            f"source.query in contract.yaml, or fill {listed(columns)}."
        )


def _refuse_unusable(
    engine: "DuckDBPyConnection", query: str, columns: dict[str, list[str]]
) -> None:
    """Refuse what reads anything but the places, before any of it is run."""
    (tree,) = engine.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    changing = {name for (name,) in engine.execute(CHANGING).fetchall()}
    query_faults.refuse(json.loads(tree), query, columns, changing)


def _refuse_unkept(engine: "DuckDBPyConnection", query: str) -> None:
    """Refuse columns that no table can keep; DuckDB's own error if the query cannot be planned."""
    engine.execute(f"EXPLAIN\n{query}")  # of a mistake, it says the place as `sql` does not
    asked = engine.sql(query)
    query_faults.refuse_twins(asked.columns, "source.query")
    query_faults.refuse_spans(dict(zip(asked.columns, map(str, asked.types), strict=True)))


@contextmanager
def _engine(
    contract: Contract, tables: dict[NamedPlace, "Dataset"], spare: Path
) -> Iterator["DuckDBPyConnection"]:
    """A database of nothing but the places, in memory, without a way to a file or a network."""
    import duckdb

    engine = duckdb.connect(config=SETTINGS | {"temp_directory": str(spare)})
    try:
        engine.execute("SET TimeZone = 'UTC'")
        # as one of SETTINGS it would be shown, and not held
        engine.execute(f"SET max_temp_directory_size = '{SPILLED}'")
        for named, table in tables.items():
            engine.register(named.table + RAW, table)
            engine.execute(_view(named.table, table, contract))
        engine.execute("SET lock_configuration = true")
        yield engine
    finally:
        engine.close()


def _view(name: str, table: "Dataset", contract: Contract) -> str:
    """A place without its texts for no value, so that a cast of the others cannot fail."""
    import pyarrow.types as kinds

    absent = ", ".join(_quoted(text, "'") for text in ("", *contract.null_values))
    plain = [
        f"CASE WHEN trim({column}) IN ({absent}) THEN NULL ELSE {column} END AS {column}"
        for column in (
            _quoted(field.name)
            for field in table.schema
            # SQL has no word for a column without a name; it is read without a query's help
            if field.name and (kinds.is_string(field.type) or kinds.is_large_string(field.type))
        )
    ]
    replaced = f"* REPLACE ({', '.join(plain)})" if plain else "*"
    return f"CREATE VIEW {_quoted(name)} AS SELECT {replaced} FROM {_quoted(name + RAW)}"


def _quoted(text: str, mark: str = '"') -> str:
    return mark + text.replace(mark, mark * 2) + mark
