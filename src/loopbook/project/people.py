"""People: who runs this process, for the records that name somebody."""

import getpass


def who() -> str:
    """The user's name; `unknown` where a container has none for its number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"
