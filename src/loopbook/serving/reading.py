"""Reading: the bytes of a query or a JSON body as values, by work that is bounded before it begins.

It decides what the two may hold: so many names, so deeply nested, each name
once, no character NUL (a database would refuse it, long after the answer was
computed). It knows no contract: which names there may be is the schemas'.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote_plus

import orjson

from loopbook.serving.refusals import Refusal, cut

MOST_NAMES = 2_000  # of one object or query
MOST_PARTS = 200_000  # objects and lists of one body
MOST_LEVELS = 16
NUL = "\0"


def read_query(query: bytes) -> dict[str, str]:
    """A query as texts by name.

    Raises
    ------
    Refusal
        400 for what cannot be read, 422 for too many names, one that stands
        twice, or the character NUL.
    """
    if (count := query.count(b"&") + 1) > MOST_NAMES:
        raise _too_many(count)
    try:
        parts = [part.partition("=") for part in query.decode("ascii").split("&") if part]
        pairs = [(_unescaped(name), _unescaped(value)) for name, _, value in parts]
    except ValueError:
        raise Refusal(400, "broken_query", "the query cannot be read", hint="see /docs") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _twice(_first_repeated(name for name, _ in pairs))
    if b"%00" in query:
        _refuse_nul(values)
    return values


def _unescaped(text: str) -> str:
    """As `parse_qsl` does, which is ten times as slow where little is escaped."""
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def read_json(body: bytes) -> Any:
    """A JSON body as values.

    Raises
    ------
    Refusal
        400 for what is no JSON, 422 for what holds too much, a name twice in
        one object, or the character NUL.
    """
    if (
        body.count(b"{") + body.count(b"[") > MOST_PARTS
    ):  # some may stand in texts; no row has so many
        message = f"found more than {MOST_PARTS:,} objects and lists"
        raise Refusal(422, "too_large", message, hint="send fewer rows at a time")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as reason:
        raise Refusal(
            400, "broken_json", f"the body is no JSON ({reason})", hint="correct the body"
        ) from None
    names = _count_names(content)
    if body.count(b":") != names and _may_repeat(body, names):
        _check_names(body)
    if b"\\u0000" in body:
        _refuse_nul(content)
    return content


def _may_repeat(body: bytes, names: int) -> bool:
    """Whether a name may stand twice, where texts hold colons too, as instants do.

    Each name ends with a quote and a colon, with nothing between them unless
    the last line finds it. As many as were kept: none stood twice.
    """
    return (
        body.count(b'":') != names
        or b" :" in body
        or b"\t:" in body
        or b"\n:" in body
        or b"\r:" in body
    )


def _count_names(content: Any) -> int:
    """How many names all objects have together; Refusal (422) where there is too much."""
    names = 0
    level: list[Any] = [content]
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for part in level:
            if type(part) is dict:
                if len(part) > MOST_NAMES:
                    raise _too_many(len(part))
                names += len(part)
                below += [v for v in part.values() if type(v) is dict or type(v) is list]
            elif type(part) is list:
                below += [v for v in part if type(v) is dict or type(v) is list]
        if not below:
            return names
        level = below
    message = f"found more than {MOST_LEVELS} levels of objects and lists"
    raise Refusal(422, "too_deep", message, hint="see /docs for the fields")


def _check_names(body: bytes) -> None:
    """Refuse a name that stands twice in one object, however it is escaped."""
    try:
        json.loads(body, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except RecursionError:  # what stood under a name before it stood again
        raise Refusal(422, "too_deep", "found too many levels of objects and lists") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise _twice(_first_repeated(names))


def _first_repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))


def _refuse_nul(content: Any) -> None:
    """Refuse the character NUL in any name or text; the levels are few by now."""
    level = [("", content)]
    while level:
        below: list[tuple[str, Any]] = []
        for where, part in level:
            if isinstance(part, str) and NUL in part:
                message = f"{where or 'body'}: found the character NUL, expected text without it"
                raise Refusal(
                    422, "invalid_value", message, field=where or None, hint="take it out"
                )
            if isinstance(part, dict):
                below += [(cut(name.replace(NUL, "")), value) for name, value in part.items()]
                below += [(cut(name.replace(NUL, "")), name) for name in part]
            elif isinstance(part, list):
                below += [(where, value) for value in part]
        level = below


def _twice(name: str) -> Refusal:
    return Refusal(
        422,
        "given_twice",
        f"{cut(name)}: stands more than once",
        field=cut(name),
        hint="give it once",
    )


def _too_many(count: int) -> Refusal:
    message = f"found {count:,} names, expected at most {MOST_NAMES:,}"
    return Refusal(422, "too_many_fields", message, hint="see /docs for the fields")
