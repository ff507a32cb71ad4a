"""Feedback over HTTP: ground truth for earlier answers."""

import time
from datetime import UTC
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from loopbook.data.prediction_log import Truth
from loopbook.serving.exchange import answer_json, body_of
from loopbook.serving.refusals import Refusal, of_validation
from loopbook.serving.schemas import Feedback, Told
from loopbook.serving.service import Service


def add_feedback(app: FastAPI, service: Service) -> None:
    """Observed targets for what was answered."""

    @app.post("/feedback", tags=["feedback"])
    async def feedback(request: Request) -> Response:
        """Take observed targets, late, again or corrected."""
        given = await body_of(request)
        many = isinstance(given, dict) and "truths" in given
        try:
            asked = Feedback.model_validate(given if many else {"truths": [given]})
        except ValidationError as error:
            raise of_validation(error) from None
        now = time.time_ns() // 1000
        truths = [_truth(service, place, t, now) for place, t in enumerate(asked.truths)]
        outcomes = await service.tell(truths)
        counts = {name: outcomes.count(name) for name in Told.model_fields if name != "outcomes"}
        if counts["unknown"] == len(outcomes):
            first = asked.truths[0]
            named = first.prediction_id or first.key
            raise Refusal(
                404,
                "no_such_prediction",
                f"no prediction has the id or key {str(named)[:100]}",
                field="prediction_id" if first.prediction_id else "key",
                hint="use the prediction_id of an answer, or the key that was sent with the row",
            )
        return answer_json(counts | {"outcomes": outcomes})


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
    known = truth.known_at
    if known is not None:
        known = known.replace(tzinfo=UTC) if known.tzinfo is None else known
    known_us = round(known.timestamp() * 1e6) if known else now_us
    return Truth(truth.prediction_id, key, truth.observed, known_us, now_us, older)
