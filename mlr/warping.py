"""Moving the pixels of images by a field of displacements."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

INTERPOLATION_REACH = 2  # pixels on each side that interpolation looks at

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
    displacement = displacement[:, wanted]
    first = np.floor(displacement).astype(np.int64)
    part = displacement.astype(np.float64) - first
    taps = np.arange(1 - INTERPOLATION_REACH, INTERPOLATION_REACH + 1)
    rows, columns = (
        np.clip((grid[axis] + first[axis])[..., None] + taps, 0, size[axis] - 1) for axis in (0, 1)
    )
    down, across = (_catmull_rom(part[axis][..., None] - taps) for axis in (0, 1))
    return rows, columns, down, across


class Displacer:
    """Moves the pixels of images: x'(p) = x(p + u(p)).

    Parameters
    ----------
    displacement : ndarray of float32, shape (2, height, width)
        u, as (dy, dx) in pixels.
    """

    def __init__(self, displacement: npt.NDArray[np.float32]) -> None:
        size = displacement.shape[1], displacement.shape[2]
        rows, columns, down, across = interpolation(displacement, size)
        weights = down[..., :, None] * across[..., None, :]
        places = rows[..., :, None] * size[1] + columns[..., None, :]
        count = weights.shape[2] * weights.shape[3]
        self._weights = np.ascontiguousarray(weights.reshape(-1, count).T, np.float32)
        self._places = np.ascontiguousarray(places.reshape(-1, count).T, np.intp)

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
        flat = np.ascontiguousarray(images.reshape(-1, self._weights.shape[1]))
        result = np.zeros(flat.shape, np.float32)
        if "mlr.kernels.jit" in sys.modules:  # the same bits in less than half the time
            from mlr.kernels.displace import displace

            displace(flat, self._weights, self._places, result)
            return result.reshape(images.shape)
        pixels = np.empty(flat.shape[1], np.float32)
        for plane, moved in zip(flat, result, strict=True):
            for weights, places in zip(self._weights, self._places, strict=True):
                # mode: without it NumPy copies first, lest an index be wrong; these are not
                plane.take(places, out=pixels, mode="clip")
                moved += np.multiply(weights, pixels, out=pixels)
        return result.reshape(images.shape)


def _catmull_rom(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the cubic convolution kernel at distances of less than two pixels."""
    d = np.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, far)
