"""The command of the service: `python -m serving`, its options and its start."""

import argparse
import ipaddress
import os
import sys
from functools import partial

import uvicorn

from loopbook.project import paths, volumes
from loopbook.project.errors import LoopbookError
from loopbook.records import services
from loopbook.serving import origins
from loopbook.serving.app import create_app
from loopbook.serving.connections import Connection, limits

FIRST_PORT = 8000
PORT = "LOOPBOOK_PORT"  # a container's health check asks there too
SWITCH_S = 0.001  # in five times that, Python's own, a batch beside it kept each answer waiting
KEEP_ALIVE_S = 65  # longer than the 60 s that proxies keep an idle connection for the next request


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
    asked, project = _asked(), paths.current()
    needs_keys = asked.require_keys or not is_loopback(asked.host)
    try:
        app = create_app(
            project,
            needs_keys=needs_keys,
            quiet=asked.quiet,
            pinned=asked.version,
            extension_module=extension,
            bound_to=asked.host,
        )
        proxies = origins.proxies()
        port = asked.port or _set_port() or paths.first_free_port(asked.host, FIRST_PORT)
        address = f"http://{asked.host}:{port}"
        services.keep(project, address)
    except LoopbookError as error:
        sys.exit(f"\n{error}")
    except OSError as error:
        if not (told := volumes.told(error, project)):
            raise
        sys.exit(f"\n{told}")
    print(f"{address}/docs", "with API keys" if needs_keys else "", flush=True)
    sys.setswitchinterval(SWITCH_S)
    try:
        uvicorn.run(
            app,
            host=asked.host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
            http=partial(Connection, limits=limits(app.knobs.serve_body_bytes)),
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
        )
    finally:
        services.forget(project)


def _set_port() -> int | None:
    """The port that `LOOPBOOK_PORT` names, or None."""
    text = os.environ.get(PORT)
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 2**16:
        sys.exit(f"\n{PORT} {text!r}: is no port. Expected a whole number from 1 to 65535.")
    return int(text)


def _asked() -> argparse.Namespace:
    """What was typed."""
    words = argparse.ArgumentParser(
        prog="python -m serving", description="The champion answers on this machine."
    )
    words.add_argument("--host", default="127.0.0.1", help="elsewhere than loopback needs API keys")
    words.add_argument(
        "--port", type=int, help=f"else {PORT}, else the first free one from 8000 on"
    )
    words.add_argument("--require-keys", action="store_true", help="on loopback too")
    words.add_argument("--quiet", action="store_true", help="no log line for each request")
    words.add_argument("--version", help="answer with this version, whoever is champion")
    return words.parse_args()
