"""A scheduler in this process, with workers in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
import distributed.utils
from distributed import Client, LocalCluster
from distributed.core import Status

from mlr.cluster import forkserver, shares, tasks
from mlr.io.files import at_end

FAILURES = 20  # workers that a task of ours may see die before it is given up
CLOSING = 10  # seconds that they have to end when all is done
ENDING = 2.0  # seconds that workers have to delete what they are writing


@contextmanager
def started(number: int, memory: int | None, patience: float) -> Iterator[str]:
    """Start them, and end them with the block.

    Parameters
    ----------
    number : int
        How many workers.
    memory : int, optional
        Bytes that each of them may take.
    patience : float
        Seconds to wait for them.

    Yields
    ------
    str
        The address of the scheduler.
    """
    distributed.utils._forkserver_preload_set = True  # or Dask says what the server is to load
    before = set(multiprocessing.active_children())
    cluster: LocalCluster | None = None

    def ours() -> set[multiprocessing.process.BaseProcess]:
        return set(multiprocessing.active_children()) - before

    def end() -> None:
        """Let the workers delete what they are writing, and end; nobody starts others."""
        for nanny in [] if cluster is None else list(cluster.workers.values()):
            nanny.close_gracefully()
        for process in ours():
            process.terminate()
        deadline = time.monotonic() + ENDING
        while ours() and time.monotonic() < deadline:
            time.sleep(0.01)

    at_end.append(end)
    try:
        with dask.config.set(_settings(number)):
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=forkserver.threads_of(number),
                host="127.0.0.1",
                memory_limit="auto" if memory is None else 2 * memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL + 1,
                death_timeout=patience,
                preload=[tasks.__name__],
            )
            for _ in range(number):
                cluster.worker_spec.update(cluster.new_worker_spec())
            # Dask would wait for ever for a process that its thread could not be started for.
            cluster.sync(cluster._correct_state, callback_timeout=patience)
            yield cluster.scheduler_address
    finally:
        at_end.remove(end)
        end()  # Dask's own way takes half a second
        if cluster is not None:
            close(cluster)
        for process in ours():  # that hang
            process.kill()
            process.join(ENDING)
        forkserver.end()


def _settings(number: int) -> dict[str, Any]:
    """Return Dask's settings for so many workers."""
    return {
        # Dask has memory given back at once: to ask for it again took a sixth of all the time.
        "distributed.nanny.pre-spawn-environ": forkserver.environment(number),
        "distributed.scheduler.allowed-failures": FAILURES,
        "distributed.worker.memory.target": shares.KEPT / 2,  # of the limit, which is twice as much
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.multiprocessing-method": forkserver.METHOD,
        "distributed.worker.profile.enabled": False,
    }


def close(what: Client | LocalCluster) -> None:
    """Close a connection or a cluster; if that goes wrong, the work has been done all the same."""
    with suppress(Exception):
        what.close(timeout=CLOSING)
    # Or its finaliser tries once more, and says so.
    what.status = "closed" if isinstance(what, Client) else Status.closed
