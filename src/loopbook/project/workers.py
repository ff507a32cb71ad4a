"""Workers: the processes of a Dask scheduler, asked by its address. The only importer of Dask.

It decides how long a person waits for a scheduler or its workers, and which
workers may compute: those that have the same loopbook and the same packages as
this process, since with others the numbers would not be the same. What they
compute is the caller's.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from loopbook.project.errors import WorkersError, listed
from loopbook.project.loggers import silent

LOCAL = "local"
WAIT_S = 5  # for a scheduler, and then for its first worker
# What decides about the numbers, and what carries them from process to process.
PACKAGES = ("loopbook", "distributed", "numpy", "onnxruntime", "polars", "scikit-learn")


@contextmanager
def connected(scheduler: str | None, shared: Path | None = None) -> Iterator[Any]:
    """A client of the scheduler at this address, of two workers of our own (`local`), or None.

    Parameters
    ----------
    shared : Path, optional
        A folder that each worker must see, because work is handed over there.

    Raises
    ------
    WorkersError
        Within seconds, if Dask is not installed, nothing answers at the
        address, no worker is there, or a worker is not like this process.
        Later, if the scheduler or its workers are lost.
    """
    if not scheduler:
        yield None
        return
    try:
        from distributed import CancelledError, Client
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker, NoValidWorkerError
    except ImportError:
        raise WorkersError("--scheduler: needs Dask: pip install 'loopbook[dask]'") from None
    client = _client(Client, scheduler)
    try:
        _refuse_unlike(client, scheduler, shared)
        yield client
    except (CancelledError, CommClosedError, KilledWorker, NoValidWorkerError) as reason:
        raise WorkersError(
            f"--scheduler {scheduler}: its workers were lost on the way "
            f"({type(reason).__name__}). Look at their logs, then type the same command again."
        ) from None
    finally:
        with silent("distributed"):
            client.close(timeout=WAIT_S)


def results(
    client: Any, function: Callable, calls: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any]]:
    """The place of each call and what the function gave for it, as the calls are done.

    Here one after the other where there is no client.
    """
    if client is None:
        yield from ((place, function(*words)) for place, words in enumerate(calls))
        return
    from distributed import as_completed

    place_of = {
        client.submit(function, *words, pure=False): place for place, words in enumerate(calls)
    }
    for future in as_completed(place_of):
        yield place_of[future], future.result()


def _client(make: Callable[..., Any], scheduler: str) -> Any:
    if scheduler == LOCAL:
        return make(n_workers=2, threads_per_worker=1, dashboard_address=None)
    try:
        with (
            silent("distributed"),
            ThreadPoolExecutor(1) as apart,
        ):  # a notebook's thread has a loop already
            apart.submit(asyncio.run, _greet(scheduler)).result()
            return make(scheduler, timeout=WAIT_S)
    except (
        Exception
    ) as reason:  # of another protocol's server Dask raises anything, MemoryError too
        said = str(reason).strip().splitlines()
        raise WorkersError(
            f"--scheduler {scheduler}: no Dask scheduler answered within {WAIT_S} s "
            f"({said[0] if said else type(reason).__name__}). Expected an address such as "
            "tcp://10.0.0.5:8786, which `dask scheduler` prints; local needs none."
        ) from None


async def _greet(scheduler: str) -> None:
    """Connect, and no more: a client waits for ever for a server that never says a word."""
    from distributed import Security
    from distributed.comm import connect

    about = Security().get_connection_args("client")
    greeting = connect(scheduler, timeout=WAIT_S, **about)
    await (await asyncio.wait_for(greeting, WAIT_S + 1)).close()


def _refuse_unlike(client: Any, scheduler: str, shared: Path | None) -> None:
    """Refuse a scheduler without a worker, and workers with which the numbers may be others."""
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
    except TimeoutError:
        raise WorkersError(
            f"--scheduler {scheduler}: it has no worker after {WAIT_S} s. Start some, each with "
            f"loopbook's environment: dask worker {scheduler}"
        ) from None
    ours, faults = _like(shared), []
    for name, theirs in client.run(_like, shared, on_error="return").items():
        if isinstance(theirs, Exception):
            faults.append(f"{name} cannot import loopbook ({theirs})")
            continue
        faults += [
            f"{name} has {package} {theirs[package] or 'not at all'}, here it is {here}"
            for package, here in ours.items()
            if theirs[package] != here
        ]
    if faults:
        raise WorkersError(
            f"--scheduler {scheduler}: {len(faults)} faults, so nothing was computed. Expected "
            f"this environment on each worker, and the project's folder on a shared disk.\n"
            f"{listed(faults)}"
        )


def _like(shared: Path | None) -> dict[str, str | None]:
    """What of a process must be the same wherever a part is computed."""
    about = {"Python": python_version(), **{name: _version(name) for name in PACKAGES}}
    return about | ({f"the folder {shared}": _id_of(shared)} if shared else {})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _id_of(folder: Path) -> str | None:
    """A digest of a few bytes that only this very folder holds: its contract's."""
    from hashlib import sha256

    try:
        return sha256((folder / "contract.yaml").read_bytes()).hexdigest()[:12]
    except OSError:
        return None
