"""The default recipe: closer to the target and sharper than the paper's, chosen by the data.

The input's pixels are displaced by a fixed field, then every pixel is a ridge regression on its
receptive field with weights that all channels share:

- channels are samples alike, and each pixel shares the samples of its neighbours (a Gaussian blur
  of the sums) and, where that helps, of the mirrored faces;
- the pairs are learnt from as if they came in brighter and in darker light too, so that no colour
  is taken for a certain part of the face;
- the penalty pulls to the displaced input, slightly sharpened, rather than to zero, and to weights
  that fade out towards the rim of the receptive field;
- mirroring, the blur and the penalty are chosen by the squared error of people left out, computed
  from the sums of each fold. Of penalties that are equally good the strongest is taken, for it
  keeps the picture sharpest.

An infinite penalty leaves the prior: the input, displaced and sharpened; and exactly the input with
a displacement and a sharpening of 0. Every expression is chosen and solved by itself: as its input
is moved in its own way, its Gram matrices are not those of another, whoever the people are.

``benchmarks/results/recipes.md`` tells what else was tried.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.displacement import Field, estimate, holds, layout_for, moments, reach_of
from mlr.errors import DataError, MlrError, OptionError
from mlr.exposure import Exposure
from mlr.folds import Folds
from mlr.layout import Layout
from mlr.model import Model, new_meta
from mlr.moments import Moments, margin_for
from mlr.receptive_field import ReceptiveField
from mlr.recipes.option import Option, table
from mlr.report import Report
from mlr.solve import check_penalty

SIZE = 128  # side of the images that the lengths below are for, in pixels
REACH = 5.0  # longest displacement along an axis
FARTHEST = 8  # pixels; statistics grow with the square of it
FIELDS = ("disc", 5, 3)  # the first for which there are statistics
BLURS = (3.0, 1.5)
PENALTIES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
FIRST_PENALTY = 0.05  # for choosing the others with, and where there are too few to choose by
BIAS = 30.0  # penalty of the bias over that of the middle tap
TOLERANCE = 1.0075  # penalties within 0.75 % of the least error are equally good
SHARPEN = 0.8
SMOOTH = 10.0  # penalty of the difference of neighbouring taps over that of a tap
BRIGHTNESS = 0.15  # standard deviation of the brightness that pairs are thought to come in


class Best:
    """A displaced, shared and sharpened regression, chosen by cross-validation.

    Parameters
    ----------
    receptive_field : ReceptiveField, int, str, optional
        The taps: as `ReceptiveField.of` takes it, symmetric from left to right. By default the 29
        pixels up to 3 px away, or 5x5 or 3x3 if statistics hold no more.
    penalty : float, optional
        Of the middle tap, for intensities in [0, 1], as if there were one channel; see
        `penalties`.
    displacement : float, optional
        Longest displacement along an axis, in pixels; 0 for none.
    blur : float, optional
        Standard deviation of the blur of the sums, in pixels.
    mirrored : bool, optional
        Learn from mirrored pairs too.
    sharpen : float
        How much the prior sharpens: it is the middle tap plus so many times the difference
        between it and a 3x3 binomial blur.
    brightness : float
        Learn as if the pairs came in brighter and in darker light: standard deviation of what is
        added to both images of a pair, for intensities in [0, 1].

    Raises
    ------
    OptionError
        If one of them makes no sense.
    """

    options = (
        "receptive_field",
        "penalty",
        "displacement",
        "blur",
        "mirrored",
        "sharpen",
        "brightness",
    )
    folds = 4

    def __init__(
        self,
        receptive_field: Any = None,
        penalty: float | None = None,
        displacement: float | None = None,
        blur: float | None = None,
        mirrored: bool | None = None,
        sharpen: float = SHARPEN,
        brightness: float = BRIGHTNESS,
    ) -> None:
        self.field = None if receptive_field is None else ReceptiveField.of(receptive_field)
        offsets = {(0, 0)} if self.field is None else set(self.field.offsets)
        if any((dy, -dx) not in offsets for dy, dx in offsets) or (0, 0) not in offsets:
            raise OptionError(
                "the recipe best takes a receptive field with the middle tap that is symmetric "
                "from left to right"
            )
        if penalty is not None:
            check_penalty(penalty)
            if penalty == 0:
                raise OptionError("the recipe best needs a penalty above 0")
        for name, value, most in (("displacement", displacement, 64), ("blur", blur, 64)):
            if value is not None and not 0 <= value <= most:
                raise OptionError(f"the {name} must lie between 0 and {most} pixels, not {value}")
        if not 0 <= sharpen <= 10:
            raise OptionError(f"sharpening must lie between 0 and 10, not {sharpen}")
        if not 0 <= brightness <= 1:
            raise OptionError(f"the brightness must vary by 0 to 1, not {brightness}")
        self.penalty, self.blur, self.mirrored = penalty, blur, mirrored
        self.displacement, self.sharpen, self.brightness = displacement, sharpen, brightness

    def layout(self, shape: tuple[int, int, int]) -> Layout:
        """Return the layout that displacements and their moments can be told from."""
        return layout_for(self.field or ReceptiveField.of(FIELDS[0]), self._reach(shape))

    def fitting(self, found: Layout, shape: tuple[int, int, int]) -> Layout:
        """Return the layout asked for; without a displacement given, of what there is at most.

        Raises
        ------
        DataError
            If the channels are not pooled.
        """
        if not found.pooled:
            raise DataError(
                "statistics for the recipe paper, of each channel by itself; "
                "make them with --recipe best, or give --recipe paper"
            )
        field, wanted = self._field_in(found), self._reach(shape)
        if self.displacement is None:
            wanted = min(wanted, reach_of(found, field))
        return layout_for(field, wanted)

    def fit(self, folds: Folds, report: Report) -> Model:
        """Return the model that predicts people left out best, or is as good and sharper.

        Raises
        ------
        MlrError
            If there are no pairs or weights overflow.
        """
        if not folds.expressions:
            raise MlrError("there is no training pair in these statistics")
        fits = {
            name: self._fit(folds, name, report)
            for name in report.progress(folds.expressions, len(folds.expressions), "choosing")
        }
        weights = np.stack([fit[0] for fit in fits.values()]).astype(np.float32)
        if not np.isfinite(weights).all():
            raise MlrError("the weights are too large for a model; give intensities in [0, 1]")
        fields = [fit[1] for fit in fits.values() if fit[1] is not None]
        taps = self._field_in(folds.layout)
        return Model(
            weights=weights[:, None],
            receptive_field=taps,
            expressions=folds.expressions,
            displacement=np.stack(fields) if fields else None,
            edge=True,
            channels=folds.parts[0].shape[0],
            meta=new_meta(
                source=folds.source,
                recipe="best",
                prior="sharpened input" if self.sharpen else "input",
                sharpen=self.sharpen,
                brightness=self.brightness,
                smooth=SMOOTH,
                penalty={name: fit[2].penalty for name, fit in fits.items()},
                mirrored={name: fit[2].mirrored for name, fit in fits.items()},
                blur={name: fit[2].blur for name, fit in fits.items()},
                reach=reach_of(folds.layout, taps),
                cross_validation={name: fit[3] for name, fit in fits.items()},
                pairs=folds.pairs,
                digest=folds.hexdigest,
                exposure=asdict(Exposure.of_statistics(folds.parts)),
            ),
        )

    def _fit(
        self, folds: Folds, name: str, report: Report
    ) -> tuple[npt.NDArray[np.float64], Field | None, Option, dict[str, Any]]:
        """Return weights, displacement, what was chosen for an expression, and why."""
        search = _Search(self, folds, name)
        blurs = self.blurs(folds.parts[0].shape)
        first = Option(
            mirrored=True if self.mirrored is None else self.mirrored,
            blur=blurs[0],
            penalty=FIRST_PENALTY if self.penalty is None else self.penalty,
        )
        tried: dict[Option, float] = {}
        chosen = self._chosen(search, first, blurs, tried) if search.folds > 1 else first
        weights = search.weights(chosen)
        details = {
            "folds": search.folds,
            "errors": [
                {"mirrored": o.mirrored, "blur": o.blur, "penalty": o.penalty, "mse": error}
                for o, error in tried.items()
            ],
        }
        people = f"{folds.pairs[name]} pairs, left out in {search.folds} folds"
        for line in table(name, people, chosen, tried, f"the strongest within {TOLERANCE - 1:.2%}"):
            report.note(line)
        return weights, search.displacement(chosen.mirrored), chosen, details

    def _chosen(
        self, search: _Search, first: Option, blurs: list[float], tried: dict[Option, float]
    ) -> Option:
        """Return the best way to share samples, with the strongest penalty that is good with it.

        First the former, with one penalty. Then the penalties from the weakest on, until the error
        has risen too far: it falls and then rises. What was tried is noted with its error.
        """
        for blur in blurs:
            for mirrored in [True, False] if self.mirrored is None else [self.mirrored]:
                option = replace(first, mirrored=mirrored, blur=blur)
                tried[option] = search.error(option, moved=first.mirrored)
        chosen = min(tried, key=tried.__getitem__)
        if chosen.mirrored != first.mirrored:  # and so moved in another way
            tried[chosen] = search.error(chosen)
        if self.penalty is not None:
            return chosen
        options = [replace(chosen, penalty=penalty) for penalty in PENALTIES]
        least = math.inf
        for option in options:
            if option not in tried:
                tried[option] = search.error(option)
            least = min(least, tried[option])
            if tried[option] > TOLERANCE * least:
                break
        return [o for o in options if tried.get(o, math.inf) <= TOLERANCE * least][-1]

    def blurs(self, shape: tuple[int, int, int]) -> list[float]:
        """Return the blurs to choose from for images of this shape, in pixels."""
        if self.blur is not None:
            return [self.blur]
        return [round(blur * math.sqrt(shape[1] * shape[2]) / SIZE, 2) for blur in BLURS]

    def _field_in(self, layout: Layout) -> ReceptiveField:
        """Return the taps asked for, or the most that statistics allow for."""
        if self.field is not None:
            return self.field
        fields = [ReceptiveField.of(spec) for spec in FIELDS]
        return next((field for field in fields if holds(layout, field)), fields[0])

    def _reach(self, shape: tuple[int, int, int]) -> int:
        """Return the longest displacement for images of this shape, in whole pixels."""
        if self.displacement is not None:
            return math.ceil(self.displacement)
        scale = math.sqrt(shape[1] * shape[2]) / SIZE
        return max(1, min(round(REACH * scale), FARTHEST))

    def prior(self, field: ReceptiveField) -> npt.NDArray[np.float64]:
        """Return the weights that the penalty pulls to; the bias is last."""
        prior = np.zeros(len(field) + 1)
        for k, (dy, dx) in enumerate(field.offsets):
            if max(abs(dy), abs(dx)) <= 1:
                prior[k] = -self.sharpen * (2 - abs(dy)) * (2 - abs(dx)) / 16
        middle = field.offsets.index((0, 0))
        prior[middle] = 0
        prior[middle] = 1 - prior.sum()
        return prior


def penalties(
    field: ReceptiveField, penalty: float, smooth: float = SMOOTH
) -> npt.NDArray[np.float64]:
    """Return the penalty as a matrix D: deviations w from the prior cost w'Dw.

    That is ``penalty`` times the sum of all w^2, of the bias `BIAS` times, and of ``smooth``
    (w_a - w_b)^2 for all neighbouring taps a and b; beyond the rim w is 0, and the middle tap is no
    neighbour. The weights thus fade out towards the rim. With a penalty on w^2 alone they are
    largest there, in place of the pixels beyond, and draw every edge a second time.

    Returns
    -------
    ndarray of float64, shape (taps + 1, taps + 1)
        The bias is last.
    """
    matrix = np.diag(np.append(np.ones(len(field)), BIAS))
    place = {offset: k for k, offset in enumerate(field.offsets) if offset != (0, 0)}
    for (y, x), a in place.items():
        for neighbour in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if neighbour != (0, 0):
                matrix[a, a] += smooth
            if neighbour in place:
                matrix[a, place[neighbour]] -= smooth
    return penalty * matrix


class _Search:
    """The sums of one expression's folds, and what they say of an option."""

    def __init__(self, recipe: Best, folds: Folds, name: str) -> None:
        self._recipe, self._name = recipe, name
        self._parts = [part for part in folds.parts if name in part.targets]
        self._total = folds.total
        self._displacements: dict[bool, Field | None] = {}
        self._raw: dict[bool, list[Moments]] = {}
        self._blurred: dict[tuple[float, bool], list[Moments]] = {}
        self._shared: dict[tuple[Option, bool], tuple[list[Moments], Moments]] = {}
        self._field = recipe._field_in(folds.layout)
        self._margin = margin_for(self._field, max(recipe.blurs(self._total.shape)))
        self.folds = len(self._parts)

    def displacement(self, mirrored: bool) -> Field | None:
        """Return the field that moves the input."""
        reach = reach_of(self._total.layout, self._field)
        if mirrored not in self._displacements:
            self._displacements[mirrored] = (
                estimate(self._total, self._name, reach, mirrored=mirrored) if reach else None
            )
        return self._displacements[mirrored]

    def error(self, option: Option, moved: bool | None = None) -> float:
        """Return the mean squared error of people left out of training.

        The input is moved as for mirrored pairs or not, by default as the option says. To choose
        between the two, one way is enough: the other takes as long as all else together.
        """
        moved = option.mirrored if moved is None else moved
        errors, samples = 0.0, 0.0
        for rest, left_out in zip(
            self._training(option, moved)[0], self._moments(moved), strict=True
        ):
            weights = self._solve(rest, option.penalty)
            errors += left_out.error(weights) * left_out.samples
            samples += left_out.samples
        return errors / samples

    def weights(self, option: Option) -> npt.NDArray[np.float64]:
        """Return the weights learnt from everybody, in the image."""
        return self._solve(self._training(option, option.mirrored)[1], option.penalty)

    def _solve(self, sums: Moments, penalty: float) -> npt.NDArray[np.float64]:
        recipe, channels = self._recipe, self._total.shape[0]
        matrix = channels * penalties(self._field, penalty)
        weights = sums.solve(matrix, recipe.prior(self._field))
        return np.ascontiguousarray(sums.inside(weights))

    def _training(self, option: Option, moved: bool) -> tuple[list[Moments], Moments]:
        """Return the moments to learn from: all without those of each fold, and all."""
        key = replace(option, penalty=0.0), moved
        if key not in self._shared:
            parts = [self._to_learn_from(option, part) for part in self._near(option.blur, moved)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            self._shared = {key: ([total - part for part in parts], total)}  # large: one is kept
        return self._shared[key]

    def _to_learn_from(self, option: Option, shared: Moments) -> Moments:
        """Return moments of the mirrored pairs too, and of other light."""
        both = shared + shared.mirrored() if option.mirrored else shared
        return both.brightened(self._recipe.brightness**2)

    def _near(self, blur: float, moved: bool) -> list[Moments]:
        """Return the moments of each fold shared with the neighbours."""
        if (blur, moved) not in self._blurred:
            parts = [part.blurred(blur) for part in self._moments(moved)]
            self._blurred = {(blur, moved): parts}
        return self._blurred[blur, moved]

    def _moments(self, moved: bool) -> list[Moments]:
        """Return the moments of each fold as they are."""
        if moved not in self._raw:
            field, displacement = self._field, self.displacement(moved)
            self._raw[moved] = [
                moments(part, self._name, field, displacement, self._margin) for part in self._parts
            ]
        return self._raw[moved]
