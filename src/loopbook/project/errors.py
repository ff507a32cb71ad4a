"""Every error that loopbook raises on purpose.

    LoopbookError
    ├── ProjectNotFound      no contract.yaml and pipeline.yaml here or above
    ├── ContractError        contract.yaml is wrong; every fault is listed
    ├── KnobError            env.yaml, or a parameter of a run, is wrong
    ├── SourceError          the source is missing, unreadable or not as described
    ├── DataError            rows break the contract; every broken rule is listed
    ├── QuarantineError      a row that was set aside cannot be found, released or kept
    ├── FeatureStoreError    the store of trailing features is away, older or ahead
    ├── PredictionLogError   the log cannot be read or written
    ├── SplitError           too few rows in a window to learn or to judge from
    ├── CandidateError       candidates.py, or a name in the grid of pipeline.yaml, is wrong
    ├── TuningError          settings cannot be searched as tune.yaml says
    ├── ExportError          a model cannot be served as it was fitted
    ├── TrackingError        the registry holds something else than it says
    ├── RegistryError        the service cannot ask the registry
    │   └── VersionRefused   a version's files are not what the registry says
    ├── ScoringError         a file cannot be scored
    ├── WorkersError         a Dask scheduler or its workers cannot compute for us
    ├── ExtensionError       the project's own routes cannot be served
    ├── MonitorError         a version cannot be monitored
    ├── VerificationError    what is kept cannot be looked at, or not be accepted as it is
    ├── LoopError            a turn of the loop cannot be taken
    ├── ReplayError          a replay cannot begin, or one of its policies stopped
    ├── ProvenanceError      an answer or a version that nobody can trace
    │   └── GivenValueError  a value that somebody gave is not what the row had
    ├── BackupError          a backup cannot be taken, read or put back
    ├── KeyStoreError        an API key cannot be made, found or revoked
    ├── SignatureError       a signing key or a signature cannot be made, found or trusted
    ├── TemplateError        a project cannot be made or upgraded
    ├── NotebookError        a notebook's file cannot be read, or is no Python
    ├── EngineError          an engine is unknown, or its file cannot be written
    ├── BuildRunning         another build holds the lock
    └── BuildFailed          a notebook stopped, or may not go on

A message says where, what was found, what was expected and what to do. A
person never sees a traceback for one of these; a program sees exit code 1.
"""

from collections.abc import Sequence


class LoopbookError(Exception):
    """The root: something a person can put right."""


class ProjectNotFound(LoopbookError):
    """No project here."""


class ContractError(LoopbookError):
    """The contract is wrong."""


class KnobError(LoopbookError):
    """A parameter of a run is missing, unknown or out of range."""


class SourceError(LoopbookError):
    """The source cannot be read as the contract describes it."""


class DataError(LoopbookError):
    """Rows break the contract."""


class QuarantineError(LoopbookError):
    """A row that was set aside cannot be found, released or kept."""


class FeatureStoreError(LoopbookError):
    """The feature store cannot be used as it is."""


class PredictionLogError(LoopbookError):
    """The prediction log cannot be read or written."""


class SplitError(LoopbookError):
    """A window holds too few rows."""


class CandidateError(LoopbookError):
    """A candidate is unknown, or cannot be trained or served."""


class TuningError(LoopbookError):
    """The settings of a candidate cannot be searched, or not be kept."""


class ExportError(LoopbookError):
    """A fitted model and its served form are not the same model."""


class TrackingError(LoopbookError):
    """The registry and its artifacts disagree."""


class RegistryError(LoopbookError):
    """The registry, or a version's files, cannot be reached."""


class ScoringError(LoopbookError):
    """A file cannot be scored."""


class WorkersError(LoopbookError):
    """A Dask scheduler or its workers cannot compute for this process."""


class ExtensionError(LoopbookError):
    """The project's own routes or middleware cannot be added to the service."""


class VerificationError(LoopbookError):
    """What is kept cannot be looked at, or not be accepted as it is."""


class MonitorError(LoopbookError):
    """A version has no reference that a window can be compared with."""


class VersionRefused(RegistryError):
    """A version may not answer: its files were changed, or do not work.

    The message is told to callers: it has no address and no path. `code` is for
    programs: place, size, digest, card, graph, answers or signature.
    """

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple:
        return type(self), (str(self), self.code)  # a worker's refusal comes to us as it is


class LoopError(LoopbookError):
    """A turn of the loop cannot be taken."""


class ReplayError(LoopbookError):
    """A replay cannot begin or go on."""


class ProvenanceError(LoopbookError):
    """An answer or a version that is not there, so that nothing can be said of it."""


class GivenValueError(ProvenanceError):
    """A value that somebody gave for a sensitive column is not what the row had."""


class BackupError(LoopbookError):
    """A backup cannot be taken, cannot be trusted, or would write over something."""


class KeyStoreError(LoopbookError):
    """An API key cannot be made, found or revoked."""


class SignatureError(LoopbookError):
    """A signing key or a signature cannot be made, found or trusted."""


class TemplateError(LoopbookError):
    """A project cannot be made, or upgraded to another loopbook."""


class NotebookError(LoopbookError):
    """The file of a notebook cannot be read."""


class EngineError(LoopbookError):
    """The graph cannot be written for an engine."""


class BuildRunning(LoopbookError):
    """Another build holds the lock."""


class BuildFailed(LoopbookError):
    """A task of the graph stopped, or may not go on."""


def listed(faults: Sequence[str], shown: int = 20) -> str:
    """Faults as lines of a message: the first ones whole, the rest counted."""
    lines = [f"  - {fault}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  - and {len(faults) - shown:,} more")
    return "\n".join(lines)
