"""What a model has learnt, as arrays to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import ModelError, OptionError
from mlr.exposure import Exposure
from mlr.model import Model
from mlr.warping import INTERPOLATION_REACH, Places, interpolation

Float = npt.NDArray[np.float64]

SMOOTHNESS = 1 / 8  # distance at which pixels still have something in common, in sides
GRID = 16  # frequencies along an axis that the sharpness is measured at


def departure(model: Model, expression: str) -> Float:
    """Return by how much each pixel is expected to change.

    That is sqrt(E (f(x) - x)^2), the displacement included, for images whose pixels have the mean m
    and the standard deviation s that the model has seen, and whose correlation is exp(-d / l) at a
    distance d, with l = `SMOOTHNESS` of the side. With e the weights of all pixels less the copy,

        E (f(x) - x)^2 = s^2 e'Ce + (bias + m sum e)^2,        mean over channels.

    Returns
    -------
    ndarray of float64, shape (height, width)
        In intensities; 0 where the pixel of the input is copied.
    """
    _, height, width = model.shape
    mean, deviation = _exposure(model)
    moved = displacement(model, expression)
    reach = int(np.abs(model.receptive_field.taps).max())
    if moved is not None:
        reach += int(np.ceil(np.abs(moved).max())) + INTERPOLATION_REACH
    offsets = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1)
    apart = np.hypot(*(offsets[:, :, None] - offsets[:, None]))
    correlation = np.exp(-apart / (SMOOTHNESS * np.sqrt(height * width)))
    places = interpolation(None if moved is None else moved.astype(np.float32), (height, width))
    changes = np.empty((height, width))
    for row in range(height):  # one at a time, for the memory
        total = np.zeros(width)
        for weights in model.weights[model.require(expression), :, :, row].astype(np.float64):
            own = _composed(model, weights, row, reach, places)
            own[:, reach * (2 * reach + 2)] -= 1.0
            shift = weights[-1] + mean * own.sum(axis=1)
            total += deviation**2 * ((own @ correlation) * own).sum(axis=1) + shift**2
        changes[row] = np.sqrt(np.maximum(total, 0.0) / len(model.weights[0]))
    return changes


def _composed(model: Model, weights: Float, row: int, reach: int, places: Places) -> Float:
    """Return the weights of all pixels up to ``reach`` away, for one row: (width, window)."""
    height, width = model.shape[1:]
    side, x = 2 * reach + 1, np.arange(width)
    at = np.array([row, 0]) + model.receptive_field.taps  # of the taps, (taps, 2)
    v, u = at[:, :1], at[:, 1:] + x
    edge_v, edge_u = np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)
    inside = model.edge | ((v == edge_v) & (u == edge_u))
    rows, columns, down, across = (part[edge_v, edge_u] for part in places)  # (taps, width, n)
    offset = (rows[..., :, None] - row + reach) * side + columns[..., None, :] + reach
    cell = offset + (x * (side * side - 1))[:, None, None]
    share = (weights[:-1] * inside)[..., None, None] * down[..., :, None] * across[..., None, :]
    window = np.bincount(cell.ravel(), share.ravel(), width * side * side)
    return np.asarray(window, np.float64).reshape(width, side * side)


def _exposure(model: Model) -> tuple[float, float]:
    """Return mean and standard deviation of the intensities that the model has seen."""
    try:
        seen = Exposure.from_meta(model.meta.get("exposure"), model.shape[0])
    except ModelError:
        return 0.5, 0.25
    return float(np.mean(seen.brightness)), float(np.mean(seen.contrast))


def bias(model: Model, expression: str) -> Float:
    """Return what is added to each pixel whatever the input is, (channels, height, width)."""
    return model.weights[model.require(expression), :, -1].astype(np.float64)


def tap_weights(model: Model, expression: str) -> tuple[Float, Float]:
    """Return the mean weight of each tap over all pixels and channels, and the mean of its size.

    Returns
    -------
    tuple of ndarray of float64, shape (taps,)
    """
    weights = _taps(model, expression)
    return weights.mean(axis=(0, 2, 3)), np.abs(weights).mean(axis=(0, 2, 3))


def penalties(model: Model, expression: str) -> Float | None:
    """Return what it costs to change each tap by 1, (taps,), or None if the model does not say.

    It is the same for all pixels. The other taps follow where that is cheaper: with the penalty D
    of all taps it is 1 / (D^-1)_kk.
    """
    said, found = penalty(model, expression), _recipe(model)
    if said is None or found is None:
        return None
    return np.asarray(said / np.linalg.inv(found[0][:-1, :-1]).diagonal(), np.float64)


def penalty_cost(model: Model, expression: str) -> Float | None:
    """Return what the penalty adds to the mean squared error that training makes least.

    That is (w - w0)'D(w - w0) / n, mean over channels, for the weights w of a pixel and n training
    pairs, those mirrored included. The penalty D and the prior w0 are the same for all pixels: it
    is large where the pairs ask for other weights than the prior, and get their way.

    Returns
    -------
    ndarray of float64, shape (height, width)
        In squared intensities; None if the model does not say.
    """
    said, found, pairs = penalty(model, expression), _recipe(model), model.meta.get("pairs")
    count = pairs.get(expression) if isinstance(pairs, dict) else None
    if said is None or found is None or not isinstance(count, int) or count < 1:
        return None
    mirrored = model.meta.get("mirrored")
    if isinstance(mirrored, dict) and mirrored.get(expression) is True:
        count *= 2
    matrix, prior = found
    weights = model.weights[model.require(expression)].astype(np.float64)
    deviation = weights - prior[:, None, None]
    cost = np.einsum("cayx,ab,cbyx->yx", deviation, matrix, deviation, optimize=True)
    return np.asarray(said * cost / (count * len(weights)), np.float64)


def _recipe(model: Model) -> tuple[Float, Float] | None:
    """Return D for a penalty of 1, (taps + 1, taps + 1), and w0, (taps + 1,); the bias is last.

    The paper's recipe has one penalty for all and no prior, the recipe best those of
    `mlr.recipes.best`. None if the model does not say.
    """
    size = len(model.receptive_field) + 1
    if "smooth" not in model.meta:
        return np.eye(size), np.zeros(size)
    from mlr.recipes.best import penalties as matrix_of
    from mlr.recipes.best import prior_of

    smooth, sharpen = model.meta["smooth"], model.meta.get("sharpen")
    if not (isinstance(smooth, int | float) and isinstance(sharpen, int | float)):
        return None
    if (0, 0) not in model.receptive_field.offsets:
        return None
    return (
        matrix_of(model.receptive_field, 1.0, float(smooth)),
        prior_of(model.receptive_field, float(sharpen)),
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
