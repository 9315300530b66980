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
from mlr.receptive_field import ReceptiveField
from mlr.statistics import DIGEST_MODULUS, WHITE, SourceSums, Statistics, TargetSums

Pixels = npt.NDArray[Any]

BATCH = 512  # samples; with 256 the products take 1.2 times as long
BATCH_BYTES = 256 << 20  # fewer samples where images are large
_NO_OFFSET = np.zeros((1, 2), dtype=np.int64)


class Accumulator:
    """Sums up the pairs of people who all show the same expressions.

    Parameters
    ----------
    receptive_field : ReceptiveField
        Taps to make planes for.
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
        receptive_field: ReceptiveField,
        shape: tuple[int, int, int],
        expressions: Sequence[str],
        dtype: npt.DTypeLike,
        people: int = BATCH,
    ) -> None:
        self.receptive_field = receptive_field
        self.shape = shape
        self.expressions = tuple(sorted(expressions))
        self.dtype = np.dtype(dtype)
        sample_dtype = np.dtype(np.uint8 if self.dtype == np.uint8 else np.float64)
        plane_dtype = np.dtype(np.int64 if self.dtype == np.uint8 else np.float64)
        channels, height, width = shape
        samples = _batch_size(people, (1 + len(self.expressions)) * _bytes(shape, sample_dtype))
        names = (None, *self.expressions)
        buffers = _together(sample_dtype, [(channels, height, width, samples) for _ in names])
        self._buffers = dict(zip(names, buffers, strict=True))
        self._filled = 0
        lags, taps, each = len(receptive_field.lag_table.lags), len(receptive_field), len(names) - 1
        planes = iter(
            _together(
                plane_dtype,
                [
                    (channels, *middle, height, width)
                    for middle in [(lags,), (), *[(taps,)] * each, *[()] * each, *[(1,)] * each]
                ],
            )
        )
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
        room = self._buffers[None].shape[-1]
        done = 0
        while done < people:
            now = slice(done, min(people, done + room - self._filled))
            for name, buffer in self._buffers.items():
                images = sources if name is None else targets[name]
                pack(images[now].astype(buffer.dtype, copy=False), buffer, self._filled)
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
            return Statistics(self.receptive_field, WHITE[self.dtype.name], self.shape)
        source = SourceSums(self._people, self._lags, self._source_sums)
        return Statistics(
            receptive_field=self.receptive_field,
            white=WHITE[self.dtype.name],
            shape=self.shape,
            sources=dict.fromkeys(self.expressions, source),
            targets={
                name: TargetSums(
                    cross=self._cross[name],
                    sums=self._target_sums[name],
                    squares=self._squares[name][:, 0],
                    deep=self._people if self.dtype == np.uint16 else 0,
                    digest=self._digests[name] % DIGEST_MODULUS,
                )
                for name in self.expressions
            },
        )

    def _flush(self) -> None:
        """Sum up the samples in the buffers."""
        if not self._filled:
            return
        for buffer in self._buffers.values():
            buffer[..., self._filled :] = 0
        source = self._buffers[None]
        add_products(source, source, self.receptive_field.lag_table.lags, self._lags)
        add_sums(source, self._source_sums)
        for name in self.expressions:
            target = self._buffers[name]
            add_products(target, source, self.receptive_field.taps, self._cross[name])
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
    sources: Pixels, targets: Mapping[str, Pixels], receptive_field: ReceptiveField
) -> Statistics:
    """Return the statistics of images in memory.

    Parameters
    ----------
    sources : ndarray of uint8, uint16, float32 or float64, shape (pairs, height, width, channels)
        Source images; floating-point intensities in [0, 1].
    targets : mapping of str to ndarray of the same shape and dtype
        Target images of each expression, in the same order.
    receptive_field : ReceptiveField
        Taps to make planes for.
    """
    count, height, width, channels = sources.shape
    accumulator = Accumulator(
        receptive_field, (channels, height, width), list(targets), sources.dtype, people=count
    )
    accumulator.add(sources, targets)
    return accumulator.statistics()


def _together(dtype: np.dtype[Any], shapes: Sequence[tuple[int, ...]]) -> list[Pixels]:
    """Return zeros of several shapes in one piece of memory.

    From 4 MiB on NumPy asks for huge pages: with an allocation for each array, half the time for
    200 grey pairs of 128 px went into page faults.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    memory = np.zeros(ends[-1], dtype)
    parts = np.split(memory, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _bytes(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> int:
    """Return the size of one image."""
    channels, height, width = shape
    return channels * height * width * dtype.itemsize


def _batch_size(people: int, bytes_each: int) -> int:
    """Return a number of samples that fits in memory and leaves no batch nearly empty."""
    largest = max(1, min(BATCH, BATCH_BYTES // bytes_each))
    batches = -(-max(people, 1) // largest)
    even = -(-people // batches)
    return -(-even // SAMPLE_ALIGNMENT) * SAMPLE_ALIGNMENT
