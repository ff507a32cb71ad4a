"""Salt: the secret with which the prediction log hashes sensitive values.

Without it, whoever reads the log could hash every postcode there is and look
which one stands there. It lies beside the log and is no part of it, readable by
its owner alone; services that share a log share it by a variable.
"""

import os
import secrets
from pathlib import Path

from loopbook.project.errors import PredictionLogError
from loopbook.project.files import write_secret

VARIABLE = "LOOPBOOK_LOG_SALT"
FILE = "log.salt"
SHORTEST = 16


def read_salt(folder: Path) -> bytes:
    """The salt that the environment names, or that of a project's `var/`, which is made once.

    Raises
    ------
    PredictionLogError
        If the variable, or the file, holds too little to be a secret.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _checked(given.encode(), VARIABLE)
    path = folder / FILE
    return _checked(write_secret(path, secrets.token_hex(32).encode()), str(path))


def _checked(salt: bytes, where: str) -> bytes:
    if len(salt.strip()) < SHORTEST:
        raise PredictionLogError(
            f"{where}: found {len(salt.strip())} characters, expected {SHORTEST} or more. With "
            "another salt, hashes in the log stay as they are, and equal values are no longer so."
        )
    return salt.strip()
