"""Executors, which run a function on many items in other processes, or in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from mlr.utils.threads import ordered_map

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")


class Executor(Protocol):
    """Runs functions in other processes that see the same files, such as `mlr.cluster.Cluster`."""

    @property
    def memory(self) -> int:
        """Bytes that each process may use."""

    def map(
        self,
        function: Callable[[Item, Shared], Result],
        items: Sequence[Item],
        shared: Shared,
        batch: int = 1,
    ) -> Iterator[Result]:
        """Yield ``function(item, shared)`` in order; a task has at most ``batch`` items.

        All arguments can be pickled, and ``shared`` is sent once. Raises an `MlrError` if the
        function raises it or the processes are lost.
        """


def map_items(
    executor: Executor | None,
    function: Callable[[Item, Shared], Result],
    items: Sequence[Item],
    shared: Shared,
    batch: int = 1,
) -> Iterator[Result]:
    """Yield ``function(item, shared)`` in order, run by an executor or by threads here."""
    if executor is not None:
        return executor.map(function, items, shared, batch)
    return ordered_map(lambda item: function(item, shared), items)
