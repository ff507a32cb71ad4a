"""Administration over HTTP: what only a key of the scope `admin` may do."""

from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response

from loopbook.project.errors import GivenValueError, ProvenanceError
from loopbook.project.paths import Project
from loopbook.records import turns as turn_records
from loopbook.serving.exchange import answer_json, body_of
from loopbook.serving.outside import Outside, TooLate, late_refusal
from loopbook.serving.refusals import Refusal
from loopbook.serving.service import Service


def add_administration(app: FastAPI, service: Service, project: Project) -> None:
    """What only an administrator may do."""
    records = Outside("the loop's records", limit_s=5.0)

    @app.post("/admin/reload", tags=["administration"])
    async def reload(_: Request) -> Response:
        """Follow the alias now, and read new calibration states."""
        swapped = await service.watcher.by_hand()
        deployment = service.ready()
        newest = deployment.calibration.newest
        about = {"swapped": swapped, "version": deployment.servable.number}
        return answer_json(about | {"calibration_as_of": newest and newest.as_of})

    @app.post("/admin/retrain", tags=["administration"])
    async def retrain(request: Request) -> Response:
        """Ask the loop for a retraining at its next turn; it may still refuse, and says why."""
        given = await body_of(request)
        reason = given.get("reason") if isinstance(given, dict) else None
        if not isinstance(reason, str) or not 0 < len(reason) <= 500 or set(given) != {"reason"}:
            raise Refusal(
                422,
                "invalid_value",
                'expected {"reason": "…"}, up to 500 characters',
                field="reason",
                hint="say why; it is kept with the turn",
            )
        try:
            asked = await records.ask(turn_records.ask, project, "the service", reason)
        except TooLate as late:
            raise late_refusal(late) from None
        return answer_json(asked | {"next": "loopbook loop --once"}, 202)

    @app.post("/admin/rollback", tags=["administration"])
    async def rollback(_: Request) -> Response:
        """Answer with the previous version again, at once."""
        deployment = service.versions.roll_back()
        return answer_json({"version": deployment.servable.number})


def add_causes(app: FastAPI, service: Service, project: Project) -> None:
    """What tells an administrator where an answer came from."""
    causes = Outside("an answer's cause", limit_s=20.0, most_waiting=4)

    @app.get("/metadata/why/{prediction_id}", tags=["administration"])
    async def why(request: Request) -> Response:
        """Why an answer is what it is: traced to its cause, computed again, compared with the log."""
        return await traced(request, {})

    @app.post("/metadata/why/{prediction_id}", tags=["administration"])
    async def why_with_values(request: Request) -> Response:
        """The same with the values of sensitive columns, which the log does not hold."""
        given = await body_of(request)
        values = given.get("values") if isinstance(given, dict) else None
        if not isinstance(values, dict) or set(given) != {"values"}:
            raise Refusal(
                422,
                "invalid_value",
                'expected {"values": {"NAME": VALUE}}',
                field="values",
                hint="name sensitive columns; all other values are in the log",
            )
        return await traced(request, values)

    async def traced(request: Request, values: dict[str, Any]) -> Response:
        name = request.path_params["prediction_id"]
        try:
            return answer_json(await causes.ask(_cause, service, project, name, values))
        except GivenValueError as error:
            hint = "send the value that the row had"
            raise Refusal(422, "invalid_value", str(error), field="values", hint=hint) from None
        except ProvenanceError as error:
            raise Refusal(
                404,
                "no_such_answer",
                str(error),
                field="prediction_id",
                hint="copy the prediction_id of an answer",
            ) from None
        except TooLate as late:
            raise late_refusal(late) from None


def _cause(service: Service, project: Project, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """An answer's cause as a record; what it needs is imported when somebody asks first.

    By a connection of its own: a long look at the log keeps no answer waiting.
    """
    from loopbook.provenance.explained_answers import explain, looked_up

    with looked_up(project) as place:
        there = replace(place, registry=service.versions.registry)
        return explain(there, name, values).as_json()
