"""Running loops of kernels in parallel threads."""

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from mlr.utils.threads import current_threads

TASKS = 8  # for each thread, so that others can take over from one that is held up

Result = TypeVar("Result")
Loop = tuple[Callable[..., None], int, tuple[Any, ...]]  # a kernel, its items and arguments
_Call = tuple[Callable[..., None], int, int, tuple[Any, ...]]  # a kernel, its range and arguments

_workers: list[threading.Thread] = []
_calls: SimpleQueue[Callable[[], None]] = SimpleQueue()  # for the workers
_processor: Callable[[], int] | None = None  # of the calling thread, where threads can be moved
if hasattr(os, "sched_setaffinity"):
    _processor = getattr(ctypes.CDLL(None), "sched_getcpu", None)
_affinity: set[int] = set()  # processors that the workers were moved to


def parallel_for(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call ``kernel(begin, end, *arguments)`` for ranges that cover 0 .. count, in all threads.

    The kernel releases the GIL, and no range reads or writes what another one writes, so that the
    result does not depend on the threads.

    The calling thread takes part and never blocks on workers that have not started. Numba's
    ``prange`` does: with one of two processors busy, each loop took at least 8 ms.
    """
    if current_threads() > 1 and count > 1:
        parallel_for_all([(kernel, count, arguments)])
    elif count:  # without the overhead of tasks, half the time of a small image
        kernel(0, count, *arguments)


def parallel_map(function: Callable[[int], Result], count: int) -> list[Result]:
    """Return [function(0), ..., function(count - 1)], computed in all threads."""
    found: dict[int, Result] = {}

    def fill(begin: int, end: int) -> None:
        for n in range(begin, end):
            found[n] = function(n)

    parallel_for(fill, count)
    return [found[n] for n in range(count)]


def parallel_for_all(loops: Sequence[Loop], in_turn: bool = False) -> None:
    """Run several independent loops at once, as `parallel_for` runs one.

    With ``in_turn``, loops with the same number of items process each item one after the other, so
    that they find it in the cache.

    Waking up a thread takes a tenth of a millisecond, as long as a small loop. Therefore workers
    are called by a simple queue, which is faster than `concurrent.futures`.
    """
    tasks = _tasks(loops, in_turn)
    remaining = iter(tasks)  # next() of a list's iterator is atomic
    started: list[None] = []
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def run_all() -> None:
        for task in remaining:
            for kernel, begin, end, arguments in task:
                kernel(begin, end, *arguments)

    def work() -> None:
        started.append(None)
        error = None
        try:
            run_all()
        except BaseException as raised:
            error = raised
        ended.put(error)

    workers = min(current_threads(), len(tasks)) - 1
    if workers > 0:
        _call_workers(work, workers)
    try:
        run_all()
    finally:
        tasks.clear()  # workers that start now find no task, and are not waited for
        errors: list[BaseException | None] = []
        while len(errors) < len(started):  # more may start and end meanwhile
            errors.append(ended.get())
    for error in filter(None, errors):
        raise error


def _tasks(loops: Sequence[Loop], in_turn: bool) -> list[list[_Call]]:
    """Cut loops into tasks for one thread each."""
    alike: dict[int, list[Loop]] = {}
    for number, loop in enumerate(loops):
        alike.setdefault(loop[1] if in_turn else -number, []).append(loop)
    most = TASKS * current_threads() if current_threads() > 1 else 1
    tasks = []
    for same in alike.values():
        count = same[0][1]
        parts = min(count, most)
        for part in range(parts):
            begin, end = count * part // parts, count * (part + 1) // parts
            steps = itertools.pairwise(range(begin, end + 1)) if len(same) > 1 else [(begin, end)]
            tasks.append([(kernel, *cut, args) for cut in steps for kernel, _, args in same])
    return tasks


def _call_workers(function: Callable[[], None], times: int) -> None:
    """Submit a function to up to this many workers."""
    with suppress(RuntimeError):  # no more threads can be started; the existing ones do it all
        while len(_workers) < times:
            worker = threading.Thread(target=_serve, name="mlr-kernel", daemon=True)
            worker.start()
            _workers.append(worker)
            _affinity.clear()
    _move_workers()
    for _ in range(min(times, len(_workers))):
        _calls.put(function)


def _move_workers() -> None:
    """Keep workers off the processor of the calling thread.

    Linux tends to wake a thread on the processor of its caller, where it waits while another
    processor is idle: accumulating 200 pairs of 128 px then took 1.06 ms instead of 0.70.
    """
    if _processor is None:
        return
    others = os.sched_getaffinity(0) - {_processor()}
    if others in (set(), _affinity):
        return
    for worker in _workers:
        with suppress(OSError):  # the process may not use these processors any more
            os.sched_setaffinity(cast(int, worker.native_id), others)
    _affinity.clear()
    _affinity.update(others)


def _serve() -> None:
    while True:
        _calls.get()()
