"""Notifications: a verdict, told to a webhook.

It decides the message and when it is sent: when `LOOPBOOK_WEBHOOK` is set and
the verdict is an alert or differs from the one before. The address is a
secret, so it comes from the environment and is never shown. A webhook that is
away is told of, and stops nothing.
"""

import os
from collections.abc import Mapping
from html import escape
from typing import Any

import httpx

from loopbook.records.verdicts import ALERTS

ADDRESS = "LOOPBOOK_WEBHOOK"
TIMEOUT_S = 5


def message(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON for a webhook; `text` is what Slack and its likes show."""
    verdict, champion = record["verdict"], record["champion"]
    who = f"{champion['name']} v{champion['version']}" if champion else "no champion"
    # Slack reads <…> as a link
    reasons = "\n".join(f"• {escape(reason, quote=False)}" for reason in verdict["reasons"])
    return {
        "text": f"loopbook, {who}, as of {record['as_of'][:16]} UTC: "
        f"*{verdict['level']}*\n{reasons}",
        "verdict": verdict["level"],
        "reasons": verdict["reasons"],
        "as_of": record["as_of"],
        "numbers": record["numbers"],
    }


def notify(record: Mapping[str, Any], before: str | None) -> str | None:
    """Send a record's verdict if anyone should hear it.

    Parameters
    ----------
    before : str or None
        The level of the window before.

    Returns
    -------
    str or None
        What came of it, in words without the address; None if nothing was sent.
    """
    level = record["verdict"]["level"]
    if level == before and level not in ALERTS:
        return None
    return _post(message(record))


def send(text: str, record: Mapping[str, Any]) -> str | None:
    """Send what happened in a turn of the loop; what came of it, or None if nobody listens."""
    return _post({"text": escape(text, quote=False), "turn": dict(record)})


def _post(content: Mapping[str, Any]) -> str | None:
    address = os.environ.get(ADDRESS)
    if not address:
        return None
    try:
        answer = httpx.post(address, json=content, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as reason:
        return f"The webhook could not be reached ({type(reason).__name__})."
    if answer.is_success:
        return "The webhook was told."
    return f"The webhook answered {answer.status_code}."
