"""Checks of the arrays and numbers of templates that come from a file.

The bounds are far beyond what images give. With larger numbers, float32 overflows in registration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import Eyes

MOST = 1000.0  # bound of features, residuals, lights and styles
LARGEST = 1e30  # bound of factors of features in float64
LEAST_LIGHT = 0.001  # least brightness; training measures at least 1/255
LEAST_DISTANCE = 0.1  # of the eyes, in widths of the image; half of what training looks for

Array = npt.NDArray[Any]


def stored_array(
    arrays: Mapping[str, Array],
    name: str,
    shape: tuple[int, ...],
    most: float = MOST,
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Return an array of a file.

    Raises a `KeyError` if it is missing, and a `ValueError` unless it has this shape and dtype and
    its values lie between -``most`` and ``most``.
    """
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} is {found}, expected {np.dtype(dtype)} of shape {shape}")
    for bound in (array.min(), array.max()):
        if not abs(float(bound)) <= most:  # NaN, too
            raise ValueError(f"{name} has the value {bound}, expected at most {most:g}")
    return array


def stored_number(name: str, value: Any, least: float = -MOST) -> float:
    """Return a number of a file, from ``least`` to `MOST`; otherwise raise a `ValueError`."""
    if not isinstance(value, int | float) or not least <= value <= MOST:
        raise ValueError(f"{name} is {_short(value)}, expected a number from {least:g} to {MOST:g}")
    return float(value)


def stored_eyes(value: Any) -> Eyes:
    """Return the eyes of a file; raise a `ValueError` unless they are side by side."""
    try:
        (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in value)
        inside = all(0 <= each <= 1 for each in (x0, y0, x1, y1))
    except (TypeError, ValueError, OverflowError):
        inside = False
    if not inside or abs(x1 - x0) < LEAST_DISTANCE:
        expected = "two positions (x, y) side by side, from 0 to 1"
        raise ValueError(f"its eyes are {_short(value)}, expected {expected}")
    return (x0, y0), (x1, y1)


def _short(value: Any) -> str:
    """Return a value for an error message, not longer than a line."""
    text = str(value)
    return text if len(text) <= 60 else text[:60] + "..."
