"""Recipes: the choices that make a model out of image pairs.

A recipe says which sums over the pairs it needs, in how many folds, and fits a model to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mlr.core.bands import RowSums, Work
from mlr.core.layout import Layout
from mlr.core.model import Model
from mlr.errors import OptionError
from mlr.recipes.best import Best
from mlr.recipes.paper import Paper
from mlr.utils.progress import Report


class Recipe(Protocol):
    """What training asks of a recipe.

    Attributes
    ----------
    folds : int
        Into how many parts it wants the pairs cut.
    registers : bool
        Whether the pairs are moved into the frames of templates first.
    """

    folds: int
    registers: bool

    def layout(self, shape: tuple[int, int, int]) -> Layout:
        """Return which planes it needs for images of (channels, height, width)."""

    def fitting(self, found: Layout, shape: tuple[int, int, int]) -> Layout:
        """Return which planes it takes of statistics that were made before.

        Raises
        ------
        DataError
            If they are not for this recipe.
        """

    def works(self, sums: RowSums) -> list[Work]:
        """Return what `fit` takes: the works that there must be memory for."""

    def fit(self, sums: RowSums, report: Report) -> Model:
        """Return the model; its weights may be in a file rather than in memory.

        Raises
        ------
        MlrError
            If there are no pairs or weights overflow.
        """


#: "best" registers faces first; "paper" is Khan et al. 2020, exactly.
RECIPES: dict[str, type[Best] | type[Paper]] = {"best": Best, "paper": Paper}
DEFAULT = "best"


def recipe(name: str, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some of its choices made.

    Parameters
    ----------
    name : str
        One of `RECIPES`.
    options : mapping of str to object
        Choices by name; None is none.

    Raises
    ------
    OptionError
        If there is no such recipe or choice, or one makes no sense.
    """
    if name not in RECIPES:
        raise OptionError(f"unknown recipe {name!r}; there is: {', '.join(RECIPES)}")
    made = {key: value for key, value in options.items() if value is not None}
    for key in made:
        if key not in RECIPES[name].options:
            raise OptionError(f"the recipe {name} has no {key.replace('_', ' ')} to choose")
    return RECIPES[name](**made)
