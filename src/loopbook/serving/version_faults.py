"""Version faults: why a version is not let in, or an alias cannot be followed.

It decides what callers may be told of it: an address or a path is for the
service's log alone.
"""

import time
from dataclasses import dataclass

from loopbook.project.errors import PredictionLogError, RegistryError, VersionRefused
from loopbook.registry.reader import Version

NOT_OF_CALLERS = "the service's log says why"  # an address or a path may be in the reason


@dataclass(frozen=True)
class Fault:
    """Why a version is not let in, or an alias cannot be followed; `reason` may be told to callers."""

    code: str
    reason: str
    version: str | None = None
    since: float = 0.0


class NotLetIn(Exception):
    """A version that cannot be loaded."""

    def __init__(self, fault: Fault, error: Exception | None = None):
        super().__init__(str(error) if error else fault.reason)
        self.fault = fault


def of_a_version(error: Exception, held: Version) -> Fault:
    """A fault of a version; what is told of it has no address and no path."""
    number, now = held.number, time.monotonic()
    if isinstance(error, VersionRefused):
        return Fault(error.code, str(error), number, now)
    if isinstance(error, RegistryError):
        return Fault("files", f"its files cannot be read; {NOT_OF_CALLERS}", number, now)
    if isinstance(error, PredictionLogError):
        return Fault("log", f"the log cannot take its inputs; {NOT_OF_CALLERS}", number, now)
    return Fault("unexpected", f"{type(error).__name__}; {NOT_OF_CALLERS}", number, now)


def of_a_look(error: Exception) -> Fault:
    """A fault of a look at the registry, or of a version that was not let in at it."""
    if isinstance(error, NotLetIn):
        return error.fault
    if isinstance(error, PredictionLogError):
        return Fault("log", f"the calibration states cannot be read; {NOT_OF_CALLERS}")
    code = "registry" if isinstance(error, RegistryError) else "unexpected"
    return Fault(code, f"the registry cannot be followed ({code}); {NOT_OF_CALLERS}")
