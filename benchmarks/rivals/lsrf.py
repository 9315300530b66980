"""Locally constrained OMP: LSRF (Akram and Khan, Multimedia Tools and Applications 2023).

The authors' successor of masked regression: OMP whose score rewards input pixels close to the
supports of the neighbouring output pixels. As we read the paper, and the program that its authors
publish, for output pixel k and candidate j:

    score(j) = |sum over channels of <x_j, r_k>| + beta / (sum over m in N(k) of dist(j, S_m))

x_j centred and of unit length in each channel, r_k the residual, N(k) the 3x3 neighbours of k
inside the image, k included, S_m their supports, dist the least Euclidean distance in pixels. There
is one set of coefficients for all channels, a penalised bias, and after each choice a ridge
regression on the chosen pixels. The supports start as the 3x3 windows, and there is one pass over
all pixels, as in the published program, so the order of the pixels does not matter. The distance of
k itself is 0: it always comes first. At the published beta of 60 the distances decide all but ties,
the four direct neighbours come next, and the support of five pixels is the plus.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from benchmarks.rivals.base import DATA_RANGE, Images, Outputs, Rival, Rows, Setting, State
from benchmarks.rivals.pursuit import fitted, pursue, refit, sparse_state

SPARSITIES, BETAS, PENALTIES = (1, 5, 9), (1.0, 60.0), (0.04, 0.4)  # SETTINGS triples
PUBLISHED = 0.4  # the penalty while pixels are chosen; that of the grid is for the final weights
NEAREST = 1e-6  # pixels; stands for 0 in a denominator


class LocalPursuit(Rival):
    """OMP with the locality constraint."""

    name, key, family = "LSRF (local OMP)", "lsrf", "linear"
    largest = 128

    def grid(self) -> list[Setting]:
        """Return numbers of input pixels, betas and penalties; 5, 60 and 0.4 are the authors'."""
        return [
            {"nonzero": n, "beta": b, "penalty": p}
            for b, p, n in product(BETAS, PENALTIES, SPARSITIES)
        ]

    def fit(
        self,
        inputs: Images,
        targets: Images,
        nonzero: int = 5,
        beta: float = 60.0,
        penalty: float = 0.4,
    ) -> None:
        """Choose supports and weights for all channels together."""
        X, T = _planes(inputs), _planes(targets)
        bonus = np.float32(beta) * closeness(*inputs.shape[1:3])
        supports = pursue(X, T, nonzero, penalty=PUBLISHED, bias=True, bonus=bonus)
        self.solution = sparse_state(supports, *refit(X, T, supports, penalty, bias=True))

    def predict(self, inputs: Images) -> Outputs:
        """Return the weighted sums."""
        X = _planes(inputs)
        return _images(fitted(X, *self.solution.values()), inputs.shape)

    def path(self, inputs: Images, targets: Images, held_out: Images) -> Any:
        """Yield the predictions of each setting; sparser supports are the start of one pursuit."""
        X, T, held = _planes(inputs), _planes(targets), _planes(held_out)
        for beta in BETAS:
            bonus = np.float32(beta) * closeness(*inputs.shape[1:3])
            all_of = pursue(X, T, max(SPARSITIES), penalty=PUBLISHED, bias=True, bonus=bonus)
            for penalty, nonzero in product(PENALTIES, SPARSITIES):
                first = all_of[:, :nonzero]
                weights = refit(X, T, first, penalty, bias=True)
                yield _images(fitted(held, first, *weights), held_out.shape)

    def state(self) -> State:
        """Return supports, weights and biases."""
        return self.solution


@lru_cache(maxsize=1)
def closeness(height: int, width: int) -> Rows:
    """Return 1 / (sum over m in N(k) of dist(j, S_m)), float32 (D, D), rows k and columns j.

    S_m are the 3x3 windows. Those clipped at the border have the same distance to j as whole ones.
    """
    y, x = (index.ravel() for index in np.indices((height, width)))
    total = np.zeros((y.size, y.size), np.float32)
    for dy, dx in product((-1, 0, 1), repeat=2):
        my, mx = y + dy, x + dx
        inside = (my >= 0) & (my < height) & (mx >= 0) & (mx < width)
        across = np.maximum(abs(np.arange(width) - mx[inside, None]) - 1, 0)
        down = np.maximum(abs(np.arange(height) - my[inside, None]) - 1, 0)
        distance = np.hypot(down[:, :, None], across[:, None, :], dtype=np.float32)
        total[inside] += distance.reshape(len(distance), -1)
    return 1 / np.maximum(total, np.float32(NEAREST))


def _planes(images: Images) -> Rows:
    """Return (channels, N, D) in [0, 1]."""
    planes = np.moveaxis(images / DATA_RANGE, 3, 0)
    return np.ascontiguousarray(planes).reshape(*planes.shape[:2], -1)


def _images(planes: Rows, shape: tuple[int, ...]) -> Outputs:
    channels = planes.reshape(shape[3], *shape[:3])
    return np.ascontiguousarray(np.moveaxis(channels, 0, 3), np.float32)


RIVALS: list[Any] = [LocalPursuit]
