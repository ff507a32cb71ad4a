"""Imports: what may be imported before a fork, so that a kernel has it when it starts.

It decides which modules of others some sources import, and which may be in no
process that forks. A module that needs one of these is left to the kernel.
"""

import ast
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module

OURS = "loopbook"
# onnxruntime starts a thread when it is imported, which a fork would not have
NOT_HERE = {OURS, "onnxruntime", "psycopg", "redis", "distributed", "dask"}
# what packages import no sooner than they are used
LATE = {
    "mlflow": [
        "mlflow.sklearn",
        "mlflow.store.model_registry.sqlalchemy_store",
        "mlflow.store.tracking.sqlalchemy_store",
        "skops.io",
    ],
    "matplotlib.figure": ["matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"],
}


def packages(sources: Iterable[str], but: Iterable[str] = ()) -> list[str]:
    """The modules of others that some Python sources import, anywhere in them, `but` some packages'."""
    left_out = NOT_HERE.union(but)
    modules: dict[str, None] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                root = name.split(".")[0]
                if root not in left_out and root not in sys.stdlib_module_names:
                    modules[name] = None
    return [*modules, *(late for name in modules for late in LATE.get(name, []))]


def import_quietly(name: str) -> None:
    """Import a module; who uses it will say what is wrong with it.

    A module of ours is left out if it needs what may not be here. Packages of
    others look whether some of that is installed, and are told the truth.
    """
    is_ours = name.partition(".")[0] == OURS
    barred = [one for one in NOT_HERE if is_ours and one != OURS and one not in sys.modules]
    sys.modules.update(dict.fromkeys(barred))  # an import of None fails
    try:
        with suppress(Exception):
            import_module(name)
    finally:
        for one in barred:
            del sys.modules[one]
