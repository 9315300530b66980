"""From a training set to its statistics: at once, or in shards that are kept or sent elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlr.checkpoint import Checkpoint
from mlr.collect import collect, finished, prepared
from mlr.data.pairs import PairList
from mlr.errors import OptionError
from mlr.folds import Folds
from mlr.layout import Layout
from mlr.receptive_field import ReceptiveField
from mlr.report import Report
from mlr.shards import cut, size_for, sum_shard
from mlr.threads import limited
from mlr.warmup import announced


@dataclass(frozen=True)
class Sharding:
    """How a training set is cut.

    Attributes
    ----------
    checkpoint : Path, optional
        Folder to keep finished shards in.
    people : int, optional
        Of a shard; by default as many as make it worth while.
    """

    checkpoint: Path | None = None
    people: int | None = None

    @classmethod
    def of(cls, checkpoint: str | Path | None, people: int | None) -> Sharding | None:
        """Return how to cut, or None if nothing is asked for.

        Raises
        ------
        OptionError
            If there are to be less than one person in a shard.
        """
        if people is not None and people < 1:
            raise OptionError(f"a shard needs at least one person, not {people}")
        if checkpoint is None and people is None:
            return None
        return cls(None if checkpoint is None else Path(checkpoint), people)


def gather_pairs(
    pairs: PairList,
    layout: Layout | ReceptiveField | Callable[[tuple[int, int, int]], Layout],
    *,
    folds: int,
    threads: int | None,
    report: Report,
    sharding: Sharding | None = None,
) -> Folds:
    """Sum up pairs of image files: the same bits in whichever way.

    Parameters
    ----------
    pairs, layout, folds, threads, report
        As for `mlr.collect.collect`.
    sharding : Sharding, optional
        How to cut them; by default not at all.

    Raises
    ------
    DataError
        If no pair can be used, or a checkpoint is not of such sums.
    MlrError
        If a checkpoint cannot be written.
    """
    if sharding is None:
        return collect(pairs, layout, folds=folds, threads=threads, report=report)
    with limited(threads) as count, announced(report):
        people, job = prepared(pairs, layout, folds, report)
        size = sharding.people or size_for(job, len(pairs.expressions))
        store = sharding.checkpoint and Checkpoint(sharding.checkpoint, job)
        with store.opened() if store else nullcontext():
            shards = store.shards(people, size) if store else cut(people, size, folds)
            steps = report.progress(range(len(people)), len(people), "summing up")
            total: Folds | None = None
            for shard in shards:
                make = partial(sum_shard, shard, job, count, lambda: next(steps, None))
                part = store.part(shard, count, make) if store else make()
                total = part.sums if total is None else total + part.sums
                for path, cause in part.failures:
                    report.fail(path, cause)
            deque(steps, 0)  # those whose sums were there already, or who could not be decoded
    assert total is not None
    return finished(total, report)
