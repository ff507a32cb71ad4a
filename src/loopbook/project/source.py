"""The source: where the rows are, as the contract says it.

It decides which places and queries go together. It opens none of them.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from loopbook.project.names import Name
from loopbook.project.strict import Strict

Character = Annotated[str, Field(pattern=r"^[\x09\x20-\x7e]$")]  # readers of CSV take one byte


class Dialect(Strict):
    """How a CSV file is written; without it, the separator is found from the first lines."""

    separator: Character
    quote: Character = '"'
    decimal_comma: bool = False

    @model_validator(mode="after")
    def _is_unambiguous(self):
        if self.separator == self.quote:
            raise ValueError(f"separator and quote are both {self.quote!r}; change one")
        return self


class Place(Strict):
    """Where some rows are: a file or folder, a URL, or a database and the query that asks it."""

    path: str | None = None
    url: str | None = None
    database: str | None = None
    query: str | None = None
    format: Literal["parquet", "csv", "jsonl"] | None = None
    dialect: Dialect | None = None

    @model_validator(mode="after")
    def _is_one_place(self):
        if sum(place is not None for place in (self.path, self.url, self.database)) != 1:
            raise ValueError("expected one of path, url and database; keep one")
        if self.database and self.query is None:
            raise ValueError("database and query belong together; give both or neither")
        if self.database and (self.format or self.dialect):
            raise ValueError("format and dialect are for files; remove them")
        if self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError(f"url {self.url!r}: expected http:// or https://")
        return self


class Part(Place):
    """One of several places, which the query of the source calls by its name."""

    @model_validator(mode="after")
    def _leaves_the_query_to_the_source(self):
        if self.query is not None and self.database is None:
            raise ValueError("query: of a part, only a database has one; write it in source.query")
        return self


class Source(Place):
    """Where the rows come from: a place, or several, and a query over them."""

    parts: Annotated[dict[Name, Part], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one_place(self):
        if self.parts is None:
            return super()._is_one_place()
        own = [n for n in ("path", "url", "database", "format", "dialect") if getattr(self, n)]
        if own:
            raise ValueError(f"parts: each says {own[0]} itself; remove it beside parts")
        if self.query is None:
            raise ValueError("parts: need a query that makes one table of them; add source.query")
        plain = [name.lower() for name in self.parts]
        twins = [name for name in self.parts if plain.count(name.lower()) > 1]
        if twins:
            raise ValueError(f"parts: {' and '.join(twins)} are one name in SQL; rename one")
        return self

    @property
    def is_queried(self) -> bool:
        """Whether the query is over tables that are brought here, and not for a database."""
        return self.query is not None and self.database is None
