"""Masked regression: the program's recipes, and the paper's with other options."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mlr
from benchmarks.rivals.base import DATA_RANGE, SETTINGS, Images, Outputs, Rival, Setting, State
from mlr.core.model import Model
from mlr.recipes.fit import RECIPES


class Masked(Rival):
    """A method that trains a `Model`."""

    family = "masked"
    model: Model

    def predict(self, inputs: Images) -> Outputs:
        """Apply the model, without clipping."""
        return np.asarray(self.model.synthesize(inputs / DATA_RANGE), np.float32)

    def state(self) -> State:
        """Return the weights."""
        return {"weights": self.model.weights}

    def parameters(self) -> int:
        """Return the number of coefficients of the model."""
        return self.model.parameters

    def save(self, path: Path) -> None:
        """Write the program's model file."""
        mlr.save(self.model, path, force=True)


class Recipe(Masked):
    """`mlr train --recipe NAME`, on arrays; ``style`` is that of the outputs."""

    def __init__(self, recipe: str, style: float | None = None) -> None:
        self.recipe, self.style = recipe, style
        self.name, self.key = f"mlr: {recipe}", f"mlr-{recipe}"
        if style is not None:
            self.name, self.key = f"{self.name}, style {style:g}", f"{self.key}-style-{style:g}"

    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Train with the recipe's settings."""
        self.model = mlr.MaskedRegression(recipe=self.recipe).fit(inputs, targets).model_

    def predict(self, inputs: Images) -> Outputs:
        """Apply the model, without clipping, at the style if there is one to choose."""
        styled = any(each.styled for each in self.model.appearances.values())
        style = self.style if styled else None
        return np.asarray(self.model.synthesize(inputs / DATA_RANGE, style=style), np.float32)


class Window(Masked):
    """Masked regression as in the paper, with the side of the window and the penalty chosen."""

    name, key = "mlr: window, penalty chosen", "mlr-chosen"
    sides: tuple[int, ...] = (3, 5, 7)

    def grid(self) -> list[Setting]:
        """Return sides of the window and penalties."""
        penalties = np.logspace(-3, 1, SETTINGS // len(self.sides))
        return [{"side": side, "penalty": float(p)} for side in self.sides for p in penalties]

    def fit(self, inputs: Images, targets: Images, side: int = 3, penalty: float = 0.4) -> None:
        """Train with the recipe "paper" and these two."""
        regression = mlr.MaskedRegression(side, penalty, recipe="paper")
        self.model = regression.fit(inputs, targets).model_


class OnePixel(Window):
    """A slope and a bias for each pixel (Akram and Khan, ICPR 2020)."""

    name, key, family = "one pixel to one pixel", "pixel", "linear"
    sides = (1,)


RIVALS: list[Any] = [
    *(partial(Recipe, name) for name in sorted(RECIPES)),
    partial(Recipe, "best", 0.0),
    Window,
    OnePixel,
]
