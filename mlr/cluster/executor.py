"""The executor: tasks are submitted to Dask, and their results come back in order.

Everything that a task needs is in its arguments.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from distributed import Client, Future, get_worker, wait
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from mlr.errors import MlrError, first_line
from mlr.training.warmup import compile_alone
from mlr.utils.memory import trim_memory
from mlr.utils.threads import limited, ordered_map

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

UNKNOWN = 2 << 30  # bytes of memory of a worker that does not say
AHEAD = 2  # tasks submitted for each worker: one that runs, and a result that waits
WATCH = 5  # seconds between checks whether there are workers
LOST = 60  # seconds without workers after which the cluster is lost
TRANSFER = 600  # seconds that a result may take to arrive before it is asked for again

_alone = threading.Lock()  # held by the task that uses the worker's threads
_ready = False


class Cluster:
    """An `mlr.utils.executor.Executor` that runs on the workers of a Dask scheduler.

    ``memory`` is what each worker may use in bytes, by default half of its limit. Workers that are
    ``local`` share the cache of compiled kernels.
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
        with as_mlr_errors():
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
def as_mlr_errors() -> Iterator[None]:
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


def _run_batch(
    task: tuple[Callable[[Any, Any], Any], Any, bool, bool], items: Sequence[Any]
) -> list[Any]:
    """Return the results of a function for some items, computed in all threads of the worker.

    First, a local worker is silenced, and others compile the kernels, one process at a time:
    several that write into one cache can damage it.
    """
    global _ready
    function, shared, local, trim = task
    with _alone, limited(get_worker().state.nthreads):
        if not _ready:
            discard_output() if local else compile_alone()
        _ready = True
        if len(items) == 1:
            results = [function(items[0], shared)]
        else:
            results = list(ordered_map(lambda item: function(item, shared), items))
        if trim:
            trim_memory()
        return results


def discard_output() -> None:
    """Discard what this process writes to stdout and stderr from now on."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
