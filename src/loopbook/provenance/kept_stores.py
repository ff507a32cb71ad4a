"""Kept stores: the quarantine and the feature store, held against their seals.

It decides which columns of a row that was set aside can never differ. The feature
store is sealed whole where it is filled, since each filling changes it; one in
Redis is not, and is made anew from the source by `loopbook features materialize`.
"""

from typing import Any

from loopbook.data import quarantine
from loopbook.features import store as feature_store
from loopbook.project.contract import Contract
from loopbook.project.errors import FeatureStoreError
from loopbook.project.paths import Project
from loopbook.provenance.findings import CHANGED, MISSING, Finding
from loopbook.provenance.kept_rows import row_bytes
from loopbook.records import seals
from loopbook.records.seals import Ledger, Seal

ASIDE = "quarantine/"
TABLES = {
    "set_aside": "id, origin, key, key_digest, content, first_us",
    "decisions": "seq, id, state, reason, decided_us",
}
REMEDY = "Restore var/quarantine.db from a backup"
REMEDY_OF_FEATURES = "Fill the store again from the source: loopbook features materialize --rebuild"


def seal(project: Project, contract: Contract) -> None:
    """Seal the rows and decisions of the quarantine that have no seal yet."""
    ledger = seals.read(project)
    rows = _rows(project)
    seals.put(project, {n: s for n, s in rows.items() if n not in ledger.seals}, why="quarantine")


def check(project: Project, contract: Contract, ledger: Ledger) -> list[Finding]:
    """What of the sealed rows and features is no longer as it was."""
    now = _rows(project)
    findings = []
    for name, sealed in ledger.below(ASIDE).items():
        if name not in now:
            findings.append(
                Finding(MISSING, name, "no such row", f"digest {sealed.sha256[:12]}…", REMEDY)
            )
        elif now[name].sha256 != sealed.sha256:
            found, expected = f"digest {now[name].sha256[:12]}…", f"{sealed.sha256[:12]}…"
            findings.append(Finding(CHANGED, name, found, expected, REMEDY))
    return findings + _of_features(project, contract, ledger)


def _rows(project: Project) -> dict[str, Seal]:
    store = quarantine.connect_if_there(project)
    if store is None:
        return {}
    try:
        return {
            f"{ASIDE}{table}/{row[0]}": Seal.of_bytes(row_bytes(row))
            for table, columns in TABLES.items()
            for row in store.database.read(f"SELECT {columns} FROM {table}")
        }
    finally:
        store.close()


def _of_features(project: Project, contract: Contract, ledger: Ledger) -> list[Finding]:
    name = feature_store.name_of_seal(contract)
    sealed = ledger.seals.get(name)
    if sealed is None or contract.history is None:
        return []
    where, expected = f"feature store of {contract.name}", f"digest {sealed.sha256[:12]}…"
    try:
        digest: Any = feature_store.digest_of(project, contract)
    except FeatureStoreError as reason:
        return [Finding(MISSING, where, str(reason), expected, REMEDY_OF_FEATURES)]
    if digest in (None, sealed.sha256):
        return []
    return [Finding(CHANGED, where, f"digest {digest[:12]}…", expected, REMEDY_OF_FEATURES)]
