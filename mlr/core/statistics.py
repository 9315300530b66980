"""Sufficient statistics: exact sums over training pairs, from which models are computed.

With x the source image, t the target and o_1 .. o_k the taps of the receptive field,

    lags[d](q)   = sum_n x_n(q) x_n(q + d)         one plane for every distinct difference d
    cross[k](p)  = sum_n x_n(p + o_k) t_n(p)
    sums         = sum_n x_n  and  sum_n t_n,      squares = sum_n t_n^2

where a pixel outside the image counts as 0. Intensities are integers (8- or 16-bit), so the sums
are exact: the same bits for any order, batch size, number of threads or split of the data. Adding
and subtracting statistics adds and removes pairs. See `mlr.core.planes` for dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlr.core.planes import DATA_RANGE, TO_16_BITS, Layout, Planes, combined, integer_dtype, taken
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.errors import DataError, did_you_mean

DIGEST_MODULUS = 1 << 256
NUMBERS = 5  # length of `StyleSums.numbers`
_NEVER_ADDED = "cannot remove pairs that were never added"


@dataclass(frozen=True)
class SourceSums:
    """Sums over source images; digest 0 means unknown."""

    count: int  #: images
    lags: Planes  #: (channels, lags, height, width), in the order of `Layout.lags`
    sums: Planes  #: (channels, height, width)
    digest: int = 0  #: sum of the images' digests modulo 2^256


@dataclass(frozen=True)
class StyleSums:
    """Sums over framed pairs, weighted by light l, teeth g and style s, for residual and shape.

    Weights are integers, in units of 1/256; shapes u, fields of the target minus the shape of the
    subject, in units of 1/64 pixel.
    """

    planes: Planes  #: sum l x, g x, l t, g t: int64 or float64, (4, channels, height, width)
    shape: Planes  #: sum s u: int64, (2, half height, half width)
    numbers: tuple[int, ...]  #: sum l, g, l^2, l g, g^2


@dataclass(frozen=True)
class TargetSums:
    """Sums over the pairs of one expression that involve the target image."""

    cross: Planes  #: (channels, taps, height, width)
    sums: Planes  #: (channels, height, width)
    squares: Planes  #: (channels, height, width)
    wide: int = 0  #: pairs with more than 8 bits
    digest: int = 0  #: sum of the pairs' digests modulo 2^256
    styles: StyleSums | None = None  #: of framed pairs


@dataclass(frozen=True)
class Group:
    """Expressions with exactly the same source images, and therefore one Gram matrix."""

    source: SourceSums
    targets: dict[str, TargetSums]  #: for each expression


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of training pairs."""

    layout: Layout  #: which planes they hold
    #: 255 (integer planes, exact), 65535 (float64 planes, exact for up to two million pairs since
    #: every sum stays below 2^53) or 1 (float64 planes, rounded)
    data_range: float
    shape: tuple[int, int, int]  #: (channels, height, width) of the images
    groups: tuple[Group, ...] = ()  #: in the order of their first expressions
    source: str = "source"  #: name of the source expression
    templates: Templates | None = None  #: of framed pairs

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name} {count}" for name, count in self.pairs.items())
        return f"Statistics(pairs {pairs}, images {self.shape})"

    @property
    def receptive_field(self) -> ReceptiveField:
        """The taps of the cross planes."""
        return self.layout.receptive_field

    @property
    def samples_per_pair(self) -> int:
        """Samples that a pair adds to a plane: its channels if they are pooled, otherwise 1."""
        return self.shape[0] if self.layout.pooled else 1

    @property
    def group_of(self) -> dict[str, Group]:
        """The group of each expression, in alphabetical order."""
        found = {name: group for group in self.groups for name in group.targets}
        return dict(sorted(found.items()))

    @property
    def sources(self) -> dict[str, SourceSums]:
        """The sums over the sources of each expression, in alphabetical order."""
        return {name: group.source for name, group in self.group_of.items()}

    @property
    def targets(self) -> dict[str, TargetSums]:
        """The sums over the targets of each expression, in alphabetical order."""
        return {name: group.targets[name] for name, group in self.group_of.items()}

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the target expressions, in alphabetical order."""
        return tuple(self.group_of)

    @property
    def pairs(self) -> dict[str, int]:
        """Number of training pairs of each expression."""
        return {name: source.count for name, source in self.sources.items()}

    @property
    def hexdigest(self) -> str:
        """Digest of the training pairs, 64 hexadecimal digits; the same in any order."""
        return hexdigest(target.digest for target in self.targets.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return sum(planes.nbytes for planes in self.planes())

    @property
    def head(self) -> Statistics:
        """The statistics themselves; see `mlr.core.bands.RowSource`."""
        return self

    def loading_bytes(self, rows: int) -> float:
        """Return 0: rows are views."""
        return 0.0

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of the pairs of both; see `total`."""
        return total((self, other))

    def __sub__(self, other: Statistics) -> Statistics:
        """Return the statistics without the pairs of ``other``, as if they had never been added.

        Raises a `DataError` if they do not fit together, or other pairs were added.
        """
        return _combined((self, other), -1)

    def check_fits(self, other: Statistics) -> None:
        """Raise a `DataError` unless both can be added.

        Receptive fields, image sizes, integer or floating-point intensities, source expressions
        and templates must be the same.
        """
        for what, ours, theirs in (
            ("receptive fields", self.layout, other.layout),
            ("images", _size(self.shape), _size(other.shape)),
            ("source expressions", self.source, other.source),
        ):
            if ours != theirs:
                raise DataError(f"statistics of different {what}: {ours} and {theirs}")
        if (self.data_range == 1.0) != (other.data_range == 1.0):
            raise DataError("statistics of integer and floating-point images cannot be added")
        if digest_of(self.templates) != digest_of(other.templates):
            raise DataError(
                "statistics of pairs registered to different templates cannot be added; compute "
                "them again with mlr statistics --like FIRST_FILE, or train from the folders"
            )

    def only(self, expressions: Iterable[str]) -> Statistics:
        """Return the statistics of some expressions; a `DataError` is raised if one is missing."""
        wanted = set(expressions)
        check_expressions(wanted, self.expressions)
        groups = []
        for g in self.groups:
            targets = {name: sums for name, sums in g.targets.items() if name in wanted}
            groups += [replace(g, targets=targets)] if targets else []
        return _as_8_bits(replace(self, groups=tuple(sorted(groups, key=_first_name))))

    def restricted(self, layout: Layout | ReceptiveField) -> Statistics:
        """Return the statistics of the same pairs for some of the taps, exactly.

        Raises a `DataError` if a plane is missing.
        """
        layout = Layout.of(layout)
        if layout == self.layout:
            return self
        ours, lags = self.receptive_field.offsets, self.layout.lags.tolist()
        theirs, wanted = layout.receptive_field.offsets, layout.lags.tolist()
        planes_are_here = set(theirs) <= set(ours) and all(lag in lags for lag in wanted)
        if layout.pooled != self.layout.pooled or not planes_are_here:
            raise DataError(
                f"statistics for the receptive field {self.layout} lack planes that {layout} needs"
            )
        taps = [ours.index(offset) for offset in theirs]
        kept = [lags.index(lag) for lag in wanted]
        groups = tuple(
            Group(
                replace(g.source, lags=taken(g.source.lags, kept)),
                {n: replace(t, cross=taken(t.cross, taps)) for n, t in g.targets.items()},
            )
            for g in self.groups
        )
        return replace(self, layout=layout, groups=groups)

    def rows(self, first: int, end: int) -> Statistics:
        """Return views of the rows first, ..., end - 1 of all planes, with all products."""
        channels, height, width = self.shape
        if (first, end) == (0, height):
            return self
        found = self.map_planes(lambda planes, *_: planes[..., first:end, :])
        return replace(found, shape=(channels, end - first, width))

    def map_planes(self, change: Callable[[Planes, int, int], Planes]) -> Statistics:
        """Return the statistics with every plane changed.

        The function is given planes (..., height, width), their degree in the intensities (1 or 2)
        and their number of samples, which is 0 for planes of `StyleSums`.
        """
        groups = []
        for g in self.groups:
            source, samples = g.source, g.source.count * self.samples_per_pair
            lags, sums = change(source.lags, 2, samples), change(source.sums, 1, samples)
            targets = {}
            for name, t in g.targets.items():
                targets[name] = replace(
                    t,
                    cross=change(t.cross, 2, samples),
                    sums=change(t.sums, 1, samples),
                    squares=change(t.squares, 2, samples),
                    styles=t.styles and replace(t.styles, planes=change(t.styles.planes, 1, 0)),
                )
            groups.append(Group(replace(source, lags=lags, sums=sums), targets))
        return replace(self, groups=tuple(groups))

    def planes(self) -> list[Planes]:
        """Return all planes, in the same order for statistics with the same groups."""
        found: list[Planes] = []
        for g in self.groups:
            found += [g.source.lags, g.source.sums]
            for t in g.targets.values():
                found += [t.cross, t.sums, t.squares]
                found += [] if t.styles is None else [t.styles.planes]
        return found

    def summary(self) -> dict[str, Any]:
        """Return a description of the statistics, ready for JSON."""
        channels, height, width = self.shape
        return {
            "kind": "statistics",
            "source": self.source,
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.layout),
            "pairs": self.pairs,
            "data_range": int(self.data_range),
            "digest": self.hexdigest,
            **({} if self.templates is None else {"templates": self.templates.digest}),
        }


