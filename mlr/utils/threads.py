"""How many threads a piece of work may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlr.errors import OptionError


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
