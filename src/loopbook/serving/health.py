"""Health over HTTP: whether the service can answer, with what, and how it went."""

from typing import Any

from fastapi import FastAPI, Request, Response

from loopbook.project.clock import utc_now
from loopbook.project.paths import Project
from loopbook.records import builds
from loopbook.records import turns as turn_records
from loopbook.records import windows as window_records
from loopbook.serving.exchange import answer_json
from loopbook.serving.outside import Outside, TooLate, late_refusal
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
        """Whether it can answer, and the reason if not; how the registry was followed last."""
        ready = service.versions.current is not None
        return answer_json(_readiness(service), 200 if ready else 503)

    @app.get("/metadata", tags=["health"])
    async def metadata(_: Request) -> Response:
        """Which version answers, and where it comes from."""
        return answer_json(_about(service))


def _readiness(service: Service) -> dict[str, Any]:
    """Whether it can answer, when the registry last answered, and what hinders a version."""
    versions, now = service.versions, utc_now()
    looked = versions.looked_at
    return {
        "ready": versions.current is not None,
        "reason": without_places(versions.reason),
        "looked_at": looked and looked.isoformat(timespec="milliseconds"),
        "looked_s_ago": looked and round((now - looked).total_seconds(), 1),
        "not_followed": [
            {"role": role, "version": f.version, "code": f.code, "reason": without_places(f.reason)}
            for role, f in sorted(versions.faults.items())
        ],
        "features": service.lookups.state,
    }


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
        "checked_from_rows": servable.is_checked_from_rows,
        "previous_version": versions.previous and versions.previous.servable.number,
        "calibration": service.ready().calibration.about(),
        "challenger_version": versions.challenger and versions.challenger.servable.number,
        "challenger_role": service.knobs.serve_challenger,
        "predecessor_version": versions.predecessor and versions.predecessor.servable.number,
    }


def add_metrics(app: FastAPI, service: Service, project: Project) -> None:
    """What is counted here, and what the last monitoring run, turn of the loop and build said."""

    files = Outside("metrics page", limit_s=5.0, most_waiting=8)

    def tell() -> bytes:
        age = service.lookups.age()
        if age is not None:
            service.metrics.feature_age.set(age.total_seconds())
        current = service.versions.current
        is_filled = current is not None and service.lookups.has_features(current.declared)
        service.metrics.features_ready.set(is_filled)
        if current:
            about = current.calibration.about()
            service.metrics.tell_calibration(current.servable.number, about, utc_now())
        service.metrics.tell_window(window_records.newest(project))
        service.metrics.tell_loop(turn_records.state(project, now=utc_now()))
        service.metrics.build_failed.set(builds.has_failed(project))
        return service.metrics.page()

    @app.get("/metrics", tags=["health"])
    async def metrics(_: Request) -> Response:
        """All counts, for Prometheus."""
        try:
            page = await files.ask(tell)
        except TooLate as late:
            raise late_refusal(late) from None
        return Response(page, media_type="text/plain; version=0.0.4")
