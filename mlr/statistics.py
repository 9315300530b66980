"""Sufficient statistics: exact sums over the training pairs that hold all a model needs.

With x the source image, t the target and o_1 .. o_k the taps of the receptive field,

    lags[d](q)   = sum_n x_n(q) x_n(q + d)         one plane for every distinct difference d
    cross[k](p)  = sum_n x_n(p + o_k) t_n(p)
    sums         = sum_n x_n  and  sum_n t_n,      squares = sum_n t_n^2

where a pixel outside the frame counts as 0. Intensities are integers (8- or 16-bit), so the sums
are exact: the same bits for any order, batch size, number of threads or split of the data. They
add and subtract like the sets of pairs that they stand for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.files import is_folder_name, replacing
from mlr.data.npz import read_npz, write_npz
from mlr.errors import DataError, MlrError, ModelError
from mlr.receptive_field import ReceptiveField

Planes = npt.NDArray[Any]  # int64 or float64
Pixels = npt.NDArray[Any]

FORMAT = 1
#: Intensity of white for every dtype that images may have.
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
TO_16_BITS = 257  # 65535 / 255: an 8-bit intensity times this is the same in 16 bits
DIGEST_MODULUS = 1 << 256


@dataclass(frozen=True)
class SourceSums:
    """Sums over source images alone.

    Attributes
    ----------
    count : int
        Number of images.
    lags : ndarray of int64 or float64, shape (channels, lags, height, width)
        Lag planes, in the order of `LagTable.lags`.
    sums : ndarray of the same dtype, shape (channels, height, width)
        Sum of the images.
    """

    count: int
    lags: Planes
    sums: Planes


@dataclass(frozen=True)
class TargetSums:
    """Sums over the pairs of one expression that involve the target image.

    Attributes
    ----------
    cross : ndarray of int64 or float64, shape (channels, taps, height, width)
        Sum of the target times the source at each tap.
    sums, squares : ndarray of the same dtype, shape (channels, height, width)
        Sum of the targets, and of their squares.
    deep : int
        Number of pairs with more than 8 bits.
    digest : int
        Sum of the pairs' digests modulo 2^256: like the planes, it adds and subtracts.
    """

    cross: Planes
    sums: Planes
    squares: Planes
    deep: int = 0
    digest: int = 0


@dataclass(frozen=True)
class Statistics:
    """All that a model needs to know of a set of training pairs.

    Attributes
    ----------
    receptive_field : ReceptiveField
        Taps that the planes were made for.
    white : float
        Intensity of white: 255 (int64 planes, exact), 65535 (float64 planes, exact for up to two
        million pairs since every sum stays below 2^53) or 1 (float64 planes, rounded).
    shape : tuple of int
        (channels, height, width) of the images.
    sources : dict of str to SourceSums
        For each expression, sums over the sources of its pairs. Expressions that the same people
        show share one object, and so one Gram matrix and one factorisation.
    targets : dict of str to TargetSums
        For each expression, the sums that involve its targets.
    source : str
        Name of the source expression.
    """

    receptive_field: ReceptiveField
    white: float
    shape: tuple[int, int, int]
    sources: dict[str, SourceSums] = field(default_factory=dict)
    targets: dict[str, TargetSums] = field(default_factory=dict)
    source: str = "source"

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
        return _hexdigest(sum(target.digest for target in self.targets.values()))

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
        return _combined(self, other, +1)

    def __sub__(self, other: Statistics) -> Statistics:
        """Return the statistics without the pairs of ``other``, as if they had never been in.

        Raises
        ------
        DataError
            If the two do not fit together, or ``other`` holds pairs that are not in here.
        """
        return _combined(self, other, -1)

    def check_fits(self, other: Statistics) -> None:
        """Raise unless the two add up.

        Raises
        ------
        DataError
            If receptive fields, image sizes, kinds of intensity or source expressions differ.
        """
        if self.receptive_field != other.receptive_field:
            raise DataError(
                "statistics of different receptive fields: "
                f"{self.receptive_field} and {other.receptive_field}"
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

    def only(self, expressions: Iterable[str]) -> Statistics:
        """Return the statistics of the pairs of some expressions, as if there were no other.

        Raises
        ------
        DataError
            If there is no such expression.
        """
        wanted = set(expressions)
        for name in sorted(wanted - set(self.targets)):
            there = ", ".join(self.expressions) or "none"
            raise DataError(f"no expression {name!r}; target expressions there: {there}")
        return _in_8_bits_if_it_can_be(
            replace(
                self,
                sources={name: self.sources[name] for name in wanted},
                targets={name: self.targets[name] for name in wanted},
            )
        )

    def restricted(self, receptive_field: ReceptiveField) -> Statistics:
        """Return the statistics of the same pairs for some of the taps, exactly.

        No plane depends on which other planes there are, and the differences of some taps are
        among those of all taps: the planes are picked out.

        Parameters
        ----------
        receptive_field : ReceptiveField
            Any of the taps, in any order.

        Raises
        ------
        DataError
            If a tap is not one of those that the planes were made for.
        """
        ours, table = self.receptive_field.offsets, self.receptive_field.lag_table
        if receptive_field.offsets == ours:
            return self
        if not set(receptive_field.offsets) <= set(ours):
            raise DataError(
                f"statistics for the receptive field {self.receptive_field} do not hold all taps "
                f"of {receptive_field}"
            )
        taps = [ours.index(offset) for offset in receptive_field.offsets]
        lags = [table.lags.tolist().index(lag) for lag in receptive_field.lag_table.lags.tolist()]
        return replace(
            self,
            receptive_field=receptive_field,
            sources=_each(self, lambda s: replace(s, lags=s.lags.take(lags, 1))),
            targets={
                name: replace(target, cross=target.cross.take(taps, 1))
                for name, target in self.targets.items()
            },
        )

    def summary(self) -> dict[str, Any]:
        """Return what the statistics hold, ready for JSON."""
        channels, height, width = self.shape
        return {
            "kind": "statistics",
            "source": self.source,
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.receptive_field),
            "pairs": self.pairs,
            "white": int(self.white),
            "digest": self.hexdigest,
        }

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the statistics to an ``.npz`` file.

        Raises
        ------
        OutputExistsError
            If the file exists and ``force`` is false.
        MlrError
            If it cannot be written.
        """
        groups = self.groups()
        arrays: dict[str, Pixels] = {}
        for index, (source, _) in enumerate(groups):
            arrays[f"source{index}_lags"] = source.lags
            arrays[f"source{index}_sums"] = source.sums
        for index, name in enumerate(self.expressions):
            arrays[f"target{index}_cross"] = self.targets[name].cross
            arrays[f"target{index}_sums"] = self.targets[name].sums
            arrays[f"target{index}_squares"] = self.targets[name].squares
        meta = {
            "kind": "statistics",
            "format": FORMAT,
            "white": self.white,
            "shape": self.shape,
            "offsets": self.receptive_field.offsets,
            "expressions": self.expressions,
            "source": self.source,
            "groups": [{"count": source.count, "expressions": names} for source, names in groups],
            "deep": [self.targets[name].deep for name in self.expressions],
            "digests": [_hexdigest(self.targets[name].digest) for name in self.expressions],
        }
        arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
        with replacing(Path(path), force=force, durable=True) as file:
            write_npz(file, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read the statistics that `save` wrote.

        Raises
        ------
        ModelError
            If the file is damaged, newer than this program, or something else.
        """
        arrays, meta = read_npz(Path(path), kind="statistics", newest=FORMAT)
        try:
            return cls._from_arrays(arrays, meta)
        except (LookupError, TypeError, ValueError, MlrError) as error:
            raise ModelError(f"{path}: not a statistics file, or a damaged one: {error}") from error

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, Pixels], meta: Mapping[str, Any]) -> Statistics:
        taps = ReceptiveField.of([tuple(offset) for offset in meta["offsets"]])
        white = float(meta["white"])
        channels, height, width = (int(n) for n in meta["shape"])
        if white not in WHITE.values() or channels not in (1, 3):
            raise DataError(f"it is for {channels} channels whose white is {white:g}")
        expressions = [str(name) for name in meta["expressions"]]
        for name in expressions:
            if not is_folder_name(name):  # which is what it becomes
                raise DataError(f"expression {name!r} cannot be the name of a folder")
        dtype = np.dtype(np.int64 if white == WHITE["uint8"] else np.float64)

        def planes(name: str, *middle: int) -> Planes:
            array = arrays[name]
            expected = (channels, *middle, height, width)
            if array.shape != expected or array.dtype != dtype:
                raise DataError(
                    f"{name} is {array.dtype} {array.shape}, expected {dtype} {expected}"
                )
            return array

        sources: dict[str, SourceSums] = {}
        for index, group in enumerate(meta["groups"]):
            lags = planes(f"source{index}_lags", len(taps.lag_table.lags))
            source = SourceSums(int(group["count"]), lags, planes(f"source{index}_sums"))
            if source.count < 1:
                raise DataError(f"it says to hold {source.count} pairs")
            sources.update(dict.fromkeys(group["expressions"], source))
        targets = {
            name: TargetSums(
                planes(f"target{index}_cross", len(taps)),
                planes(f"target{index}_sums"),
                planes(f"target{index}_squares"),
                int(meta["deep"][index]),
                int(meta["digests"][index], 16),
            )
            for index, name in enumerate(expressions)
        }
        if set(sources) != set(targets):
            raise DataError("its groups and its expressions disagree")
        return cls(
            receptive_field=taps,
            white=white,
            shape=(channels, height, width),
            sources=sources,
            targets=targets,
            source=str(meta["source"]),
        )


def total(parts: Iterable[Statistics]) -> Statistics:
    """Return the sum of at least one statistics."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def _combined(a: Statistics, b: Statistics, sign: int) -> Statistics:
    """Return a + sign * b, in the one form that a set of pairs has."""
    a.check_fits(b)
    white = max(a.white, b.white)
    a, b = _with_white(a, white), _with_white(b, white)
    sources: dict[str, SourceSums] = {}
    targets: dict[str, TargetSums] = {}
    made: dict[tuple[int, int], SourceSums] = {}
    for name in sorted({*a.targets, *b.targets}):
        ours, theirs = a.sources.get(name), b.sources.get(name)
        key = (id(ours), id(theirs))
        if key not in made:
            made[key] = _source_sum(ours, theirs, sign)
        if made[key].count == 0:
            continue
        sources[name] = made[key]
        targets[name] = _target_sum(a.targets.get(name), b.targets.get(name), sign)
    return _in_8_bits_if_it_can_be(replace(a, sources=_shared(sources), targets=targets))


def _size(shape: tuple[int, int, int]) -> str:
    """Return a size as people say it."""
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

    def scaled(planes: Planes, power: int) -> Planes:
        factor = TO_16_BITS**power
        if grow:
            return planes.astype(np.float64) * factor
        return planes.astype(np.int64) // factor

    return replace(
        statistics,
        white=white,
        sources=_each(
            statistics,
            lambda source: replace(
                source, lags=scaled(source.lags, 2), sums=scaled(source.sums, 1)
            ),
        ),
        targets={
            name: replace(
                target,
                cross=scaled(target.cross, 2),
                sums=scaled(target.sums, 1),
                squares=scaled(target.squares, 2),
            )
            for name, target in statistics.targets.items()
        },
    )


def _each(
    statistics: Statistics, change: Callable[[SourceSums], SourceSums]
) -> dict[str, SourceSums]:
    """Return the sources changed; expressions that share one still do."""
    changed: dict[str, SourceSums] = {}
    for source, names in statistics.groups():
        changed |= dict.fromkeys(names, change(source))
    return changed


def _source_sum(a: SourceSums | None, b: SourceSums | None, sign: int) -> SourceSums:
    if b is None:
        assert a is not None
        return a
    if a is None:
        if sign > 0:
            return b
        a = SourceSums(0, np.zeros_like(b.lags), np.zeros_like(b.sums))
    count = a.count + sign * b.count
    sums = a.sums + sign * b.sums
    if count < 0 or (sign < 0 and sums.min() < 0) or (count == 0 and sums.any()):
        raise DataError("cannot take out pairs that were never put in")
    return SourceSums(count, a.lags + sign * b.lags, sums)


def _target_sum(a: TargetSums | None, b: TargetSums | None, sign: int) -> TargetSums:
    if b is None:
        assert a is not None
        return a
    if a is None:
        return b
    return TargetSums(
        cross=a.cross + sign * b.cross,
        sums=a.sums + sign * b.sums,
        squares=a.squares + sign * b.squares,
        deep=a.deep + sign * b.deep,
        digest=(a.digest + sign * b.digest) % DIGEST_MODULUS,
    )


def _hexdigest(digest: int) -> str:
    return f"{digest % DIGEST_MODULUS:064x}"


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
