"""Crops of sums: what others cut, add up and put together, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import add

import numpy as np

from mlr.core.folds import Folds, stacked
from mlr.core.layout import Layout
from mlr.errors import DataError
from mlr.training.collect import Job
from mlr.utils.mapped import Lent


@dataclass(frozen=True)
class View:
    """What is wanted of sums: some expressions, some planes, or all."""

    names: frozenset[str] | None = None
    layout: Layout | None = None

    def of(self, part: Folds | Lent, first: int, end: int) -> Folds:
        """Return some rows of what is wanted of one of the parts that sums are added up from."""
        sums = part.mapped() if isinstance(part, Lent) else part
        sums = sums.rows(first, end)
        if self.names is not None:
            sums = Folds(tuple(some.only(self.names & {*some.targets}) for some in sums.parts))
        if self.layout is not None:
            sums = sums.restricted(self.layout)
        return sums if isinstance(part, Lent) else _copied(sums)


ALL = View()


def added(*sums: Folds) -> Folds:
    """Return the sum of sums."""
    return reduce(add, sums)


def some_rows(sums: Folds, first: int, end: int) -> Folds:
    """Return a copy of some rows."""
    return _copied(sums.rows(first, end))


def _copied(sums: Folds) -> Folds:
    """Return sums that no longer need what they are a part of, which can be forgotten."""
    return Folds(tuple(part.changed(np.ascontiguousarray, part.shape) for part in sums.parts))


def put_together(removed: Sequence[str], counts: Sequence[Sequence[int]], *parts: Folds) -> Folds:
    """Return a crop of sums.

    Each term consists of pieces, and each of them is the sum of so many of the parts. The last
    terms, which have names, are taken out of the others.

    Raises
    ------
    DataError
        If there are not all pairs that are to be taken out.
    """
    rest = iter(parts)
    terms = [stacked([reduce(add, islice(rest, count)) for count in pieces]) for pieces in counts]
    sums = reduce(add, terms[: len(terms) - len(removed)])
    for name, term in zip(removed, terms[len(terms) - len(removed) :], strict=True):
        try:
            sums = sums - term
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    return sums


def reach_of(job: Job) -> int:
    """Return how many rows apart the pixels of a product are at most."""
    layout = job.layout
    return int(max(abs(layout.lags[:, 0]).max(), abs(layout.receptive_field.taps[:, 0]).max()))


def summing_bytes(job: Job, rows: int) -> float:
    """Return the bytes of so many rows of the sums of a shard: made, sent, and added up."""
    return 4.0 * row_bytes(job) * (rows + 2 * reach_of(job))


def row_bytes(job: Job) -> int:
    """Return the bytes of a row of the sums of a shard."""
    layout, (channels, _, width) = job.layout, job.shape
    return 4 * layout.planes(job.expressions) * layout.channels(channels) * width
