"""Kernel ridge regression of the whole face: Gaussian (RBF) and polynomial."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any, ClassVar

import numpy as np

from benchmarks.rivals.base import Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.dual import Spectrum


class KernelRidge(Channelwise):
    """Minimises ||T - f(X)||^2 + penalty |f|^2 in the space of a kernel, around the mean target.

    Penalties are multiples of the mean of the kernel's diagonal, widths and scales relative to the
    distances and lengths of the training faces, independent of the size of the images.
    """

    family = "kernel"
    shapes: ClassVar[dict[str, float]]  # the kernel's own hyper-parameters, with a value for each

    @abstractmethod
    def kernel(self, X: Rows, Y: Rows, scale: float, **shape: Any) -> Rows:
        """Return the kernel of the rows of X and the rows of Y."""

    def solve(self, X: Rows, T: Rows, penalty: float = 0.1, **shape: Any) -> State:
        """Return the centred faces, their dual coefficients and the means."""
        shape = self.shapes | shape
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        scale = _scale(X)
        A = Spectrum(self.kernel(X, X, scale, **shape)).coefficients(T, penalty)
        shape_of = {name: np.array(value) for name, value in shape.items()}
        return {
            "faces": X, "coefficients": A, "mean_x": mean_x, "mean_t": mean_t,
            "scale": np.array(scale), **shape_of,
        }  # fmt: skip

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return k(x, X) A + mean."""
        shape = {name: float(solution[name]) for name in self.shapes}
        centred_x = X - solution["mean_x"]
        K = self.kernel(centred_x, solution["faces"], float(solution["scale"]), **shape)
        return K @ solution["coefficients"] + solution["mean_t"]

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Decompose once for each shape of the kernel."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        scale = _scale(X)
        held_out = held_out - mean_x

        def shape_of(setting: Setting) -> Setting:
            return {name: setting[name] for name in self.shapes}

        for shape, settings in groupby(self.grid(), shape_of):
            spectrum = Spectrum(self.kernel(X, X, scale, **shape))
            K = self.kernel(held_out, X, scale, **shape)
            for rows in spectrum.fitted(K, T, [setting["penalty"] for setting in settings]):
                yield rows + mean_t


class Gaussian(KernelRidge):
    """exp(-gamma d^2 / (mean squared length of a centred face))."""

    name, key, shapes = "kernel ridge (RBF)", "rbf", {"gamma": 0.1}

    def grid(self) -> list[Setting]:
        """Return widths and penalties."""
        return [
            {"gamma": gamma, "penalty": penalty}
            for gamma in (0.02, 0.1, 0.5)
            for penalty in (0.001, 0.01, 0.1, 3.0)
        ]

    def kernel(self, X: Rows, Y: Rows, scale: float, **shape: Any) -> Rows:
        """Return the Gaussian of the distances."""
        squares = np.square(X).sum(axis=1)[:, None] + np.square(Y).sum(axis=1) - 2 * X @ Y.T
        result: Rows = np.exp(-shape["gamma"] / scale * np.maximum(squares, 0))
        return result


class Polynomial(KernelRidge):
    """(1 + x'y / (mean squared length of a centred face))^degree."""

    name, key, shapes = "kernel ridge (polynomial)", "polynomial", {"degree": 2}

    def grid(self) -> list[Setting]:
        """Return degrees and penalties."""
        return [
            {"degree": degree, "penalty": penalty}
            for degree in (2, 3)
            for penalty in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
        ]

    def kernel(self, X: Rows, Y: Rows, scale: float, **shape: Any) -> Rows:
        """Return the power of the inner products."""
        result: Rows = (1 + X @ Y.T / scale) ** shape["degree"]
        return result


def _scale(X: Rows) -> float:
    """Return the mean squared length of centred rows."""
    return float(np.square(X).sum(axis=1).mean()) or 1.0


RIVALS: list[Any] = [Gaussian, partial(Gaussian, change=True), Polynomial]
