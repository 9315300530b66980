"""Training data cut into folds, for choosing by cross-validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlr.core.bands import LEAST_ROWS, Band, Cost, RowSums, WorkedOnHere, bands, rows_within
from mlr.core.layout import Layout
from mlr.core.statistics import (
    SourceSums,
    Statistics,
    StyleSums,
    check_expressions,
    hexdigest,
    total,
)
from mlr.errors import DataError
from mlr.io.files import located
from mlr.io.statistics_file import read_statistics, write_statistics

if TYPE_CHECKING:
    from mlr.core.registration.templates import Templates

WORK = 10 << 20  # bytes that work on the planes may take, or a share of theirs
WORK_SHARE = 0.24


def fold_of(name: str, folds: int) -> int:
    """Return the fold of a subject, which depends on the name alone."""
    digest = hashlib.sha256(b"fold of " + name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % folds


@dataclass(frozen=True)
class Folds(WorkedOnHere):
    """Statistics of the same kind, one for each fold of the training pairs.

    They add and subtract fold by fold, like the pairs that they stand for.

    Attributes
    ----------
    parts : tuple of Statistics
        At least one; those of a fold without pairs have no expressions.
    memory : float
        Bytes that they and the work on them may take; infinite if it is no concern.
    folder : Path, optional
        Where temporary files take up room; by default where the system puts them.
    """

    parts: tuple[Statistics, ...]
    memory: float = field(default=math.inf, compare=False)
    folder: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name} {count}" for name, count in self.pairs.items())
        return f"Folds({len(self.parts)}, pairs {pairs}, images {self.parts[0].shape})"

    @cached_property
    def total(self) -> Statistics:
        """The statistics of all pairs."""
        return total(self.parts)

    @property
    def layout(self) -> Layout:
        """Which planes there are."""
        return self.parts[0].layout

    @property
    def templates(self) -> Templates | None:
        """What the pairs were registered to."""
        return self.parts[0].templates

    def styles(self, name: str) -> StyleSums:
        """Return the sums by light and style of an expression of registered pairs."""
        found = [p.targets[name].styles for p in self.parts if name in p.targets]
        return reduce(StyleSums.plus, [styles for styles in found if styles is not None])

    @property
    def source(self) -> str:
        """Name of the source expression."""
        return self.parts[0].source

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the target expressions, in alphabetical order."""
        return tuple(sorted({name for part in self.parts for name in part.expressions}))

    @property
    def pairs(self) -> dict[str, int]:
        """Number of training pairs of each expression."""
        return {
            name: sum(part.pairs.get(name, 0) for part in self.parts) for name in self.expressions
        }

    @property
    def hexdigest(self) -> str:
        """Digest of the training pairs, 64 hexadecimal digits; the same in any order."""
        return hexdigest(t.digest for part in self.parts for t in part.targets.values())

    def __add__(self, other: Folds) -> Folds:
        """Return the folds of both sets of pairs together.

        Raises
        ------
        DataError
            If they do not fit together.
        """
        self.check_fits(other)
        return Folds(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: Folds) -> Folds:
        """Return the folds without the pairs of ``other``, as if they had never been in.

        Raises
        ------
        DataError
            If they do not fit together, or ``other`` holds pairs that are not in here.
        """
        self.check_fits(other)
        return Folds(tuple(a - b for a, b in zip(self.parts, other.parts, strict=True)))

    def check_fits(self, other: Folds) -> None:
        """Raise unless the two add up.

        Raises
        ------
        DataError
            If the folds or the kinds of statistics differ.
        """
        self.parts[0].check_fits(other.parts[0])
        if len(self.parts) != len(other.parts):
            raise DataError(
                f"statistics in {len(self.parts)} and in {len(other.parts)} folds do not add up"
            )

    def only(self, expressions: Iterable[str]) -> Folds:
        """Return the folds of the pairs of some expressions, as if there were no other.

        Raises
        ------
        DataError
            If there is no such expression.
        """
        wanted = set(expressions)
        check_expressions(wanted, self.expressions)
        found = self._each(lambda part: part.only(wanted & set(part.expressions)))
        return replace(found, memory=self.memory - (self.nbytes - found.nbytes))

    def groups(self) -> list[tuple[str, ...]]:
        """Return the expressions, those together whose sources are the same in each fold."""
        found: dict[tuple[int, ...], tuple[str, ...]] = {}
        for name in self.expressions:
            key = tuple(id(part.sources.get(name)) for part in self.parts)
            found[key] = (*found.get(key, ()), name)
        return list(found.values())

    def restricted(self, layout: Layout) -> Folds:
        """Return the folds with some of the planes, exactly.

        Raises
        ------
        DataError
            If a plane is not there.
        """
        return self._each(lambda part: part.restricted(layout))

    @property
    def head(self) -> Folds:
        """The folds themselves, for they know all of the pairs."""
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        return self.parts[0].shape

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take."""
        return sum(part.nbytes for part in self.parts)

    @property
    def adding_bytes(self) -> int:
        """Bytes that `total` takes for each row of images while it is made."""
        return max(map(_row_bytes, self.parts)) if len(self.parts) > 1 else 0

    @property
    def row_bytes(self) -> int:
        """Bytes that the planes take for each row of images."""
        return sum(map(_row_bytes, self.parts))

    def rows(self, first: int, end: int) -> Folds:
        """Return some rows of the planes, as views; see `Statistics.rows`."""
        return self._each(lambda part: part.rows(first, end))

    @property
    def making_bytes(self) -> int:
        """None: all rows are there."""
        return 0

    @property
    def _work_bytes(self) -> float:
        return max(WORK, WORK_SHARE * self.nbytes)

    def least_memory(self, cost: Cost, halo: int = 0) -> float:
        """Return 0: no memory is too little."""
        return 0.0

    def bands(self, cost: Cost, halo: int = 0) -> list[Band]:
        """Return bands for work that takes little memory beside the planes.

        Parameters
        ----------
        cost : function
            Bytes that the work takes for a band of so many rows.
        halo : int
            Rows around a band that it needs.
        """
        height = self.shape[1]
        rows = rows_within(self._work_bytes, height, cost)
        return bands(height, max(rows, LEAST_ROWS), halo)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros for a result."""
        return np.zeros(shape, dtype)

    def summary(self) -> dict[str, Any]:
        """Return what the statistics hold, ready for JSON."""
        channels, height, width = self.parts[0].shape
        return {
            "kind": "statistics",
            "source": self.source,
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.layout),
            "folds": len(self.parts),
            "pairs": self.pairs,
            "white": int(max(part.white for part in self.parts)),
            "digest": self.hexdigest,
            **({} if self.templates is None else {"templates": self.templates.digest}),
        }

    def save(
        self, path: str | Path, *, force: bool = False, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write the folds to an ``.npz`` file.

        Parameters
        ----------
        path : path
            The file.
        force : bool
            Replace an existing file.
        more : mapping of str to object, optional
            Further metadata, ready for JSON.

        Raises
        ------
        OutputExistsError
            If the file exists and ``force`` is false.
        MlrError
            If it cannot be written.
        """
        write_statistics(Path(path), self.parts, force=force, more=more)

    @classmethod
    def load(cls, path: str | Path, *, mapped: bool = False) -> Folds:
        """Read the folds that `save` wrote.

        Parameters
        ----------
        path : path
            The file.
        mapped : bool
            Leave the planes in the file, to be read when they are used.

        Raises
        ------
        ModelError
            If the file is damaged, of another version, or something else.
        """
        return cls(read_statistics(located(path), mapped=mapped))

    def _each(self, change: Callable[[Statistics], Statistics]) -> Folds:
        return replace(self, parts=tuple(change(part) for part in self.parts))


def _row_bytes(part: Statistics) -> int:
    rows = next((target.sums.shape[-2] for target in part.targets.values()), 1)
    return part.nbytes // max(rows, 1)


def stacked(pieces: Sequence[Folds]) -> Folds:
    """Return the sums of images whose rows are those of the pieces, from top to bottom."""
    if len(pieces) == 1:
        return pieces[0]
    channels, _, width = pieces[0].shape
    ends = np.cumsum([piece.shape[1] for piece in pieces]).tolist()
    shape = channels, ends[-1], width

    def whole(planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.zeros((*planes.shape[:-2], *shape[1:]), planes.dtype)

    parts = [part.changed(whole, shape) for part in pieces[0].parts]
    for begin, end, piece in zip([0, *ends], ends, pieces, strict=False):
        parts = [
            _with_rows(part, other, slice(begin, end), np.zeros)
            for part, other in zip(parts, piece.parts, strict=True)
        ]
    return Folds(tuple(parts))


def joined(sums: RowSums) -> Folds:
    """Return sums of which some rows at a time can be had with all rows."""
    _, height, width = sums.shape

    def whole(planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return sums.array((*planes.shape[:-2], height, width), planes.dtype)

    layout = sums.head.layout
    halo = int(max(np.abs(layout.receptive_field.taps[:, 0]).max(), layout.lags[:, 0].max()))
    parts: list[Statistics] = []
    for band in sums.bands(lambda rows: 0, halo):
        crop = sums.rows(band.above, band.below)
        if crop.shape == sums.shape:
            return crop
        pieces = crop.rows(band.inner.start, band.inner.stop).parts
        parts = parts or [piece.changed(whole, sums.shape) for piece in pieces]
        parts = [
            _with_rows(part, piece, band.rows, sums.array)
            for part, piece in zip(parts, pieces, strict=True)
        ]
        del crop, pieces  # before the next are made
    return Folds(tuple(parts))


def _with_rows(
    whole: Statistics,
    piece: Statistics,
    rows: slice,
    array: Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]],
) -> Statistics:
    """Fill in some rows.

    Expressions share the sums over their sources if these agree in all rows.
    """
    sources: dict[str, SourceSums] = {}
    filled: dict[tuple[int, int], SourceSums] = {}
    for name in whole.expressions:
        ours, theirs = whole.sources[name], piece.sources[name]
        key = id(ours), id(theirs)
        if key not in filled:
            if any(other is ours for other in filled.values()):
                lags, sums = (array(a.shape, a.dtype) for a in (ours.lags, ours.sums))
                lags[:], sums[:] = ours.lags, ours.sums
                ours = replace(ours, lags=lags, sums=sums)
            ours.lags[..., rows, :], ours.sums[..., rows, :] = theirs.lags, theirs.sums
            filled[key] = ours
        sources[name] = filled[key]
        target, added = whole.targets[name], piece.targets[name]
        target.cross[..., rows, :], target.sums[..., rows, :] = added.cross, added.sums
        target.squares[..., rows, :] = added.squares
        if target.styles is not None and added.styles is not None:
            target.styles.planes[..., rows, :] = added.styles.planes
    return replace(whole, sources=sources)
