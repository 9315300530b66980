"""An executor on Dask, with local processes or an existing scheduler.

Results arrive in the order of the tasks. A task depends on its arguments alone.
"""

from __future__ import annotations

import concurrent.futures
import logging
import multiprocessing
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from mlr._version import __version__, install
from mlr.errors import MlrError, OptionError, first_line
from mlr.io.files import at_end
from mlr.training.warmup import announced, compile_alone
from mlr.utils.executor import Item, Result, Shared
from mlr.utils.memory import trim_memory
from mlr.utils.progress import Report
from mlr.utils.threads import limited, ordered_map, thread_count

try:
    import dask
    from distributed import Client, Future, LocalCluster, get_worker, wait
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise MlrError(f"--cluster needs Dask: {install('cluster')}") from error

MOST = 256  # processes
PATIENCE = 60  # seconds to wait for a scheduler, and for the first worker
FAILURES = 20  # workers that may die while running a task before it fails
_BLAS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
UNKNOWN = 2 << 30  # bytes that are assumed for workers without a memory limit
AHEAD = 2  # tasks submitted for each worker: a running one, and a result that waits
WATCH = 5  # seconds between checks that there are workers
LOST = 60  # seconds without workers until the cluster counts as lost
TRANSFER = 600  # seconds until a result that does not arrive is requested again

_alone = threading.Lock()  # held by the task that uses the worker's threads
_ready = False


@contextmanager
def connect(
    address: str, report: Report | None = None, memory: int | None = None
) -> Iterator[Cluster]:
    """Start local processes or connect to a scheduler, until the block ends.

    ``address`` is ``local:N`` for N local processes, or ``tcp://HOST:PORT`` of a Dask scheduler,
    whose workers need this version of mlr and must see the same files. ``memory`` is the limit of
    each process in bytes. The address of the dashboard is noted.

    Raises an `OptionError` if the address is neither, and an `MlrError` if no scheduler answers, or
    its workers are missing or have another version of mlr.
    """
    report = report or Report()
    number = _local_processes(address)
    _silence("asyncio", "distributed", "tornado")  # their errors are also raised
    with ExitStack() as stack:
        scheduler = address
        if number is not None:
            with announced(report):
                compile_alone()
            try:
                scheduler = stack.enter_context(_started(number, memory))
            except Exception as error:  # depends on which limit of the system is reached
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
        with _as_mlr_errors():
            if number is None:
                _check_versions(client, address)
            has_dashboard = "dashboard" in client.scheduler_info()["services"]
        if has_dashboard and (number is None or find_spec("bokeh") is not None):
            report.note(f"dashboard: {client.dashboard_link}")
        yield Cluster(client, memory, local=number is not None)


def _local_processes(address: str) -> int | None:
    """Return the N of local:N, or None for the address of a scheduler."""
    kind, _, rest = address.partition(":")
    if kind != "local" and "://" in address:
        return None
    if kind == "local" and rest.isdecimal() and 1 <= int(rest) <= MOST:
        return int(rest)
    raise OptionError(
        f"--cluster {address}: expected tcp://HOST:PORT of a Dask scheduler, or local:N for up to "
        f"{MOST} processes here"
    )


@contextmanager
def _started(number: int, memory: int | None) -> Iterator[str]:
    """Start a local scheduler and workers; yields the address."""
    threads = max(1, thread_count() // number)
    off = ["profile.enabled", *(f"memory.{n}" for n in ("pause", "spill", "target", "terminate"))]
    settings = {f"distributed.worker.{name}": False for name in off} | {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_BLAS, str(threads)),
        "distributed.scheduler.allowed-failures": FAILURES,
    }
    before = set(multiprocessing.active_children())
    nannies: list[Any] = []

    def end() -> None:
        for nanny in nannies:  # else each would start another process
            nanny.close_gracefully()
        ours = set(multiprocessing.active_children()) - before
        for process in ours:
            process.terminate()
        for process in ours:
            process.join(1)
            process.kill()  # if it hangs

    with ExitStack() as stack:
        at_end.append(end)
        stack.callback(end)
        stack.callback(at_end.remove, end)
        with dask.config.set(settings), _without_output():
            cluster = _started_cluster(
                end,
                n_workers=number,
                threads_per_worker=threads,
                host="127.0.0.1",
                memory_limit="auto" if memory is None else 2 * memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL + 1,
                death_timeout=PATIENCE,
            )
            stack.callback(_close, cluster)
            nannies.extend(cluster.workers.values())
        yield cluster.scheduler_address


def _started_cluster(end: Callable[[], None], **options: Any) -> LocalCluster:
    """Start a cluster in a thread, since LocalCluster may wait forever for processes that hang.

    If it takes too long, ``end`` ends its processes, and TimeoutError is raised.
    """
    found = concurrent.futures.Future[LocalCluster]()

    def start() -> None:
        try:
            found.set_result(LocalCluster(**options))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=start, daemon=True).start()
    try:
        return found.result(PATIENCE)
    except concurrent.futures.TimeoutError:
        end()  # makes the start fail
        with suppress(Exception):
            _close(found.result(10))
        end()  # end restarted processes, too
        raise TimeoutError(f"they did not answer within {PATIENCE} seconds") from None


