"""Opened: a source that nobody has described, as a table.

It decides which keys of a contract say where the rows are, and what is said of
a file that is none: another format than its name says, another encoding, a web
page, a folder of files that disagree.
"""

import codecs
import csv
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from loopbook.data import formats, landing, source_files
from loopbook.data.places import NamedPlace, described
from loopbook.project.counts import counted, listed
from loopbook.project.errors import SourceError
from loopbook.project.names import plain_header
from loopbook.project.source import Place
from loopbook.proposal.forms import is_number

HEAD_BYTES = 1 << 16
IS_NO_TABLE = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the sheet as CSV (UTF-8)"),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip FILE"),
    (b"BZh", "compressed with bzip2", "Unpack it: bunzip2 FILE"),
    (b"\xfd7zXZ", "compressed with xz", "Unpack it: unxz FILE"),
    (b"%PDF", "a PDF", "Give the table that it was printed from"),
    (b"ARROW1", "an Arrow file", "Save it as Parquet"),
    (b"\x89HDF", "an HDF5 file", "Save it as Parquet"),
)
SQLITE = b"SQLite format 3"
NOT_UTF8 = "Write it again as UTF-8: iconv -f {encoding} -t UTF-8 {name} > utf8-{name}"


@dataclass(frozen=True)
class Opened:
    """A source and its rows as they are stored; of CSV and JSON lines, text.

    Attributes
    ----------
    source : the keys of a contract's `source`
    texts : whether every column is text because of how it is stored
    notes : what a person should know of it
    file, form : the first file and its format, where it is in files
    """

    source: dict[str, Any]
    rows: pl.DataFrame
    texts: bool
    notes: list[str] = field(default_factory=list)
    file: Path | None = None
    form: str = ""

    @property
    def told(self) -> str:
        return described(Place(**self.source))


def opened(text: str, root: Path, *, query: str = "") -> Opened:
    """A source by what a person types: a file, a folder, a URL or a database.

    Parameters
    ----------
    query : str
        Of a database, the SQL; without it, its only table.

    Raises
    ------
    SourceError
        If it cannot be read as a table, with what it is and what to do.
    """
    if not text.strip():
        raise SourceError("source: found nothing, expected a file, a folder, a URL or a database.")
    if text.startswith(("http://", "https://")):
        return _of_url(text, root)
    if "://" in text or (text.startswith("${") and query):
        return _of_database(text, query)
    if query:
        raise SourceError("--query: is for a database, and the source is a file; leave it out.")
    return _of_path(Path(text).expanduser(), root)


def _of_path(path: Path, root: Path) -> Opened:
    absolute = path.absolute()
    if not absolute.exists():
        raise SourceError(f"source {path}: is not there. Correct the path.")
    inside = absolute.resolve().is_relative_to(root.resolve())
    shown = absolute.resolve().relative_to(root.resolve()) if inside else absolute
    place = {"path": str(shown)}
    if absolute.is_dir():
        files = source_files.files_of(NamedPlace(None, Place(**place)), root)
        kinds = {file: _checked(file) for file in files}
        _refuse_other_formats(shown, kinds)
    else:
        files, kinds = [absolute], {absolute: _checked(absolute)}
    form = kinds[files[0]]
    notes = []
    if formats.format_of(files[0], Place(**place)) != form:
        place["format"] = form
        notes.append(f"{files[0].name} is {formats.NAMES[form]}, which its name does not say")
    return _read(place, files, form, notes)


def _of_url(url: str, root: Path) -> Opened:
    named = NamedPlace(None, Place(url=url))
    folder = root / "var" / "landing"
    landing.land(named, folder)
    file = landing.landed(named, folder)
    form = _checked(file, called=str(named))
    place = {"url": url}
    if formats.format_of(file, Place(**place)) != form:
        place["format"] = form
    return _read(place, [file], form, [])


class _Every(frozenset):
    """All columns, whatever they are called."""

    def __contains__(self, _: object) -> bool:
        return True


