"""Metrics of the service, for Prometheus."""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loopbook.data.prediction_log import Entry
from loopbook.project.clock import parse_instant
from loopbook.records import turns as turn_records
from loopbook.records.verdicts import LEVELS

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """What is counted; one object a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        put = {"registry": self.registry}
        self.requests = Counter(
            "loopbook_requests", "Requests answered.", ["route", "method", "status"], **put
        )
        self.seconds = Histogram(
            "loopbook_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS, **put
        )
        self.errors = Counter("loopbook_errors", "Answers with an error.", ["code"], **put)
        self.predictions = Counter(
            "loopbook_predictions", "Rows answered.", ["version", "role"], **put
        )
        self.imputed = Counter("loopbook_imputed", "Rows without a value.", ["feature"], **put)
        self.unknown = Counter(
            "loopbook_unknown_category", "Rows with a category never seen.", ["feature"], **put
        )
        self.out = Counter(
            "loopbook_out_of_range", "Rows outside the contract's range.", ["feature"], **put
        )
        self.served = Gauge(
            "loopbook_version_served", "1 for the version that answers.", ["version"], **put
        )
        self.refused = Gauge(
            "loopbook_version_refused",
            "1 for a champion whose files are refused.",
            ["version"],
            **put,
        )
        self.reload_failures = Counter(
            "loopbook_reload_failures",
            "Times the champion could not be followed.",
            ["cause"],
            **put,
        )
        self.swaps = Counter("loopbook_swaps", "Times another version began to answer.", **put)
        self.queue = Gauge("loopbook_queue_depth", "What waits.", ["queue"], **put)
        self.log_lag = Gauge(
            "loopbook_log_lag_seconds", "From request to the log, newest answer.", **put
        )
        self.log_errors = Counter(
            "loopbook_log_errors", "Times the log could not be written.", **put
        )
        self.feature_age = Gauge(
            "loopbook_feature_age_seconds", "Since the feature store was brought up to date.", **put
        )
        self.features_ready = Gauge(
            "loopbook_features_ready", "1 if the feature store holds what the version needs.", **put
        )
        self.feature_store_errors = Counter(
            "loopbook_feature_store_errors", "Lookups that failed and were imputed.", **put
        )
        self.shadow_dropped = Counter(
            "loopbook_shadow_dropped", "Rows the challenger had no time for.", **put
        )
        self.shadow_errors = Counter(
            "loopbook_shadow_errors", "Rows the challenger could not answer.", **put
        )

        self.verdict = Gauge(
            "loopbook_verdict", "1 for the verdict on the newest window.", ["level"], **put
        )
        self.window = Gauge(
            "loopbook_window", "A number of the newest window's record.", ["number"], **put
        )
        self.monitored = Gauge(
            "loopbook_monitored_timestamp_seconds", "When the newest verdict was given.", **put
        )
        self.build_failed = Gauge(
            "loopbook_build_failed", "1 if the last build or retraining failed.", **put
        )
        self.loop_outcome = Gauge(
            "loopbook_loop_outcome",
            "1 for the outcome of the loop's last turn.",
            ["outcome"],
            **put,
        )
        self.loop_ended = Gauge(
            "loopbook_loop_ended_timestamp_seconds",
            "When the loop's last turn ended; 0 if it never turned.",
            **put,
        )
        self.loop_failures = Gauge(
            "loopbook_loop_failures", "Turns of the loop that failed one after the other.", **put
        )
        self.loop_retrains = Gauge(
            "loopbook_loop_retrains", "Retrainings tried in the last day.", **put
        )

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

    def reload_failed(self, cause: str) -> None:
        self.reload_failures.labels(cause=cause).inc()

    def count(self, entries: Sequence[Entry]) -> None:
        """Count answers that are in the log."""
        for entry in entries:
            self.predictions.labels(entry.version, entry.role).inc()
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
