"""Sufficient statistics: exact sums over the training pairs that hold all a model needs.

With x the source image, t the target and o_1 .. o_k the taps of the receptive field,

    lags[d](q)   = sum_n x_n(q) x_n(q + d)         one plane for every distinct difference d
    cross[k](p)  = sum_n x_n(p + o_k) t_n(p)
    sums         = sum_n x_n  and  sum_n t_n,      squares = sum_n t_n^2

where a pixel outside the frame counts as 0. Intensities are integers (8- or 16-bit), so the sums
are exact: the same bits for any order, batch size, number of threads or split of the data. They
add and subtract like the sets of pairs that they stand for. See `mlr.core.planes` for dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from mlr.core.layout import Layout
from mlr.core.planes import TO_16_BITS, WHITE, Planes, minus, narrowed, summed, taken
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import DataError

if TYPE_CHECKING:  # to apply a model takes no compiler
    from mlr.core.registration.templates import Templates

DIGEST_MODULUS = 1 << 256
NUMBERS = 5  # sums of light and style alone


@dataclass(frozen=True)
class SourceSums:
    """Sums over source images alone.

    Attributes
    ----------
    count : int
        Number of images.
    lags : ndarray of int32, int64 or float64, shape (channels, lags, height, width)
        Lag planes, in the order of `Layout.lags`; one channel if they are pooled.
    sums : ndarray of the same dtype, shape (channels, height, width)
        Sum of the images.
    """

    count: int
    lags: Planes
    sums: Planes


@dataclass(frozen=True)
class StyleSums:
    """Sums over framed pairs, weighted by light l, teeth g and style s: for residual and shape.

    Weights are integers, in parts of 1/256; shapes u, fields of the target less the shape of the
    subject, in parts of 1/64 of their pixels.

    Attributes
    ----------
    planes : ndarray of int64 or float64, shape (4, channels, height, width)
        sum l x, sum g x, sum l t, sum g t.
    shape : ndarray of int64, shape (2, half height, half width)
        sum s u.
    numbers : tuple of int
        sum l, sum g, sum l^2, sum l g, sum g^2.
    """

    planes: Planes
    shape: Planes
    numbers: tuple[int, ...]

    def plus(self, other: StyleSums, sign: int = 1) -> StyleSums:
        """Return the sums of both sets of pairs; with sign -1 those without the others."""
        numbers = zip(self.numbers, other.numbers, strict=True)
        return StyleSums(
            self.planes + sign * other.planes,
            self.shape + sign * other.shape,
            tuple(a + sign * b for a, b in numbers),
        )


@dataclass(frozen=True)
class TargetSums:
    """Sums over the pairs of one expression that involve the target image.

    Attributes
    ----------
    cross : ndarray of int32, int64 or float64, shape (channels, taps, height, width)
        Sum of the target times the source at each tap.
    sums, squares : ndarray of the same dtype, shape (channels, height, width)
        Sum of the targets, and of their squares.
    deep : int
        Number of pairs with more than 8 bits.
    digest : int
        Sum of the pairs' digests modulo 2^256: like the planes, it adds and subtracts.
    styles : StyleSums, optional
        Those of pairs that were moved into the frame of their expression.
    """

    cross: Planes
    sums: Planes
    squares: Planes
    deep: int = 0
    digest: int = 0
    styles: StyleSums | None = None


@dataclass(frozen=True)
class Statistics:
    """All that a model needs to know of a set of training pairs.

    Attributes
    ----------
    layout : Layout
        Which planes there are.
    white : float
        Intensity of white: 255 (integer planes, exact), 65535 (float64 planes, exact for up to two
        million pairs since every sum stays below 2^53) or 1 (float64 planes, rounded).
    shape : tuple of int
        (channels, height, width) of the images.
    sources : dict of str to SourceSums
        For each expression, sums over the sources of its pairs. Expressions that the same subjects
        show share one object, and so one Gram matrix and one factorisation.
    targets : dict of str to TargetSums
        For each expression, the sums that involve its targets.
    source : str
        Name of the source expression.
    templates : Templates, optional
        What the pairs were registered to; without them they were not.
    """

    layout: Layout
    white: float
    shape: tuple[int, int, int]
    sources: dict[str, SourceSums] = field(default_factory=dict)
    targets: dict[str, TargetSums] = field(default_factory=dict)
    source: str = "source"
    templates: Templates | None = None

    @property
    def receptive_field(self) -> ReceptiveField:
        """Taps that there are cross planes for."""
        return self.layout.receptive_field

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the target expressions, in alphabetical order."""
        return tuple(sorted(self.targets))

    @property
    def pairs(self) -> dict[str, int]:
        """Number of training pairs of each expression."""
        return {name: self.sources[name].count for name in self.expressions}

    @property
    def hexdigest(self) -> str:
        """Digest of the training pairs, 64 hexadecimal digits; the same in any order."""
        return hexdigest(target.digest for target in self.targets.values())

    def groups(self) -> list[tuple[SourceSums, list[str]]]:
        """Return each distinct `SourceSums` with the expressions that share it."""
        found: dict[int, tuple[SourceSums, list[str]]] = {}
        for name in self.expressions:
            found.setdefault(id(self.sources[name]), (self.sources[name], []))[1].append(name)
        return list(found.values())

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of pairs together.

        Raises
        ------
        DataError
            If receptive fields, image sizes, kinds of intensity or source expressions differ.
        """
        return total((self, other))

    def __sub__(self, other: Statistics) -> Statistics:
        """Return the statistics without the pairs of ``other``, as if they had never been in.

        Raises
        ------
        DataError
            If the two do not fit together, or ``other`` holds pairs that are not in here.
        """
        return _difference(self, other)

    def check_fits(self, other: Statistics) -> None:
        """Raise unless the two add up.

        Raises
        ------
        DataError
            If receptive fields, image sizes, kinds of intensity or source expressions differ.
        """
        if self.layout != other.layout:
            raise DataError(
                f"statistics of different receptive fields: {self.layout} and {other.layout}"
            )
        if self.shape != other.shape:
            raise DataError(
                f"statistics of different images: {_size(self.shape)} and {_size(other.shape)}"
            )
        if (self.white == 1.0) != (other.white == 1.0):
            raise DataError("statistics of integer and of floating-point images do not add up")
        if self.source != other.source:
            raise DataError(
                f"statistics of different source expressions: {self.source} and {other.source}"
            )
        if digest_of(self.templates) != digest_of(other.templates):
            raise DataError(
                "statistics of pairs registered to different templates do not add up; make them "
                "anew with mlr statistics --like the first of the files, or train from the folders"
            )

    def only(self, expressions: Iterable[str]) -> Statistics:
        """Return the statistics of the pairs of some expressions, as if there were no other.

        Raises
        ------
        DataError
            If there is no such expression.
        """
        wanted = set(expressions)
        check_expressions(wanted, self.expressions)
        return _in_8_bits_if_it_can_be(
            replace(
                self,
                sources={name: self.sources[name] for name in wanted},
                targets={name: self.targets[name] for name in wanted},
            )
        )

    def restricted(self, layout: Layout | ReceptiveField) -> Statistics:
        """Return the statistics of the same pairs with some of the planes, exactly.

        No plane depends on which other planes there are: they are picked out.

        Parameters
        ----------
        layout : Layout or ReceptiveField
            Of any of the taps, in any order, whose lags are among those that there are.

        Raises
        ------
        DataError
            If a plane is not there.
        """
        layout = Layout.of(layout)
        if layout == self.layout:
            return self
        ours, lags = self.receptive_field.offsets, self.layout.lags.tolist()
        theirs, wanted = layout.receptive_field.offsets, layout.lags.tolist()
        if (
            layout.pooled != self.layout.pooled
            or not set(theirs) <= set(ours)
            or not all(lag in lags for lag in wanted)
        ):
            raise DataError(
                f"statistics for the receptive field {self.layout} do not hold all that {layout} "
                "needs"
            )
        taps = [ours.index(offset) for offset in theirs]
        kept = [lags.index(lag) for lag in wanted]
        return replace(
            self,
            layout=layout,
            sources=_each(self, lambda s: replace(s, lags=taken(s.lags, kept))),
            targets={
                name: replace(target, cross=taken(target.cross, taps))
                for name, target in self.targets.items()
            },
        )

    def rows(self, first: int, end: int) -> Statistics:
        """Return the statistics of images cut off above and below, but for what crosses the cut.

        Parameters
        ----------
        first, end : int
            The rows first, ..., end - 1. Their planes are views; products with pixels of other rows
            are still in there.
        """
        channels, height, width = self.shape
        if (first, end) == (0, height):
            return self

        def cut(planes: Planes) -> Planes:
            return planes[..., first:end, :]

        return self.changed(cut, (channels, end - first, width))

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take."""
        sources = [planes for s, _ in self.groups() for planes in (s.lags, s.sums)]
        targets = [planes for t in self.targets.values() for planes in (t.cross, t.sums, t.squares)]
        styles = [t.styles.planes for t in self.targets.values() if t.styles is not None]
        return sum(planes.nbytes for planes in (*sources, *targets, *styles))

    def changed(
        self, change: Callable[[Planes], Planes], shape: tuple[int, int, int]
    ) -> Statistics:
        """Return the statistics with every plane changed, of images of another shape."""
        return replace(
            self,
            shape=shape,
            sources=_each(self, lambda s: replace(s, lags=change(s.lags), sums=change(s.sums))),
            targets={
                name: replace(
                    target,
                    cross=change(target.cross),
                    sums=change(target.sums),
                    squares=change(target.squares),
                    styles=target.styles
                    and replace(target.styles, planes=change(target.styles.planes)),
                )
                for name, target in self.targets.items()
            },
        )


