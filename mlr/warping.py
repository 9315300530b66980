"""Moving the pixels of images by a field of displacements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.apply import kernels_are_worth_it
from mlr.frame import framed

INTERPOLATION_REACH = 2  # pixels on each side that interpolation looks at
TAPS = np.arange(1 - INTERPOLATION_REACH, INTERPOLATION_REACH + 1)
TOGETHER = 8192  # pixels displaced at once, whose numbers stay in the cache
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
        size = displacement.shape[1:]
        whole, down, across = _parts(displacement)
        self._pitch = size[1] + 2 * MARGIN
        # Whatever lies farther out than the margin sees nothing but pixels of the edge, too.
        y, x = (
            np.clip(at + step + TAPS[0], -MARGIN, length) + MARGIN
            for at, step, length in zip(np.indices(size), whole, size, strict=True)
        )
        self._places = (y * self._pitch + x).reshape(-1).astype(np.intp)
        weights = (down[..., :, None] * across[..., None, :]).astype(np.float32)
        self._weights = weights.reshape(-1, TAPS.size**2)  # of a pixel together, for the kernel
        by_row = self._weights.reshape(-1, TAPS.size, TAPS.size).transpose(1, 0, 2)
        self._by_row = np.ascontiguousarray(by_row)  # and for NumPy

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
        planes = framed(images.reshape(-1, *images.shape[-2:]), MARGIN, MARGIN, edge=True)
        flat = planes.reshape(len(planes), -1)
        result = np.empty((len(flat), self._places.size), np.float32)
        if kernels_are_worth_it(result.size * TAPS.size**2):  # the same bits in a fifth of the time
            from mlr.kernels.displace import displace

            displace(flat, self._pitch, self._weights, self._places, result)
        else:
            self._displace(flat, result)
        return result.reshape(images.shape)

    def _displace(self, planes: npt.NDArray[np.float32], result: npt.NDArray[np.float32]) -> None:
        """Do what `mlr.kernels.displace.displace` does, to the bit, without Numba.

        Four adjacent pixels are taken at once, for that takes no longer than one: with one, all
        took 1.4 times as long.
        """
        side, size = TAPS.size, self._places.size
        products, sums = np.empty((2, min(TOGETHER, size), side), np.float32)
        runs = np.empty((planes.shape[1] - side + 1, side), np.float32)  # of adjacent pixels
        for plane, moved in zip(planes, result, strict=True):
            for j in range(side):
                runs[:, j] = plane[j : j + len(runs)]
            whole = runs.view(_RUN)[:, 0]
            for first in range(0, size, TOGETHER):
                part = slice(first, min(first + TOGETHER, size))
                some, total = (array[: part.stop - first] for array in (products, sums))
                taken, places = some.view(_RUN)[:, 0], self._places[part]
                for i, weights in enumerate(self._by_row[:, part]):
                    # mode: without it NumPy copies first, lest an index be wrong; these are not
                    whole[i * self._pitch :].take(places, out=taken, mode="clip")
                    np.multiply(weights, some, out=some if i else total)
                    if i:
                        total += some
                np.add(total[:, 0], total[:, 1], out=moved[part])
                moved[part] += np.add(total[:, 2], total[:, 3], out=some[:, 0])


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
