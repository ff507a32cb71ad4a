"""Refusals: the one shape of every error that the service answers with.

    {"error": {"code", "message", "field", "hint", "details": [{…}, …]}}

`code` is for programs, `message` says what was found, `hint` what to do.
`details` lists every fault where there are several. No row, secret or stack
trace is ever part of it. Its length does not grow with what was sent: the first
faults are listed and the rest is counted, names and values are cut.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from loopbook.project.mappings import Misfit, misfits

MOST_SHOWN = 40
LONGEST_NAME = 60
# what a sentence for the log may name, and a caller is not told; a route is no place
PLACE = re.compile(
    r"\w+:///?[^\s,;()'\"]+|(?<![\w.:/])/(?!(?:health|v2|predict|feedback|docs|admin)\b)[^\s,;()'\"]+"
)
BRIEF = reprlib.Repr()
BRIEF.maxlevel, BRIEF.maxstring, BRIEF.maxother = 2, 60, 60


class Fault(BaseModel):
    """One thing that is wrong."""

    code: str
    message: str
    field: str | None = None
    hint: str | None = None


class ErrorBody(Fault):
    """The first fault, and all of them."""

    details: list[Fault] = []
    request_id: str | None = None


class ErrorAnswer(BaseModel):
    """What every answer with a status of 400 or more holds."""

    error: ErrorBody


class Refusal(Exception):
    """An answer with an error status.

    `cause` is for the service's own log: it may name addresses and paths, and
    no caller is told it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.field, self.hint = field, hint
        self.headers = dict(headers or {})
        self.cause: str | None = None
        self.details: Sequence[dict[str, Any]] = ()  # the first faults, where there are several
        self.faults = 0  # how many there are

    def because(self, cause: object) -> "Refusal":
        """Itself, with what the log line says beside it."""
        self.cause = str(cause)
        return self

    def body(self, request_id: str | None = None) -> bytes:
        message, hint = self.message, self.hint
        if self.status >= 500:
            message, hint = without_places(message), hint and without_places(hint)
        first = {"code": self.code, "message": message, "field": self.field, "hint": hint}
        details = list(self.details)
        if (more := self.faults - len(details)) > 0:
            details.append({"code": "more_faults", "message": f"and {more:,} more"})
        return orjson.dumps({"error": {**first, "details": details, "request_id": request_id}})


def of_validation(
    error: ValidationError | RequestValidationError,
    prefix: str = "",
    names: dict[str, str] | None = None,
) -> Refusal:
    """Pydantic's errors as a refusal: which field, what was found, what is expected."""
    return of_misfits(misfits(error), prefix, names)


def of_misfits(
    found: Sequence[Misfit], prefix: str = "", names: dict[str, str] | None = None
) -> Refusal:
    """All that is wrong with a request, as one refusal."""
    faults = [_fault(misfit, prefix, names or {}) for misfit in found[:MOST_SHOWN]]
    code, message, field, hint = (faults[0][n] for n in ("code", "message", "field", "hint"))
    refusal = Refusal(422, code, message, field=field, hint=hint)
    refusal.details, refusal.faults = faults, len(found)
    return refusal


def _fault(misfit: Misfit, prefix: str, names: dict[str, str]) -> dict[str, Any]:
    path = [cut(names.get(part, part)) for part in misfit.path]
    where = ".".join([prefix, *path] if prefix else path) or None
    if misfit.kind == "missing":
        message, hint = "is missing", "give it a value"
    elif misfit.kind == "unknown":
        message, hint = "is not a field of this model", "see /docs for the fields"
    else:
        message = f"found {_shown(misfit.found)}, expected {misfit.expected}"
        hint = "correct the value"
    code = {"missing": "missing_field", "unknown": "unknown_field"}.get(
        misfit.kind, "invalid_value"
    )
    return {"code": code, "message": f"{where}: {message}", "field": where, "hint": hint}


def without_places(sentence: str) -> str:
    """A sentence for callers: without the addresses and paths that it names."""
    return PLACE.sub("…", sentence)


def cut(name: str) -> str:
    """A name as a caller gave it, no longer than a line shows."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _shown(value: Any) -> str:
    """A value as a caller gave it, no longer than a line shows; work is bounded too."""
    return cut(BRIEF.repr(value[:LONGEST_NAME] if isinstance(value, str) else value))
