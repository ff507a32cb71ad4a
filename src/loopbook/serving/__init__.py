"""The prediction service, and batch scoring with the same code.

It decides how a request is checked, answered and logged. It never trains,
never unpickles, and imports neither MLflow nor Jupyter.

A project's own `serving` uses `run`, `create_app`, `predict_rows` and `Refusal`.
They are imported when they are first used, so that batch scoring and the store
of API keys need no web framework.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "create_app": "loopbook.serving.app",
    "run": "loopbook.serving.command",
    "predict_rows": "loopbook.serving.extension",
    "Refusal": "loopbook.serving.refusals",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
