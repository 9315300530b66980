"""SVD-based: principal-component regression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.rivals.base import Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.dual import Spectrum

COMPONENTS = (1, 2, 3, 5, 7, 10, 14, 18, 24, 30, 40, 50)  # SETTINGS of them


class PrincipalComponents(Channelwise):
    """Least squares on the first principal components of the faces."""

    name, key, family = "SVD: principal components", "pcr", "linear"

    def grid(self) -> list[Setting]:
        """Return numbers of components; never more are used than there are."""
        return [{"components": count} for count in COMPONENTS]

    def solve(self, X: Rows, T: Rows, components: int = 10) -> State:
        """Return the axes (D, k) and the regression on them (k, D)."""
        (X, mean_x), (T, mean_t) = centred(X), centred(T)
        spectrum = Spectrum(X @ X.T)
        U, s = spectrum.vectors[:, :components], spectrum.values[:components]
        axes, onto = X.T @ U, (U.T @ T) / s[:, None]  # X' U is V diag(sqrt s)
        return {"axes": axes, "onto": onto, "mean_x": mean_x, "mean_t": mean_t}

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return (x - mean) V B + mean."""
        return (X - solution["mean_x"]) @ solution["axes"] @ solution["onto"] + solution["mean_t"]

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Decompose once, for all components, and use the first few."""
        full = self.solve(X, T, max(COMPONENTS))
        scores = (held_out - full["mean_x"]) @ full["axes"]
        for count in COMPONENTS:
            yield scores[:, :count] @ full["onto"][:count] + full["mean_t"]


RIVALS: list[Any] = [PrincipalComponents]
