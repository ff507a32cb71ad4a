"""Log lines: what the service tells those who run it, one JSON object a line on stderr.

A line never holds a row, a key, a query string or an address with a password.
"""

import sys
import time
from typing import Any

import orjson

MOST_CHARACTERS = 500


def write(event: str, **about: Any) -> None:
    """Write a line; a long text is cut."""
    short = {k: v[:MOST_CHARACTERS] if isinstance(v, str) else v for k, v in about.items()}
    sys.stderr.write(orjson.dumps({"ts": time.time(), "event": event, **short}).decode() + "\n")


def where(error: BaseException) -> str:
    """The place of an error, and nothing of its values."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
