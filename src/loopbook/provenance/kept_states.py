"""Kept states: the newest calibration states, made again from what they were made of.

It decides when a state can be made again: when its ground truth, its rule and its
instant are those that it was made of, which its own digest says. One that was
made of other ground truth (a later correction, a pruned answer, another knob) is
counted and no fault: its seal says whether it was changed.
"""

from loopbook.data.prediction_log import PredictionLog
from loopbook.models.calibration_states import Rule
from loopbook.project.contract import Contract
from loopbook.project.errors import LoopbookError
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, UNREPRODUCIBLE, Finding
from loopbook.registry import calibration
from loopbook.registry.calibration import Evidence
from loopbook.registry.reader import Registry
from loopbook.registry.state_store import StateStore

REMEDY = "Make it again as of its instant: loopbook loop --once; or restore the log from a backup"


def check(
    project: Project, contract: Contract, registry: Registry, log: PredictionLog, rule: Rule
) -> tuple[list[Finding], int, int]:
    """What differs, how many states were made again, and how many could not be."""
    evidence, store = Evidence(project, contract, registry, log), StateStore(log.database)
    findings, again, other = [], 0, 0
    for version in calibration.held_versions(registry, contract):
        where = f"calibration state of {version.label}"
        try:
            state = store.states(contract.name, version.number).newest
        except (ValueError, LookupError, TypeError) as reason:
            findings.append(
                Finding(CHANGED, where, f"what is no state ({reason})", "a state", REMEDY)
            )
            continue
        if state is None:
            continue
        where = f"{where} as of {state.as_of:%Y-%m-%d %H:%M} UTC"
        try:
            made, _ = calibration.decided(version, evidence, rule, state.as_of)
        except LoopbookError as reason:
            findings.append(Finding(UNREPRODUCIBLE, where, str(reason), "its ground truth", REMEDY))
            continue
        if made.digest != state.digest:
            other += 1
            continue
        again += 1
        if made != state:
            found, expected = (
                f"a shift of {state.shift}",
                f"{made.shift}, from the same ground truth",
            )
            findings.append(Finding(CHANGED, where, found, expected, REMEDY))
    return findings, again, other
