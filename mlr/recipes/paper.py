"""The paper's recipe: Khan et al., Masked Linear Regression, IJCV 2020."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band
from mlr.core.exposure import Exposure
from mlr.core.layout import Layout
from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.solve import solve, solving_bytes
from mlr.core.statistics import Statistics
from mlr.errors import DataError
from mlr.recipes.options import PaperOptions
from mlr.utils.options import check_options

SIDE = 3  # of the window


@dataclass(frozen=True)
class Paper(PaperOptions):
    """A ridge regression of every pixel and channel on its receptive field.

    One penalty on all coefficients, the bias included, pulls them to zero.

    Attributes
    ----------
    receptive_field : ReceptiveField, int, str or sequence of (dy, dx), optional
        The taps, converted by `ReceptiveField.of`; by default those of the statistics, or 3x3.
    penalty : float
        Ridge penalty for intensities in [0, 1].

    Raises
    ------
    OptionError
        If the penalty is negative or not finite.
    """

    registers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.receptive_field is not None:
            object.__setattr__(self, "receptive_field", ReceptiveField.of(self.receptive_field))
        check_options(self)

    def layout(self) -> Layout:
        """Return the layout of the taps, each channel on its own."""
        return Layout(self.receptive_field or ReceptiveField.square(SIDE))

    def layout_within(self, found: Layout) -> Layout:
        """Return the layout of the taps asked for, or else of all that statistics hold.

        Raises
        ------
        DataError
            If their channels are pooled.
        """
        if found.pooled:
            raise DataError(
                "statistics for the recipe best, of all channels together; "
                "make them with --recipe paper"
            )
        return Layout(self.receptive_field or found.receptive_field)

    def halo(self, head: Statistics) -> int:
        """Return how many rows around a band its weights depend on."""
        return int(np.abs(head.receptive_field.taps[:, 0]).max())

    def solving_bytes(self, head: Statistics, rows: int) -> float:
        """Return the bytes that `solve` allocates for a band."""
        return float((rows + 2 * self.halo(head)) * solving_bytes(head))

    def solve(self, crop: Statistics, band: Band) -> tuple[npt.NDArray[np.float32], ...]:
        """Return the weights of a band, (expressions, channels, taps + 1, rows, width).

        Raises
        ------
        MlrError
            If weights overflow.
        """
        return (solve(crop, self.penalty, band.inner),)

    def model(
        self,
        head: Statistics,
        solved: Sequence[npt.NDArray[np.float32]],
        exposure: Exposure,
    ) -> Model:
        """Return the model.

        Parameters
        ----------
        head : Statistics
            Of any rows.
        solved : sequence of ndarray
            What `solve` returns, of all rows.
        exposure : Exposure
            Of the source images.
        """
        as_published = self.penalty == PaperOptions.penalty and head.layout == Layout(
            ReceptiveField.square(SIDE)
        )
        return Model(
            weights=solved[0],
            receptive_field=head.receptive_field,
            expressions=head.expressions,
            info=ModelInfo(
                source=head.source,
                recipe="paper" if as_published else "custom",
                penalty=self.penalty,
                prior="zero",
                pairs=head.pairs,
                digest=head.hexdigest,
                exposure=exposure,
            ),
        )
