"""l2: ridge regression of every pixel on the whole face."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.rivals.base import SETTINGS, Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.dual import Spectrum


class Ridge(Channelwise):
    """Minimises ||T - X W - b||^2 + penalty ||W||^2; the bias b is free.

    The penalty is a multiple of the mean squared length of a centred training face. The solution is
    kept in its dual form, W = X' A, which is smaller than W: two arrays of N x D numbers.
    """

    name, key, family = "l2 (ridge)", "ridge", "linear"

    def grid(self) -> list[Setting]:
        """Return penalties."""
        return [{"penalty": float(p)} for p in np.logspace(-3, 2.5, SETTINGS)]

    def solve(self, X: Rows, T: Rows, penalty: float = 1.0) -> State:
        """Return the centred faces, their dual coefficients and the means."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        A = Spectrum(X @ X.T).coefficients(T, penalty)
        return {"faces": X, "coefficients": A, "mean_x": mean_x, "mean_t": mean_t}

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return (x - mean) X' A + mean."""
        inner = (X - solution["mean_x"]) @ solution["faces"].T
        return inner @ solution["coefficients"] + solution["mean_t"]

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Decompose once for all penalties."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        spectrum, inner = Spectrum(X @ X.T), (held_out - mean_x) @ X.T
        for rows in spectrum.fitted(inner, T, [setting["penalty"] for setting in self.grid()]):
            yield rows + mean_t


RIVALS: list[Any] = [Ridge, partial(Ridge, change=True)]
