"""The command of the service: `python -m serving`, its options and its start."""

import argparse
import ipaddress
import sys

import uvicorn

from loopbook.project import paths
from loopbook.project.errors import LoopbookError
from loopbook.serving.app import create_app


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(extension: str | None = None) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    extension : str or None
        The project's module with its own routes; see `create_app`.
    """
    asked = _asked()
    needs_keys = asked.require_keys or not is_loopback(asked.host)
    try:
        app = create_app(
            paths.current(),
            needs_keys=needs_keys,
            quiet=asked.quiet,
            pinned=asked.version,
            extension_module=extension,
        )
    except LoopbookError as error:
        sys.exit(f"\n{error}")
    print(
        f"http://{asked.host}:{asked.port}/docs", "with API keys" if needs_keys else "", flush=True
    )
    uvicorn.run(
        app,
        host=asked.host,
        port=asked.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def _asked() -> argparse.Namespace:
    """What was typed."""
    words = argparse.ArgumentParser(
        prog="python -m serving", description="The champion answers on this machine."
    )
    words.add_argument("--host", default="127.0.0.1", help="elsewhere than loopback needs API keys")
    words.add_argument("--port", type=int, default=8000)
    words.add_argument("--require-keys", action="store_true", help="on loopback too")
    words.add_argument("--quiet", action="store_true", help="no log line for each request")
    words.add_argument("--version", help="answer with this version, whoever is champion")
    return words.parse_args()
