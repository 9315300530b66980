"""Starting processes here, or connecting to a Dask scheduler."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec

from mlr._version import __version__
from mlr.errors import MlrError, OptionError, first_line
from mlr.io.files import at_end
from mlr.training.warmup import announced, compile_alone
from mlr.utils.progress import Report
from mlr.utils.threads import thread_count

try:
    import dask
    from distributed import Client, LocalCluster

    from mlr.cluster.executor import Cluster, as_mlr_errors, discard_output
except ImportError as error:
    raise MlrError("--cluster needs Dask: pip install 'mlr[cluster]'") from error

MOST = 256  # processes
PATIENCE = 60  # seconds to wait for a scheduler, and for the first worker
FAILURES = 20  # workers that a task may see die before it is given up
_BLAS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def connect(
    address: str, report: Report | None = None, memory: int | None = None
) -> Iterator[Cluster]:
    """Start processes here or connect to a scheduler, until the block ends.

    ``address`` is ``local:N`` for N processes here, or that of a Dask scheduler,
    ``tcp://HOST:PORT``, whose workers need this version of mlr and must see the same files.
    ``memory`` is what each process may use in bytes. The address of the dashboard is noted.

    `OptionError` is raised if the address is neither, `MlrError` if there is no scheduler, it has
    no workers, or they have another version of mlr.
    """
    report = report or Report()
    number = _local_processes(address)
    _silence("asyncio", "distributed", "tornado")  # what matters is raised as well
    with ExitStack() as stack:
        scheduler = address
        if number is not None:
            with announced(report):
                compile_alone()
            try:
                scheduler = stack.enter_context(_started(number, memory))
            except Exception as error:  # of many kinds, as the system's limits are
                raise MlrError(
                    f"{address}: the processes do not start: {first_line(error)} (a script that "
                    'calls this needs: if __name__ == "__main__")'
                ) from error
        try:
            client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
            stack.callback(_close, client)
            client.wait_for_workers(number or 1, timeout=PATIENCE)
        except Exception as error:
            raise MlrError(f"{address}: no Dask scheduler with a worker answers there") from error
        with as_mlr_errors():
            _check_versions(client, address)
            has_dashboard = "dashboard" in client.scheduler_info()["services"]
        if has_dashboard and (number is None or find_spec("bokeh") is not None):
            report.note(f"dashboard: {client.dashboard_link}")
        yield Cluster(client, memory, local=number is not None)


def _local_processes(address: str) -> int | None:
    """Return the N of local:N, or None for the address of a scheduler."""
    kind, _, rest = address.partition(":")
    if kind == "local" and rest.isdecimal() and 1 <= int(rest) <= MOST:
        return int(rest)
    if kind == "local" or "://" not in address:
        raise OptionError(
            f"--cluster {address}: expected tcp://HOST:PORT of a Dask scheduler, or local:N for up "
            f"to {MOST} processes here"
        )
    return None


@contextmanager
def _started(number: int, memory: int | None) -> Iterator[str]:
    """Start a scheduler and workers here; yields the address."""
    threads = max(1, thread_count() // number)
    settings = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_BLAS, str(threads)),
        "distributed.scheduler.allowed-failures": FAILURES,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.profile.enabled": False,
    }
    before = set(multiprocessing.active_children())

    def end() -> None:
        ours = set(multiprocessing.active_children()) - before
        for process in ours:
            process.terminate()
        for process in ours:
            process.join(1)
            process.kill()  # if it hangs

    at_end.append(end)
    try:
        with dask.config.set(settings), _without_output():
            cluster = LocalCluster(
                n_workers=number,
                threads_per_worker=threads,
                host="127.0.0.1",
                memory_limit="auto" if memory is None else 2 * memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL + 1,
                death_timeout=PATIENCE,
            )
        try:
            yield cluster.scheduler_address
        finally:
            _close(cluster)
    finally:
        at_end.remove(end)
        end()


def _close(closable: Client | LocalCluster) -> None:
    with suppress(Exception):  # the work is done all the same
        closable.close(timeout=10)


@contextmanager
def _without_output() -> Iterator[None]:
    """Discard stdout and stderr of processes that are started in the block."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        discard_output()
        yield
    finally:
        for number, file in zip((1, 2), kept, strict=True):
            os.dup2(file, number)
            os.close(file)


def _silence(*libraries: str) -> None:
    """Let libraries log nothing, nor those of their loggers that have levels of their own."""
    for name in [*libraries, *logging.root.manager.loggerDict]:
        if name.split(".")[0] in libraries:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _version() -> str:
    return __version__


def _check_versions(client: Client, address: str) -> None:
    """Raise unless all workers have this version of mlr."""
    try:
        versions = client.run(_version)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise MlrError(f"{address}: its workers need mlr {__version__}: {error}") from error
    for worker, found in versions.items():
        if found != __version__:
            raise MlrError(f"{address}: {worker} has mlr {found}, and this is {__version__}")
