"""The paper's recipe: Khan et al., Masked Linear Regression, IJCV 2020."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band, RowSums, Work, check_memory
from mlr.core.exposure import Exposure
from mlr.core.folds import Folds
from mlr.core.layout import Layout
from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.solve import check_penalty, solve, solving_bytes
from mlr.errors import DataError, MlrError
from mlr.utils.progress import Report


class Paper:
    """One penalty on all coefficients, the bias included, that pulls them to zero.

    Parameters
    ----------
    receptive_field : ReceptiveField, int, str, optional
        As `ReceptiveField.of` takes it; by default what the statistics hold, or 3x3.
    penalty : float
        Ridge penalty for intensities in [0, 1].

    Raises
    ------
    OptionError
        If one of them makes no sense.
    """

    options = ("receptive_field", "penalty")
    folds = 1
    registers = False

    def __init__(self, receptive_field: Any = None, penalty: float = 0.4) -> None:
        check_penalty(penalty)
        self.field = None if receptive_field is None else ReceptiveField.of(receptive_field)
        self.penalty = penalty

    def layout(self, shape: tuple[int, int, int]) -> Layout:
        """Return the layout of the taps alone."""
        return Layout(self.field or ReceptiveField.square(3))

    def fitting(self, found: Layout, shape: tuple[int, int, int]) -> Layout:
        """Return the layout of the taps asked for, or else of all that there are.

        Raises
        ------
        DataError
            If the channels are pooled.
        """
        if found.pooled:
            raise DataError(
                "statistics for the recipe best, of all channels together; "
                "make them with --recipe paper"
            )
        return Layout(self.field or found.receptive_field)

    def works(self, sums: RowSums) -> list[Work]:
        """Return what `fit` takes."""
        head = sums.head
        reach = int(np.abs(head.layout.receptive_field.taps[:, 0]).max())
        each = solving_bytes(head.parts[0]) + head.adding_bytes
        return [(sums, lambda rows: (rows + 2 * reach) * each, reach)]

    def fit(self, sums: RowSums, report: Report) -> Model:
        """Return the ridge regression of every pixel and channel.

        Raises
        ------
        MlrError
            If there are no pairs or weights overflow.
        """
        head = sums.head
        if not head.expressions:
            raise MlrError("there is no training pair in these statistics")
        field = head.layout.receptive_field
        channels, height, width = sums.shape
        weights = sums.array(
            (len(head.expressions), channels, len(field) + 1, height, width), np.float32
        )
        works = self.works(sums)
        check_memory(works)
        ((_, cost, reach),) = works
        found = sums.bands(cost, reach)
        solved = sums.each(partial(_solved, penalty=self.penalty), found)
        for band, rows in report.progress(solved, len(found), "solving"):
            weights[..., band.rows, :] = rows
        as_published = self.penalty == 0.4 and head.layout == Layout(ReceptiveField.square(3))
        return Model(
            weights=weights,
            receptive_field=field,
            expressions=head.expressions,
            info=ModelInfo(
                source=head.source,
                recipe="paper" if as_published else "custom",
                penalty=self.penalty,
                prior="zero",
                pairs=head.pairs,
                digest=head.hexdigest,
                exposure=Exposure.of_sums(sums),
            ),
        )


def _solved(sums: Folds, band: Band, penalty: float) -> npt.NDArray[np.float32]:
    """Return the weights of a band."""
    return solve(sums.total, penalty, band.inner)
