"""Landing: bytes from elsewhere, brought here whole before anything reads them.

It decides where the rows of a URL or of a database come to lie: one immutable
file below `var/landing`, and a record that names it. Loading the graph lands;
`ingest` then reads exactly the file that the graph has seen. A transfer that
fails leaves what was landed before. Addresses may hold `${NAME}`, filled in
from the environment, so that no file of the project holds a secret.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from loopbook.data.single_values import text_of
from loopbook.project.contract import Contract, Source
from loopbook.project.errors import SourceError
from loopbook.project.files import read_json, replacing, write_json

BATCH_ROWS = 50_000
TIMEOUT_S = 60
VARIABLE = re.compile(r"\$\{(\w+)\}")


def is_remote(source: Source) -> bool:
    return source.path is None


def described(source: Source) -> str:
    """The source for people, without user, password or query string."""
    if source.path is not None:
        return source.path
    place = source.url or source.database or ""
    address = urlsplit(place)
    if not address.scheme:
        return place  # a variable, not yet filled in
    return f"{address.scheme}://{address.netloc.rsplit('@', 1)[-1]}{address.path}"


def filled_in(address: str) -> str:
    """An address with its `${NAME}` from the environment.

    Raises
    ------
    SourceError
        If a variable is not set; every one is named.
    """
    absent = [name for name in VARIABLE.findall(address) if name not in os.environ]
    if absent:
        raise SourceError(
            f"source: needs {', '.join(absent)} in the environment, found nothing. "
            f"Set it first: export {absent[0]}=…"
        )
    return VARIABLE.sub(lambda match: os.environ[match[1]], address)


def land(contract: Contract, folder: Path) -> str:
    """Bring a remote source here and give the digest of what came.

    A URL is asked with the ETag or date of the last landing, so that what has
    not changed is not sent again. A query runs every time: its digest does not
    depend on the order in which the database gives the rows.

    Raises
    ------
    SourceError
        If it cannot be reached or answers with an error; what was landed stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = contract.source
    record = _download(source, folder) if source.url else _query(contract, folder)
    for old in folder.glob("landed-*"):
        if old.name != record["file"]:
            old.unlink()
    write_json(folder / "landed.json", record)
    return record["digest"]


def landed(contract: Contract, folder: Path) -> Path:
    """The file of the last landing; lands first where there is none of this source."""
    if _last(contract.source, folder) is None:
        land(contract, folder)
    return folder / read_json(folder / "landed.json")["file"]


def sum_of_hashes(rows: pl.DataFrame) -> int:
    """A number in [0, 2**64) for a set of rows, whatever their order."""
    return int(rows.hash_rows(seed=0).cast(pl.Int128).sum() or 0) % 2**64


def _identity(source: Source) -> str:
    return hashlib.sha256(source.model_dump_json().encode()).hexdigest()


def _last(source: Source, folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / "landed.json")
    except (OSError, ValueError):
        return None
    same = record.get("source") == _identity(source)
    return record if same and (folder / record["file"]).exists() else None


def _download(source: Source, folder: Path) -> dict[str, Any]:
    import httpx

    last = _last(source, folder)
    asked = {"If-None-Match": last["etag"]} if last and last.get("etag") else {}
    if last and last.get("modified"):
        asked["If-Modified-Since"] = last["modified"]
    state = hashlib.sha256()
    try:
        with (
            replacing(folder / "incoming") as incoming,
            httpx.stream(
                "GET",
                filled_in(source.url),
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
                    state.update(block)
                    file.write(block)
            name = f"landed-{state.hexdigest()[:32]}{Path(urlsplit(source.url).path).suffix}"
            incoming.replace(folder / name)
    except (httpx.HTTPError, httpx.InvalidURL) as reason:
        raise SourceError(_unreached(source, reason)) from None
    return {
        "source": _identity(source),
        "file": name,
        "digest": state.hexdigest(),
        "etag": answer.headers.get("etag"),
        "modified": answer.headers.get("last-modified"),
    }


def _unreached(source: Source, reason: Exception) -> str:
    """What to say of a download that brought no table."""
    import httpx

    if isinstance(reason, httpx.HTTPStatusError):
        return (
            f"source {described(source)}: answered {reason.response.status_code} "
            f"{reason.response.reason_phrase}, expected the table. Nothing was changed; "
            "correct source.url in contract.yaml, or ask its owner."
        )
    return (
        f"source {described(source)}: cannot be reached ({type(reason).__name__}). "
        "Nothing was changed; check source.url in contract.yaml and the network."
    )


def _query(contract: Contract, folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    source, total, rows, writer = contract.source, 0, 0, None
    texts = {contract.header_of[name] for name in (*contract.features, contract.target.name)}
    with replacing(folder / "incoming") as incoming:
        try:
            for batch in _batches(source):
                table = _as_table(batch, texts)
                total = (total + sum_of_hashes(table)) % 2**64
                rows += table.height
                arrow = table.to_arrow()
                if writer is None:
                    writer = pq.ParquetWriter(incoming, arrow.schema, compression="zstd")
                writer.write_table(arrow.cast(writer.schema))
        except (pl.exceptions.PolarsError, ValueError) as reason:
            raise SourceError(
                f"source {described(source)}: a column of the query is not of one "
                f"type everywhere ({str(reason).splitlines()[0]}). Cast it in source.query."
            ) from None
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise SourceError(
                f"source {described(source)}: the query found 0 rows, expected at least one. "
                "Correct source.query in contract.yaml, or fill the table."
            )
        digest = hashlib.sha256(f"{rows} {total} {writer.schema}".encode()).hexdigest()
        name = f"landed-{digest[:32]}.parquet"
        incoming.replace(folder / name)
    return {"source": _identity(source), "file": name, "digest": digest}


def _as_table(batch: list[dict[str, Any]], texts: set[str]) -> pl.DataFrame:
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


def _batches(source: Source) -> Iterator[list[dict[str, Any]]]:
    """The rows of a query, at most `BATCH_ROWS` of them in memory at once."""
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    address, engine = filled_in(source.database), None
    try:
        engine = sa.create_engine(address)
        with engine.connect().execution_options(yield_per=BATCH_ROWS) as connection:
            result = connection.execute(sa.text(source.query))
            twins = [name for name, count in Counter(result.keys()).items() if count > 1]
            if twins:
                raise SourceError(
                    f"source {described(source)}: the query gives {', '.join(map(repr, twins))} "
                    "more than once. Give each column a name of its own: AS name."
                )
            for part in result.mappings().partitions():
                yield [dict(row) for row in part]
    except (SQLAlchemyError, ImportError) as reason:
        # the driver's own words, without the statement and the address
        cause = str(getattr(reason, "orig", None) or reason).strip().splitlines()[0]
        raise SourceError(
            f"source {described(source)}: the query failed ({cause}). "
            "Nothing was changed; correct source.database or source.query in contract.yaml."
        ) from None
    finally:
        if engine is not None:
            engine.dispose()