def check_expressions(wanted: Iterable[str], there: Iterable[str]) -> None:
    """Raise unless all expressions wanted are there.

    Raises
    ------
    DataError
        If one is not.
    """
    for name in sorted(set(wanted) - set(there)):
        known = ", ".join(there) or "none"
        raise DataError(f"no expression {name!r}; target expressions there: {known}")


def total(parts: Sequence[Statistics]) -> Statistics:
    """Return the sum of at least one statistics, in the one form that a set of pairs has."""
    first, *rest = parts
    if not rest:
        return first
    for part in rest:
        first.check_fits(part)
    white = max(part.white for part in parts)
    parts = [_with_white(part, white) for part in parts]
    each = first.shape[0] if first.layout.pooled else 1  # samples of a pair
    sources: dict[str, SourceSums] = {}
    targets: dict[str, TargetSums] = {}
    made: dict[tuple[int, ...], SourceSums] = {}
    for name in sorted({name for part in parts for name in part.targets}):
        having = [part for part in parts if name in part.targets]
        found = [part.sources[name] for part in having]
        key = tuple(map(id, found))
        if key not in made:
            made[key] = _source_total(found, each)
        sources[name] = made[key]
        targets[name] = _target_total(
            [part.targets[name] for part in having], sources[name].count * each
        )
    return _in_8_bits_if_it_can_be(
        replace(first, white=white, sources=_shared(sources), targets=targets)
    )


