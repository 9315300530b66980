"""What a model has learnt, as arrays to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import OptionError
from mlr.model import Model

Float = npt.NDArray[np.float64]

GRID = 16  # frequencies along an axis that the sharpness is measured at


def departure(model: Model, expression: str) -> Float:
    """Return how far each pixel's weights are from leaving it as it is.

    sqrt(sum_k (w_k - [o_k = 0])^2), mean over channels. The displacement is not part of it.

    Returns
    -------
    ndarray of float64, shape (height, width)
        0 where the pixel of the (displaced) input is copied.
    """
    weights = _taps(model, expression).copy()
    if (0, 0) in model.receptive_field.offsets:
        weights[:, model.receptive_field.offsets.index((0, 0))] -= 1
        missing = 0.0
    else:
        missing = 1.0
    return np.sqrt((weights**2).sum(axis=1) + missing).mean(axis=0)


def bias(model: Model, expression: str) -> Float:
    """Return what is added to each pixel whatever the input is, (channels, height, width)."""
    return model.weights[model.require(expression), :, -1].astype(np.float64)


def tap_weights(model: Model, expression: str) -> Float:
    """Return the mean absolute weight of each tap over all pixels and channels, (taps,)."""
    return np.abs(_taps(model, expression)).mean(axis=(0, 2, 3))


def penalties(model: Model, expression: str) -> Float | None:
    """Return the penalty of each tap, (taps,), or None if the model does not say.

    It is the same for all pixels: the paper's recipe has one for all taps, the recipe best one that
    grows with the distance, `mlr.recipes.best.penalties`.
    """
    said = penalty(model, expression)
    growth = model.meta.get("tap_penalties", [1.0] * len(model.receptive_field))
    try:
        factors = np.array(growth, np.float64)
    except (TypeError, ValueError):
        return None
    return (
        None if said is None or factors.shape != (len(model.receptive_field),) else said * factors
    )


def penalty(model: Model, expression: str) -> float | None:
    """Return the penalty of the middle tap, or None if the model does not say."""
    said = model.meta.get("penalty")
    said = said.get(expression) if isinstance(said, dict) else said
    return float(said) if isinstance(said, int | float) else None


def tried(model: Model, expression: str) -> list[tuple[bool, float, float, float]]:
    """Return what cross-validation tried: (mirrored, blur in pixels, penalty, squared error).

    Nothing if the model does not say, or not in the way that the recipe best does.
    """
    try:
        errors = model.meta["cross_validation"][expression]["errors"]
        return [
            (bool(e["mirrored"]), float(e["blur"]), float(e["penalty"]), float(e["mse"]))
            for e in errors
        ]
    except (KeyError, TypeError, ValueError):
        return []


def sharpness(model: Model, expression: str) -> Float:
    """Return the gain of each pixel's weights for the finest detail.

    The mean of |sum_k w_k exp(i f . o_k)| over the frequencies f = (f_y, f_x), on a grid, of which
    one is at least half of the highest; mean over channels.

    Returns
    -------
    ndarray of float64, shape (height, width)
        1 keeps the detail of the (displaced) input, less blurs, more sharpens.
    """
    weights = _taps(model, expression)
    frequencies = 2 * np.pi * np.fft.fftfreq(GRID)
    total, count = np.zeros(weights.shape[2:]), 0
    for fy in frequencies:
        for fx in frequencies:
            if max(abs(fy), abs(fx)) >= np.pi / 2:
                wave = np.exp(1j * (model.receptive_field.taps @ np.array([fy, fx])))
                total += np.abs(np.einsum("ckyx,k->cyx", weights, wave)).mean(axis=0)
                count += 1
    return total / count


def displacement(model: Model, expression: str) -> Float | None:
    """Return by how much the input is moved, (2, height, width) in pixels, if it is."""
    if model.displacement is None:
        return None
    return model.displacement[model.require(expression)].astype(np.float64)


def at(model: Model, expression: str, x: int, y: int) -> dict[str, Any]:
    """Return all coefficients of one pixel.

    Returns
    -------
    dict
        ``weights``: (channels, taps); ``bias``: (channels,); ``displacement``: (dy, dx) or None.

    Raises
    ------
    OptionError
        If the pixel is not in the image.
    """
    _, height, width = model.shape
    if not (0 <= x < width and 0 <= y < height):
        raise OptionError(f"there is no pixel {x},{y} in {width}x{height} px")
    moved = displacement(model, expression)
    return {
        "weights": _taps(model, expression)[:, :, y, x],
        "bias": bias(model, expression)[:, y, x],
        "displacement": None if moved is None else moved[:, y, x],
    }


def as_window(model: Model, values: Float) -> Float:
    """Return one value for each tap as a picture of the window; NaN where there is no tap."""
    taps = model.receptive_field.taps
    reach = int(np.abs(taps).max())
    window = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    window[taps[:, 0] + reach, taps[:, 1] + reach] = values
    return window


def summary(model: Model, expression: str) -> dict[str, Any]:
    """Return the means of the maps, ready for JSON."""
    moved = displacement(model, expression)
    return {
        "departure": float(departure(model, expression).mean()),
        "bias": float(np.abs(bias(model, expression)).mean()),
        "sharpness": float(sharpness(model, expression).mean()),
        "farthest": 0.0 if moved is None else float(np.hypot(*moved).max()),
    }


def _taps(model: Model, expression: str) -> Float:
    """Return the weights without the bias, (channels, taps, height, width)."""
    return model.weights[model.require(expression), :, :-1].astype(np.float64)
