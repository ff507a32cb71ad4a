"""Answering: rows as a version answers them, each with its entry for the log.

It decides which version answers a row, and what an answer and its entry hold.
It asks nothing outside and waits for nobody.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from loopbook.data.prediction_log import Entry
from loopbook.models.calibration_states import State
from loopbook.project.clock import to_micros
from loopbook.project.knobs import Knobs
from loopbook.records import roles
from loopbook.registry import calibrated_answers
from loopbook.registry.servable import Servable
from loopbook.serving.lookups import Lookup
from loopbook.serving.refusals import Refusal
from loopbook.serving.versions import Deployment, Versions


@dataclass(slots=True)
class Job:
    """One row to answer, and the lookup of its trailing features, if it wants any."""

    record: dict[str, Any]
    request: Mapping[str, Any]
    at: datetime
    route: str
    key: str | None
    started: float
    received_us: int
    lookup: Lookup | None = None


@dataclass(slots=True)
class Answer:
    """One answer, as it is in the log: a number, or a class with the probability of each."""

    id: str
    value: float | str
    probabilities: dict[str, float] | None
    deployment: Deployment
    at: datetime
    notes: dict[str, list[str]]
    interval: list[float] | None
    state: State | None
    raw: np.ndarray


Made = list[tuple[Answer, Entry]]


class Answering:
    """What computes answers; one object a process."""

    def __init__(self, versions: Versions, knobs: Knobs):
        self.versions, self.knobs = versions, knobs

    def made(self, jobs: Sequence[Job]) -> Made:
        """Answers in the order of the rows, by the champion or where it is due by the challenger.

        Raises
        ------
        Refusal
            503, if no version is there; 422, if a row's answer is no number.
        """
        champion, challenger = self.versions.ready(), self.versions.challenger
        by: dict[int, tuple[Deployment, str, list[int]]] = {}
        for place, job in enumerate(jobs):
            is_canary = challenger is not None and self._is_canary(job)
            chosen = challenger if is_canary else champion
            role = roles.CANARY if is_canary else roles.CHAMPION
            by.setdefault(id(chosen), (chosen, role, []))[2].append(place)
        made: list[Any] = [None] * len(jobs)
        for deployment, role, places in by.values():
            some = self.by(deployment, role, [jobs[place] for place in places])
            for place, one in zip(places, some, strict=True):
                made[place] = one
        return made

    def _is_canary(self, job: Job) -> bool:
        """Whether the challenger answers: the same key (or request) always the same way."""
        if self.knobs.serve_challenger != "canary":
            return False
        name = job.key or repr(sorted(job.request.items(), key=lambda pair: pair[0]))
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self.knobs.serve_canary_share

    def by(
        self, deployment: Deployment, role: str, jobs: Sequence[Job], shadow_of: Sequence[str] = ()
    ) -> Made:
        """Answers by one version; `shadow_of` has the ids of those that they stand beside.

        Each by the version's calibration state as of the row's instant, all by
        the states that were there when this began.
        """
        servable, states = deployment.servable, deployment.calibration.states
        matrix = servable.matrix([j.record for j in jobs], [j.at for j in jobs])
        at_us = [to_micros(job.at) for job in jobs]
        calibrated = calibrated_answers.answer(servable, matrix, [states.at(us) for us in at_us])
        if not np.isfinite(calibrated.answers).all():
            raise _no_answer()
        said = calibrated.logged(servable)
        shown = servable.loggable(matrix)
        now = time.perf_counter()
        made = []
        for place, (job, held) in enumerate(zip(jobs, said, strict=True)):
            notes = servable.notes(job.record)
            answer = Answer(
                *(_new_id(), *_value(servable, held), deployment, job.at, notes),
                interval=None if held.get("low") is None else [held["low"], held["high"]],
                state=calibrated.states[place],
                raw=calibrated.raw[place],
            )
            made.append(
                (
                    answer,
                    Entry(
                        id=answer.id,
                        received_us=job.received_us,
                        as_of_us=at_us[place],
                        model=servable.version.name,
                        version=servable.number,
                        role=role,
                        shadow_of=shadow_of[place] if shadow_of else None,
                        route=job.route,
                        key=job.key,
                        request=job.request,
                        features=shown[place],
                        inputs=servable.card_sha256,
                        notes=notes,
                        latency_us=round((now - job.started) * 1e6),
                        facts_us=job.lookup and job.lookup.facts_us,
                        **held,
                    ),
                )
            )
        return made


def _no_answer() -> Refusal:
    """A row to which a graph answers no number, as where a value is beyond what it computes with."""
    return Refusal(
        422,
        "no_answer",
        "the model's answer to such values is no number, so nothing was answered or logged",
        hint="correct the values that are far out of their range",
    )


def _value(
    servable: Servable, held: Mapping[str, Any]
) -> tuple[float | str, dict[str, float] | None]:
    """What a caller is told, and the probabilities by class."""
    if servable.task.classes is None:
        return held["answer"], None
    probabilities = held["probabilities"].tolist()
    return held["answered"], dict(zip(servable.task.classes, probabilities, strict=True))


def _new_id() -> str:
    """An id that sorts by time: 12 hex digits of milliseconds, 20 of chance (as UUID 7 does)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