def _source_total(parts: Sequence[SourceSums], each: int) -> SourceSums:
    if len(parts) == 1:
        return parts[0]
    count = sum(part.count for part in parts)
    return SourceSums(
        count,
        lags=summed([part.lags for part in parts], count * each),
        sums=summed([part.sums for part in parts], count * each),
    )


def _target_total(parts: Sequence[TargetSums], samples: int) -> TargetSums:
    if len(parts) == 1:
        return parts[0]
    styles = [part.styles for part in parts if part.styles is not None]
    return TargetSums(
        cross=summed([part.cross for part in parts], samples),
        sums=summed([part.sums for part in parts], samples),
        squares=summed([part.squares for part in parts], samples),
        deep=sum(part.deep for part in parts),
        digest=sum(part.digest for part in parts) % DIGEST_MODULUS,
        styles=reduce(StyleSums.plus, styles) if styles else None,
    )


def _difference(a: Statistics, b: Statistics) -> Statistics:
    """Return a - b, in the one form that a set of pairs has."""
    a.check_fits(b)
    white = max(a.white, b.white)
    a, b = _with_white(a, white), _with_white(b, white)
    sources: dict[str, SourceSums] = {}
    targets: dict[str, TargetSums] = {}
    made: dict[tuple[int, int], SourceSums] = {}
    each = a.shape[0] if a.layout.pooled else 1
    for name in sorted({*a.targets, *b.targets}):
        if name not in a.targets:
            raise DataError("cannot take out pairs that were never put in")
        sources[name], targets[name] = a.sources[name], a.targets[name]
        if name not in b.targets:
            continue
        key = id(a.sources[name]), id(b.sources[name])
        if key not in made:
            made[key] = _source_difference(a.sources[name], b.sources[name], each)
        sources[name] = made[key]
        samples = sources[name].count * each
        if samples:
            targets[name] = _target_difference(a.targets[name], b.targets[name], samples)
        else:
            del sources[name], targets[name]
    return _in_8_bits_if_it_can_be(replace(a, sources=_shared(sources), targets=targets))


