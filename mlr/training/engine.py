"""Where work on many files is done: in this process, or by an engine that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from mlr.cluster import forkserver
from mlr.errors import MlrError
from mlr.training.decode import ordered_map
from mlr.utils.progress import Report
from mlr.utils.threads import thread_count

if TYPE_CHECKING:  # whoever changes faces need not wait for the compiler
    from mlr.core.bands import RowSums
    from mlr.training.collect import Job
    from mlr.training.shards import Failures, Make, Shard

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")


class Engine(Protocol):
    """Other processes or machines that read the same files.

    Whatever is asked of them raises `MlrError` if that does, or if they are lost.
    """

    def sums(
        self,
        make: Make,
        shards: Sequence[Shard],
        job: Job,
        tell: Callable[[Shard, Failures], None],
        memory: int | None,
        folder: Path | None,
    ) -> RowSums:
        """Return the sum over shards; it stays there.

        Parameters
        ----------
        make : function
            Sums up a shard, given a number of threads, and the memory and the folder to do it in.
        shards : sequence of tuple of Subject
            At least one, of one fold each.
        job : Job
            What is summed up.
        tell : function
            Called for each shard with what cannot be read of it.
        memory : int, optional
            Bytes that each process may take. With less than the sums of a shard need, ``make`` is
            told so, and sums are made in bands of rows.
        folder : Path, optional
            Where large results take up room here.
        """

    def read(
        self,
        make: Callable[[], RowSums],
        sums: RowSums,
        memory: int | None,
        folder: Path | None,
    ) -> RowSums:
        """Return sums that others can read by themselves; they stay there.

        Parameters
        ----------
        make : function
            Reads them.
        sums : RowSums
            What it returns.
        memory, folder
            As for `sums`.
        """

    def combined(self, added: Sequence[RowSums], removed: Sequence[tuple[str, RowSums]]) -> RowSums:
        """Return sums of its own added up, with others taken out; the names are for errors."""

    def map(
        self, function: Callable[[Item, Shared], Result], items: Sequence[Item], shared: Shared
    ) -> Iterator[Result]:
        """Yield ``function(item, shared)`` for all items, in order."""


def mapped(
    engine: Engine | None,
    function: Callable[[Item, Shared], Result],
    items: Sequence[Item],
    shared: Shared,
    threads: int | None,
) -> Iterator[Result]:
    """Yield ``function(item, shared)`` in order, computed by an engine or by threads here."""
    if engine is not None:
        return engine.map(function, items, shared)
    return ordered_map(lambda item: function(item, shared), items, thread_count(threads))


@contextmanager
def engine(
    cluster: str | None, report: Report, memory: int | None = None
) -> Iterator[Engine | None]:
    """Start or find the engine that was asked for.

    Parameters
    ----------
    cluster : str, optional
        ``local:N`` for N processes here, ``tcp://HOST:PORT`` for a Dask scheduler; by default
        there is no engine.
    report : Report
        Told where it can be watched.
    memory : int, optional
        Bytes that a process here may take.

    Raises
    ------
    MlrError
        If Dask is missing, or nobody answers there.
    """
    if cluster is None:
        yield None
        return
    forkserver.begin(cluster)
    try:
        from mlr.cluster.connecting import connected
    except ImportError as error:
        raise MlrError("--cluster needs Dask: pip install 'mlr[cluster]'") from error
    with connected(cluster, report, memory) as found:
        yield found
