"""SVD-based: reduced-rank regression."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from benchmarks.rivals.base import Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.dual import Spectrum

RANKS, PENALTIES = (2, 5, 10, 20), (0.01, 0.1, 1.0)  # SETTINGS pairs


class ReducedRank(Channelwise):
    """Minimises ||T - X W||^2 + penalty ||W||^2 over W of a given rank.

    The solution is that of ridge regression, projected on the first right singular vectors of its
    fitted values, the rows of the penalty included (Mukherjee and Zhu 2011, "Reduced rank ridge
    regression and its kernel extensions").
    """

    name, key, family = "SVD: reduced rank", "rrr", "linear"

    def grid(self) -> list[Setting]:
        """Return ranks and penalties; the latter as in `ridge`."""
        return [{"rank": rank, "penalty": p} for p, rank in product(PENALTIES, RANKS)]

    def solve(self, X: Rows, T: Rows, rank: int = 10, penalty: float = 0.1) -> State:
        """Return W as a product of (D, rank) and (rank, D)."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        spectrum = Spectrum(X @ X.T)
        A, axes = _ridge_and_axes(spectrum, T, penalty)
        axes = axes[:rank]
        left = X.T @ (A @ axes.T)
        return {"left": left, "axes": axes, "mean_x": mean_x, "mean_t": mean_t}

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return (x - mean) W + mean."""
        return (X - solution["mean_x"]) @ solution["left"] @ solution["axes"] + solution["mean_t"]

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Decompose once for each penalty."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        spectrum, inner = Spectrum(X @ X.T), (held_out - mean_x) @ X.T
        for penalty in PENALTIES:
            A, axes = _ridge_and_axes(spectrum, T, penalty)
            scores = inner @ (A @ axes.T)
            for rank in RANKS:
                yield scores[:, :rank] @ axes[:rank] + mean_t


def _ridge_and_axes(spectrum: Spectrum, T: Rows, penalty: float) -> tuple[Rows, Rows]:
    """Return the dual coefficients of ridge regression, and the axes (N, D) to project it on.

    The fitted values F with the penalty's rows have F'F = M'M for
    M = diag(sqrt(s / (s + penalty))) U' T, which has N rows instead of N + D.
    """
    shrink = np.sqrt(spectrum.values / (spectrum.values + penalty * spectrum.scale))
    M = shrink[:, None] * (spectrum.vectors.T @ T)
    values, vectors = np.linalg.eigh(M @ M.T)
    kept = values[::-1] > 1e-12 * max(values[-1], np.finfo(float).tiny)
    vectors = vectors[:, ::-1][:, kept]
    axes = vectors.T @ M
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return spectrum.coefficients(T, penalty), axes


RIVALS: list[Any] = [ReducedRank]
