"""What a recipe is: it says which planes it needs, solves them by bands, and makes a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band
from mlr.core.exposure import Exposure
from mlr.core.model import Model
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.statistics import Statistics
from mlr.errors import DataError
from mlr.recipes.options import StatisticsOptions
from mlr.utils.options import check_options

Floats = npt.NDArray[np.float32]

SIDE = 3  # of the default window


class Recipe(StatisticsOptions):
    """A recipe with its options."""

    registers: ClassVar[bool]  #: it registers faces, and pools their channels
    unfit: ClassVar[str]  #: what to say of statistics with other channels

    def __post_init__(self) -> None:
        if self.receptive_field is not None:
            object.__setattr__(self, "receptive_field", ReceptiveField.of(self.receptive_field))
        check_options(self)

    def layout(self) -> Layout:
        """Return which planes it needs, by default those of 3x3 taps."""
        return Layout(self.receptive_field or ReceptiveField.square(SIDE), pooled=self.registers)

    def layout_within(self, found: Layout) -> Layout:
        """Return which planes it takes of statistics, by default all.

        Raises a `DataError` if channels are pooled that should not be, or the other way round.
        """
        if found.pooled != self.registers:
            raise DataError(self.unfit)
        return Layout(self.receptive_field or found.receptive_field, pooled=self.registers)

    @abstractmethod
    def halo(self, head: Statistics) -> int:
        """Return how many rows around a band its results depend on."""

    @abstractmethod
    def solving_bytes(self, head: Statistics, rows: int) -> float:
        """Return the bytes that `solve` allocates for a band of this many rows."""

    @abstractmethod
    def solve(self, crop: Statistics, band: Band) -> tuple[Floats, ...]:
        """Return results for the rows of a band, (..., rows, width).

        Raises an `MlrError` if the statistics do not have all it takes, or weights overflow.
        """

    @abstractmethod
    def model(self, head: Statistics, solved: Sequence[Floats], exposure: Exposure) -> Model:
        """Return the model, given statistics of any rows and what `solve` returns, of all rows.

        The results may be changed in place; the exposure is that of the source images.
        """
