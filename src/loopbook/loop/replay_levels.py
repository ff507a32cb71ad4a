"""Replay levels: the calibration of a replay's services, made anew each day.

It decides which services of a lane have one and what it is made of: of the
lane's own versions in its own log, and for the policy `level` of the first
version alone, in the log of the service that is pinned to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx

from loopbook.data import prediction_log
from loopbook.loop import replay_stores
from loopbook.loop.replay_results import LEVEL, NEVER
from loopbook.models.calibration_states import Rule
from loopbook.project.contract import Contract
from loopbook.project.errors import ReplayError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.registry import calibration, reader
from loopbook.serving import api_keys

OWNER = "the replay"


@dataclass(frozen=True)
class Levels:
    """The services of a lane whose answers calibration moves.

    Attributes
    ----------
    rule : None where the lane's knobs leave calibration out; then nothing is made
    services : addresses by policy
    first : the number of the version that the pinned services answer with
    key : of the scope `admin`, by which a service is told of new states
    """

    project: Project
    contract: Contract
    rule: Rule | None
    services: Mapping[str, str]
    first: str
    key: str

    def make(self, as_of: datetime) -> None:
        """Make the states as of an instant, and let every service answer with them.

        Raises
        ------
        ReplayError
            If a service does not take them.
        """
        if self.rule is None:
            return
        for policy, address in self.services.items():
            if policy == LEVEL:
                self._of_the_first(as_of)
            else:
                calibration.made(self.project, self.contract, self.rule, as_of)
            answer = httpx.post(
                f"{address}/admin/reload", headers={"X-API-Key": self.key}, timeout=60
            )
            if not answer.is_success:
                raise ReplayError(
                    f"/admin/reload answered {answer.status_code}: {answer.text[:300]}"
                )

    def _of_the_first(self, as_of: datetime) -> None:
        registry = reader.connect(tracking_address(self.project))
        address = replay_stores.log_of(self.project, LEVEL)
        log = prediction_log.at(address, self.contract, self.project.var)
        try:
            versions = [v for v in registry.versions(self.contract.name) if v.number == self.first]
            evidence = calibration.Evidence(self.project, self.contract, registry, log)
            calibration.make(versions, evidence, self.rule, as_of)
        finally:
            log.close()


def of(project: Project, contract: Contract, services: Mapping[str, str], first: str) -> Levels:
    """The levels of a lane's services; the one that is never retrained has none."""
    rule = calibration.rule_of_knobs(contract, read_knobs(project.knobs))
    moved = {policy: address for policy, address in services.items() if policy != NEVER}
    key = api_keys.connect(project).create(OWNER, frozenset({"admin"}))[0] if rule else ""
    return Levels(project, contract, rule, moved, first, key)
