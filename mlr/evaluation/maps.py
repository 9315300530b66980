"""What a model has learnt, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core.model import Model
from mlr.core.registration.fields import invert, resize_field, warp
from mlr.core.registration.synthesis import Appearance
from mlr.errors import OptionError

Float = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

STYLES = (-1.0, 0.0, 1.0, 2.0)  # that pictures show
SMOOTHNESS = 1 / 8  # correlation length of images, as a fraction of their side
GRID = 16  # frequencies along an axis that the sharpness is measured at


class MeanFace(NamedTuple):
    """The mean source face and its outputs, (channels, height, width)."""

    source: Floats  # in [0, 1]
    outputs: dict[float | None, Floats]  # by style, None for the default; not clipped
    motion: Floats  # (2, height, width) at the default style: output q shows source(q + motion(q))


def appearance_of(model: Model, expression: str) -> Appearance | None:
    """Return what was learnt of an expression in its frame, None without registration."""
    model.require(expression)
    return None if model.registered is None else model.registered.appearances[expression]


def mean_face(model: Model, expression: str) -> MeanFace | None:
    """Return the mean source face and its outputs, None without registration.

    The mean of the sources is known in the frame of the expression. The inverse of the mean motion
    warps it into the frame of the sources.
    """
    appearance = appearance_of(model, expression)
    if appearance is None:
        return None
    framed = appearance.face.astype(np.float32) / np.float32(255)
    source = np.clip(warp(framed, resize_field(invert(appearance.motion), *model.shape[1:])), 0, 1)
    changes = {
        style: model.face_change(source, model.change_of(expression, style))(1.0)
        for style in (*(STYLES if appearance.styled else ()), None)
    }
    outputs = {style: found.applied(source) for style, found in changes.items()}
    return MeanFace(source, outputs, changes[None].motion)


def change(model: Model, expression: str) -> Float:
    """Return the RMS change of each pixel over the channels, float64 (height, width).

    With registration this is the change of the mean source face, at the default style. Without, it
    is expected, sqrt(E (f(x) - x)^2), for images whose pixels have the mean m and the standard
    deviation s of the training images, and the correlation exp(-d / l) at a distance d, with l =
    `SMOOTHNESS` of the side. With e the weights of the taps less the copy,

        E (f(x) - x)^2 = s^2 e'Ce + (bias + m sum e)^2,        mean over channels.
    """
    face = mean_face(model, expression)
    if face is not None:
        return difference(face.source, face.outputs[None])
    _, height, width = model.shape
    mean, deviation = 0.5, 0.25
    if (seen := model.info.exposure) is not None:
        mean, deviation = float(np.mean(seen.brightness)), float(np.mean(seen.contrast))
    taps = np.vstack([model.receptive_field.taps, (0, 0)])  # the last one is the copy
    distance = np.hypot(*(taps[:, None] - taps).transpose(2, 0, 1))
    correlation = np.exp(-distance / (SMOOTHNESS * np.sqrt(height * width)))
    weights = _taps(model, expression)
    own = np.concatenate([weights, np.full_like(weights[:, :1], -1.0)], axis=1)
    variance = np.einsum("cayx,ab,cbyx->cyx", own, correlation, own, optimize=True)
    shift = bias(model, expression) + mean * own.sum(axis=1)
    return np.asarray(np.sqrt(np.mean(deviation**2 * variance + shift**2, axis=0)))


def difference(source: Floats, output: Floats) -> Float:
    """Return the RMS difference of images (channels, height, width) over their channels."""
    squares = np.square(output.astype(np.float64) - source)
    return np.asarray(np.sqrt(squares.mean(axis=0)))


def bias(model: Model, expression: str) -> Float:
    """Return the bias of each pixel, float64 (channels, height, width)."""
    return model.weights[model.require(expression), :, -1].astype(np.float64)


def tap_weights(model: Model, expression: str) -> tuple[Float, Float]:
    """Return the mean weight and the mean absolute weight of each tap, float64 (taps,)."""
    weights = _taps(model, expression)
    return weights.mean(axis=(0, 2, 3)), np.abs(weights).mean(axis=(0, 2, 3))


def sharpness(model: Model, expression: str) -> Float:
    """Return the gain of each pixel's weights for the finest detail, float64 (height, width).

    1 keeps the detail of the input, less blurs, more sharpens. It is the mean of
    |sum_k w_k exp(i f . o_k)| over channels and over the frequencies f = (f_y, f_x) on a grid, of
    which one is at least half of the highest.
    """
    weights = _taps(model, expression)
    along = 2 * np.pi * np.fft.fftfreq(GRID)
    grid = np.array(
        [(fy, fx) for fy in along for fx in along if max(abs(fy), abs(fx)) >= np.pi / 2]
    )
    waves = np.exp(1j * (grid @ model.receptive_field.taps.T))
    gains = [np.abs(np.einsum("ckyx,k->cyx", weights, wave)).mean(axis=0) for wave in waves]
    return np.mean(gains, axis=0, dtype=np.float64)


def at(model: Model, expression: str, x: int, y: int) -> dict[str, Float]:
    """Return ``weights`` (channels, taps) and ``bias`` (channels,) of one pixel.

    With registration also ``mean`` and ``spread`` of the residual, (channels,).
    """
    _, height, width = model.shape
    if not (0 <= x < width and 0 <= y < height):
        raise OptionError(f"there is no pixel {x},{y} in {width}x{height} px")
    weights, biases = _taps(model, expression), bias(model, expression)
    found = {"weights": weights[:, :, y, x], "bias": biases[:, y, x]}
    if (appearance := appearance_of(model, expression)) is not None:
        found["mean"] = appearance.mean[:, y, x].astype(np.float64)
        found["spread"] = appearance.spread[:, y, x].astype(np.float64)
    return found


def as_window(model: Model, values: Float) -> Float:
    """Return one value for each tap as a picture of the window; NaN where there is no tap."""
    taps = model.receptive_field.taps
    reach = int(np.abs(taps).max())
    window = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    window[taps[:, 0] + reach, taps[:, 1] + reach] = values
    return window


def _taps(model: Model, expression: str) -> Float:
    """Return the weights without the bias, (channels, taps, height, width)."""
    return model.weights[model.require(expression), :, :-1].astype(np.float64)
