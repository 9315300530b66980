"""Finding a cluster, or starting one, and seeing to it that it is there."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as Outcome
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec

from distributed import Client

from mlr._version import __version__
from mlr.cluster import forkserver, tasks
from mlr.cluster.engine import Cluster
from mlr.cluster.errors import as_mlr_errors
from mlr.cluster.local import close, started
from mlr.cluster.workers import Workers
from mlr.errors import MlrError, first_line
from mlr.training.warmup import announced, compile_alone
from mlr.utils.progress import Report

PATIENCE = 60  # seconds to wait for a scheduler, and for the first worker
WATCH = 5  # seconds between looks at whether anybody is left

_HAS_BOKEH = find_spec("bokeh") is not None


@contextmanager
def connected(where: str, report: Report, memory: int | None = None) -> Iterator[Cluster]:
    """Start or find a cluster.

    Parameters
    ----------
    where : str
        ``local:N`` for N processes here, or the address of a scheduler, ``tcp://HOST:PORT``.
    report : Report
        Told where it can be watched.
    memory : int, optional
        Bytes that a process here may take.

    Raises
    ------
    OptionError
        If it is neither.
    MlrError
        If nobody answers there, there are no workers, or they have another version of mlr.
    """
    number = forkserver.processes_of(where)
    _silence("asyncio", "distributed", "tornado")  # what matters is raised as well
    with ExitStack() as stack:
        if number is not None:
            with announced(report):
                compile_alone()
        connecting = _Connecting(partial(_connect, where, number, report, memory, stack), where)
        try:
            if number is None:
                connecting.result()
            how = tasks.How(compiled=number is not None, sparing=memory is not None)
            yield Cluster(Workers(connecting.result, how))
        finally:
            connecting.wait()  # before what it has put on the stack is closed


class _Connecting:
    """What takes as long as to look at a thousand pairs, in a thread of its own.

    Where the system gives Dask too few files or threads, it may never come to an end.
    """

    def __init__(self, connect: Callable[[], Client], where: str) -> None:
        self._outcome, self._where = Outcome[Client](), where
        self._deadline = time.monotonic() + 3 * PATIENCE
        try:
            threading.Thread(target=self._run, args=(connect,), daemon=True).start()
        except RuntimeError as error:
            raise MlrError(f"{where}: {error}") from error

    def _run(self, connect: Callable[[], Client]) -> None:
        try:
            self._outcome.set_result(connect())
        except BaseException as error:
            self._outcome.set_exception(error)

    def wait(self) -> bool:
        """Wait for the end, if there is one; tell whether there is."""
        return bool(wait([self._outcome], max(0.0, self._deadline - time.monotonic())).done)

    def result(self) -> Client:
        """Return the client, or raise what went wrong: `MlrError` if nothing is heard of it."""
        if not self.wait():
            raise MlrError(f"{self._where}: the processes do not start: nothing is heard of them")
        return self._outcome.result()


def _connect(
    where: str, number: int | None, report: Report, memory: int | None, stack: ExitStack
) -> Client:
    """Return a client; what is to be closed is put on the stack."""
    address = where
    if number is not None:
        try:
            address = stack.enter_context(started(number, memory, PATIENCE))
        except Exception as error:  # of many kinds, as the system's limits are
            raise MlrError(
                f"{where}: the processes do not start: {first_line(error)} (a script that "
                'calls this needs: if __name__ == "__main__")'
            ) from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
        stack.callback(close, client)
        client.wait_for_workers(number or 1, timeout=PATIENCE)
    except Exception as error:  # of each kind of address, as there are
        raise MlrError(f"{where}: no Dask scheduler with a worker answers there") from error
    with as_mlr_errors():
        _check_versions(client, where)
        services = client.scheduler_info()["services"]
        stack.enter_context(_watched(client))
    if "dashboard" in services and (number is None or _HAS_BOKEH):
        report.note(f"dashboard: {client.dashboard_link}")
    return client


@contextmanager
def _watched(client: Client) -> Iterator[None]:
    """Give up what is waited for once there have been no workers for some time."""
    done = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not done.wait(WATCH):
            with suppress(Exception):  # without a scheduler Dask gives up by itself
                if client.nthreads():
                    last = time.monotonic()
            if time.monotonic() - last > PATIENCE:
                close(client)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _silence(*libraries: str) -> None:
    """Let libraries log nothing, nor those loggers of theirs that have a level of their own."""
    for name in [*libraries, *logging.root.manager.loggerDict]:
        if name.split(".")[0] in libraries:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _check_versions(client: Client, where: str) -> None:
    """Raise unless all workers have this version of mlr."""
    try:
        versions = client.run(tasks.version)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise MlrError(f"{where}: its workers need mlr {__version__}: {error}") from error
    for worker, version in versions.items():
        if version != __version__:
            raise MlrError(f"{where}: {worker} has mlr {version}, and this is {__version__}")
