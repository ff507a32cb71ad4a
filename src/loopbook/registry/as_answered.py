"""As answered: rows that are judged, as a model would have answered them.

It decides what the gate compares: raw answers, each moved by the level that the
model would have had as of the row's instant, made of nothing that became known
later. Of a candidate that is what its own rows tell that it was not taught; of a
version that serves, also what it has served since.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from loopbook.data import prediction_log
from loopbook.data.splits import PART
from loopbook.models import calibration_states
from loopbook.models.calibration_states import Rule
from loopbook.models.task import task_of
from loopbook.project.clock import EVENT_TS, utc_now
from loopbook.project.contract import Contract
from loopbook.project.paths import Project, tracking_address
from loopbook.registry import calibration, challenge, reader, residuals
from loopbook.registry.challenge import Champion


@dataclass(frozen=True)
class Answers:
    """What a model says by itself (`raw`) and what is answered (`moved`), row by row."""

    raw: np.ndarray
    moved: np.ndarray


def of_candidate(
    predictions: Path | str,
    every: pl.DataFrame,
    judged: pl.DataFrame,
    contract: Contract,
    rule: Rule | None,
) -> Answers:
    """A candidate of this build on the rows that judge.

    Parameters
    ----------
    predictions : path
        What it answered to its held-back rows; see `05_train`.
    every : polars.DataFrame
        All rows of the split.
    rule : Rule or None
        None: no level moves an answer.
    """
    raw = challenge.stored_predictions(predictions, judged, contract)
    return _moved(raw, judged, candidate_pairs(predictions, every, contract), contract, rule)


def candidate_pairs(
    predictions: Path | str, every: pl.DataFrame, contract: Contract
) -> pl.DataFrame:
    """What came true of a candidate before anybody asked it, as fits without each row answered."""
    stored = pl.read_parquet(predictions, glob=False)
    return residuals.of_candidate(stored, every, contract, moment=utc_now())


def with_level(
    raw: np.ndarray,
    pairs: pl.DataFrame,
    every: pl.DataFrame,
    contract: Contract,
    rule: Rule | None,
) -> np.ndarray:
    """A version's answers to all rows of the split: those to `test` as they would be given.

    To the rows that it learned from a model says what it was told, so no level moves them.
    """
    is_tested = (every[PART] == "test").to_numpy()
    answers = raw.copy()
    answers[is_tested] = _moved(
        raw[is_tested], every.filter(is_tested), pairs, contract, rule
    ).moved
    return answers


def of_champion(
    project: Project,
    champion: Champion,
    judged: pl.DataFrame,
    contract: Contract,
    rule: Rule | None,
) -> Answers:
    """The version that serves on the rows that judge: moved by what came true of it by then.

    A level of rows that it was never asked about in service would be another
    one than that which moved its answers, so they do not count.
    """
    raw = champion.predict(judged)
    if rule is None or EVENT_TS not in judged.columns:
        return Answers(raw, raw)
    registry = reader.connect(tracking_address(project))
    log = prediction_log.connect_if_there(project, contract)
    try:
        evidence = calibration.Evidence(project, contract, registry, log)
        version = evidence.located(champion.version)
        spans = judged[EVENT_TS].min(), judged[EVENT_TS].max()
        pairs, _ = evidence.of(version, spans[1], rule, since=spans[0])
    finally:
        if log is not None:
            log.close()
    return _moved(raw, judged, pairs, contract, rule)


def _moved(
    raw: np.ndarray,
    judged: pl.DataFrame,
    pairs: pl.DataFrame,
    contract: Contract,
    rule: Rule | None,
) -> Answers:
    if rule is None or EVENT_TS not in judged.columns:
        return Answers(raw, raw)
    task = task_of(contract)
    sound = residuals.sound(pairs, contract)
    shifts = calibration_states.shifts_at(task, sound, judged[EVENT_TS], rule)
    return Answers(raw, calibration_states.moved(task, raw, shifts))
