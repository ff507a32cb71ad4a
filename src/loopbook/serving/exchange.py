"""The exchange: what comes in as it is checked, what goes out as it is written."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from fastapi import Request, Response

from loopbook.registry.calibrated_answers import prediction_set
from loopbook.serving.calibration import named
from loopbook.serving.reading import read_json, read_query
from loopbook.serving.refusals import Refusal, of_misfits
from loopbook.serving.service import Answer, Job, Service
from loopbook.serving.versions import Deployment

JSON = "application/json"
PREDICTION_SET = "prediction_set"
ROWS_AT_ONCE = 32  # some three milliseconds
LARGE_BODY = 100_000
READERS = ThreadPoolExecutor(1, thread_name_prefix="bodies")  # two would share one interpreter


def answer_json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=JSON)


async def body_of(request: Request) -> Any:
    """The JSON body of a request that says that it is JSON.

    Raises
    ------
    Refusal
        415 for another content type or none, 400 for what is no JSON, 422 for
        what holds too much, a name twice or the character NUL.
    """
    _check_type(request.headers.get("content-type"))
    return await _read(await request.body())


async def json_of(request: Request) -> Any:
    """The JSON body of the Open Inference Protocol, whose clients say no content type.

    Triton's own client sends none. A browser cannot use that: its requests
    carry an origin, which the guard has looked at.

    Raises
    ------
    Refusal
        As `body_of`, but a missing content type is JSON.
    """
    _check_type(request.headers.get("content-type", JSON))
    return await _read(await request.body())


async def _read(body: bytes) -> Any:
    """A body as values; one of some size in a thread, so that others are answered meanwhile."""
    if len(body) <= LARGE_BODY:
        return read_json(body)
    return await asyncio.get_running_loop().run_in_executor(READERS, read_json, body)


def _check_type(given: str | None) -> None:
    """Refuse what does not say that it is JSON in UTF-8."""
    if given == JSON:
        return
    kind, *parameters = (part.strip() for part in (given or "none").lower().split(";"))
    charsets = [p.split("=", 1)[1].strip('"') for p in parameters if p.startswith("charset=")]
    if kind != JSON or any(charset not in ("utf-8", "utf8") for charset in charsets):
        raise Refusal(
            415,
            "wrong_content_type",
            f"found content type {(given or 'none')[:60]!r}, expected {JSON}",
            hint=f"send the header Content-Type: {JSON}",
        )


def query_of(request: Request) -> dict[str, str]:
    """The query of a request; a name that stands twice is refused."""
    return read_query(request.scope["query_string"])


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


def checked(deployment: Deployment, given: Any, *, where: str = "") -> dict[str, Any]:
    """A row that keeps the contract, by its columns.

    Raises
    ------
    Refusal
        422 with every fault.
    """
    if type(given) is not dict:
        field = where.rstrip(".") or None
        message = f"{field or 'the row'}: found {type(given).__name__}, expected fields and values"
        raise Refusal(422, "invalid_value", message, field=field, hint="see /docs")
    row, wrong = deployment.schemas.reader.read(given)
    if wrong:
        raise of_misfits(wrong, where.rstrip("."))
    if len(row) < len(given):
        twice = deployment.schemas.reader.twice(given)
        message = f"{where}{twice}: is given by its name and by its alias"
        raise Refusal(422, "given_twice", message, field=twice, hint="give one of them")
    return row


def answered(answer: Answer) -> dict[str, Any]:
    """An answer as the client reads it."""
    version = answer.deployment.servable.version
    is_number = answer.probabilities is None
    sure = {"interval": answer.interval} if is_number else {"probabilities": answer.probabilities}
    return {
        answer.deployment.schemas.answer_name: answer.value,
        **sure,
        "prediction_id": answer.id,
        "model": version.name,
        "version": version.number,
        "as_of": answer.at,
        **answer.notes,
    }


def in_detail(answer: Answer) -> dict[str, Any]:
    """What an explained answer says of its calibration state: null, where none stands behind it."""
    state, servable = answer.state, answer.deployment.servable
    if state is None:
        return {"calibration": None}
    raw = float(answer.raw) if servable.task.classes is None else named(servable, answer.raw)
    about = {"raw": raw, "shift": named(servable, state.shift), "as_of": state.as_of}
    return {"calibration": about | {"truths": state.truths, "reason": state.reason}}


def with_set(answer: Answer) -> dict[str, Any]:
    """An answer with the classes that hold the truth at the contract's level; null without a state."""
    return answered(answer) | {PREDICTION_SET: set_of(answer)}


def set_of(answer: Answer) -> list[str] | None:
    """The classes that hold the truth at the contract's level; None for a number, or without a state."""
    if answer.probabilities is None:
        return None
    likely = [*answer.probabilities.values()]
    return prediction_set(answer.deployment.servable, likely, answer.state)


def wants_set(service: Service, text: str | None) -> bool:
    """Whether a query asks for the set of classes.

    Raises
    ------
    Refusal
        422, where the target is a number.
    """
    if not flag(text, PREDICTION_SET):
        return False
    if service.ready().servable.task.classes is None:
        raise Refusal(
            422,
            "invalid_value",
            f"{PREDICTION_SET}: the target is a number, whose answers have an interval",
            field=PREDICTION_SET,
        )
    return True


def flag(text: str | None, name: str = "explain") -> bool:
    if text is None or text.lower() in ("", "false", "0", "no"):
        return False
    if text.lower() in ("true", "1", "yes"):
        return True
    raise Refusal(
        422,
        "invalid_value",
        f"{name}: found {text[:20]!r}, expected true or false",
        field=name,
    )


async def jobs_of(
    service: Service,
    deployment: Deployment,
    rows: Sequence[Any],
    request: Request,
    *,
    route: str,
    where: str,
) -> list[Job]:
    """Rows of one request as jobs, each checked; a fault names its row by `where` and place.

    Others are answered between some rows and the next ones.
    """
    started, jobs = request.scope["state"]["started"], []
    for place, row in enumerate(rows):
        if place % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)
        keeps = checked(deployment, row, where=f"{where}.{place}.")
        jobs.append(service.job(deployment, keeps, row, route, started))
    return jobs
