"""The confirmation: whether the running service answers with a version.

It decides how long the service is asked and what its silence means. It changes
nothing: a promotion stands whatever the service says.
"""

import os
import time

import httpx

from loopbook.project.paths import Project
from loopbook.records import services

SERVICE_KEY = "LOOPBOOK_SERVICE_KEY"
HERE = "here"
CONNECTING_S, POLLED_S = 3, 0.5


def confirmed(project: Project, service: str, version: str, seconds: float) -> str | None:
    """What the service says of a version within some seconds; None where no service is named.

    Parameters
    ----------
    service : str
        An address, or `here`: the service of this project that runs on this machine.
    """
    address = services.address(project) if service == HERE else service
    if address is None:
        return (
            "no service is reached: none of this project runs on this machine; it will load "
            f"v{version} when it starts"
        )
    if not address:
        return None
    key = os.environ.get(SERVICE_KEY)
    headers = {"X-API-Key": key} if key else None
    start, answering = time.monotonic(), None
    while (passed := time.monotonic() - start) < seconds:
        try:
            answer = httpx.get(f"{address}/metadata", headers=headers, timeout=5)
            if answer.is_success:
                answering = answer.json()["version"]
            elif answer.status_code in (401, 403):
                return f"the service wants a key; put it into {SERVICE_KEY}"
            if answering == version:
                return f"the service answers with v{version}, {passed:.1f} s after promotion"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError):
            if answering is None and passed > CONNECTING_S:
                return f"no service is reached at {address}; it will load v{version} when it starts"
        time.sleep(POLLED_S)
    state = f"answers with v{answering}" if answering else "is not ready"
    return f"the service {state} and not with v{version} after {seconds:g} s; see its log"
