"""Landing: bytes from elsewhere, brought here whole before anything reads them.

It decides where the rows of a URL or of a database come to lie: one immutable
file below `var/landing`, and a record that names it. Loading the graph lands;
`ingest` then reads exactly the file that the graph has seen. A transfer that
fails leaves what was landed before. Addresses may hold `${NAME}`, filled in
from the environment, so that no file of the project holds a secret.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from loopbook.data.places import NamedPlace
from loopbook.data.single_values import text_of
from loopbook.project.errors import SourceError
from loopbook.project.files import read_json, replacing, write_json
from loopbook.project.source import Place

if TYPE_CHECKING:
    from sqlalchemy import URL

BATCH_ROWS = 50_000
TIMEOUT_S = 60
VARIABLE = re.compile(r"\$\{(\w+)\}")


def filled_in(address: str, named: NamedPlace) -> str:
    """An address with its `${NAME}` from the environment.

    Raises
    ------
    SourceError
        If a variable is not set; every one is named.
    """
    absent = [name for name in VARIABLE.findall(address) if name not in os.environ]
    if absent:
        raise SourceError(
            f"source{' ' + named.name if named.name else ''}: needs {', '.join(absent)} in the environment, found nothing. "
            f"Set it first: export {absent[0]}=…"
        )
    return VARIABLE.sub(lambda match: os.environ[match[1]], address)


def land(named: NamedPlace, folder: Path) -> str:
    """Bring the rows of a place elsewhere here and give the digest of what came.

    A URL is asked with the ETag or date of the last landing, so that what has
    not changed is not sent again. A query runs every time: its digest does not
    depend on the order in which the database gives the rows.

    Raises
    ------
    SourceError
        If it cannot be reached or answers with an error; what was landed stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = _download(named, folder) if named.place.url else _query(named, folder)
    for old in folder.glob("landed-*"):
        if old.name != record["file"]:
            old.unlink()
    write_json(folder / "landed.json", record)
    return record["digest"]


def landed(named: NamedPlace, folder: Path) -> Path:
    """The file of the last landing; lands first where there is none of this place."""
    if _last(named.place, folder) is None:
        land(named, folder)
    return folder / read_json(folder / "landed.json")["file"]


def sum_of_hashes(rows: pl.DataFrame) -> int:
    """A number in [0, 2**64) for a set of rows, whatever their order."""
    return int(rows.hash_rows(seed=0).cast(pl.Int128).sum() or 0) % 2**64


def _identity(place: Place) -> str:
    """What a landing is of; a query over the rows that it brought is no part of it."""
    query = place.query if place.database else None
    asked = json.dumps([place.url, place.database, query])
    return hashlib.sha256(asked.encode()).hexdigest()


def _last(place: Place, folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / "landed.json")
    except (OSError, ValueError):
        return None
    same = record.get("source") == _identity(place)
    return record if same and (folder / record["file"]).exists() else None


def _download(named: NamedPlace, folder: Path) -> dict[str, Any]:
    import httpx

    last, url = _last(named.place, folder), named.place.url
    asked = {"If-None-Match": last["etag"]} if last and last.get("etag") else {}
    if last and last.get("modified"):
        asked["If-Modified-Since"] = last["modified"]
    state = hashlib.sha256()
    try:
        with (
            replacing(folder / "incoming") as incoming,
            httpx.stream(
                "GET",
                filled_in(url, named),
                headers=asked,
                timeout=TIMEOUT_S,
                follow_redirects=True,
            ) as answer,
        ):
            if answer.status_code == httpx.codes.NOT_MODIFIED and last:
                return last
            answer.raise_for_status()
            with incoming.open("wb") as file:
                for block in answer.iter_bytes(1 << 20):
                    if not file.tell():
                        _refuse_page(named, block)
                    state.update(block)
                    file.write(block)
                if not file.tell():
                    raise SourceError(
                        f"{named}: answered nothing (0 bytes), expected the table. Nothing was "
                        f"changed; correct {named.key('url')} in contract.yaml, or ask its owner."
                    )
            name = f"landed-{state.hexdigest()[:32]}{Path(urlsplit(url).path).suffix}"
            incoming.replace(folder / name)
    except (httpx.HTTPError, httpx.InvalidURL) as reason:
        raise SourceError(_unreached(named, reason)) from None
    return {
        "source": _identity(named.place),
        "file": name,
        "digest": state.hexdigest(),
        "etag": answer.headers.get("etag"),
        "modified": answer.headers.get("last-modified"),
    }


