"""Resampling of a part of an image under a similarity, without aliasing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.photo.similarity import Similarity

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

REACH = 3  # pixels beyond the outline that the filters ask for, of the input and of the result


def warp(pixels: Pixels, transform: Similarity, height: int, width: int) -> Floats:
    """Return an image as seen through a similarity.

    Parameters
    ----------
    pixels : ndarray of uint8, uint16 or float32, shape (rows, columns, channels)
        What to look at. It goes on beyond its edges with the colours that it has there.
    transform : Similarity
        From its coordinates to those of the result.
    height, width : int
        Size of the result, in pixels.

    Returns
    -------
    ndarray of float32, shape (height, width, channels)
        In the units of the input, neither rounded nor clipped. Bicubic; where the image shrinks, it
        is sampled more finely first and then reduced with a Lanczos filter. Memory goes with the
        part of the image that is seen, not with the image.
    """
    back = transform.inverse
    around = REACH if back.scale > 1 else 0
    if around:
        shift = Similarity(1, complex(around, around))
        back = (shift @ transform).inverse
        height, width = height + 2 * around, width + 2 * around
    part, corner = _part(pixels, back, height, width)
    # A large reduction starts with means of whole boxes, which leave a factor from 2 to 3.
    box = max(1, math.floor(back.scale / 2))
    fine = math.ceil(back.scale / box - 1e-9)  # samples for each pixel of the result, each way
    fine = max(1, fine)
    to_part = Similarity(1 / box, -corner / box) @ back @ Similarity(1 / fine, 0)
    a, b = to_part.factor.real, to_part.factor.imag
    affine = (a, -b, to_part.shift.real, b, a, to_part.shift.imag)
    result = np.empty((height, width, pixels.shape[2]), np.float32)
    for channel in range(pixels.shape[2]):
        image: PIL.Image.Image = PIL.Image.fromarray(part[..., channel].astype(np.float32))
        if box > 1:
            image = image.reduce(box)
        image = image.transform(
            (width * fine, height * fine),
            PIL.Image.Transform.AFFINE,
            affine,
            PIL.Image.Resampling.BICUBIC,
        )
        if fine > 1:
            image = image.resize((width, height), PIL.Image.Resampling.LANCZOS)
        result[..., channel] = np.asarray(image)
    return result[around : height - around, around : width - around]


def seen(transform: Similarity, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the smallest frame that holds what an image becomes, as (top, bottom, left, right)."""
    corners = [transform(complex(x, y)) for x in (0, width) for y in (0, height)]
    return (
        math.floor(min(corner.imag for corner in corners)),
        math.ceil(max(corner.imag for corner in corners)),
        math.floor(min(corner.real for corner in corners)),
        math.ceil(max(corner.real for corner in corners)),
    )


def _part(pixels: Pixels, back: Similarity, height: int, width: int) -> tuple[Pixels, complex]:
    """Return what the result is made of, continued beyond the edges, and where its corner lies."""
    top, bottom, left, right = seen(back, height, width)
    margin = REACH * max(1, math.floor(back.scale / 2))
    top, bottom, left, right = top - margin, bottom + margin, left - margin, right + margin
    rows, columns = pixels.shape[:2]
    inside_top, inside_bottom = min(max(top, 0), rows - 1), max(min(bottom, rows), 1)
    inside_left, inside_right = min(max(left, 0), columns - 1), max(min(right, columns), 1)
    part = pixels[inside_top:inside_bottom, inside_left:inside_right]
    beyond = (
        (max(0, inside_top - top), max(0, bottom - inside_bottom)),
        (max(0, inside_left - left), max(0, right - inside_right)),
        (0, 0),
    )
    corner = complex(inside_left - beyond[1][0], inside_top - beyond[0][0])
    return (np.pad(part, beyond, mode="edge") if any(map(any, beyond)) else part), corner
