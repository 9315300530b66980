"""Moving the pixels of images by a field of displacements."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlr.aligned import aligned
from mlr.apply import kernels_are_worth_it
from mlr.frame import framed, pitch_of

INTERPOLATION_REACH = 2  # pixels on each side that interpolation looks at
TAPS = np.arange(1 - INTERPOLATION_REACH, INTERPOLATION_REACH + 1)
TOGETHER = 8192  # pixels displaced at once, whose numbers stay in the cache
IMAGES = 3  # or channels of one, that each weight is read once for
MARGIN = TAPS.size  # pixels of a frame, so that the taps of pixels beyond the edge lie in it

_RUN = np.dtype((np.void, TAPS.size * 4))  # adjacent pixels, moved as one

Places = tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]
]


def interpolation(
    displacement: npt.NDArray[np.float32] | None,
    size: tuple[int, int],
    wanted: slice = slice(None),
) -> Places:
    """Return the pixels and weights that make a displaced image, x'(p) = x(p + u(p)).

    Catmull-Rom interpolation (Keys 1981 with a = -1/2) of 4 x 4 pixels; edge pixels repeat.

    Parameters
    ----------
    displacement : ndarray of float32, shape (2, height, width), optional
        u, as (dy, dx) in pixels; nothing moves without.
    size : tuple of int
        (height, width) of the image.
    wanted : slice
        Rows of the displaced image, by default all.

    Returns
    -------
    rows, columns : ndarray of int64, shape (rows, width, 4)
        Coordinates of the pixels, inside the image; one instead of four if nothing moves.
    down, across : ndarray of float64 of the same shape
        Their weights, whose products over both axes sum to 1.
    """
    first_row, end_row, _ = wanted.indices(size[0])
    grid = np.indices((end_row - first_row, size[1]))
    grid[0] += first_row
    if displacement is None:
        rows, columns = (places[..., None] for places in grid)
        return rows, columns, np.ones(rows.shape), np.ones(columns.shape)
    whole, down, across = _parts(displacement[:, wanted])
    rows, columns = (
        np.clip((grid[axis] + whole[axis])[..., None] + TAPS, 0, size[axis] - 1) for axis in (0, 1)
    )
    return rows, columns, down, across


class Displacer:
    """Moves the pixels of images: x'(p) = x(p + u(p)).

    Parameters
    ----------
    displacement : ndarray of float32, shape (2, height, width)
        u, as (dy, dx) in pixels.
    """

    def __init__(self, displacement: npt.NDArray[np.float32]) -> None:
        self._displacement = displacement
        self._pitch = pitch_of(displacement.shape[2], MARGIN, TAPS.size)

    @cached_property
    def _places(self) -> npt.NDArray[np.intp]:
        """Where the first of the taps of each pixel is in a framed image, in a row."""
        size = self._displacement.shape[1:]
        # Whatever lies farther out than the margin sees nothing but pixels of the edge, too.
        y, x = (
            np.clip(at + step + TAPS[0], -MARGIN, length) + MARGIN
            for at, step, length in zip(
                np.indices(size), _parts(self._displacement)[0], size, strict=True
            )
        )
        return (y * self._pitch + x).reshape(-1).astype(np.intp)

    @cached_property
    def _weights(self) -> npt.NDArray[np.float32]:
        """The weights of each pixel's taps, (pixels, 16), for the kernel."""
        _, down, across = _parts(self._displacement)
        weights = (down[..., :, None] * across[..., None, :]).astype(np.float32)
        return weights.reshape(-1, TAPS.size**2)

    @cached_property
    def _by_row(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """The runs and weights of the first row of taps, and of the others, for NumPy.

        Runs are counted as `_displace` makes them; the weights are of shape (4, pixels, 4).
        """
        rows, side = self._displacement.shape[1] + 2 * MARGIN, TAPS.size
        whole, phase = np.divmod(self._places, side)
        weights = self._weights.reshape(-1, side, side).transpose(1, 0, 2)
        return phase * (rows * self._pitch // side) + whole, np.ascontiguousarray(weights)

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return displaced images.

        Parameters
        ----------
        images : ndarray of float32, shape (..., height, width)
            Any number of planes.

        Returns
        -------
        ndarray of float32 of the same shape
            Interpolation overshoots: values may leave the range of the input by a tenth.
        """
        planes = framed(
            images.reshape(-1, *images.shape[-2:]), MARGIN, MARGIN, edge=True, multiple=TAPS.size
        )
        flat = planes.reshape(len(planes), -1)
        result = np.empty((len(flat), self._places.size), np.float32)
        if kernels_are_worth_it(result.size * TAPS.size**2):  # the same bits in a fifth of the time
            from mlr.kernels.displace import displace

            displace(flat, self._pitch, self._weights, self._places, result)
        else:
            for n in range(0, len(flat), IMAGES):
                self._displace(flat[n : n + IMAGES], result[n : n + IMAGES])
        return result.reshape(images.shape)

    def _displace(self, planes: npt.NDArray[np.float32], result: npt.NDArray[np.float32]) -> None:
        """Do what `mlr.kernels.displace.displace` does, to the bit, without Numba.

        Runs of four adjacent pixels are taken at once, for that takes no longer than one: with one,
        all took 1.4 times as long. Those that begin at a multiple of four are there already; others
        are in copies that begin one, two and three pixels later.
        """
        side, size, (count, length) = TAPS.size, self._places.size, planes.shape
        products, sums = aligned(2, min(TOGETHER, size), side)
        copies = aligned(count, side, length)
        for j in range(side):
            copies[:, j, : length - j] = planes[:, j:]
        runs, (places, by_row) = copies.view(_RUN).reshape(count, length), self._by_row
        for first in range(0, size, TOGETHER):
            part = slice(first, min(first + TOGETHER, size))
            some, total = (array[: part.stop - first] for array in (products, sums))
            taken, pairs = some.view(_RUN)[:, 0], some.reshape(2, -1)[0]
            for n in range(count):
                for i, weights in enumerate(by_row[:, part]):
                    row = runs[n, i * self._pitch // side :]
                    # mode: without it NumPy copies first, lest an index be wrong; these are not
                    row.take(places[part], out=taken, mode="clip")
                    np.multiply(weights, some, some if i else total)
                    if i:
                        np.add(total, some, total)
                for terms, sum_of_two in ((total.reshape(-1), pairs), (pairs, result[n, part])):
                    np.add(terms[::2], terms[1::2], sum_of_two)


def _parts(
    displacement: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the whole pixels of a displacement, and the weights of the four `TAPS` both ways."""
    whole = np.floor(displacement).astype(np.int64)
    part = displacement.astype(np.float64) - whole
    down, across = (_catmull_rom(along[..., None] - TAPS) for along in part)
    return whole, down, across


def _catmull_rom(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the cubic convolution kernel at distances of less than two pixels."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, far)
