"""The input plus the mean difference of the training pairs: a bias for each pixel alone."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals.base import Channelwise, Rows, State


class MeanChange(Channelwise):
    """Adds the mean change of the training subjects."""

    name, key, family = "mean change", "mean-change", "baseline"

    def solve(self, X: Rows, T: Rows, **setting: Any) -> State:
        """Return the mean of T - X."""
        return {"change": (T - X).mean(axis=0)}

    def apply(self, solution: State, X: Rows) -> Rows:
        """Add it."""
        return X + solution["change"]


RIVALS = [MeanChange]
