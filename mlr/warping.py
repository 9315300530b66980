"""Moving the pixels of images by a field of displacements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.apply import kernels_are_worth_it
from mlr.frame import framed

INTERPOLATION_REACH = 2  # pixels on each side that interpolation looks at
TAPS = np.arange(1 - INTERPOLATION_REACH, INTERPOLATION_REACH + 1)
MARGIN = TAPS.size  # pixels of a frame, so that the taps of pixels beyond the edge lie in it

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
        self._by_tap = np.ascontiguousarray(self._weights.T)  # and for NumPy

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
        """Do what `mlr.kernels.displace.displace` does, to the bit, without Numba."""
        across = TAPS.size
        sums, pixels = np.empty((2, across, self._places.size), np.float32)
        for plane, moved in zip(planes, result, strict=True):
            for k, weights in enumerate(self._by_tap):
                i, j = divmod(k, across)
                # mode: without it NumPy copies first, lest an index be wrong; these are not
                plane[i * self._pitch + j :].take(self._places, out=pixels[j], mode="clip")
                if i == 0:
                    np.multiply(weights, pixels[j], out=sums[j])
                else:
                    sums[j] += np.multiply(weights, pixels[j], out=pixels[j])
            np.add(sums[0], sums[1], out=moved)
            moved += np.add(sums[2], sums[3], out=sums[2])


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
