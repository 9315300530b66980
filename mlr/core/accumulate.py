"""Accumulation: from images to `Statistics`, a mini-batch at a time."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core.planes import DATA_RANGE, NARROW_SAMPLES, Layout, Planes
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

BATCH = 512  # samples of a mini-batch; 256 are as fast
LEAST = 32  # samples; with fewer, adding products to planes takes longer than computing them
BATCH_BYTES = 128 << 20  # fewer samples where images are large
PIECE = 1 << 20  # elements that a thread sets to zero at once
_NO_OFFSET = np.zeros((1, 2), dtype=np.int64)


@dataclass(frozen=True)
class PairSums:
    """Sums over some pairs that are not computed from pixels; digests are modulo 2^256."""

    source: int = 0  #: digests of the source images
    targets: Mapping[str, int] = field(default_factory=dict)  #: `pair_digest`, by expression
    shape: Planes | int = 0  #: s u of framed pairs, see `StyleSums`

    def __add__(self, other: PairSums) -> PairSums:
        ours, theirs = self.targets, other.targets
        targets = {name: ours.get(name, 0) + theirs.get(name, 0) for name in {*ours, *theirs}}
        return PairSums(self.source + other.source, targets, self.shape + other.shape)


NO_SUMS = PairSums()


class Weights(NamedTuple):
    """Weights of a framed pair in `StyleSums`, in units of 1/256."""

    light: int
    teeth: int


class Accumulator:
    """Accumulates the pairs of subjects that all have the same expressions.

    Parameters
    ----------
    layout : Layout or ReceptiveField
        Which planes to compute.
    shape : tuple of int
        (channels, height, width) of every image.
    expressions : sequence of str
        Names of the target expressions; every subject has them all.
    dtype : numpy dtype
        Of every image: uint8, uint16, float32 or float64.
    subjects : int, optional
        Expected number, for mini-batches of equal size.
    batch_bytes : int, optional
        Memory for a mini-batch, which has `LEAST` samples at least.
    templates : Templates, optional
        Of framed pairs, which have one expression.
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
        channels, (_, height, width) = layout.channels(shape[0]), shape
        self._each = shape[0] // channels  # samples of a subject
        self._expected = subjects * self._each  # samples to come
        bytes_each = sample_dtype.itemsize * channels * height * width * (1 + len(expressions))
        self._most = batch_size(self._expected, bytes_each, batch_bytes)
        self._memory = at_line(math.prod(self._samples_shape(self._most)), sample_dtype)
        self._open()
        self._group: Group | None = None  # of the pairs that are not in `_earlier` yet
        self._count = 0
        self._earlier = Statistics(layout, DATA_RANGE[self.dtype.name], shape, templates=templates)
        self._styles: StyleSums | None = None
        if templates is not None:
            self._styles = StyleSums(
                np.zeros((4, *shape), np.float64 if self.dtype.kind == "f" else np.int64),
                np.zeros((2, *templates.geometry.fields), np.int64),
                (0,) * NUMBERS,
            )

    def add(
        self, sources: Pixels, targets: Mapping[str, Pixels], weights: Sequence[Weights] = ()
    ) -> None:
        """Add subjects, and the weights of each framed pair.

        Sources are a C-contiguous array (subjects, height, width, channels); the targets of each
        expression have the same shape and order.
        """
        if self._styles is not None:
            (name,) = self.expressions
            self._styles = _with_pairs(self._styles, sources, targets[name], weights)
        most = NARROW_SAMPLES // self._each if self.dtype == np.uint8 else sys.maxsize
        for first in range(0, len(sources), most):
            part = slice(first, first + most)
            if self._count + len(sources[part]) > most:
                self._close()
            self._add(sources[part], {name: targets[name][part] for name in self.expressions})

    def statistics(self, sums: PairSums = NO_SUMS) -> Statistics:
        """Return the statistics of all pairs added, given the sums over them."""
        self._close()
        styles = self._styles
        if styles is not None:
            styles = replace(styles, shape=styles.shape + sums.shape)
        groups = []
        for group in self._earlier.groups:
            source = replace(group.source, digest=sums.source % DIGEST_MODULUS)
            targets = {
                name: replace(t, digest=sums.targets.get(name, 0) % DIGEST_MODULUS, styles=styles)
                for name, t in group.targets.items()
            }
            groups.append(Group(source, targets))
        return replace(self._earlier, groups=tuple(groups))

    def _close(self) -> None:
        """Add the group to the earlier statistics, as its planes cannot hold more pairs."""
        self._flush()
        if self._group is not None:
            wide = self._count if self.dtype == np.uint16 else 0
            targets = {name: replace(t, wide=wide) for name, t in self._group.targets.items()}
            group = Group(replace(self._group.source, count=self._count), targets)
            self._earlier += replace(self._earlier, groups=(group,))
        self._group, self._count = None, 0

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
        if self._group is None:
            self._group = self._zeros()
        sums, source = self._group.source, self._buffers[None]
        totals = dict(zip(self._buffers, sums_of(list(self._buffers.values())), strict=True))
        width, taps = self.shape[2], self.layout.receptive_field.taps
        sums.sums[:] += totals[None][..., :width]
        terms = [(source, source, self.layout.lags, totals[None], sums.lags)]
        for name, found in self._group.targets.items():
            target, own = self._buffers[name], totals[name]
            found.sums[:] += own[..., :width]
            terms.append((target, source, taps, totals[None], found.cross))
            terms.append((target, target, _NO_OFFSET, own, found.squares[:, None]))
        add_products(terms)
        self._open()

    def _zeros(self) -> Group:
        """Return an empty group, whose planes share one block of memory.

        From 4 MiB on NumPy asks for huge pages: with an allocation for each array, half the time
        for 200 grey pairs of 128 px went into page faults.
        """
        channels, size = self.layout.channels(self.shape[0]), self.shape[1:]
        each = [len(self.layout.receptive_field), 1, 1]
        counts = channels * np.array([len(self.layout.lags), 1, *each * len(self.expressions)])
        dtype = np.int32 if self.dtype == np.uint8 else np.float64
        memory = np.empty((counts.sum(), *size), dtype)
        flat = memory.reshape(-1)
        # In all threads: touching memory for the first time takes longer than accumulating.
        parallel_for(
            lambda begin, end: flat[begin * PIECE : end * PIECE].fill(0), -(-flat.size // PIECE)
        )
        parts = np.split(memory, np.cumsum(counts)[:-1])
        lags, sums, *others = (part.reshape(channels, -1, *size) for part in parts)
        targets = {
            name: TargetSums(cross, own[:, 0], squares[:, 0])
            for name, cross, own, squares in zip(
                self.expressions, others[::3], others[1::3], others[2::3], strict=True
            )
        }
        return Group(SourceSums(0, lags, sums[:, 0]), targets)


def _with_pairs(
    sums: StyleSums, sources: Pixels, targets: Pixels, weights: Sequence[Weights]
) -> StyleSums:
    """Return sums with framed pairs (pairs, height, width, channels) added, planes in place."""
    numbers = sums.numbers
    for source, target, weight in zip(sources, targets, weights, strict=True):
        light, teeth = weight.light, weight.teeth
        for first, image in ((0, source), (2, target)):
            planes = image.transpose(2, 0, 1).astype(sums.planes.dtype, order="C")
            sums.planes[first] += light * planes
            planes *= teeth
            sums.planes[first + 1] += planes
        added = light, teeth, light**2, light * teeth, teeth**2
        numbers = tuple(a + b for a, b in zip(numbers, added, strict=True))
    return replace(sums, numbers=numbers)


def pair_digest(source: bytes, target: bytes, expression: str) -> int:
    """Return the digest of a pair, below 2^256, from the digests of its two images."""
    return int.from_bytes(hashlib.sha256(source + target + expression.encode()).digest(), "big")


def statistics_of_arrays(
    sources: Pixels,
    targets: Mapping[str, Pixels],
    layout: Layout | ReceptiveField,
    templates: Templates | None = None,
    weights: Sequence[Weights] = (),
    sums: PairSums = NO_SUMS,
) -> Statistics:
    """Return the statistics of images in memory, which may be framed pairs of one expression.

    Sources are uint8, uint16, or floating point in [0, 1], (pairs, height, width, channels); the
    targets of each expression have the same shape, dtype and order.
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
    accumulator.add(sources, targets, weights)
    return accumulator.statistics(sums)


def batch_size(expected: int, bytes_each: int, batch_bytes: int = BATCH_BYTES) -> int:
    """Return the number of samples of a mini-batch, so that the last one is not nearly empty.

    ``expected`` samples of ``bytes_each`` bytes are cut into mini-batches.
    """
    expected = max(expected, 1)
    most = min(BATCH, batch_bytes // bytes_each)
    batches = -(-expected // max(most // BLOCK * BLOCK, LEAST))
    return -(-expected // (batches * BLOCK)) * BLOCK
