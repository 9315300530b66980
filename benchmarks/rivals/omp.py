"""l0: orthogonal matching pursuit of every output pixel over the whole face."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from benchmarks.rivals.base import Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.pursuit import Supports, fitted, pursue, refit, sparse_state

SPARSITIES, PENALTIES = (1, 5, 9), (0.0, 0.04, 0.4, 4.0)  # SETTINGS pairs


class MatchingPursuit(Channelwise):
    """Chooses the input pixels by OMP; the last regression on them may be penalised.

    Penalty 0 is OMP as in scikit-learn. The others shrink the coefficients of the chosen pixels,
    which helps it much with a few dozen subjects.
    """

    name, key, family, dtype = "l0 (OMP)", "omp", "linear", np.float32
    largest = 128

    def grid(self) -> list[Setting]:
        """Return numbers of input pixels, and penalties for intensities in [0, 1]."""
        return [{"nonzero": n, "penalty": p} for n, p in product(SPARSITIES, PENALTIES)]

    def solve(self, X: Rows, T: Rows, nonzero: int = 5, penalty: float = 0.0) -> State:
        """Return supports, weights and biases."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        supports = pursue(X[None], T[None], nonzero)
        return _weighted(X, T, mean_x, mean_t, supports, penalty)

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return the weighted sums."""
        return fitted(X, solution["supports"], solution["weights"], solution["bias"])

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Pursue once, and use the first few."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        supports = pursue(X[None], T[None], max(SPARSITIES))
        for nonzero, penalty in product(SPARSITIES, PENALTIES):
            first = supports[:, :nonzero]
            yield self.apply(_weighted(X, T, mean_x, mean_t, first, penalty), held_out)


def _weighted(
    X: Rows, T: Rows, mean_x: Rows, mean_t: Rows, supports: Supports, penalty: float
) -> State:
    weights, _ = refit(X[None], T[None], supports, penalty, bias=False)
    bias = mean_t - np.einsum("bk,bk->b", weights, mean_x[supports])
    return sparse_state(supports, weights, bias)


RIVALS: list[Any] = [MatchingPursuit]
