"""Sharing out the work of a kernel among threads."""

import itertools
import os
from collections.abc import Callable, Sequence
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


Loop = tuple[Callable[..., None], int, tuple[Any, ...]]  # a kernel, its items and arguments


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
    share_out_all([(kernel, count, arguments)])


def share_out_all(loops: Sequence[Loop]) -> None:
    """Do what `share_out` does, for several loops at once that do not need each other.

    A thread that sleeps takes a tenth of a millisecond to wake up: as long as a small loop.
    """
    if _threads == 1 or sum(count for _, count, _ in loops) == 1:
        for kernel, count, arguments in loops:
            if count:
                kernel(0, count, *arguments)
        return
    parts: list[tuple[Callable[..., None], int, int, tuple[Any, ...]]] = []
    for kernel, count, arguments in loops:
        tasks = min(count, TASKS * _threads)
        bounds = [count * task // tasks for task in range(tasks + 1)] if tasks else []
        parts += [(kernel, *bound, arguments) for bound in itertools.pairwise(bounds)]
    left = iter(parts)  # next() of a list's iterator is atomic

    def work() -> None:
        for kernel, begin, end, arguments in left:
            kernel(begin, end, *arguments)

    helpers: list[Future[None]] = []
    with suppress(RuntimeError):  # no more threads to be had: those that there are do it all
        for _ in range(min(_threads, len(parts)) - 1):
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
