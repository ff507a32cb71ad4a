"""Feedback over HTTP: ground truth for earlier answers.

It decides what a caller is told of each: what the target cannot be is set
aside in the project's quarantine, and the others are taken.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError

from loopbook.data import aside_truths, quarantine
from loopbook.data.aside_rows import FEEDBACK, Row
from loopbook.data.truths import SET_ASIDE, UNKNOWN, Truth
from loopbook.project.clock import from_micros, parse_instant, to_micros, utc_now
from loopbook.project.errors import QuarantineError
from loopbook.project.paths import Project
from loopbook.serving.exchange import answer_json, body_of
from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.schemas import Told, feedback_of
from loopbook.serving.service import Service

INLINE_TRUTHS = 64  # more are read in a thread, so that others need not wait
COUNTED = [name for name in Told.model_fields if name not in ("outcomes", "known_at")]


def add_feedback(app: FastAPI, service: Service, project: Project) -> None:
    """Observed targets for what was answered."""
    form = feedback_of(service.contract)

    @app.post("/feedback", tags=["feedback"])
    async def feedback(request: Request) -> Response:
        """Take observed targets, late, again or corrected."""
        given = await body_of(request)
        count = len(given["truths"]) if _is_many(given) else 1
        if count > INLINE_TRUTHS:
            truths, faults = await asyncio.to_thread(_read, service, form, given)
        else:
            truths, faults = _read(service, form, given)
        told = await service.tell(truths)
        outcomes = [outcome for outcome, _ in told]
        aside = [
            aside_truths.as_row(truth, fault, service.contract)
            for truth, fault, outcome in zip(truths, faults, outcomes, strict=True)
            if fault and outcome == SET_ASIDE
        ]
        if aside:
            await asyncio.to_thread(_keep, project, aside)
        counts = {name: outcomes.count(name) for name in COUNTED}
        if counts[UNKNOWN] == len(outcomes):
            first = truths[0]
            named = first.prediction_id or first.key
            raise Refusal(
                404,
                "no_such_prediction",
                f"no prediction has the id or key {str(named)[:100]}",
                field="prediction_id" if first.prediction_id else "key",
                hint="use the prediction_id of an answer, or the key that was sent with the row",
            )
        return answer_json(counts | {"outcomes": outcomes, "known_at": _instants(told)})


def _is_many(given: Any) -> bool:
    return isinstance(given, dict) and isinstance(given.get("truths"), list)


def _read(
    service: Service, form: type[BaseModel], given: Any
) -> tuple[list[Truth], list[str | None]]:
    """The truths of a request, and for each what the target cannot be, or None.

    Raises
    ------
    Refusal
        422 with every fault.
    """
    many = isinstance(given, dict) and "truths" in given
    try:
        asked = form.model_validate(given if many else {"truths": [given]})
    except ValidationError as error:
        raise of_validation(error) from None
    now = time.time_ns() // 1000
    truths = [_truth(service, place, t, now) for place, t in enumerate(asked.truths)]
    faults = aside_truths.faults([t.observed for t in truths], service.contract)
    marked = [replace(t, is_aside=f is not None) for t, f in zip(truths, faults, strict=True)]
    return marked, faults


def _keep(project: Project, aside: Sequence[Row]) -> None:
    try:
        quarantine.keep(project, aside, reading=FEEDBACK, now=utc_now())
    except QuarantineError:
        raise Refusal(
            503,
            "log_unavailable",
            "the quarantine cannot be written, so what the target cannot be was not kept",
            hint="send the same again later; what was taken is not taken twice",
        ) from None


def _instants(told: Sequence[tuple[str, int | None]]) -> list[str | None]:
    """From when on each ground truth counts."""
    return [None if known is None else from_micros(known).isoformat() for _, known in told]


def _truth(service: Service, place: int, truth: Any, now_us: int) -> Truth:
    if (truth.prediction_id is None) == (truth.key is None):
        raise Refusal(
            422,
            "invalid_value",
            f"truths.{place}: expected either prediction_id or key",
            field="prediction_id",
        )
    key, older = None, None
    if truth.key is not None:
        names = list(service.contract.key)
        key, older = service.log.keys.text(truth.key), service.log.keys.older(truth.key)
        if key is None or set(truth.key) != set(names):
            raise Refusal(
                422,
                "invalid_value",
                f"truths.{place}.key: expected {', '.join(names)}, and nothing else",
                field="key",
            )
    known_us = None if truth.known_at is None else _known_us(service, place, truth.known_at)
    return Truth(truth.prediction_id, key, truth.observed, known_us, now_us, older)


def _known_us(service: Service, place: int, known: datetime) -> int:
    """When a truth became known; without an offset, by the contract's zone, as in the table."""
    try:
        return to_micros(parse_instant(known, service.contract.time_zone))
    except ValueError as reason:
        where = f"truths.{place}.known_at"
        message = f"{where}: found {known.isoformat()!r}, expected {reason}"
        raise Refusal(422, "invalid_value", message, field=where) from None
