"""What runs on workers: everything that a task needs is in its arguments."""

from __future__ import annotations

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

#: A function, what is shared by all items, whether kernels are compiled, whether to trim memory.
Task = tuple[Callable[[Any, Any], Any], Any, bool, bool]


def version() -> str:
    """Return the version of mlr on the worker."""
    return __version__


def run_batch(task: Task, items: Sequence[Any]) -> list[Any]:
    """Return the results of a function for some items, computed in all threads of the worker.

    Kernels are compiled first, by one process at a time: several that write into one cache can
    damage it.
    """
    global _ready
    function, shared, compiled, trim = task
    with _alone, limited(get_worker().state.nthreads):
        if not (_ready or compiled):
            compile_alone()
        _ready = True
        if len(items) == 1:
            results = [function(items[0], shared)]
        else:
            results = list(ordered_map(lambda item: function(item, shared), items))
        if trim:
            trim_memory()
        return results