def _of_database(address: str, query: str) -> Opened:
    place = {"database": address, "query": query or f"SELECT * FROM {_only_table(address)}"}
    named = NamedPlace(None, Place(**place), texts=_Every())
    with tempfile.TemporaryDirectory() as folder:
        landing.land(named, Path(folder))
        rows = pl.read_parquet(landing.landed(named, Path(folder)), glob=False)
    notes = []
    if "@" in address and "${" not in address:
        notes.append(
            "the address holds a password: put it into the environment, and ${NAME} into the contract"
        )
    return Opened(place, rows, texts=True, notes=notes)


def _only_table(address: str) -> str:
    """The one table of a database, quoted for it.

    Raises
    ------
    SourceError
        If there are several, or it cannot be asked.
    """
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    named = NamedPlace(None, Place(database=address, query="-"))
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).is_file():
        raise SourceError(f"{named}: there is no such file. Correct the path.")
    engine = None
    try:
        engine = sa.create_engine(landing.filled_in(address, named))
        look = sa.inspect(engine)
        tables = [*look.get_table_names(), *look.get_view_names()]
        if len(tables) == 1:
            return engine.dialect.identifier_preparer.quote(tables[0])
    except sa.exc.NoSuchModuleError:
        kind = address.split("://", maxsplit=1)[0]
        raise SourceError(
            f"source {kind}://…: is no kind of address that is read here. Expected a file, a folder, "
            "https://…, sqlite:///PATH or postgresql+psycopg://…; bring the table to one of these."
        ) from None
    except (SQLAlchemyError, ImportError, sa.exc.ArgumentError) as reason:
        cause = str(getattr(reason, "orig", None) or reason).strip().splitlines()[0]
        raise SourceError(
            f"{named}: cannot be asked ({cause}). Correct the address, or ask its owner for rights."
        ) from None
    finally:
        if engine is not None:
            engine.dispose()
    there = f"tables {listed(tables)}" if tables else "no table"
    raise SourceError(f"{named}: has {there}. Say which rows: --query 'SELECT … FROM …'")


def _checked(file: Path, called: str = "") -> str:
    """parquet, csv or jsonl, by what is in a file.

    Raises
    ------
    SourceError
        If it is no table, or text of another encoding.
    """
    name = called or f"source {file.name}"
    try:
        with file.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError as reason:
        raise SourceError(
            f"{name}: cannot be read ({reason.strerror}). Correct its rights."
        ) from None
    if not head.strip():
        raise SourceError(f"{name}: is empty, expected a table.")
    if head.startswith(b"PAR1"):
        return "parquet"
    for mark, what, remedy in IS_NO_TABLE:
        if head.startswith(mark):
            raise SourceError(f"{name}: is {what}, and no table. {remedy}.")
    if head.startswith(SQLITE):
        raise SourceError(f"{name}: is a SQLite database. Give it as sqlite:///{file.absolute()}")
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise SourceError(
            f"{name}: is a web page or XML, and no table. Look for the file's own address."
        )
    _refuse_other_encodings(file, head, name)
    return _text_format(head.decode("utf-8", errors="replace").lstrip("\ufeff \n\r\t"), name)


def _text_format(text: str, name: str) -> str:
    first = text.splitlines()[0].strip()
    if text.startswith("["):
        try:
            is_list = isinstance(json.loads(first), list)
        except ValueError:
            is_list = first in ("[", "[{") or first.startswith("[{")
        if is_list:
            raise SourceError(f"{name}: is one JSON list. Write an object a line: jq -c '.[]' FILE")
    if text.startswith("{"):
        try:
            json.loads(first)
        except ValueError:
            raise SourceError(
                f"{name}: is JSON over several lines. Write an object a line: jq -c '.' FILE"
            ) from None
        return "jsonl"
    return "csv"


