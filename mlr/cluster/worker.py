"""What runs on workers: everything that a task needs is in its arguments."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from distributed import get_worker

from mlr._version import __version__
from mlr.training.warmup import compile_alone
from mlr.utils.memory import trim_memory
from mlr.utils.threads import limited, ordered_map

_alone = threading.Lock()  # held by the task that uses the worker's threads
_ready = False

#: A function, what is shared by all items, whether the worker is local, whether to trim memory.
Task = tuple[Callable[[Any, Any], Any], Any, bool, bool]


def version() -> str:
    """Return the version of mlr on the worker."""
    return __version__


def run_batch(task: Task, items: Sequence[Any]) -> list[Any]:
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
