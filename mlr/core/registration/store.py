"""What synthesis needs of templates as named arrays, for model files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.registration.geometry import Geometry
from mlr.core.registration.synthesis import Look, Registered

_ARRAYS = ("template", "variation", "motion", "shape", "mean", "spread", "share", "face")
_NUMBERS = ("light", "style", "other", "plain", "explained")


def registered_to_arrays(
    registered: Registered,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the arrays by name, numbered by expression in alphabetical order, and all else."""
    arrays: dict[str, npt.NDArray[Any]] = {"source_template": registered.source}
    for index, (_, look) in enumerate(sorted(registered.looks.items())):
        arrays |= {f"{key}{index}": getattr(look, key) for key in _ARRAYS}
    numbers = {
        name: {key: getattr(look, key) for key in _NUMBERS}
        for name, look in sorted(registered.looks.items())
    }
    return arrays, {
        "eyes": registered.geometry.eyes,
        "white": registered.white,
        "looks": numbers,
    }


def registered_from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    noted: Mapping[str, Any],
    size: tuple[int, ...],
    channels: int,
) -> Registered:
    """Return what `registered_to_arrays` took apart.

    Raises
    ------
    LookupError, TypeError, ValueError
        If something is missing or not what it should be.
    """
    (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in noted["eyes"])
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 == x1:
        raise ValueError(f"its eyes are {noted['eyes']}")
    geometry = Geometry((int(size[0]), int(size[1])), ((x0, y0), (x1, y1)))
    half, whole = geometry.fields, (channels, *geometry.size)
    names = sorted(noted["looks"])
    planes = (*half, 2)
    shapes = dict(
        zip(
            _ARRAYS,
            (planes, planes, (2, *half), (2, *half), whole, whole, geometry.size, whole),
            strict=True,
        )
    )

    def checked(name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        array = arrays[name]
        dtype = np.uint8 if name.startswith("face") else np.float32
        if array.dtype != dtype or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
        return array

    looks = {}
    for index, name in enumerate(names):
        numbers = {key: float(noted["looks"][name][key]) for key in _NUMBERS}
        if not all(map(math.isfinite, numbers.values())) or numbers["light"] <= 0:
            raise ValueError(f"the style of {name} is {numbers}")
        own: dict[str, Any] = {
            key: checked(f"{key}{index}", shape) for key, shape in shapes.items()
        }
        if max(float(np.abs(own[key]).max()) for key in ("motion", "shape")) > max(half):
            raise ValueError("it moves pixels farther than the image is large")
        looks[name] = Look(**(own | numbers))
    white = float(noted["white"])
    if not 0 < white < math.inf:
        raise ValueError(f"the white of its eyes is {white}")
    return Registered(geometry, checked("source_template", planes), white, looks)
