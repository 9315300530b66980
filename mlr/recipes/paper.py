"""The paper's recipe: Khan et al., Masked Linear Regression, IJCV 2020."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlr.core.bands import Band
from mlr.core.exposure import Exposure
from mlr.core.model import Model, ModelInfo
from mlr.core.solve import solve, solving_bytes
from mlr.core.statistics import Statistics
from mlr.recipes.base import Floats, Recipe
from mlr.recipes.options import PaperOptions


@dataclass(frozen=True)
class Paper(PaperOptions, Recipe):
    """A ridge regression of every pixel and channel on its receptive field.

    ``receptive_field`` is converted by `ReceptiveField.of`, by default the one of the statistics or
    3x3. One ``penalty``, for intensities in [0, 1], pulls all coefficients including the bias to
    zero. Raises an `OptionError` if it is negative or not finite.
    """

    registers = False
    unfit = (
        "statistics for the recipe best, whose channels are pooled; "
        "compute them with --recipe paper"
    )

    def halo(self, head: Statistics) -> int:
        """Return the number of rows above and below a band that its weights depend on."""
        return int(np.abs(head.receptive_field.taps[:, 0]).max())

    def solving_bytes(self, head: Statistics, rows: int) -> float:
        """Return the bytes that `solve` allocates for a band."""
        return float((rows + 2 * self.halo(head)) * solving_bytes(head))

    def solve(self, crop: Statistics, band: Band) -> tuple[Floats, ...]:
        """Return the weights of a band, (expressions, channels, taps + 1, rows, width)."""
        return (solve(crop, self.penalty, band.inner),)

    def model(self, head: Statistics, solved: Sequence[Floats], exposure: Exposure) -> Model:
        """Return the model, see `Recipe.model`."""
        as_published = self.penalty == PaperOptions.penalty and head.layout == Paper().layout()
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
