"""The base class of recipes, which choose planes, solve them in bands, and build the model."""

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

    registers: ClassVar[bool]  #: whether it registers faces, and pools their channels
    unfit: ClassVar[str]  #: error for statistics that are pooled otherwise

    def __post_init__(self) -> None:
        if self.receptive_field is not None:
            object.__setattr__(self, "receptive_field", ReceptiveField.of(self.receptive_field))
        check_options(self)

    def layout(self) -> Layout:
        """Return the planes it needs, by default for 3x3 taps."""
        return Layout(self.receptive_field or ReceptiveField.square(SIDE), pooled=self.registers)

    def layout_within(self, found: Layout) -> Layout:
        """Return the planes it uses of statistics, by default all.

        Raises a `DataError` if channels are pooled but should not be, or the reverse.
        """
        if found.pooled != self.registers:
            raise DataError(self.unfit)
        return Layout(self.receptive_field or found.receptive_field, pooled=self.registers)

    @abstractmethod
    def halo(self, head: Statistics) -> int:
        """Return the number of rows above and below a band that its results depend on."""

    @abstractmethod
    def solving_bytes(self, head: Statistics, rows: int) -> float:
        """Return the bytes that `solve` allocates for a band of this many rows."""

    @abstractmethod
    def solve(self, crop: Statistics, band: Band) -> tuple[Floats, ...]:
        """Return results for the rows of a band, (..., rows, width).

        Raises an `MlrError` if the statistics lack something, or weights overflow.
        """

    @abstractmethod
    def model(self, head: Statistics, solved: Sequence[Floats], exposure: Exposure) -> Model:
        """Return the model, given statistics of any rows and the results of `solve` for all rows.

        The results may be changed in place; ``exposure`` is the source images'.
        """