def check_expressions(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise a `DataError` unless all expressions wanted are known."""
    for name in sorted(set(wanted) - set(known)):
        names = ", ".join(known) or "none"
        hint = did_you_mean(name, known)
        raise DataError(f"no expression {name!r}; target expressions there: {names}{hint}")


def total(parts: Sequence[Statistics]) -> Statistics:
    """Return the sum of one or more statistics; it depends on the set of pairs alone.

    Raises a `DataError` if they do not fit together, see `Statistics.check_fits`.
    """
    return parts[0] if len(parts) == 1 else _combined(parts, 1)


def _combined(parts: Sequence[Statistics], sign: int) -> Statistics:
    """Return the first of the statistics plus, or minus, the others."""
    first = parts[0]
    for part in parts[1:]:
        first.check_fits(part)
    data_range = max(part.data_range for part in parts)
    groups = []
    for joint, names in _joint_groups([_scaled(part, data_range) for part in parts]):
        if sign < 0 and joint[0] is None:
            raise DataError(_NEVER_ADDED)
        present = [group for group in joint if group is not None]
        group = _combined_group(present, names, first.samples_per_pair, sign)
        groups += [] if group is None else [group]
    return _as_8_bits(replace(first, data_range=data_range, groups=_merged(groups)))


def _joint_groups(
    parts: Sequence[Statistics],
) -> list[tuple[tuple[Group | None, ...], list[str]]]:
    """Return tuples of a group, or None, of each part, with the expressions in all of them."""
    by_name = [part.group_of for part in parts]
    found: dict[tuple[int, ...], tuple[tuple[Group | None, ...], list[str]]] = {}
    for name in sorted(set().union(*by_name)):
        groups = tuple(each.get(name) for each in by_name)
        found.setdefault(tuple(map(id, groups)), (groups, []))[1].append(name)
    return list(found.values())


def _combined_group(
    groups: Sequence[Group], names: Sequence[str], samples_per_pair: int, sign: int
) -> Group | None:
    """Return some expressions of the first group plus, or minus, the others; None if empty."""
    if len(groups) == 1:
        return Group(groups[0].source, {name: groups[0].targets[name] for name in names})
    sources = [group.source for group in groups]
    count, digest = (_net([getattr(s, key) for s in sources], sign) for key in ("count", "digest"))
    samples = count * samples_per_pair

    def planes(parts: Sequence[SourceSums] | Sequence[TargetSums], name: str) -> Planes:
        return combined([getattr(part, name) for part in parts], samples, sign)

    sums = planes(sources, "sums")
    if sign < 0 and (count < 0 or sums.min() < 0 or (count == 0 and sums.any())):
        raise DataError(_NEVER_ADDED)
    if count == 0:
        return None
    known = all(source.digest for source in sources)
    source = SourceSums(
        count, planes(sources, "lags"), sums, digest % DIGEST_MODULUS if known else 0
    )
    targets = {}
    for name in names:
        parts = [group.targets[name] for group in groups]
        targets[name] = TargetSums(
            cross=planes(parts, "cross"),
            sums=planes(parts, "sums"),
            squares=planes(parts, "squares"),
            wide=_net([part.wide for part in parts], sign),
            digest=_net([part.digest for part in parts], sign) % DIGEST_MODULUS,
            styles=_net_styles([part.styles for part in parts], sign),
        )
    return Group(source, targets)


def _net(parts: Sequence[Any], sign: int) -> Any:
    """Return the first number or array plus, or minus, the others."""
    return parts[0] + sign * sum(parts[1:])


def _net_styles(parts: Sequence[StyleSums | None], sign: int) -> StyleSums | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return StyleSums(
        _net([part.planes for part in known], sign),
        _net([part.shape for part in known], sign),
        tuple(_net(each, sign) for each in zip(*(part.numbers for part in known), strict=True)),
    )


def _merged(groups: Iterable[Group]) -> tuple[Group, ...]:
    """Merge groups with the same source images, which shards may have split."""
    found: dict[object, Group] = {}
    for number, group in enumerate(groups):
        source = group.source
        key = (source.count, source.digest) if source.digest else number
        same = found.setdefault(key, group)
        found[key] = Group(same.source, same.targets | group.targets)
    return tuple(sorted(found.values(), key=_first_name))


def _first_name(group: Group) -> str:
    return min(group.targets)


def _size(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{width}x{height} px {'grey' if channels == 1 else 'colour'}"


def _as_8_bits(statistics: Statistics) -> Statistics:
    """Scale statistics for 16 bits to 8 bits if no pair has more than 8 bits."""
    wide = any(target.wide for target in statistics.targets.values())
    if statistics.data_range == DATA_RANGE["uint16"] and not wide:
        return _scaled(statistics, DATA_RANGE["uint8"])
    return statistics


def _scaled(statistics: Statistics, data_range: float) -> Statistics:
    """Return the statistics for intensities of 8 or 16 bits; both are exact."""
    if statistics.data_range == data_range:
        return statistics
    grow = data_range > statistics.data_range

    def scaled(planes: Planes, degree: int, samples: int) -> Planes:
        factor = TO_16_BITS**degree
        if samples == 0:  # of `StyleSums`: always 64-bit integers
            return planes * factor if grow else planes // factor
        if grow:
            return planes.astype(np.float64) * factor
        return (planes.astype(np.int64) // factor).astype(integer_dtype(samples), copy=False)

    return replace(statistics.map_planes(scaled), data_range=data_range)


def digest_of(templates: Templates | None) -> str:
    """Return the digest of templates, or an empty string."""
    return "" if templates is None else templates.digest


def hexdigest(digests: Iterable[int]) -> str:
    """Return the digest of several sets of pairs, 64 hexadecimal digits."""
    return f"{sum(digests) % DIGEST_MODULUS:064x}"
