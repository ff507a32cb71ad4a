"""Reachable: whether a tracking address can take what a build will log.

It decides what a person is told of an address that is away, is no MLflow's, or
lets them read only: before anything trains, since a build logs after minutes.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loopbook.project.addresses import sqlite_file
from loopbook.project.database import shown
from loopbook.project.errors import RegistryError
from loopbook.registry import weights_and_biases

TIMEOUT_S = 10
API = "/api/2.0/mlflow/experiments"
HEADER = b"SQLite format 3\0"


def refuse_unusable(address: str, experiment: str) -> None:
    """Refuse an address at which this experiment cannot be written.

    A server is asked for the experiment, and told its name again or for the
    first time. A SQLite file may be missing; its folder may not be read-only.
    Weights & Biases has to be there if it is to be told as well.

    Raises
    ------
    RegistryError
        What was found there, and what was expected.
    """
    weights_and_biases.refuse_unusable()
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        _try_server(address.rstrip("/"), experiment)
    elif file := sqlite_file(address):
        _try_file(file)
    elif scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
        _try_database(address)
    elif scheme in ("", "file", "sqlite"):
        raise _refused(
            address, "is no address of an MLflow server or database", "http://…, or sqlite:///…"
        )


def _refused(address: str, found: str, expected: str) -> RegistryError:
    return RegistryError(
        f"MLFLOW_TRACKING_URI {shown(address)}: {found}, so nothing was run. Expected {expected}; "
        "correct it, or unset it to use var/mlflow."
    )


def _try_server(address: str, experiment: str) -> None:
    import httpx

    user, token = (os.environ.get(f"MLFLOW_TRACKING_{n}") for n in ("USERNAME", "TOKEN"))
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    client = httpx.Client(
        base_url=address,
        timeout=TIMEOUT_S,
        auth=(user, password) if user else None,
        headers={"Authorization": f"Bearer {token}"} if token else None,
        verify=_certificates(),
    )
    with client:
        try:
            known = client.get(f"{API}/get-by-name", params={"experiment_name": experiment})
            if _said(known, "error_code") == "RESOURCE_DOES_NOT_EXIST":
                told = client.post(f"{API}/create", json={"name": experiment})
            else:
                number = (_said(known, "experiment") or {}).get("experiment_id")
                about = {"experiment_id": number, "new_name": experiment}
                told = client.post(f"{API}/update", json=about) if number else known
        except (httpx.HTTPError, httpx.InvalidURL) as reason:
            away = f"is away ({type(reason).__name__})"
            raise _refused(address, away, "a tracking server that runs") from None
    if told.status_code in (401, 403):
        rights = "a user who may write there (MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN)"
        raise _refused(address, f"answered {told.status_code} {told.reason_phrase}", rights)
    is_there = told.is_success or _said(told, "error_code") == "RESOURCE_ALREADY_EXISTS"
    if not is_there or _said(told, None) is None:
        found = f"answered {told.status_code} and not as MLflow does"
        raise _refused(address, found, "the address of an MLflow tracking server")


def _certificates() -> Any:
    """How MLflow's own client is told to check the server's certificate."""
    import ssl

    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    return ssl.create_default_context(cafile=own) if own else True


def _said(answer: Any, key: str | None) -> Any:
    """A value of a JSON object that was answered, or the object; None if it was none."""
    try:
        content = answer.json()
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    return content if key is None else content.get(key)


def _try_file(file: Path) -> None:
    address, expected = f"sqlite:///{file}", "a SQLite file that can be written"
    try:
        if file.exists():
            with file.open("r+b") as opened:
                start = opened.read(len(HEADER))
            if start and start != HEADER:
                raise _refused(address, "is no SQLite file", expected)
            return
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise _refused(address, f"cannot be made in {folder}", expected)
    except OSError as reason:
        raise _refused(address, f"cannot be used ({reason.strerror})", expected) from None


def _try_database(address: str) -> None:
    import sqlalchemy as sa

    try:
        with sa.create_engine(address, poolclass=sa.pool.NullPool).connect():
            return
    except ImportError as reason:
        driver = f"needs the package {reason.name}, which is not installed"
        expected = f"it in this environment: pip install {reason.name}"
        if reason.name == "psycopg2":
            expected = "the driver that loopbook brings: postgresql+psycopg://…"
        raise _refused(address, driver, expected) from None
    except (sa.exc.SQLAlchemyError, OSError) as reason:
        cause = str(getattr(reason, "orig", None) or reason).splitlines()[0]
        raise _refused(address, f"cannot be asked ({cause})", "a database that runs") from None
