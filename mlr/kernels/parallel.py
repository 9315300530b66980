"""Sharing out the work of a kernel among threads."""

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, cast

from mlr.utils.threads import current_threads

TASKS = 8  # for each thread: one that is held up leaves the rest of its share to the others

_helpers: list[threading.Thread] = []
_calls: SimpleQueue[Callable[[], None]] = SimpleQueue()  # that helpers are asked for
_processor: Callable[[], int] | None = None  # that the caller runs on, where threads can be moved
if hasattr(os, "sched_setaffinity"):
    _processor = getattr(ctypes.CDLL(None), "sched_getcpu", None)
_elsewhere: set[int] = set()  # processors that helpers may run on, if that was said


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
    if current_threads() > 1 and count > 1:
        share_out_all([(kernel, count, arguments)])
    elif count:
        kernel(0, count, *arguments)


def share_out_all(loops: Sequence[Loop], in_turn: bool = False) -> None:
    """Do what `share_out` does, for several loops at once that do not need each other.

    If they are to be done in turn, those that have as many items do each item one after the other:
    what one of them reads, the others find in the cache.

    A thread that sleeps takes a tenth of a millisecond to wake up, as long as a small loop, so that
    helpers hear of work by a simple queue, which is faster than `concurrent.futures`. A caller that
    stays awake for them, without the GIL, saves a tenth at 64 px and 2 % from 128 px on; helpers
    that stay awake as well stand in its way (1.17 times).
    """
    parts = _parts(loops, in_turn)
    if current_threads() == 1 or len(parts) == 1:
        for part in parts:
            _do(part)
        return
    left = iter(parts)  # next() of a list's iterator is atomic
    begun: list[None] = []
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        for part in left:
            _do(part)

    def help_out() -> None:
        begun.append(None)
        try:
            work()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    _ask(help_out, min(current_threads(), len(parts)) - 1)
    try:
        work()
    finally:
        parts.clear()  # whoever begins now has nothing to do, nor to wait for
        errors: list[BaseException | None] = []
        while len(errors) < len(begun):  # some of whom may begin, and end, just now
            errors.append(ended.get())
    for error in errors:
        if error is not None:
            raise error


_Call = tuple[Callable[..., None], int, int, tuple[Any, ...]]  # a kernel, its range and arguments


def _parts(loops: Sequence[Loop], in_turn: bool) -> list[list[_Call]]:
    """Cut loops into parts that one thread does."""
    alike: dict[int, list[Loop]] = {}
    for number, loop in enumerate(loops):
        alike.setdefault(loop[1] if in_turn else -number, []).append(loop)
    parts = []
    for same in alike.values():
        count = same[0][1]
        tasks = min(count, TASKS * current_threads() if current_threads() > 1 else 1)
        bounds = [count * task // tasks for task in range(tasks + 1)] if tasks else []
        for begin, end in itertools.pairwise(bounds):
            cuts = range(begin, end + 1) if len(same) > 1 else (begin, end)
            parts.append(
                [
                    (kernel, *cut, arguments)
                    for cut in itertools.pairwise(cuts)
                    for kernel, _, arguments in same
                ]
            )
    return parts


def _do(part: list[_Call]) -> None:
    for kernel, begin, end, arguments in part:
        kernel(begin, end, *arguments)


def _ask(call: Callable[[], None], times: int) -> None:
    """Let so many other threads, at most, call a function when they get to it."""
    with suppress(RuntimeError):  # no more threads to be had: those that there are do it all
        while len(_helpers) < times:
            helper = threading.Thread(target=_help, name="mlr-kernel", daemon=True)
            helper.start()
            _helpers.append(helper)
            _elsewhere.clear()
    _move_away()
    for _ in range(min(times, len(_helpers))):
        _calls.put(call)


def _move_away() -> None:
    """Keep helpers off the processor that the caller runs on.

    Linux likes to wake a thread where it is called from, and lets it wait there while another
    processor sleeps: sums over 200 pairs of 128 px then took 1.06 ms instead of 0.70, those over
    256 px 3.4 instead of 2.6.
    """
    if _processor is None:
        return
    elsewhere = os.sched_getaffinity(0) - {_processor()}
    if elsewhere in (set(), _elsewhere):
        return
    for helper in _helpers:
        with suppress(OSError):  # these processors have just been taken from us
            os.sched_setaffinity(cast(int, helper.native_id), elsewhere)
    _elsewhere.clear()
    _elsewhere.update(elsewhere)


def _help() -> None:
    while True:
        _calls.get()()
