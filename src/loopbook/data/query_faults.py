"""Query faults: what is wrong with the SQL of a source, in sentences with a remedy.

It decides what a query may hold: one SELECT over the places of the source,
which gives the same rows whenever it is asked. It opens nothing and knows a
query as the tree that the engine has parsed. Pure.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from loopbook.project.counts import listed
from loopbook.project.errors import SourceError
from loopbook.project.errors import listed as lines_of

CORRECT = "Correct source.query in contract.yaml."
# functions that stand where a table could, and make rows of what they are given
TABLES_OF_VALUES = {"range", "generate_series", "unnest"}
CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}


def refuse(
    tree: Mapping[str, Any],
    query: str,
    columns: Mapping[str, Sequence[str]],
    changing: Collection[str],
) -> None:
    """Refuse a query that is none, or that reads something else than the places.

    Parameters
    ----------
    tree : the parsed query, as DuckDB's json_serialize_sql gives it
    columns : each place's columns
    changing : functions whose answer is another one at another time

    Raises
    ------
    SourceError
        With every fault.
    """
    if tree["error"] and tree["error_type"] == "parser":
        before = query[: int(tree.get("position", 0))]
        raise SourceError(
            f"source.query: is no SQL ({tree['error_message']}, line {before.count(chr(10)) + 1} "
            f"of the query, after {_end(before)!r}). {CORRECT}"
        )
    if tree["error"] or len(tree["statements"]) != 1:
        found = "a statement of another kind" if tree["error"] else "several statements"
        raise SourceError(
            f"source.query: found {found if query.strip() else 'nothing'}, expected one SELECT "
            f"over {listed(columns)}, without PIVOT. {CORRECT}"
        )
    faults = list(dict.fromkeys(_faults(tree, columns, changing)))
    if faults:
        raise SourceError(f"source.query: cannot be used.\n{lines_of(faults)}\n{CORRECT}")


def _end(text: str) -> str:
    """The last words before a place in a text."""
    return " ".join(text.split())[-40:]


def _faults(
    tree: Mapping[str, Any], columns: Mapping[str, Sequence[str]], changing: Collection[str]
) -> Iterator[str]:
    nodes = list(_nodes(tree))
    own = {name.lower() for name in columns}
    own |= {entry["key"].lower() for n in nodes for entry in n.get("cte_map", {}).get("map", [])}
    named = {column.lower() for of_one in columns.values() for column in of_one}
    for node in nodes:
        kind = node.get("type")
        if kind == "BASE_TABLE" and not _is_own(node, own):
            path = ".".join(node["qualified_name"]["path"])
            yield f"there is no table {path!r}; there are {listed(columns)}"
        elif kind == "TABLE_FUNCTION":
            called = node["function"].get("function_name", "").lower()
            if called not in TABLES_OF_VALUES:
                yield f"{called}() is no table of the source; there are {listed(columns)}"
        elif kind == "SHOW_REF":
            yield "DESCRIBE, SHOW and SUMMARIZE say something about tables; name columns"
        elif kind in ("FUNCTION", "COLUMN_REF") and _changes(node, changing, named):
            called = node.get("function_name") or node["column_names"][0]
            yield (
                f"{called.lower()} gives another answer each time, so the same rows would be "
                "another table tomorrow; use a column, or write the value"
            )
        if node.get("sample"):
            yield "a sample is another one each time; choose rows by a condition on a column"


def _is_own(node: Mapping[str, Any], own: Collection[str]) -> bool:
    path = [part.lower() for part in node["qualified_name"]["path"]]
    return len(path) == 1 and path[0] in own


def _changes(node: Mapping[str, Any], changing: Collection[str], named: Collection[str]) -> bool:
    if node["type"] == "COLUMN_REF":
        names = [name.lower() for name in node["column_names"]]
        return len(names) == 1 and names[0] in CLOCKS and names[0] not in named
    called = node["function_name"].lower()
    return called in changing or (called == "age" and len(node["arguments"]) == 1)


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def refuse_twins(columns: Sequence[str], where: str) -> None:
    """Refuse columns whose names SQL cannot tell apart.

    Raises
    ------
    SourceError
        With each of them.
    """
    plain = [column.lower() for column in columns]
    twins = dict.fromkeys(c for c in columns if plain.count(c.lower()) > 1)
    if twins:
        raise SourceError(
            f"{where}: has {listed(map(repr, twins))} more than once among its {len(columns)} "
            "columns (SQL does not tell A from a). Give each column a name of its own: AS name."
        )


def refuse_spans(types: Mapping[str, str]) -> None:
    """Refuse columns that hold a span of time, which no table can keep.

    Raises
    ------
    SourceError
        With each of them.
    """
    spans = [column for column, kind in types.items() if kind == "INTERVAL"]
    if spans:
        raise SourceError(
            f"source.query: {listed(map(repr, spans))} is a span of time (INTERVAL), expected "
            "numbers, texts, truth values or times. Say in which unit it is meant: "
            "date_diff('minute', one, other), or epoch(span) / 60."
        )


def told(reason: Exception, columns: Mapping[str, Sequence[str]]) -> str:
    """What to say of a query that its engine refused, or could not finish."""
    lines = str(reason).strip().splitlines()
    what = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", lines[0]).rstrip(".!")
    at = [line.split(": ", 1)[1].strip() for line in lines if re.match(r"LINE \d+: ", line)]
    near = f", at: {at[0]}" if at else ""
    likely = [line.split(": ", 1)[1] for line in lines if line.startswith("Candidate bindings: ")]
    near += f"; like it are {likely[0]}" if likely else ""
    return f"source.query: {what}{near}. {_remedy(type(reason).__name__, what, columns)}"


def _remedy(kind: str, what: str, columns: Mapping[str, Sequence[str]]) -> str:
    if kind == "OutOfMemoryException":
        return (
            "The rows that it makes do not fit into the space that a query may take. Look whether "
            f"a join repeats rows: its ON has to name each row of one table once. {CORRECT}"
        )
    if kind == "ConversionException" or what.startswith("Could not parse"):
        column = re.search(r"source column (\S+)", what)
        owners = [table for table, names in columns.items() if column and column[1] in names]
        of = f"{column[1]} is a column of {listed(owners)}. " if owners else ""
        return (
            f"{of}List what stands for no value under null_values in contract.yaml, say "
            "TRY_CAST or try_strptime where other texts mean no value too, or compare columns "
            "of one type."
        )
    if "explicit" in what:
        return (
            "A column of a CSV file or of JSON lines is text (VARCHAR): say CAST(column AS DOUBLE), "
            f"AS BIGINT, AS DATE or AS TIMESTAMP. {CORRECT}"
        )
    if "column" in what.lower() and kind == "BinderException":
        tables = "; ".join(f"{table} has {listed(names)}" for table, names in columns.items())
        return f"{tables}. {CORRECT}"
    return CORRECT