def _close(closable: Client | LocalCluster) -> None:
    with suppress(Exception):  # the results have arrived
        closable.close(timeout=10)


@contextmanager
def _without_output() -> Iterator[None]:
    """Discard stdout and stderr of processes that are started in the block."""
    kept = {number: os.dup(number) for number in (1, 2)}

    def restore() -> None:
        for number, file in kept.items():
            os.dup2(file, number)

    at_end.append(restore)  # so that a signal in the block is still reported
    try:
        _discard_output()
        yield
    finally:
        at_end.remove(restore)
        restore()
        for file in kept.values():
            os.close(file)


def _silence(*libraries: str) -> None:
    """Disable the loggers of libraries, including those with levels of their own."""
    for name in [*libraries, *logging.root.manager.loggerDict]:
        if name.split(".")[0] in libraries:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _check_versions(client: Client, address: str) -> None:
    """Raise unless all workers have this version of mlr."""
    try:
        versions = client.run(_version)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        raise MlrError(f"{address}: its workers need mlr {__version__}: {error}") from error
    for worker, found in versions.items():
        if found != __version__:
            raise MlrError(f"{address}: {worker} has mlr {found}, and this is {__version__}")


def _version() -> str:
    return __version__


class Cluster:
    """An `mlr.utils.executor.Executor` that runs on the workers of a Dask scheduler.

    ``memory`` is the limit of each worker in bytes, by default half of Dask's. ``local`` workers
    share the cache of compiled kernels.
    """

    def __init__(self, client: Client, memory: int | None, local: bool) -> None:
        self._client, self._memory, self._local = client, memory, local

    @property
    def memory(self) -> int:
        """Bytes that each process may use."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] // 2 for worker in workers if worker["memory_limit"]]
        return min([*limits, *([self._memory] if self._memory else [])], default=UNKNOWN)

    def map(
        self,
        function: Callable[[Item, Shared], Result],
        items: Sequence[Item],
        shared: Shared,
        batch: int = 1,
    ) -> Iterator[Result]:
        """Yield ``function(item, shared)`` in order; see `mlr.utils.executor.Executor`."""
        threads = sum(self._client.nthreads().values())
        size = max(1, min(batch, len(items) // (4 * max(1, threads))))
        trim = self._memory is not None
        waiting: deque[Future] = deque()
        with _as_mlr_errors():
            # Unpickled by a task, so that a lost worker's copy can be computed again.
            sent = self._client.submit(
                pickle.loads, pickle.dumps((function, shared, self._local, trim)), pure=False
            )
            for at in range(0, len(items), size):
                task = self._client.submit(_run_batch, sent, items[at : at + size], pure=False)
                waiting.append(task)
                if len(waiting) >= AHEAD * max(1, len(self._client.nthreads())):
                    yield from self._result(waiting.popleft())
            while waiting:
                yield from self._result(waiting.popleft())

    def _result(self, future: Future) -> Any:
        """Return a result; raise if there are no workers for a while."""
        last = time.monotonic()
        while True:
            with suppress(TimeoutError), self._client.as_current():
                wait(future, timeout=WATCH)
                return future.result(timeout=TRANSFER)
            if self._client.nthreads():
                last = time.monotonic()
            elif time.monotonic() - last > LOST:
                raise MlrError("the cluster is lost: it has no workers")


@contextmanager
def _as_mlr_errors() -> Iterator[None]:
    """Turn Dask's errors about a lost cluster into one line."""
    try:
        yield
    except MlrError:
        raise
    except KilledWorker as error:
        raise MlrError(
            "the cluster gave up: every worker that was given one of the shards has died; they may "
            "need more memory, or smaller shards"
        ) from error
    except (CommClosedError, CancelledError, TimeoutError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "thread" not in str(error):
            raise  # other than that the system gives no more threads
        raise MlrError(f"the cluster is lost: {first_line(error)}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # Dask's substitute for errors that it cannot send, as of libraries without memory.
        raise MlrError(f"a worker failed: {first_line(error)}") from error


def _run_batch(
    task: tuple[Callable[[Any, Any], Any], Any, bool, bool], items: Sequence[Any]
) -> list[Any]:
    """Return the results of a function for some items, computed in all threads of the worker.

    Before the first batch, local workers are silenced, and others compile the kernels, one process
    at a time, because several that write to one cache can damage it.
    """
    global _ready
    function, shared, local, trim = task
    with _alone, limited(get_worker().state.nthreads):
        if not _ready:
            _discard_output() if local else compile_alone()
        _ready = True
        if len(items) == 1:
            results = [function(items[0], shared)]
        else:
            results = list(ordered_map(lambda item: function(item, shared), items))
        if trim:
            trim_memory()
        return results


def _discard_output() -> None:
    """Discard everything that this process writes to stdout and stderr from now on."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
