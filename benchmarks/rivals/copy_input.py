"""The unchanged input: the baseline of every method."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals.base import DATA_RANGE, Images, Outputs, Rival, State


class CopyInput(Rival):
    """Returns what it is given."""

    name, key, family = "copy of the input", "copy", "baseline"

    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Learn nothing."""

    def predict(self, inputs: Images) -> Outputs:
        """Return the inputs."""
        return inputs / DATA_RANGE

    def state(self) -> State:
        """Return nothing."""
        return {}


RIVALS = [CopyInput]
