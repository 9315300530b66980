"""Processes here, forked by a server that loads what they need while this program does so, too.

To load it takes as long as training on some hundred pairs, and a process that is started by itself
has to. What they print is kept from the user: a library that is short of memory says so in its own
words, just before we do.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from typing import Any

from mlr.errors import OptionError
from mlr.io.files import at_end
from mlr.utils.threads import thread_count

MOST = 256  # processes
METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # elsewhere libraries forbid to fork

_LOADING = "mlr.cluster.loaded"
_BLAS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_server: Any = vars(forkserver)["_forkserver"]  # there is no other way to end it


def processes_of(where: str) -> int | None:
    """Return the N of local:N, or None for the address of a scheduler.

    Raises
    ------
    OptionError
        If it is neither.
    """
    kind, _, rest = where.partition(":")
    if kind == "local" and rest.isdecimal() and 1 <= int(rest) <= MOST:
        return int(rest)
    if kind == "local" or "://" not in where:
        raise OptionError(
            f"--cluster {where}: expected tcp://HOST:PORT of a Dask scheduler, or local:N for up "
            f"to {MOST} processes here"
        )
    return None


def threads_of(number: int) -> int:
    """Return how many threads each of so many processes has."""
    return max(1, thread_count() // number)


def environment(number: int) -> dict[str, str]:
    """Return the variables that each of so many processes is started with."""
    return dict.fromkeys(_BLAS, str(threads_of(number)))


def begin(where: str) -> None:
    """Let a server load what the processes of local:N need, unless there is one; returns at once.

    If it cannot be started the processes cannot either, and then we shall be told.

    Raises
    ------
    OptionError
        If ``where`` is no such address, nor that of a scheduler.
    """
    number = processes_of(where)
    if number is None:
        return
    with suppress(OSError), _silent(), _with(environment(number)):
        resource_tracker.ensure_running()  # which else complains when we end
        if METHOD == "forkserver" and _server._forkserver_pid is None:
            forkserver.set_forkserver_preload([_LOADING])
            forkserver.ensure_running()
            at_end.append(end)
            atexit.register(end)


def end() -> None:
    """End the server, unless some of its processes are still there."""
    if multiprocessing.active_children():
        return
    atexit.unregister(end)
    with suppress(ValueError):
        at_end.remove(end)
    if _server._forkserver_pid is not None:
        with suppress(OSError):
            os.kill(_server._forkserver_pid, signal.SIGKILL)  # it would tidy up for long
        _server._stop()
        forkserver.set_forkserver_preload(["__main__"])  # what Python has it load by itself


@contextmanager
def _with(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _silent() -> Iterator[None]:
    """Let stdout and stderr lead nowhere for processes that are started in the block."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, file in zip((1, 2), kept, strict=True):
            os.dup2(file, number)
            os.close(file)
