"""The exchange: what comes in as it is checked, what goes out as it is written."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.service import Answer, Job, Service
from loopbook.serving.versions import Deployment

JSON = "application/json"


def answer_json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=JSON)


async def body_of(request: Request) -> Any:
    """The JSON body of a request.

    Raises
    ------
    Refusal
        415 for another content type, 400 for what is no JSON.
    """
    kind = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    if kind != JSON:
        raise Refusal(
            415,
            "wrong_content_type",
            f"found content type {kind[:60]!r}, expected {JSON}",
            hint=f"send the header Content-Type: {JSON}",
        )
    return await json_of(request)


async def json_of(request: Request) -> Any:
    """The body of a request as JSON, whatever content type it says.

    Raises
    ------
    Refusal
        400 for what is no JSON.
    """
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as reason:
        raise Refusal(
            400, "broken_json", f"the body is no JSON ({reason})", hint="correct the body"
        ) from None


def query_of(request: Request) -> dict[str, str]:
    """The query of a request; a name that stands twice is refused."""
    query = request.scope["query_string"]
    try:
        if b"%" in query or b"+" in query:
            pairs = parse_qsl(query.decode("ascii"), True, errors="strict", max_num_fields=200)
        else:  # nothing is escaped, which is usual, and ten times as fast
            parts = [part.partition("=") for part in query.decode("ascii").split("&") if part]
            pairs = [(name, value) for name, _, value in parts]
    except ValueError:
        raise Refusal(400, "broken_query", "the query cannot be read", hint="see /docs") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(
            422,
            "given_twice",
            f"{twice[:60]}: stands more than once",
            field=twice[:60],
            hint="give it once",
        )
    return values


def check_size(service: Service, rows: Sequence[Any]) -> None:
    """Refuse no rows, and more than one request may hold."""
    largest = service.knobs.serve_batch_rows
    if not 1 <= len(rows) <= largest:
        raise Refusal(
            422,
            "wrong_batch_size",
            f"rows: found {len(rows):,}, expected 1 to {largest:,}",
            field="rows",
            hint="send fewer at a time, or use loopbook score for a file",
        )


def checked(deployment: Deployment, given: Any, *, texts: bool, where: str = "") -> BaseModel:
    """A row that keeps the contract.

    Raises
    ------
    Refusal
        422 with every fault.
    """
    schemas = deployment.schemas
    if isinstance(given, Mapping) and (twice := schemas.twice(given)):
        message = f"{where}{twice}: is given by its name and by its alias"
        raise Refusal(422, "given_twice", message, field=twice, hint="give one of them")
    check = schemas.Row.model_validate_strings if texts else schemas.Row.model_validate
    try:
        return check(given)
    except ValidationError as error:
        raise of_validation(error, where.rstrip(".")) from None
    except (OverflowError, TypeError, ValueError):
        raise Refusal(422, "invalid_value", "a value cannot be read", hint="see /docs") from None


def answered(answer: Answer) -> dict[str, Any]:
    """An answer as the client reads it."""
    version = answer.deployment.servable.version
    return {
        answer.deployment.schemas.answer_name: answer.value,
        "prediction_id": answer.id,
        "model": version.name,
        "version": version.number,
        "as_of": answer.at,
        **answer.notes,
    }


def flag(text: str | None) -> bool:
    if text is None or text.lower() in ("", "false", "0", "no"):
        return False
    if text.lower() in ("true", "1", "yes"):
        return True
    raise Refusal(
        422,
        "invalid_value",
        f"explain: found {text[:20]!r}, expected true or false",
        field="explain",
    )


def jobs_of(
    service: Service,
    deployment: Deployment,
    rows: Sequence[Any],
    request: Request,
    *,
    route: str,
    where: str,
) -> list[Job]:
    """Rows of one request as jobs, each checked; a fault names its row by `where` and place."""
    started = request.scope["state"]["started"]
    return [
        service.job(
            deployment,
            checked(deployment, row, texts=False, where=f"{where}.{place}."),
            row,
            route,
            started,
        )
        for place, row in enumerate(rows)
    ]