def _size(shape: tuple[int, int, int]) -> str:
    """Return a size as subjects say it."""
    channels, height, width = shape
    return f"{width}x{height} px {'grey' if channels == 1 else 'colour'}"


def _in_8_bits_if_it_can_be(statistics: Statistics) -> Statistics:
    """Return statistics that hold no deep pair as if there had never been one."""
    deep = any(target.deep for target in statistics.targets.values())
    if statistics.white == WHITE["uint16"] and not deep:
        return _with_white(statistics, WHITE["uint8"])
    return statistics


def _with_white(statistics: Statistics, white: float) -> Statistics:
    """Return the same statistics in units of 8 or of 16 bits; exact either way."""
    if statistics.white == white:
        return statistics
    grow = white > statistics.white
    each = statistics.shape[0] if statistics.layout.pooled else 1

    def scaled(planes: Planes, power: int, count: int) -> Planes:
        factor = TO_16_BITS**power
        if grow:
            return planes.astype(np.float64) * factor
        return narrowed(planes.astype(np.int64) // factor, count * each)

    return replace(
        statistics,
        white=white,
        sources=_each(
            statistics,
            lambda source: replace(
                source,
                lags=scaled(source.lags, 2, source.count),
                sums=scaled(source.sums, 1, source.count),
            ),
        ),
        targets={
            name: replace(
                target,
                cross=scaled(target.cross, 2, statistics.sources[name].count),
                sums=scaled(target.sums, 1, statistics.sources[name].count),
                squares=scaled(target.squares, 2, statistics.sources[name].count),
                styles=target.styles
                and replace(target.styles, planes=_styles_scaled(target.styles.planes, grow)),
            )
            for name, target in statistics.targets.items()
        },
    )


def _styles_scaled(planes: Planes, grow: bool) -> Planes:
    """Return planes of styles in units of 16 bits instead of 8, or back; exact, as integers."""
    return planes * TO_16_BITS if grow else planes // TO_16_BITS


def _each(
    statistics: Statistics, change: Callable[[SourceSums], SourceSums]
) -> dict[str, SourceSums]:
    """Return the sources changed; expressions that share one still do."""
    changed: dict[str, SourceSums] = {}
    for source, names in statistics.groups():
        changed |= dict.fromkeys(names, change(source))
    return changed


def _source_difference(a: SourceSums, b: SourceSums, each: int) -> SourceSums:
    count = a.count - b.count
    sums = minus(a.sums, b.sums, count * each)
    if count < 0 or sums.min() < 0 or (count == 0 and sums.any()):
        raise DataError("cannot take out pairs that were never put in")
    return SourceSums(count, minus(a.lags, b.lags, count * each), sums)


def _target_difference(a: TargetSums, b: TargetSums, samples: int) -> TargetSums:
    return TargetSums(
        cross=minus(a.cross, b.cross, samples),
        sums=minus(a.sums, b.sums, samples),
        squares=minus(a.squares, b.squares, samples),
        deep=a.deep - b.deep,
        digest=(a.digest - b.digest) % DIGEST_MODULUS,
        styles=None if a.styles is None or b.styles is None else a.styles.plus(b.styles, -1),
    )


def digest_of(templates: Templates | None) -> str:
    """Return the digest of templates, or nothing if there are none."""
    return "" if templates is None else templates.digest


def hexdigest(digests: Iterable[int]) -> str:
    """Return the digest of several sets of pairs, 64 hexadecimal digits."""
    return f"{sum(digests) % DIGEST_MODULUS:064x}"


def _shared(sources: dict[str, SourceSums]) -> dict[str, SourceSums]:
    """Return the same sources with equal ones made one; shards may differ where sums agree."""
    distinct: list[SourceSums] = []
    result: dict[str, SourceSums] = {}
    for name, source in sources.items():
        for other in distinct:
            if other is source or (
                other.count == source.count
                and np.array_equal(other.sums, source.sums)
                and np.array_equal(other.lags, source.lags)
            ):
                result[name] = other
                break
        else:
            distinct.append(source)
            result[name] = source
    return result
