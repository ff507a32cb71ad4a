"""Late: what a page is told after it stands.

It decides that it is told more than once. While a browser puts a page together it
has the state of each widget and does not listen yet, so that a value which comes
just then would be lost, and the page would wait for it for ever.
"""

import time
from collections.abc import Sequence
from threading import Thread

import ipywidgets as widgets

AGAIN_S = (1.0, 3.0, 8.0)  # a slow browser listens some seconds after the page stands


def tell(shown: widgets.HTML, page: str, again_s: Sequence[float] = AGAIN_S) -> Thread:
    """Show a page in its place, and say it again after each of some waits, in seconds.

    Returns
    -------
    Thread
        What says it again; it ends by itself, and with the kernel.
    """
    shown.value = page
    again = Thread(target=_again, args=(shown, again_s), daemon=True)
    again.start()
    return again


def _again(shown: widgets.HTML, again_s: Sequence[float]) -> None:
    """Say what is shown by now, which may be another page."""
    for wait in again_s:
        time.sleep(wait)
        shown.send_state("value")
