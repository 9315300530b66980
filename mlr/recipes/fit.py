"""Fitting a model with a recipe, band by band."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import face_share
from mlr.core.bands import Band, RowSource, bands
from mlr.core.exposure import Exposure, row_sums
from mlr.core.model import Model
from mlr.errors import MlrError, OptionError
from mlr.recipes.base import Floats
from mlr.recipes.base import Recipe as Recipe
from mlr.recipes.best import Best
from mlr.recipes.paper import Paper

ROWS = 16  # of a band, where memory is no concern

#: "best" registers faces first; "paper" is Khan et al. 2020, exactly.
RECIPES: dict[str, type[Recipe]] = {"best": Best, "paper": Paper}
DEFAULT = "best"


def recipe(name: str, options: Mapping[str, Any]) -> Recipe:
    """Return one of `RECIPES` with options; options that are None keep their defaults.

    Raises an `OptionError` if there is no such recipe or option, or one is out of range.
    """
    if name not in RECIPES:
        raise OptionError(f"unknown recipe {name!r}; there is: {', '.join(RECIPES)}")
    chosen = {key: value for key, value in options.items() if value is not None}
    known = {field.name for field in fields(RECIPES[name])}
    for key in chosen:
        if key not in known:
            raise OptionError(f"the recipe {name} has no option {key.replace('_', ' ')}")
    return RECIPES[name](**chosen)


def _zeros(shape: tuple[int, ...]) -> Floats:
    return np.zeros(shape, np.float32)


def fit(
    recipe: Recipe,
    source: RowSource,
    cut: Sequence[Band] | None = None,
    zeros: Callable[[tuple[int, ...]], Floats] = _zeros,
    track: Callable[[Sequence[Band]], Iterable[Band]] = iter,
) -> Model:
    """Solve the regression of every pixel, band by band, and return the model.

    The bands ``cut`` go from top to bottom, with the halo of the recipe; by default they have
    `ROWS` rows. ``zeros`` allocates float32 arrays for the results, and ``track`` yields the bands
    while progress is shown. Raises an `MlrError` if there are no pairs or weights overflow.
    """
    head = source.head
    if not head.expressions:
        raise MlrError("there is no training pair in these statistics")
    _, height, width = head.shape
    share = face_share(height, width).astype(np.float64)
    results: list[Floats] = []
    exposure: list[npt.NDArray[np.float64]] = []
    for band in track(cut or bands(height, ROWS, recipe.halo(head))):
        crop = source.rows(band.above, band.below)
        solved = recipe.solve(crop, band)
        results = results or [zeros((*array.shape[:-2], height, width)) for array in solved]
        for result, array in zip(results, solved, strict=True):
            result[..., band.rows, :] = array
        exposure.append(row_sums(crop, band, share))
        del crop, solved  # before the next band is read
    return recipe.model(head, results, Exposure.of_rows(exposure, share, head))
