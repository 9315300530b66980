"""Displacement fields: look up, compose, invert and resize them, and warp images by them.

A field u is an array of float32 of shape (2, height, width) that holds (dy, dx) in its own pixels.
It warps an image to warp(I, u)(p) = I(p + u(p)); edges repeat.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.kernels import fields as kernels

Floats = npt.NDArray[np.float32]

STEP = 64  # fields are rounded to 1/64 of a pixel
INVERSIONS = 12


def look_up(planes: Floats, field: Floats) -> Floats:
    """Return planes(p + field(p)) for planes (N, height, width), bilinear."""
    output = np.empty((len(planes), *field.shape[1:]), np.float32)
    kernels.look_up(0, len(planes), _contiguous(planes), _contiguous(field), output)
    return output


def compose(outer: Floats, inner: Floats) -> Floats:
    """Return the composed field inner(p) + outer(p + inner(p))."""
    return inner + look_up(outer, inner)


def invert(field: Floats, iterations: int = INVERSIONS) -> Floats:
    """Return v with v(q) = -field(q + v(q)), by fixed-point iteration."""
    found = -field
    for _ in range(iterations):
        found = -look_up(field, found)
    return found


def rounded(field: Floats) -> Floats:
    """Return a field in whole steps of 1/64 of its pixels."""
    return np.rint(field * np.float32(STEP)) * np.float32(1 / STEP)


def resize_field(field: Floats, height: int, width: int) -> Floats:
    """Return a field for images of another size, in their pixels."""
    factors = np.array([height / field.shape[1], width / field.shape[2]], np.float32)
    return _enlarged(field, height, width, factors)


def enlarged(planes: Floats, height: int, width: int) -> Floats:
    """Return planes (N, h, w) resized to (N, height, width), bilinear about pixel centres."""
    return _enlarged(planes, height, width, np.ones(len(planes), np.float32))


def _enlarged(planes: Floats, height: int, width: int, factors: Floats) -> Floats:
    output = np.empty((len(planes), height, width), np.float32)
    kernels.enlarge(0, len(planes), _contiguous(planes), factors, output)
    return output


def warp(planes: Floats, field: Floats) -> Floats:
    """Return the image planes(p + field(p)), by cubic B-splines that pass through its pixels.

    Parameters
    ----------
    planes : ndarray of float32, shape (N, height, width)
        Channels of an image.
    field : ndarray of float32, shape (2, height, width)
    """
    output = np.empty((len(planes), *field.shape[1:]), np.float32)
    kernels.cubic(0, field.shape[1], coefficients(planes), _contiguous(field), output)
    return output


def coefficients(planes: Floats) -> Floats:
    """Return the coefficients of cubic B-splines through planes, (N, height + 2, width + 2)."""
    count, height, width = planes.shape
    found = np.empty((count, height + 2, width + 2), np.float32)
    kernels.spline_coefficients(0, count, _contiguous(planes), found)
    return found


def symmetric(planes: Floats, axis: int = -1) -> Floats:
    """Return the mean of planes and their mirror images, flipped along an axis."""
    return np.asarray((planes + np.flip(planes, axis)) * np.float32(0.5), np.float32)


def symmetric_field(field: Floats) -> Floats:
    """Return the mean of a field and of the field that warps flipped images alike."""
    mirrored = field[..., ::-1] * np.array([1, -1], np.float32)[:, None, None]
    return np.asarray((field + mirrored) * np.float32(0.5), np.float32)


def area_averaged(image: Floats, height: int, width: int) -> Floats:
    """Return an image (h, w, channels) resized to height x width by area averaging."""
    if image.shape[:2] == (height, width):
        return _contiguous(image)
    output = np.empty((height, width, image.shape[2]), np.float32)
    kernels.area_average(0, height, _contiguous(image), output)
    return output


def halved(image: Floats) -> Floats:
    """Return the means of 2 x 2 pixels of (height, width, channels); the sides are even."""
    height, width, channels = image.shape
    pairs = image.reshape(height // 2, 2, width // 2, 2, channels)
    total = (pairs[:, 0, :, 0] + pairs[:, 0, :, 1]) + (pairs[:, 1, :, 0] + pairs[:, 1, :, 1])
    return np.asarray(total * np.float32(0.25), np.float32)


def _contiguous(array: Floats) -> Floats:
    """Return a writable C-contiguous array, as kernels are compiled for; models are read-only."""
    return np.require(array, np.float32, ["C", "W"])
