"""From decoded images to `Statistics`: batches of samples, and the kernels that sum them up."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.kernels.pack import pack
from mlr.kernels.products import SAMPLE_ALIGNMENT, add_products, add_sums
from mlr.layout import Layout
from mlr.receptive_field import ReceptiveField
from mlr.statistics import (
    DIGEST_MODULUS,
    WHITE,
    SourceSums,
    Statistics,
    TargetSums,
    narrowed,
)

Pixels = npt.NDArray[Any]

BATCH = 512  # samples; with 256 the products take 1.2 times as long
BATCH_BYTES = 256 << 20  # fewer samples where images are large
_NO_OFFSET = np.zeros((1, 2), dtype=np.int64)


class Accumulator:
    """Sums up the pairs of people who all show the same expressions.

    Parameters
    ----------
    layout : Layout or ReceptiveField
        Which planes to make.
    shape : tuple of int
        (channels, height, width) of every image.
    expressions : sequence of str
        Names of the target expressions; every person added shows them all.
    dtype : numpy dtype
        uint8, uint16, float32 or float64: that of every image.
    people : int, optional
        How many are expected, to cut them into batches of equal size.
    """

    def __init__(
        self,
        layout: Layout | ReceptiveField,
        shape: tuple[int, int, int],
        expressions: Sequence[str],
        dtype: npt.DTypeLike,
        people: int = BATCH,
    ) -> None:
        self.layout = layout = Layout.of(layout)
        self.shape = shape
        self.expressions = tuple(sorted(expressions))
        self.dtype = np.dtype(dtype)
        sample_dtype = np.dtype(np.uint8 if self.dtype == np.uint8 else np.float64)
        plane_dtype = np.dtype(np.int64 if self.dtype == np.uint8 else np.float64)
        _, height, width = shape
        channels = layout.channels(shape[0])
        self._each = shape[0] // channels  # samples of a person
        bytes_each = sample_dtype.itemsize * channels * height * width
        samples = _batch_size(people * self._each, (1 + len(self.expressions)) * bytes_each)
        names = (None, *self.expressions)
        buffers = _together(sample_dtype, [(channels, height, width, samples) for _ in names])
        self._buffers = dict(zip(names, buffers, strict=True))
        self._filled = 0
        lags, taps, each = len(layout.lags), len(layout.receptive_field), len(names) - 1
        zeros = _together(
            plane_dtype,
            [
                (channels, *middle, height, width)
                for middle in [(lags,), (), *[(taps,)] * each, *[()] * each, *[(1,)] * each]
            ],
        )
        for array in zeros:
            array[:] = 0
        planes = iter(zeros)
        self._lags, self._source_sums = next(planes), next(planes)
        self._cross = {name: next(planes) for name in self.expressions}
        self._target_sums = {name: next(planes) for name in self.expressions}
        self._squares = {name: next(planes) for name in self.expressions}
        self._people = 0
        self._digests = Counter[str]()

    def add(
        self,
        sources: Pixels,
        targets: Mapping[str, Pixels],
        digests: Mapping[str, int] | None = None,
    ) -> None:
        """Add people.

        Parameters
        ----------
        sources : ndarray, shape (people, height, width, channels), C-contiguous
            The source images.
        targets : mapping of str to ndarray of the same shape
            The target images of each expression, in the same order.
        digests : mapping of str to int, optional
            For each expression, the sum of the `pair_digest` of these people.
        """
        people = len(sources)
        samples = {
            name: self._samples(sources if name is None else targets[name])
            for name in self._buffers
        }
        room = self._buffers[None].shape[-1]
        done = 0
        while done < people * self._each:
            now = slice(done, min(people * self._each, done + room - self._filled))
            for name, buffer in self._buffers.items():
                pack(samples[name][now].astype(buffer.dtype, copy=False), buffer, self._filled)
            self._filled += now.stop - now.start
            done = now.stop
            if self._filled == room:
                self._flush()
        self._people += people
        self._digests.update(digests or {})

    def statistics(self) -> Statistics:
        """Return the statistics of all that was added."""
        self._flush()
        if not self._people:
            return Statistics(self.layout, WHITE[self.dtype.name], self.shape)
        count = self._people * self._each
        source = SourceSums(
            self._people, narrowed(self._lags, count), narrowed(self._source_sums, count)
        )
        return Statistics(
            layout=self.layout,
            white=WHITE[self.dtype.name],
            shape=self.shape,
            sources=dict.fromkeys(self.expressions, source),
            targets={
                name: TargetSums(
                    cross=narrowed(self._cross[name], count),
                    sums=narrowed(self._target_sums[name], count),
                    squares=narrowed(self._squares[name][:, 0], count),
                    deep=self._people if self.dtype == np.uint16 else 0,
                    digest=self._digests[name] % DIGEST_MODULUS,
                )
                for name in self.expressions
            },
        )

    def _samples(self, images: Pixels) -> Pixels:
        """Return (samples, height, width, channels): pooled channels are samples of their own."""
        if self._each == 1:
            return images
        split = np.ascontiguousarray(np.moveaxis(images, -1, 1))
        return split.reshape(-1, *images.shape[1:3], 1)

    def _flush(self) -> None:
        """Sum up the samples in the buffers."""
        if not self._filled:
            return
        for buffer in self._buffers.values():
            buffer[..., self._filled :] = 0
        source = self._buffers[None]
        add_products(source, source, self.layout.lags, self._lags)
        add_sums(source, self._source_sums)
        for name in self.expressions:
            target = self._buffers[name]
            add_products(target, source, self.layout.receptive_field.taps, self._cross[name])
            add_products(target, target, _NO_OFFSET, self._squares[name])
            add_sums(target, self._target_sums[name])
        self._filled = 0


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


def statistics_of_arrays(
    sources: Pixels, targets: Mapping[str, Pixels], layout: Layout | ReceptiveField
) -> Statistics:
    """Return the statistics of images in memory.

    Parameters
    ----------
    sources : ndarray of uint8, uint16, float32 or float64, shape (pairs, height, width, channels)
        Source images; floating-point intensities in [0, 1].
    targets : mapping of str to ndarray of the same shape and dtype
        Target images of each expression, in the same order.
    layout : Layout or ReceptiveField
        Which planes to make.
    """
    count, height, width, channels = sources.shape
    accumulator = Accumulator(
        layout, (channels, height, width), list(targets), sources.dtype, people=count
    )
    accumulator.add(sources, targets)
    return accumulator.statistics()


def _together(dtype: np.dtype[Any], shapes: Sequence[tuple[int, ...]]) -> list[Pixels]:
    """Return arrays of several shapes in one piece of memory, with anything in them.

    From 4 MiB on NumPy asks for huge pages: with an allocation for each array, half the time for
    200 grey pairs of 128 px went into page faults.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    memory = np.empty(ends[-1], dtype)
    parts = np.split(memory, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _batch_size(wanted: int, bytes_each: int) -> int:
    """Return a number of samples that fits in memory and leaves no batch nearly empty."""
    largest = max(1, min(BATCH, BATCH_BYTES // bytes_each))
    batches = -(-max(wanted, 1) // largest)
    even = -(-wanted // batches)
    return -(-even // SAMPLE_ALIGNMENT) * SAMPLE_ALIGNMENT
