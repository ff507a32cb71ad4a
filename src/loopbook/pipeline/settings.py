"""Settings: what of an environment a process may have read when it imported its packages.

It decides which variables differ from terminal to terminal and matter to nothing
that we import. Two environments with one digest are the same to a notebook.
"""

import hashlib
import json
from collections.abc import Mapping

OF_A_RUN = ("JPY_", "PYTEST_")
# where a command was typed; which Python runs is compared by its path
OF_A_TERMINAL = (
    *("COLORTERM", "COLUMNS", "DBUS_", "JUPYTER_SERVER_", "LINES", "LS_COLORS", "MAKE", "MFLAGS"),
    *(
        "OLDPWD",
        "PATH",
        "PS1",
        "PWD",
        "SHELL",
        "SHLVL",
        "SSH_",
        "STY",
        "TERM",
        "TMUX",
        "VIRTUAL_ENV",
    ),
    *("VSCODE_", "VTE_", "WINDOWID", "XDG_SESSION_"),
)


def lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what a run adds to it."""
    return {k: v for k, v in environment.items() if not k.startswith(OF_A_RUN)}


def digest(environment: Mapping[str, str]) -> str:
    """A digest of the variables that may matter, the same in two terminals."""
    told = {
        name: value
        for name, value in lasting(environment).items()
        if name != "_" and not name.startswith(OF_A_TERMINAL)
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
