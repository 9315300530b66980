"""The same results in NumPy, plain and tuned: what the program is checked against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from mlr.core.receptive_field import ReceptiveField

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

WHITE = 255.0


def textbook_weights(
    sources: Pixels, targets: Pixels, field: ReceptiveField, penalty: float
) -> npt.NDArray[np.float64]:
    """Solve the ridge regressions as one writes them down: windows, Z'Z + penalty I, solve.

    Parameters
    ----------
    sources, targets : ndarray of uint8, shape (pairs, height, width, 1)
        Training images.
    field : ReceptiveField
        The taps.
    penalty : float
        For intensities in [0, 1].

    Returns
    -------
    ndarray of float64, shape (taps + 1, height, width)
        Bias last.
    """
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    margins = ((0, 0), (reach_y, reach_y), (reach_x, reach_x))
    padded = np.pad(sources[..., 0] / WHITE, margins)
    windows = sliding_window_view(padded, (2 * reach_y + 1, 2 * reach_x + 1), axis=(1, 2))
    taps = windows[..., reach_y + field.taps[:, 0], reach_x + field.taps[:, 1]]
    z = np.concatenate([taps, np.ones((*taps.shape[:3], 1))], axis=3).transpose(1, 2, 0, 3)
    t = (targets / WHITE).transpose(1, 2, 0, 3)
    gram = z.swapaxes(2, 3) @ z + penalty * np.eye(len(field) + 1)
    solution: npt.NDArray[np.float64] = np.linalg.solve(gram, z.swapaxes(2, 3) @ t)[..., 0]
    return solution.transpose(2, 0, 1)


def weights(
    sources: Pixels,
    targets: Pixels,
    field: ReceptiveField,
    penalty: float,
    top: int = 0,
    rows: int | None = None,
    solve: Callable[[Any, Any], Any] = np.linalg.solve,
) -> npt.NDArray[np.float64]:
    """Solve the ridge regressions of some rows of pixels as fast as NumPy goes.

    Products of 8-bit pixels and their sums are integers, which float32 holds exactly up to 258
    pairs, and twice as fast as float64; the equations are solved in float64. Samples lie side by
    side, the layout that stacked matrix products are fastest with.

    Parameters
    ----------
    sources, targets : ndarray of uint8, shape (pairs, height, width, 1)
        Training images.
    field : ReceptiveField
        The taps.
    penalty : float
        For intensities in [0, 1].
    top, rows : int
        First row, and number of rows; by default all.
    solve : function
        Solves stacked equations, as `numpy.linalg.solve` does.

    Returns
    -------
    ndarray of float64, shape (taps + 1, rows, width)
        Bias last.
    """
    bottom = sources.shape[1] if rows is None else top + rows
    z = design(sources, field, top, bottom)
    t = targets[:, top:bottom, :, 0].transpose(1, 2, 0).astype(np.float32, order="C")
    gram = np.matmul(z, z.swapaxes(2, 3)).astype(np.float64)
    right = np.matmul(z, t[..., None]).astype(np.float64)
    gram += penalty * WHITE**2 * np.eye(len(field) + 1)
    solution: npt.NDArray[np.float64] = solve(gram, right)[..., 0]
    return solution.transpose(2, 0, 1)


def design(
    sources: Pixels, field: ReceptiveField, top: int, bottom: int
) -> npt.NDArray[np.float32]:
    """Return what each output pixel is regressed on.

    Parameters
    ----------
    sources : ndarray of uint8, shape (pairs, height, width, 1)
        Source images.
    field : ReceptiveField
        The taps.
    top, bottom : int
        Rows of output pixels.

    Returns
    -------
    ndarray of float32, shape (bottom - top, width, taps + 1, pairs)
        Intensities of 0 to 255, 0 outside the frame; 255 for the bias, last.
    """
    pairs, height, width, _ = sources.shape
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    first, last = max(0, top - reach_y), min(height, bottom + reach_y)
    padding = ((first - top + reach_y, bottom + reach_y - last), (reach_x, reach_x))
    padded = np.pad(sources[:, first:last, :, 0], ((0, 0), *padding))
    samples = padded.transpose(1, 2, 0).astype(np.float32, order="C")
    windows = sliding_window_view(samples, (2 * reach_y + 1, 2 * reach_x + 1), axis=(0, 1))
    z = np.empty((bottom - top, width, len(field) + 1, pairs), np.float32)
    for k, (dy, dx) in enumerate(field.offsets):
        z[:, :, k] = windows[..., reach_y + dy, reach_x + dx]
    z[:, :, -1] = WHITE
    return z


def applied(model_weights: Floats, field: ReceptiveField, image: Floats) -> npt.NDArray[np.float32]:
    """Apply weights to an image.

    Parameters
    ----------
    model_weights : ndarray of float32, shape (taps + 1, height, width)
        Bias last.
    field : ReceptiveField
        The taps.
    image : ndarray of float32, shape (height, width)
        Intensities in [0, 1].

    Returns
    -------
    ndarray of float32, shape (height, width)
        Not clipped.
    """
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    padded = np.pad(image, ((reach_y, reach_y), (reach_x, reach_x)))
    windows = sliding_window_view(padded, (2 * reach_y + 1, 2 * reach_x + 1))
    taps = windows[..., reach_y + field.taps[:, 0], reach_x + field.taps[:, 1]]
    result: npt.NDArray[np.float32] = np.einsum("yxk,kyx->yx", taps, model_weights[:-1])
    return result + model_weights[-1]
