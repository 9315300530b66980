"""Ridge regression in its dual form, for many more pixels than subjects.

With centred rows X (N, D), K = X X' = U diag(s) U', the weights of ridge regression are X' A with
A = U diag(1 / (s + penalty)) U' T: nothing of size D x D is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.rivals.base import Rows

TINY = 1e-10  # eigenvalues below this share of the largest are rounding errors


class Spectrum:
    """Eigenvectors and eigenvalues of a kernel matrix K (N, N).

    Attributes
    ----------
    vectors : ndarray of float64, shape (N, rank)
    values : ndarray of float64, shape (rank,)
        Descending; those that are rounding errors are omitted.
    scale : float
        The mean of the diagonal of K, the unit of penalties, which makes them independent of the
        size of the images.
    """

    def __init__(self, K: Rows) -> None:
        values, vectors = np.linalg.eigh(K)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = values > TINY * max(values[0], np.finfo(float).tiny)
        self.vectors, self.values = vectors[:, kept], values[kept]
        self.scale = float(np.trace(K)) / len(K)

    def coefficients(self, T: Rows, penalty: float) -> Rows:
        """Return A of shape (N, D) for centred targets T; ``penalty`` in units of `scale`."""
        shrunk = (self.vectors.T @ T) / (self.values + penalty * self.scale)[:, None]
        return self.vectors @ shrunk

    def fitted(self, K: Rows, T: Rows, penalties: Sequence[float]) -> Iterator[Rows]:
        """Yield K A for each penalty, K (M, N) the kernel of other rows with those fitted."""
        left, right = K @ self.vectors, self.vectors.T @ T
        for penalty in penalties:
            yield (left / (self.values + penalty * self.scale)) @ right
