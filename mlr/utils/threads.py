"""The number of threads, and a bounded parallel map."""

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

AHEAD = 2  # items submitted for each thread; 4 are no faster

_limit: int | None = None


def thread_count(threads: int | None = None) -> int:
    """Return the number of threads, by default one for each available processor."""
    if threads is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if threads < 1:
        raise OptionError(f"the number of threads must be positive, not {threads}")
    return threads


def current_threads() -> int:
    """Return the number of threads of the innermost `limited` block, by default `thread_count`."""
    return _limit or thread_count()


@contextmanager
def limited(threads: int | None) -> Iterator[int]:
    """Use this many threads in the block, also in kernels; yields the number."""
    global _limit
    before = _limit
    _limit = current_threads() if threads is None else thread_count(threads)
    try:
        yield _limit
    finally:
        _limit = before


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed in threads a few items ahead.

    Unlike `ThreadPoolExecutor.map` it does not run through all items at once, so memory is bounded.
    """
    count = threads or current_threads()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="mlr") as pool:
        try:
            for item in items:
                try:
                    waiting.append(pool.submit(function, item))
                except RuntimeError as error:
                    raise MlrError(
                        f"{error}: give fewer --threads, or more memory to the program"
                    ) from error
                if len(waiting) >= AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
