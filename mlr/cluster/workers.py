"""Those who do the tasks: how many there are, who does what, and what all of them are sent."""

from __future__ import annotations

import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, Future

from mlr.cluster.crops import added
from mlr.cluster.tasks import How
from mlr.core.bands import Band

UNKNOWN = 2 << 30  # bytes of memory of a worker that does not say


class Workers:
    """Processes here or elsewhere that work as told.

    Parameters
    ----------
    connected : function
        Waits until there is a scheduler with workers, and returns its client.
    how : How
        How they do what they are told.
    """

    def __init__(self, connected: Callable[[], Client], how: How) -> None:
        self._connected, self.how = connected, how

    @property
    def client(self) -> Client:
        """The client of their scheduler."""
        return self._connected()

    @property
    def count(self) -> int:
        """How many there are, at least one."""
        return max(1, len(self.client.nthreads()))

    def memory(self, memory: int | None) -> int:
        """Return the bytes that a worker may take, given what it was told."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        known = [*(limit // 2 for limit in limits), *([memory] if memory else [])]
        return min(known, default=UNKNOWN)

    def homes(self, count: int) -> list[dict[str, Any]]:
        """Return who is to do each of so many tasks: the same for neighbours, if it is there."""
        workers = list(self.client.nthreads())
        if not workers:
            return [{}] * count
        some = [workers[k * len(workers) // count] for k in range(count)]
        return [{"workers": worker, "allow_other_workers": True} for worker in some]

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future:
        """Return what becomes the result of a function."""
        return self.client.submit(function, *arguments, **options, pure=False)

    def added(self, level: list[Future], priority: int) -> Future:
        """Return the sum of sums, which go up a tree."""
        while len(level) > 1:
            pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
            level = [
                self.client.submit(added, *pair, priority=priority, pure=False) for pair in pairs
            ]
        return level[0]

    def in_turn(self, begun: Iterable[tuple[Band, Future]]) -> Iterator[tuple[Band, Any]]:
        """Yield each band with its result; few are begun before they are asked for."""
        ahead = self.count * (1 if self.how.sparing else 2)
        waiting: deque[tuple[Band, Future]] = deque()
        for found in begun:
            waiting.append(found)
            if len(waiting) >= ahead:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())

    @contextmanager
    def shared(self, what: Any) -> Iterator[Future]:
        """Send something once, for many tasks; no worker that is lost takes it away."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is large
            yield self.client.submit(pickle.loads, pickle.dumps((what, self.how)))


def _result(band: Band, future: Future) -> tuple[Band, Any]:
    return band, future.result()
