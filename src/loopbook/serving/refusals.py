"""Refusals: the one shape of every error that the service answers with.

    {"error": {"code", "message", "field", "hint", "details": [{…}, …]}}

`code` is for programs, `message` says what was found, `hint` what to do.
`details` lists every fault where there are several. No row, secret or stack
trace is ever part of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from loopbook.project.mappings import Misfit, misfits

MOST_SHOWN = 40


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
    """An answer with an error status."""

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
        self.details: Sequence[dict[str, Any]] = ()  # every fault, where there are several

    def body(self, request_id: str | None = None) -> bytes:
        first = {"code": self.code, "message": self.message, "field": self.field, "hint": self.hint}
        details = list(self.details)[:MOST_SHOWN]
        return orjson.dumps({"error": {**first, "details": details, "request_id": request_id}})


def of_validation(
    error: ValidationError | RequestValidationError,
    prefix: str = "",
    names: dict[str, str] | None = None,
) -> Refusal:
    """Pydantic's errors as a refusal: which field, what was found, what is expected."""
    faults = [_fault(misfit, prefix, names or {}) for misfit in misfits(error)]
    code, message, field, hint = (faults[0][n] for n in ("code", "message", "field", "hint"))
    refusal = Refusal(422, code, message, field=field, hint=hint)
    refusal.details = faults
    return refusal


def _fault(misfit: Misfit, prefix: str, names: dict[str, str]) -> dict[str, Any]:
    path = [names.get(part, part) for part in misfit.path]
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
