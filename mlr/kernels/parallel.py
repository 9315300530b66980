"""Sharing out the work of a kernel among threads."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

TASKS = 8  # for each thread: one that is held up leaves the rest of its share to the others

_threads = os.cpu_count() or 1


def thread_count() -> int:
    """Return how many threads kernels run in."""
    return _threads


def set_thread_count(threads: int) -> None:
    """Let kernels run in so many threads, at least one."""
    global _threads
    _threads = threads


def share_out(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call ``kernel(begin, end, *arguments)`` for ranges that make up 0 .. count, in all threads.

    The kernel releases the GIL, and what it writes for one range no other range reads or writes,
    so the result does not depend on the threads.

    The caller works too, and waits for nobody who has not begun. Numba's ``prange`` waits for every
    thread, even for one that a busy machine has not let run yet: with one of two processors taken
    by another program, each loop cost 8 ms at least; and it takes five times as long to compile.

    Parameters
    ----------
    kernel : function
        A serial kernel.
    count : int
        Number of items, rows for example.
    *arguments
        What the kernel gets besides the range.
    """
    if _threads == 1 or count == 1:
        kernel(0, count, *arguments)
        return
    tasks = min(count, 1 if _threads == 1 else TASKS * _threads)
    bounds = [count * task // tasks for task in range(tasks + 1)] if tasks else []
    ranges = iter(list(itertools.pairwise(bounds)))  # next() of a list's iterator is atomic

    def work() -> None:
        for begin, end in ranges:
            kernel(begin, end, *arguments)

    helpers: list[Future[None]] = []
    with suppress(RuntimeError):  # no more threads to be had: those that there are do it all
        for _ in range(min(_threads, tasks) - 1):
            helpers.append(_pool(_threads - 1).submit(work))
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mlr-kernel")