def _refuse_other_encodings(file: Path, head: bytes, name: str) -> None:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")):
        if head.startswith(mark):
            raise SourceError(
                f"{name}: is {encoding}. {NOT_UTF8.format(encoding=encoding, name=file.name)}"
            )
    if b"\0" in head:
        raise SourceError(f"{name}: is no text and no Parquet. Save the table as CSV or Parquet.")
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with file.open("rb") as handle:
        while block := handle.read(1 << 22):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as wrong:
                line += block[: wrong.start].count(b"\n")
                odd = block[max(0, wrong.start - 8) : wrong.start + 8].decode("cp1252", "replace")
                raise SourceError(
                    f"{name}: is not UTF-8: line {line} has {odd.strip()!r} as Windows writes it. "
                    f"{NOT_UTF8.format(encoding='WINDOWS-1252', name=file.name)}"
                ) from None
            line += block.count(b"\n")


def _refuse_other_formats(shown: Path, kinds: dict[Path, str]) -> None:
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"{file.name} is {formats.NAMES[kind]}" for file, kind in kinds.items())
        raise SourceError(f"source {shown}: {found[:300]}. Keep files of one format there.")


def _read(place: dict[str, Any], files: list[Path], form: str, notes: list[str]) -> Opened:
    where = f"source {described(Place(**place))}"
    try:
        tables = [formats.scan(file, form, Place(**place)) for file in files]
        columns = tables[0].collect_schema().names()
        for file, table in zip(files, tables, strict=True):
            other = set(columns) ^ set(table.collect_schema().names())
            if other:
                raise SourceError(
                    f"{where}: {files[0].name} and {file.name} have not the same columns "
                    f"({listed(sorted(map(repr, other)))} in one only). Keep files of one table there."
                )
        _refuse_other_types(where, files, tables)
        rows = pl.concat([t.select(columns) for t in tables], how="vertical_relaxed").collect()
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, csv.Error) as reason:
        raise SourceError(
            formats.unreadable(where, form, reason).replace(
                "correct source in contract.yaml", "give another file"
            )
        ) from None
    _refuse_unusable(rows, columns, where, form)
    return Opened(place, rows, texts=form != "parquet", notes=notes, file=files[0], form=form)


def _refuse_other_types(where: str, files: list[Path], tables: list[pl.LazyFrame]) -> None:
    """What is a text in one file and a number in another would be read as text, as a category."""
    schemas = [table.collect_schema() for table in tables]
    for name, kind in schemas[0].items():
        for file, schema in zip(files, schemas, strict=True):
            kinds = {kind, schema[name]} - {pl.Null}
            if len(kinds) == 2 and pl.String in kinds:
                raise SourceError(
                    f"{where}: {name!r} is {kind} in {files[0].name} and {schema[name]} in "
                    f"{file.name}. Write one type in all files."
                )


def _refuse_unusable(rows: pl.DataFrame, columns: list[str], where: str, form: str) -> None:
    if rows.is_empty():
        raise SourceError(
            f"{where}: has {counted(len(columns), 'column')} and no rows. Fill the table."
        )
    if len(columns) < 2:
        raise SourceError(
            f"{where}: has one column ({columns[0]!r}), expected a target and what tells about it. "
            "If columns stand between other signs, say so in a dialect: docs/contract.md."
        )
    plain = [plain_header(column) for column in columns]
    twins = [column for column in columns if plain.count(plain_header(column)) > 1]
    if twins:
        raise SourceError(
            f"{where}: has {listed(list(map(repr, twins)))}, which look alike: they differ in spaces or "
            "in how accents are stored. Rename one of them."
        )
    numbers = [c for c in columns if is_number(c)]
    is_count = numbers == [str(i) for i in range(len(columns))] or numbers == [
        str(i + 1) for i in range(len(columns))
    ]
    if form == "csv" and len(numbers) > len(columns) / 2 and not is_count:
        raise SourceError(
            f"{where}: its first line ({', '.join(columns[:5])}, …) is a row and no line of "
            "headers. Put the columns' names above it."
        )
