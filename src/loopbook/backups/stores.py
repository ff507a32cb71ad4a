"""Stores: the databases of a project that may lie outside its `var/`.

It decides which environment variable names each, what kind it is, and which of its
tables are ours. What lies below `var/` is a file among others there.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loopbook.data import log_migration, log_tables, prediction_log
from loopbook.features import store as feature_store
from loopbook.project.addresses import sqlite_file
from loopbook.project.contract import Contract
from loopbook.project.database import KINDS, shown
from loopbook.project.errors import BackupError
from loopbook.project.paths import Project, tracking_address
from loopbook.registry import state_store
from loopbook.registry.reachable import refuse_unusable
from loopbook.serving import api_keys

REGISTRY, LOG, FEATURES, KEYS = "registry", "log", "features", "keys"
SQLITE, POSTGRESQL, REDIS = "sqlite", "postgresql", "redis"
VARIABLES = {
    LOG: prediction_log.ADDRESS,
    FEATURES: feature_store.ADDRESS,
    KEYS: api_keys.ADDRESS,
    REGISTRY: "MLFLOW_TRACKING_URI",
}


@dataclass(frozen=True)
class Store:
    """One database, outside `var/`.

    Attributes
    ----------
    tables : those of ours, each after the ones that it refers to; of Redis the names' beginning
    """

    name: str
    kind: str
    address: str
    tables: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{VARIABLES[self.name]} ({shown(self.address)})"


def file_of(store: Store) -> Path:
    """Where a store of SQLite is."""
    return Path(sqlite_file(store.address) or "").absolute()


def place(store: Store) -> str:
    """Where a store of SQLite is in a backup."""
    return f"databases/{store.name}.db"


def outside(project: Project, contract: Contract) -> list[Store]:
    """The stores of a project that the environment puts elsewhere than below `var/`.

    Raises
    ------
    BackupError
        If one of them is of a kind that cannot be copied, such as a tracking server.
    RegistryError
        If MLflow's database is away, or refuses its user.
    """
    stores = []
    for name, variable in VARIABLES.items():
        is_registry = name == REGISTRY
        address = tracking_address(project) if is_registry else os.environ.get(variable)
        if not address or (name == FEATURES and contract.history is None):
            continue
        file = sqlite_file(address)
        if file is not None and file.absolute().is_relative_to(project.var):
            continue
        kind = _kind(variable, address)
        if is_registry:
            refuse_unusable(address, contract.name)
        stores.append(Store(name, kind, address, _tables(name, contract)))
    return stores


def _kind(variable: str, address: str) -> str:
    scheme = urlsplit(address).scheme.partition("+")[0]
    if scheme in feature_store.REDIS:
        return REDIS
    if scheme in KINDS:
        return KINDS[scheme]
    if scheme in ("http", "https"):
        raise BackupError(
            f"{variable} {shown(address)}: is a tracking server, whose database cannot be read "
            "through it; nothing was written. Name its database for this command (what the server "
            f"was given as --backend-store-uri): {variable}=postgresql+psycopg://… loopbook …"
        )
    raise BackupError(
        f"{variable} {shown(address)}: a store of kind {scheme!r} cannot be backed up here; nothing "
        "was written. Expected sqlite, postgresql or redis."
    )


def _tables(name: str, contract: Contract) -> tuple[str, ...]:
    if name == FEATURES:
        return (f"{contract.name}_about", f"{contract.name}_points")
    if name == KEYS:
        return _made_by([api_keys.TABLE])
    if name == LOG:
        return _made_by([*log_tables.TABLES, log_migration.TABLE, *state_store.TABLES])
    from loopbook.registry.tracking import tables_of_mlflow  # takes seconds to import

    return tables_of_mlflow()


def _made_by(statements: Sequence[str]) -> tuple[str, ...]:
    """The tables that some statements make."""
    found = (re.search(r"CREATE TABLE IF NOT EXISTS (\w+)", text) for text in statements)
    return tuple(match[1] for match in found if match)
