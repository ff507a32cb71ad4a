"""Verification: everything that is registered, logged and kept, and whether it is still so.

It decides what is looked at, quick or whole, and puts what was found together. It
changes nothing but the ledger of seals, and that only when a person or the loop
says so. What was never sealed is said to be so.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopbook.data import prediction_log
from loopbook.data.prediction_log import PredictionLog
from loopbook.project import waits
from loopbook.project.contract import Contract, read_contract
from loopbook.project.counts import counted
from loopbook.project.database import shown
from loopbook.project.errors import VerificationError
from loopbook.project.knobs import read_knobs
from loopbook.project.paths import Project, tracking_address
from loopbook.provenance import findings as found_things
from loopbook.provenance import (
    kept_files,
    kept_rows,
    kept_signatures,
    kept_states,
    kept_stores,
    kept_versions,
)
from loopbook.provenance.findings import Finding
from loopbook.provenance.kept_files import Shelf
from loopbook.records import roles, seals
from loopbook.records.seals import Ledger, Seal
from loopbook.registry import calibration, reader, sealing, tracking
from loopbook.registry.reader import Version

QUICK, WHOLE = "quick", "whole"
ALIASES = (roles.CHAMPION, roles.CHALLENGER, roles.PREVIOUS, roles.SHADOW)
MOST_KEPT = 20  # findings in a turn's record; the count is whole


@dataclass
class Report:
    """What a verification looked at and found.

    Attributes
    ----------
    looked_at : how many of each kind
    notes : what is no fault and yet to be known, such as what is not sealed yet
    """

    form: str
    looked_at: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self, most: int | None = None) -> dict[str, Any]:
        return {
            "form": self.form,
            "looked_at": dict(self.looked_at),
            "count": len(self.findings),
            "findings": [one.as_json() for one in self.findings[:most]],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }

    def lines(self) -> list[str]:
        """The report for people."""
        looked = "; ".join(f"{kind} {count:,}" for kind, count in self.looked_at.items() if count)
        lines = [f"verified   {self.form}, {self.seconds:.1f} s: {looked or 'nothing is kept yet'}"]
        lines += [f"note       {note}" for note in self.notes]
        if not self.findings:
            return [*lines, "found      nothing: all of it is as it was written."]
        lines.append(f"found      {len(self.findings):,} that are not as they were written:")
        return [*lines, *(f"  {line}" for line in found_things.lines(self.findings))]


@dataclass(frozen=True)
class _Kept:
    """What the checks share."""

    project: Project
    contract: Contract
    client: Any
    ledger: Ledger
    shelf: Shelf
    versions: Sequence[Version]
    log: PredictionLog | None

    @property
    def served(self) -> list[Version]:
        """The versions with an alias, each once."""
        held = [self.shelf.registry.held(self.contract.name, alias) for alias in ALIASES]
        return list({one.number: one for one in held if one}.values())


def verify(project: Project, *, quick: bool = False) -> Report:
    """Look at everything that is kept.

    Raises
    ------
    LoopbookError
        If the contract cannot be read, or the registry or the log is away.
    """
    started, report = time.monotonic(), Report(QUICK if quick else WHOLE)
    with _opened(project, quick=quick) as kept:
        served = kept.served
        waits.at("reading files")
        runs = {version.run_id for version in served}
        files, counts = kept_files.check(kept.shelf, kept.ledger, quick=quick, served=runs)
        report.findings += files
        report.looked_at = Counter({"versions": len(kept.versions)}) + counts
        waits.at("asking the registry")
        report.findings += kept_versions.check(
            kept.client, kept.contract.name, kept.shelf, kept.ledger, kept.versions
        )
        report.findings += kept_versions.without_snapshot(project, kept.versions)
        looked = served if quick else kept.versions
        signed, count = kept_signatures.check(kept.shelf, kept.ledger, looked, quick=quick)
        report.findings += signed
        report.looked_at["signatures"] = count
        if read_knobs(project.knobs).require_signature:
            report.findings += kept_signatures.unsigned(served)
        report.findings += kept_stores.check(project, kept.contract, kept.ledger)
        waits.at("reading the prediction log")
        _check_log(kept, report, quick=quick)
        if not quick:
            waits.at("answering known rows, and making the calibration states again")
            _check_wholly(kept, report, served)
            _note(kept, report)
    report.seconds = time.monotonic() - started
    return report


@contextmanager
def _opened(project: Project, *, quick: bool = False) -> Iterator[_Kept]:
    """What the checks share; a registry that is away is told as one of our errors."""
    contract, log = read_contract(project.contract), None
    try:
        client = tracking.connect(project)
        registry = reader.connect(tracking_address(project))
        versions = registry.versions(contract.name)
        logged = sealing.logged_of(versions) if quick else sealing.logged(client, contract.name)
        log = prediction_log.connect_if_there(project, contract)
        shelf = Shelf(project, logged, registry)
        yield _Kept(project, contract, client, seals.read(project), shelf, versions, log)
    except tracking.MlflowException as reason:
        raise VerificationError(
            f"registry {shown(tracking_address(project))}: cannot be asked "
            f"({str(reason).splitlines()[0]}). Start it, or correct MLFLOW_TRACKING_URI."
        ) from None
    finally:
        if log is not None:
            log.close()


def _check_log(kept: _Kept, report: Report, *, quick: bool) -> None:
    if kept.log is None:
        if any(kept.ledger.below(kept_rows.LOG)):
            report.findings.append(kept_rows.lost(kept.ledger))
        return
    rows, stretches = kept_rows.check(kept.log, kept.ledger, newest_only=quick)
    report.findings += rows
    report.looked_at["stretches of the prediction log"] = stretches
    if waiting := kept_rows.open_rows(kept.log, kept.ledger):
        report.notes.append(
            f"{counted(waiting, 'answer is', 'answers are')} not sealed yet: a turn of the loop seals what is older than "
            f"{kept_rows.SETTLED.total_seconds() / 60:.0f} minutes"
        )


def _check_wholly(kept: _Kept, report: Report, served: Sequence[Version]) -> None:
    """What takes longer: names of snapshots, answers to known rows, states made again."""
    report.findings += kept_files.misnamed_snapshots(kept.shelf, kept.ledger)
    registry = kept.shelf.registry
    report.findings += kept_versions.unanswering(registry, served)
    rule = calibration.rule_of_knobs(kept.contract, read_knobs(kept.project.knobs))
    if kept.log is None or rule is None:
        return
    states, again, other = kept_states.check(kept.project, kept.contract, registry, kept.log, rule)
    report.findings += states
    report.looked_at["calibration states, made again"] = again
    if other:
        report.notes.append(
            f"{other} of the newest calibration states were made of other ground truth or by "
            "another rule than is here now, so they cannot be made again"
        )


def _note(kept: _Kept, report: Report) -> None:
    """Say what is kept and has no seal."""
    open_files = kept_files.not_sealed(kept.shelf, kept.ledger, _runs(kept.versions))
    if open_files:
        report.notes.append(
            f"not sealed: {kept_files.counted_by_kind(open_files)}. Seal them as they are now: "
            "loopbook verify --seal"
        )


def _runs(versions: Sequence[Version]) -> list[str]:
    return [version.run_id for version in versions]


def seal_rest(project: Project) -> list[str]:
    """Seal all that is kept and has no seal, as it is now; what was sealed, for people."""
    with _opened(project) as kept:
        files = kept_files.not_sealed(kept.shelf, kept.ledger, _runs(kept.versions))
        sealed = {name: Seal.of_file(path) for name, path in files.items()}
        for version in kept.versions:
            name = f"{sealing.VERSION}{version.name}/{version.number}"
            if name not in kept.ledger.seals:
                sealed[name] = Seal.of_parts(sealing.facts_of_version(version))
        seals.put(project, sealed, why="sealed afterwards")
        rows = kept_rows.seal(project, kept.log) if kept.log else 0
        kept_stores.seal(project, kept.contract)
        kept_versions.tell_head(project, kept.client, kept.contract.name)
    return [
        f"Sealed {counted(len(sealed), 'file or version', 'files and versions')}, and {counted(rows, 'row')} of the prediction log."
    ]


def accept(project: Project, names: Sequence[str], reason: str, by: str) -> list[str]:
    """Seal changed or lost things as they are now, because a person says so.

    Raises
    ------
    VerificationError
        If a name is not sealed, or is of something that cannot be accepted; nothing is changed.
    """
    with _opened(project) as kept:
        known = set(kept_files.names_of(kept.ledger))
        if wrong := [name for name in names if name not in known]:
            raise VerificationError(
                f"--accept {wrong[0]}: no sealed file has that name, so nothing was changed. Type "
                "a name as it is listed by: loopbook verify"
            )
        now: Mapping[str, Seal | None] = {name: kept.shelf.seal(name) for name in names}
    there = {name: seal for name, seal in now.items() if seal}
    gone = [name for name, seal in now.items() if seal is None]
    seals.put(project, there, gone=gone, why=f"accepted by {by}: {reason}")
    return [f"Accepted {len(there):,} as they are now, and {len(gone):,} as gone."]
