"""Threads: how many to use, and a map over items that runs in them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mlr.errors import MlrError, OptionError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # items in progress for each thread; 4 is not faster


def thread_count(threads: int | None = None) -> int:
    """Return the number of threads asked for, or that of the processors at hand.

    Raises
    ------
    OptionError
        If it is not positive.
    """
    if threads is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if threads < 1:
        raise OptionError(f"the number of threads must be positive, not {threads}")
    return threads


@contextmanager
def limited(threads: int | None) -> Iterator[int]:
    """Run the kernels in the block in so many threads; yields the number."""
    from mlr.kernels import parallel

    count = thread_count(threads)
    before = parallel.thread_count()
    parallel.set_thread_count(count)
    try:
        yield count
    finally:
        parallel.set_thread_count(before)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for all items, in order, computed in threads a few items ahead.

    Unlike `ThreadPoolExecutor.map` this does not submit all items at once, so memory is bounded.

    Raises
    ------
    MlrError
        If a thread cannot be started.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="mlr-decode") as pool:
        try:
            for item in items:
                try:
                    waiting.append(pool.submit(function, item))
                except RuntimeError as error:
                    raise MlrError(
                        f"{error}: give fewer --threads, or more memory to the program"
                    ) from error
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
