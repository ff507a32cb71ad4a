"""The knobs of a run: env.yaml as a strict model, with every unit and range.

It decides what values are allowed. The values themselves stand in `env.yaml`,
and for one run in `--set` or Ploomber's `--env--`.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from loopbook.project.clock import parse_moment
from loopbook.project.errors import KnobError, listed
from loopbook.project.mappings import Misfit, misfits, read_mapping, sentence

NEWEST = "newest"
Share = Annotated[float, Field(ge=0, le=0.5)]
Days = Annotated[int, Field(ge=1, le=3650)]
Cost = Annotated[float, Field(ge=0, le=10**12)]
Bound = Literal["auto"] | Annotated[float, Field(gt=0, le=100)]


class Knobs(BaseModel):
    """Every knob; the comments in env.yaml say what each one does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str
    random_seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    quarantine_share: Share
    validation_days: Days
    test_days: Days
    holdout_share: Annotated[float, Field(ge=0.01, le=0.45)]
    gate_confidence: Annotated[float, Field(ge=0.5, le=0.999)]
    gate_margin: Share
    gate_bias_margin: Share
    gate_slice_margin: Share
    gate_min_rows: Annotated[int, Field(ge=30, le=10**9)]
    gate_min_slice_rows: Annotated[int, Field(ge=10, le=10**9)]
    gate_incomparable_champion: Literal["keep", "replace"]
    gate_latency_ms: Annotated[float, Field(ge=0.01, le=10_000)]
    bootstrap_resamples: Annotated[int, Field(ge=200, le=100_000)]
    calibration: bool
    calibration_half_life_days: Annotated[float, Field(ge=1, le=365)]
    calibration_least_truths: Annotated[int, Field(ge=1, le=10**9)]
    calibration_most_a_day: Bound
    calibration_most: Bound
    monitor_window_days: Days
    monitor_most_rows: Annotated[int, Field(ge=1_000, le=200_000)]
    monitor_false_alarms: Annotated[float, Field(ge=0.001, le=0.2)]
    monitor_drift_floor: Annotated[float, Field(ge=0, le=1)]
    monitor_quality_margin: Annotated[float, Field(ge=0.001, le=1)]
    monitor_min_rows: Annotated[int, Field(ge=10, le=10**9)]
    monitor_min_labels: Annotated[int, Field(ge=10, le=10**9)]
    monitor_min_coverage: Annotated[float, Field(ge=0, le=1)]
    monitor_error_margin: Share
    monitor_bias_margin: Share
    monitor_slice_margin: Share
    monitor_coverage_margin: Annotated[float, Field(ge=0.005, le=0.5)]
    monitor_report: bool
    monitor_cooldown_days: Annotated[float, Field(ge=0, le=3650)]
    costs_retraining: Cost
    costs_loss: Cost
    costs_days: Annotated[float, Field(ge=1, le=3650)]
    costs_decide: bool
    loop_interval_minutes: Annotated[float, Field(ge=1, le=525_600)]
    loop_most_retrains: Annotated[int, Field(ge=1, le=100)]
    loop_refused_days: Annotated[float, Field(ge=0, le=365)]
    loop_growth: Annotated[float, Field(ge=0, le=1000)]
    loop_backoff_minutes: Annotated[float, Field(ge=0, le=10_080)]
    loop_alert_failures: Annotated[int, Field(ge=1, le=100)]
    loop_probation_days: Annotated[float, Field(ge=0, le=365)]
    loop_probation_labels: Annotated[int, Field(ge=30, le=10**9)]
    loop_probation_margin: Share
    loop_verify_days: Annotated[float, Field(ge=0, le=3650)]
    loop_service: str
    loop_confirm_s: Annotated[float, Field(ge=1, le=3600)]
    serve_batch_rows: Annotated[int, Field(ge=1, le=100_000)]
    serve_body_bytes: Annotated[int, Field(ge=1_000, le=10**9)]
    serve_timeout_s: Annotated[float, Field(ge=0.1, le=600)]
    serve_requests_per_second: Annotated[float, Field(ge=0, le=10**6)]
    serve_watch_s: Annotated[float, Field(ge=0.1, le=3600)]
    serve_challenger: Literal["off", "shadow", "canary"]
    serve_canary_share: Annotated[float, Field(ge=0, le=1)]
    serve_shadow_queue: Annotated[int, Field(ge=1, le=10**6)]
    require_signature: bool

    @field_validator("as_of", mode="before")
    @classmethod
    def _as_of_is_an_instant(cls, value: Any) -> str:
        if value == NEWEST:
            return NEWEST
        try:
            return parse_moment(value).isoformat()
        except ValueError as reason:
            raise ValueError(f"expected {reason}, or newest") from None


def read_as_of(value: str) -> datetime | None:
    """The instant of an `as_of` knob in UTC, or None for the newest in the table."""
    return None if value == NEWEST else parse_moment(value)


def read_moment(text: str, option: str) -> datetime | None:
    """The instant that a person gave to a command, or None for the newest in the table.

    Raises
    ------
    KnobError
        If it is no day and no instant.
    """
    return None if text == NEWEST else _instant(text, option, ", or newest")


def read_instant(text: str, option: str) -> datetime:
    """The instant that a person gave to a command, where no table says which is the newest.

    Raises
    ------
    KnobError
        If it is no day and no instant.
    """
    return _instant(text, option)


def _instant(text: str, option: str, other: str = "") -> datetime:
    try:
        return parse_moment(text)
    except ValueError as reason:
        raise KnobError(f"{option} {text}: expected {reason}{other}.") from None


def read_knobs(path: Path, changes: Mapping[str, Any] | None = None) -> Knobs:
    """Read env.yaml, with `changes` for this run on top.

    Raises
    ------
    KnobError
        With every fault: key, found, expected and what to do.
    """
    values = read_mapping(Path(path), KnobError) | dict(changes or {})
    return check_knobs(values, where=Path(path).name)


def check_knobs(values: Mapping[str, Any], where: str) -> Knobs:
    """Values as knobs, or a KnobError that lists all that is wrong with them."""
    try:
        return Knobs.model_validate(dict(values))
    except ValidationError as error:
        faults = [_sentence(misfit) for misfit in misfits(error)]
        raise KnobError(f"{where}: nothing was run.\n{listed(faults)}") from None


def _sentence(misfit: Misfit) -> str:
    """As any misfit; a validator's reason says what was expected, so what was found is said too."""
    if misfit.kind == "refused":
        expected = misfit.expected.removeprefix("expected ")
        misfit = misfit._replace(kind="invalid", expected=expected)
    return sentence(misfit, Knobs.model_fields, "knob")
