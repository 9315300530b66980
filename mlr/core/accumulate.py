"""Accumulation: from images to `Statistics`, a mini-batch at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.layout import Layout
from mlr.core.planes import DATA_RANGE, NARROW_SAMPLES
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.core.statistics import (
    DIGEST_MODULUS,
    NUMBERS,
    Group,
    SourceSums,
    Statistics,
    StyleSums,
    TargetSums,
)
from mlr.kernels.pack import BLOCK, at_line, clear_from, pack, samples_shape
from mlr.kernels.parallel import parallel_for
from mlr.kernels.products import add_products, sums_of

Pixels = npt.NDArray[Any]

BATCH = 512  # samples of a mini-batch; with 256 the products take as long
LEAST = 32  # samples: with fewer, adding up their products takes longer than computing them
BATCH_BYTES = 128 << 20  # fewer samples where images are large
PIECE = 1 << 20  # elements that a thread sets to zero at once
_NO_OFFSET = np.zeros((1, 2), dtype=np.int64)


@dataclass(frozen=True)
class PairDigests:
    """Digests of some pairs, as sums of their images' digests modulo 2^256.

    Attributes
    ----------
    source : int
        Sum over the source images.
    targets : mapping of str to int
        For each expression, the sum of `pair_digest` over the pairs.
    """

    source: int = 0
    targets: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: PairDigests) -> PairDigests:
        names = {*self.targets, *other.targets}
        return PairDigests(
            (self.source + other.source) % DIGEST_MODULUS,
            {
                name: (self.targets.get(name, 0) + other.targets.get(name, 0)) % DIGEST_MODULUS
                for name in names
            },
        )


NO_DIGESTS = PairDigests()


class Accumulator:
    """Accumulates the pairs of subjects who all show the same expressions.

    Parameters
    ----------
    layout : Layout or ReceptiveField
        Which planes to compute.
    shape : tuple of int
        (channels, height, width) of every image.
    expressions : sequence of str
        Names of the target expressions; every subject added shows them all.
    dtype : numpy dtype
        uint8, uint16, float32 or float64: that of every image.
    subjects : int, optional
        How many are expected, to cut them into mini-batches of equal size.
    batch_bytes : int, optional
        Memory for a mini-batch, which has `LEAST` samples at least.
    templates : Templates, optional
        What the pairs were registered to; there is one expression then.
    """

    def __init__(
        self,
        layout: Layout | ReceptiveField,
        shape: tuple[int, int, int],
        expressions: Sequence[str],
        dtype: npt.DTypeLike,
        subjects: int = BATCH,
        batch_bytes: int = BATCH_BYTES,
        templates: Templates | None = None,
    ) -> None:
        self.layout = layout = Layout.of(layout)
        self.shape = shape
        self.expressions = tuple(sorted(expressions))
        self.dtype = np.dtype(dtype)
        sample_dtype = np.dtype(np.uint8 if self.dtype == np.uint8 else np.float64)
        _, height, width = shape
        channels = layout.channels(shape[0])
        self._each = shape[0] // channels  # samples of a subject
        self._expected = subjects * self._each  # samples to come
        bytes_each = sample_dtype.itemsize * channels * height * width * (1 + len(expressions))
        self._most = batch_size(self._expected, bytes_each, batch_bytes)
        self._memory = at_line(math.prod(self._samples_shape(self._most)), sample_dtype)
        self._open()
        self._planes: _Planes | None = None  # what was accumulated since the last `statistics`
        self._count = 0
        self._digests = PairDigests()
        self._earlier = Statistics(layout, DATA_RANGE[self.dtype.name], shape, templates=templates)
        self._styles = None if templates is None else _Styles(shape, templates, self.dtype)

    def add(
        self,
        sources: Pixels,
        targets: Mapping[str, Pixels],
        digests: PairDigests = NO_DIGESTS,
        weights: Sequence[Weights] = (),
    ) -> None:
        """Add subjects.

        Parameters
        ----------
        sources : ndarray, shape (subjects, height, width, channels), C-contiguous
            The source images.
        targets : mapping of str to ndarray of the same shape
            The target images of each expression, in the same order.
        digests : PairDigests, optional
            Of these subjects' pairs.
        weights : sequence of Weights
            Of each framed pair.
        """
        if self._styles is not None:
            (name,) = self.expressions
            self._styles.add(sources, targets[name], weights)
        most = NARROW_SAMPLES // self._each if self.dtype == np.uint8 else len(sources)
        for first in range(0, len(sources), max(most, 1)):
            part = slice(first, first + most)
            if self._count + len(sources[part]) > most and self.dtype == np.uint8:
                self._earlier = self.statistics()
            self._add(sources[part], {name: targets[name][part] for name in self.expressions})
        self._digests += digests

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        self._flush()
        if self._planes is None:
            return self._earlier
        planes, self._planes = self._planes, None
        source = SourceSums(self._count, planes.lags, planes.source_sums, self._digests.source)
        targets = {
            name: TargetSums(
                cross=planes.cross[name],
                sums=planes.target_sums[name],
                squares=planes.squares[name][:, 0],
                wide=self._count if self.dtype == np.uint16 else 0,
                digest=self._digests.targets.get(name, 0),
                styles=None if self._styles is None else self._styles.taken(),
            )
            for name in self.expressions
        }
        added = replace(self._earlier, groups=(Group(source, targets),))
        self._count, self._digests = 0, PairDigests()
        self._earlier = self._earlier + added
        return self._earlier

    def _add(self, sources: Pixels, targets: Mapping[str, Pixels]) -> None:
        """Add subjects whose sums do not overflow."""
        count = len(sources) * self._each
        done = 0
        while done < count:
            end = min(count, done + self._room - self._filled)
            for name, buffer in self._buffers.items():
                images = sources if name is None else targets[name]
                samples = self._samples(images, done, end).astype(buffer.dtype, copy=False)
                pack(samples, buffer, self._filled)
            self._filled += end - done
            self._expected -= end - done
            done = end
            if self._filled == self._room:
                self._flush()
        self._count += len(sources)

    def _open(self) -> None:
        """Start the next mini-batch; the last one may be small."""
        left = -(-self._expected // BLOCK) * BLOCK
        self._filled, self._room = 0, min(left, self._most) if left > 0 else self._most
        shape = self._samples_shape(self._room)
        buffers = self._memory[: math.prod(shape)].reshape(shape)
        self._buffers = dict(zip((None, *self.expressions), buffers, strict=True))

    def _samples_shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of the samples of the sources and of all targets."""
        channels, height, width = self.shape
        channels //= self._each
        return 1 + len(self.expressions), *samples_shape(channels, height, width, count)

    def _samples(self, images: Pixels, first: int, end: int) -> Pixels:
        """Return samples, (samples, height, width, channels); pooled channels are samples each."""
        each = self._each
        if each == 1:
            return images[first:end]
        planes = np.moveaxis(images[first // each : -(-end // each)], -1, 1)
        samples = np.ascontiguousarray(planes).reshape(-1, *images.shape[1:3], 1)
        return samples[first % each :][: end - first]

    def _flush(self) -> None:
        """Add the products of the mini-batch to the planes."""
        if not self._filled:
            return
        for buffer in self._buffers.values():
            clear_from(buffer, self._filled)
        if self._planes is None:
            self._planes = _Planes.zeros(self.layout, self.shape, self.expressions, self.dtype)
        planes, source = self._planes, self._buffers[None]
        totals = dict(zip(self._buffers, sums_of(list(self._buffers.values())), strict=True))
        width, taps = self.shape[2], self.layout.receptive_field.taps
        planes.source_sums += totals[None][..., :width]
        jobs = [(source, source, self.layout.lags, totals[None], planes.lags)]
        for name in self.expressions:
            target, own = self._buffers[name], totals[name]
            planes.target_sums[name] += own[..., :width]
            jobs.append((target, source, taps, totals[None], planes.cross[name]))
            jobs.append((target, target, _NO_OFFSET, own, planes.squares[name]))
        add_products(jobs)
        self._open()


@dataclass
class _Planes:
    """Planes being accumulated, as in `Statistics`; squares have one lag."""

    lags: Pixels
    source_sums: Pixels
    cross: dict[str, Pixels]
    target_sums: dict[str, Pixels]
    squares: dict[str, Pixels]

    @classmethod
    def zeros(
        cls,
        layout: Layout,
        shape: tuple[int, int, int],
        expressions: Sequence[str],
        dtype: np.dtype[Any],
    ) -> _Planes:
        """Return zero-initialised planes."""
        channels, size = layout.channels(shape[0]), shape[1:]
        lags, taps, each = len(layout.lags), len(layout.receptive_field), len(expressions)
        middles = [(lags,), (), *[(taps,)] * each, *[()] * each, *[(1,)] * each]
        planes = _together(
            np.dtype(np.int32 if dtype == np.uint8 else np.float64),
            [(channels, *middle, *size) for middle in middles],
            zeros=True,
        )
        named = [dict(zip(expressions, planes[2 + k * each :], strict=False)) for k in range(3)]
        return cls(planes[0], planes[1], *named)


def pair_digest(source: bytes, target: bytes, expression: str) -> int:
    """Return the digest of a pair, below 2^256.

    Parameters
    ----------
    source, target : bytes
        Digests of the two images.
    expression : str
        Name of the target's expression.
    """
    return int.from_bytes(hashlib.sha256(source + target + expression.encode()).digest(), "big")


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a framed pair in `StyleSums`.

    Attributes
    ----------
    light, style, teeth : int
        In units of 1/256.
    shape : ndarray of int32, shape (2, half height, half width)
        In units of 1/64 pixel.
    """

    light: int
    style: int
    teeth: int
    shape: npt.NDArray[np.int32]


class _Styles:
    """Accumulates `StyleSums` of images (channels, height, width)."""

    def __init__(
        self, shape: tuple[int, int, int], templates: Templates, dtype: np.dtype[Any]
    ) -> None:
        self._planes_shape, self._fields = (4, *shape), (2, *templates.geometry.fields)
        self._dtype = np.float64 if dtype.kind == "f" else np.int64
        self._reset()

    def _reset(self) -> None:
        self._planes = np.zeros(self._planes_shape, self._dtype)
        self._shape = np.zeros(self._fields, np.int64)
        self._numbers = [0] * NUMBERS

    def add(self, sources: Pixels, targets: Pixels, weights: Sequence[Weights]) -> None:
        """Add framed pairs, (pairs, height, width, channels)."""
        for source, target, weight in zip(sources, targets, weights, strict=True):
            light, teeth = weight.light, weight.teeth
            for first, image in ((0, source), (2, target)):
                planes = image.transpose(2, 0, 1).astype(self._dtype, order="C")
                self._planes[first] += light * planes
                planes *= teeth
                self._planes[first + 1] += planes
            self._shape += weight.style * weight.shape.astype(np.int64)
            added = light, teeth, light**2, light * teeth, teeth**2
            self._numbers = [a + b for a, b in zip(self._numbers, added, strict=True)]

    def taken(self) -> StyleSums:
        """Return the sums and reset them."""
        found = StyleSums(self._planes, self._shape, tuple(self._numbers))
        self._reset()
        return found


def statistics_of_arrays(
    sources: Pixels,
    targets: Mapping[str, Pixels],
    layout: Layout | ReceptiveField,
    templates: Templates | None = None,
    weights: Sequence[Weights] = (),
) -> Statistics:
    """Return the statistics of images in memory.

    Parameters
    ----------
    sources : ndarray of uint8, uint16, float32 or float64, shape (pairs, height, width, channels)
        Source images; floating-point intensities in [0, 1].
    targets : mapping of str to ndarray of the same shape and dtype
        Target images of each expression, in the same order.
    layout : Layout or ReceptiveField
        Which planes to compute.
    templates, weights : optional
        Of framed pairs of one expression.
    """
    count, height, width, channels = sources.shape
    accumulator = Accumulator(
        layout,
        (channels, height, width),
        list(targets),
        sources.dtype,
        subjects=count,
        templates=templates,
    )
    accumulator.add(sources, targets, weights=weights)
    return accumulator.statistics()


def _together(
    dtype: np.dtype[Any], shapes: Sequence[tuple[int, ...]], zeros: bool = False
) -> list[Pixels]:
    """Return arrays of several shapes in one piece of memory, with anything in them or with zeros.

    From 4 MiB on NumPy asks for huge pages: with an allocation for each array, half the time for
    200 grey pairs of 128 px went into page faults.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    memory = np.empty(ends[-1], dtype)
    if zeros:  # in all threads: to touch memory for the first time takes longer than to sum up
        parallel_for(
            lambda begin, end: memory[begin * PIECE : end * PIECE].fill(0),
            -(-memory.size // PIECE),
        )
    parts = np.split(memory, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def batch_size(expected: int, bytes_each: int, batch_bytes: int = BATCH_BYTES) -> int:
    """Return the number of samples of a mini-batch that leaves none nearly empty.

    Parameters
    ----------
    expected : int
        Samples in all.
    bytes_each : int
        Bytes of one.
    batch_bytes : int
        As for `Accumulator`.
    """
    expected = max(expected, 1)
    most = min(BATCH, batch_bytes // bytes_each)
    batches = -(-expected // max(most // BLOCK * BLOCK, LEAST))
    return -(-expected // (batches * BLOCK)) * BLOCK