def _refuse_page(named: NamedPlace, start: bytes) -> None:
    """Refuse a page for people, such as one that asks who is there, whatever its status is."""
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(
            f"{named}: answered a web page, expected the table. Nothing was changed; look at the "
            f"address in a browser: {named.key('url')} in contract.yaml has to lead to the file "
            "itself, without a login."
        )


def _unreached(named: NamedPlace, reason: Exception) -> str:
    """What to say of a download that brought no table."""
    import httpx

    if isinstance(reason, httpx.HTTPStatusError):
        return (
            f"{named}: answered {reason.response.status_code} "
            f"{reason.response.reason_phrase}, expected the table. Nothing was changed; "
            f"correct {named.key('url')} in contract.yaml, or ask its owner."
        )
    return (
        f"{named}: cannot be reached ({type(reason).__name__}). "
        f"Nothing was changed; check {named.key('url')} in contract.yaml and the network."
    )


def _query(named: NamedPlace, folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    total, rows, writer = 0, 0, None
    with replacing(folder / "incoming") as incoming:
        try:
            for batch in _batches(named):
                table = _as_table(batch, named.texts)
                total = (total + sum_of_hashes(table)) % 2**64
                rows += table.height
                arrow = table.to_arrow()
                if writer is None:
                    writer = pq.ParquetWriter(incoming, arrow.schema, compression="zstd")
                writer.write_table(arrow.cast(writer.schema))
        except (pl.exceptions.PolarsError, ValueError) as reason:
            raise SourceError(
                f"{named}: a column of the query is not of one "
                f"type everywhere ({str(reason).splitlines()[0]}). Cast it in {named.key('query')}."
            ) from None
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise SourceError(
                f"{named}: the query found 0 rows, expected at least one. "
                f"Correct {named.key('query')} in contract.yaml, or fill the table."
            )
        digest = hashlib.sha256(f"{rows} {total} {writer.schema}".encode()).hexdigest()
        name = f"landed-{digest[:32]}.parquet"
        incoming.replace(folder / name)
    return {"source": _identity(named.place), "file": name, "digest": digest}


def _refuse_absent(named: NamedPlace, address: "URL") -> None:
    """Refuse a file of SQLite that is not there: it would be made, and stay behind, empty."""
    file = address.database
    if address.get_backend_name() != "sqlite" or file in (None, "", ":memory:"):
        return
    if not file.startswith("file:") and not Path(file).is_file():
        raise SourceError(
            f"{named}: there is no file {Path(file).absolute()}. "
            f"Correct {named.key('database')} in contract.yaml: sqlite:////absolute/path.db"
        )


def _as_table(batch: list[dict[str, Any]], texts: frozenset[str]) -> pl.DataFrame:
    """A batch of rows, with the columns that are described as `texts`.

    A batch without any value would have no type, and SQLite's own vary from row
    to row; what a text means is the same whatever it comes from (see `values`).
    """
    columns = {}
    for name in batch[0]:
        found = [row[name] for row in batch]
        if name in texts:
            found = [v if v is None or isinstance(v, str) else text_of(v) for v in found]
        kind = pl.String if name in texts else None
        columns[name] = pl.Series(name, found, dtype=kind)
    return pl.DataFrame(columns)


def _batches(named: NamedPlace) -> Iterator[list[dict[str, Any]]]:
    """The rows of a query, at most `BATCH_ROWS` of them in memory at once."""
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    address, engine = filled_in(named.place.database, named), None
    try:
        engine = sa.create_engine(address)
        _refuse_absent(named, engine.url)
        stream = {"stream_results": True, "max_row_buffer": BATCH_ROWS}
        if engine.dialect.name == "postgresql":
            stream["postgresql_readonly"] = True
        with engine.connect().execution_options(**stream) as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            result = connection.execute(sa.text(named.place.query))
            twins = [name for name, count in Counter(result.keys()).items() if count > 1]
            if twins:
                raise SourceError(
                    f"{named}: the query gives {', '.join(map(repr, twins))} "
                    "more than once. Give each column a name of its own: AS name."
                )
            # without a size of its own a part would be one row
            for part in result.mappings().partitions(BATCH_ROWS):
                yield [dict(row) for row in part]
    except (SQLAlchemyError, ImportError) as reason:
        # the driver's own words, without the statement and the address
        cause = str(getattr(reason, "orig", None) or reason).strip().splitlines()[0]
        raise SourceError(
            f"{named}: the query failed ({cause}). "
            f"Nothing was changed; correct {named.key('database')} or {named.key('query')} in contract.yaml."
        ) from None
    finally:
        if engine is not None:
            engine.dispose()
