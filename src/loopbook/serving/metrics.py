"""Metrics of the service, for Prometheus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loopbook.data.prediction_log import Entry
from loopbook.project.clock import parse_instant
from loopbook.records import turns as turn_records
from loopbook.records.verdicts import LEVELS

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True)
class Metric:
    """One metric: the attribute of `Metrics` that holds it, and what Prometheus is told."""

    attribute: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    meaning: str
    labels: tuple[str, ...] = ()


METRICS = (
    Metric(
        "requests",
        Counter,
        "loopbook_requests",
        "Requests answered.",
        ("route", "method", "status"),
    ),
    Metric("seconds", Histogram, "loopbook_request_seconds", "Time to answer.", ("route",)),
    Metric("errors", Counter, "loopbook_errors", "Answers with an error.", ("code",)),
    Metric("wrong_keys", Counter, "loopbook_wrong_keys", "Requests with an unknown API key."),
    Metric("predictions", Counter, "loopbook_predictions", "Rows answered.", ("version", "role")),
    Metric(
        "classes", Counter, "loopbook_answered_class", "Rows answered with a class.", ("answered",)
    ),
    Metric("imputed", Counter, "loopbook_imputed", "Rows without a value.", ("feature",)),
    Metric(
        "unknown",
        Counter,
        "loopbook_unknown_category",
        "Rows with a category never seen.",
        ("feature",),
    ),
    Metric(
        "out", Counter, "loopbook_out_of_range", "Rows outside the contract's range.", ("feature",)
    ),
    Metric(
        "served", Gauge, "loopbook_version_served", "1 for the version that answers.", ("version",)
    ),
    Metric(
        "refused",
        Gauge,
        "loopbook_version_refused",
        "1 for a champion that is not let in, and why.",
        ("version", "code"),
    ),
    Metric(
        "looked",
        Gauge,
        "loopbook_registry_looked_timestamp_seconds",
        "When the registry last said who is champion; 0 if it never did.",
    ),
    Metric(
        "reload_failures",
        Counter,
        "loopbook_reload_failures",
        "Times the champion could not be followed.",
        ("cause",),
    ),
    Metric("swaps", Counter, "loopbook_swaps", "Times another version began to answer."),
    Metric("queue", Gauge, "loopbook_queue_depth", "What waits.", ("queue",)),
    Metric("log_lag", Gauge, "loopbook_log_lag_seconds", "From request to the log, newest answer."),
    Metric("log_errors", Counter, "loopbook_log_errors", "Times the log could not be written."),
    Metric(
        "calibration_shift",
        Gauge,
        "loopbook_calibration_shift",
        "What the version's calibration state adds in the link's space, to the target or a class.",
        ("version", "to"),
    ),
    Metric(
        "calibration_age",
        Gauge,
        "loopbook_calibration_age_seconds",
        "Since the instant of the champion's calibration state; none before the first.",
        ("version",),
    ),
    Metric(
        "calibration_at_bound",
        Gauge,
        "loopbook_calibration_at_bound",
        "1 while the shift is held back by its bound.",
        ("version",),
    ),
    Metric(
        "calibration_stands_still",
        Gauge,
        "loopbook_calibration_stands_still",
        "1 while the state is not made anew, since inputs or truths are called broken.",
        ("version",),
    ),
    Metric(
        "feature_age",
        Gauge,
        "loopbook_feature_age_seconds",
        "Since the feature store was brought up to date.",
    ),
    Metric(
        "features_ready",
        Gauge,
        "loopbook_features_ready",
        "1 if the feature store holds what the version needs.",
    ),
    Metric(
        "features_away",
        Gauge,
        "loopbook_features_away",
        "1 while the feature store is not asked, since it did not answer.",
    ),
    Metric(
        "feature_store_errors",
        Counter,
        "loopbook_feature_store_errors",
        "Lookups that failed and were imputed.",
    ),
    Metric(
        "shadow_dropped", Counter, "loopbook_shadow_dropped", "Rows the challenger had no time for."
    ),
    Metric(
        "shadow_errors", Counter, "loopbook_shadow_errors", "Rows the challenger could not answer."
    ),
    Metric(
        "verdict", Gauge, "loopbook_verdict", "1 for the verdict on the newest window.", ("level",)
    ),
    Metric(
        "window", Gauge, "loopbook_window", "A number of the newest window's record.", ("number",)
    ),
    Metric(
        "monitored",
        Gauge,
        "loopbook_monitored_timestamp_seconds",
        "When the newest verdict was given.",
    ),
    Metric(
        "build_failed", Gauge, "loopbook_build_failed", "1 if the last build or retraining failed."
    ),
    Metric(
        "loop_outcome",
        Gauge,
        "loopbook_loop_outcome",
        "1 for the outcome of the loop's last turn.",
        ("outcome",),
    ),
    Metric(
        "loop_ended",
        Gauge,
        "loopbook_loop_ended_timestamp_seconds",
        "When the loop's last turn ended; 0 if it never turned.",
    ),
    Metric(
        "loop_failures",
        Gauge,
        "loopbook_loop_failures",
        "Turns of the loop that failed one after the other.",
    ),
    Metric("loop_retrains", Gauge, "loopbook_loop_retrains", "Retrainings tried in the last day."),
)


class Metrics:
    """What is counted; one object a process. Its attributes are those of `METRICS`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for m in METRICS:
            more = {"buckets": BUCKETS} if m.kind is Histogram else {}
            metric = m.kind(m.name, m.meaning, m.labels, registry=self.registry, **more)
            setattr(self, m.attribute, metric)

    def tell_loop(self, state: turn_records.State) -> None:
        """Repeat how the loop is, as its records say."""
        self.loop_outcome.clear()
        for outcome in turn_records.EXIT_CODES if state.outcome else ():
            self.loop_outcome.labels(outcome).set(state.outcome == outcome)
        self.loop_ended.set(state.ended_at.timestamp() if state.ended_at else 0)
        self.loop_failures.set(state.failures)
        self.loop_retrains.set(state.retrains)

    def tell_window(self, record: Mapping[str, Any] | None) -> None:
        """Repeat the numbers of the newest monitored window, as they stand in its record."""
        self.verdict.clear()
        self.window.clear()
        for level in LEVELS if record else ():
            self.verdict.labels(level).set(record["verdict"]["level"] == level)
        for name, value in (record or {}).get("numbers", {}).items():
            if value is not None:
                self.window.labels(name).set(value)
        if record:
            self.monitored.set(parse_instant(record["decided_at"]).timestamp())

    def tell_calibration(self, version: str, about: Mapping[str, Any], now: datetime) -> None:
        """Repeat how the champion's calibration state is; nothing where it has none."""
        gauges = (self.calibration_shift, self.calibration_age)
        for gauge in (*gauges, self.calibration_at_bound, self.calibration_stands_still):
            gauge.clear()
        if about["as_of"] is None:
            return
        shift, as_of = about["shift"], parse_instant(about["as_of"])
        for to, number in (shift if isinstance(shift, dict) else {"target": shift}).items():
            self.calibration_shift.labels(version, to).set(number)
        self.calibration_age.labels(version).set((now - as_of).total_seconds())
        self.calibration_at_bound.labels(version).set(about["at_bound"])
        self.calibration_stands_still.labels(version).set(about["stands_still"])

    def reload_failed(self, cause: str) -> None:
        self.reload_failures.labels(cause=cause).inc()

    def count(self, entries: Sequence[Entry]) -> None:
        """Count answers that are in the log."""
        for entry in entries:
            self.predictions.labels(entry.version, entry.role).inc()
            if entry.answered is not None:
                self.classes.labels(entry.answered).inc()
            for name in entry.notes["imputed"]:
                self.imputed.labels(name).inc()
            for name in entry.notes["unknown"]:
                self.unknown.labels(name).inc()
            for name in entry.notes["out_of_range"]:
                self.out.labels(name).inc()
        if entries:
            self.log_lag.set(entries[-1].latency_us / 1e6)

    def page(self) -> bytes:
        return generate_latest(self.registry)
