"""Health over HTTP: whether the service can answer, with what, and how it went."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from loopbook.project.clock import utc_now
from loopbook.project.paths import Project
from loopbook.records import builds
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.serving.exchange import answer_json
from loopbook.serving.refusals import without_places
from loopbook.serving.service import Service


def add_health(app: FastAPI, service: Service) -> None:
    """Whether it runs, whether it can answer, with what, and how it went."""

    @app.get("/health/live", tags=["health"])
    async def live(_: Request) -> Response:
        """Whether the process runs."""
        return answer_json({"live": True})

    @app.get("/health/ready", tags=["health"])
    async def is_ready(_: Request) -> Response:
        """Whether it can answer, and the reason if not."""
        ready = service.versions.current is not None
        return answer_json(
            {"ready": ready, "reason": without_places(service.versions.reason)},
            200 if ready else 503,
        )

    @app.get("/metadata", tags=["health"])
    async def metadata(_: Request) -> Response:
        """Which version answers, and where it comes from."""
        return answer_json(_about(service))


def _about(service: Service) -> dict[str, Any]:
    """The version that answers, and the others of this process."""
    servable = service.ready().servable
    tags, card, versions = servable.version.tags, servable.card, service.versions
    return {
        "model": servable.version.name,
        "version": servable.number,
        "candidate": card["candidate"],
        "run_id": servable.version.run_id,
        "snapshot_sha256": card["snapshot_sha256"],
        "contract_sha256": card["contract_sha256"],
        "as_of": card["as_of"],
        "git_commit": tags.get("git_commit"),
        "gate": tags.get("gate_reason"),
        "promoted_at": tags.get("promoted_at"),
        "onnx_sha256": tags.get("onnx_sha256"),
        "fitted": card["fitted"],
        "previous_version": versions.previous and versions.previous.servable.number,
        "challenger_version": versions.challenger and versions.challenger.servable.number,
        "challenger_role": service.knobs.serve_challenger,
        "predecessor_version": versions.predecessor and versions.predecessor.servable.number,
    }


def add_metrics(app: FastAPI, service: Service, project: Project) -> None:
    """What is counted here, and what the last monitoring run, turn of the loop and build said."""

    def tell() -> bytes:
        age = service.feature_age()
        if age is not None:
            service.metrics.feature_age.set(age.total_seconds())
        service.metrics.tell_window(window_records.newest(project))
        service.metrics.tell_loop(turn_records.state(project, now=utc_now()))
        service.metrics.build_failed.set(builds.has_failed(project))
        return service.metrics.page()

    @app.get("/metrics", tags=["health"])
    async def metrics(_: Request) -> Response:
        """All counts, for Prometheus."""
        page = await asyncio.to_thread(tell)
        return Response(page, media_type="text/plain; version=0.0.4")
