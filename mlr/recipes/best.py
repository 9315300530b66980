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
a displacement and a sharpening of 0. Every expression chooses for itself. As its input is moved in
its own way, its Gram matrices are not those of another; but with a displacement of 0, expressions
that the same people show share what is known of the inputs, and one factorisation for those that
choose alike.

``benchmarks/results/recipes.md`` tells what else was tried.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import DataError, MlrError, OptionError
from mlr.exposure import Exposure
from mlr.layout import Layout
from mlr.model import Model, new_meta
from mlr.option import Option, table
from mlr.receptive_field import ReceptiveField
from mlr.recipes.displacement import Field, holds, layout_for, reach_of
from mlr.recipes.search import Learner, Search
from mlr.running.bands import RowSums, Work, check_memory
from mlr.running.report import Report
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


_Tried = dict[str, dict[Option, float]]  # what was tried for each expression, with its error


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

    def works(self, sums: RowSums) -> list[Work]:
        """Return what `fit` takes."""
        return [work for search in self._searches(sums) for work in search.works]

    def _searches(self, sums: RowSums) -> list[Search]:
        """Return one search for each expression, or for those that share their Gram matrices."""
        head = sums.head
        field = self._field_in(head.layout)
        learner = Learner(
            receptive_field=field,
            penalties=sums.shape[0] * penalties(field, 1.0),
            prior=prior_of(field, self.sharpen),
            variance=self.brightness**2,
        )
        moved = reach_of(head.layout, field) > 0
        groups = [(name,) for name in head.expressions] if moved else head.groups()
        blurs = self.blurs(sums.shape)
        return [Search(sums.only(names), names, learner, blurs) for names in groups]

    def fit(self, sums: RowSums, report: Report) -> Model:
        """Return the model that predicts people left out best, or is as good and sharper.

        Raises
        ------
        MlrError
            If there are no pairs or weights overflow.
        """
        head = sums.head
        if not head.expressions:
            raise MlrError("there is no training pair in these statistics")
        taps, names = self._field_in(head.layout), head.expressions
        _, height, width = sums.shape
        weights = sums.array((len(names), 1, len(taps) + 1, height, width), np.float32)
        searches = self._searches(sums)
        check_memory(work for search in searches for work in search.works)
        fits: dict[str, _Fit] = {}
        for search in report.progress(searches, len(searches), "choosing"):
            rows = {name: weights[names.index(name), 0] for name in search.names}
            fits |= self._fit(search, rows, report)
        fits = {name: fits[name] for name in names}
        fields = [fit.displacement for fit in fits.values() if fit.displacement is not None]
        return Model(
            weights=weights,
            receptive_field=taps,
            expressions=names,
            displacement=np.stack(fields) if fields else None,
            edge=True,
            channels=sums.shape[0],
            meta=new_meta(
                source=head.source,
                recipe="best",
                prior="sharpened input" if self.sharpen else "input",
                sharpen=self.sharpen,
                brightness=self.brightness,
                smooth=SMOOTH,
                penalty={name: fit.option.penalty for name, fit in fits.items()},
                mirrored={name: fit.option.mirrored for name, fit in fits.items()},
                blur={name: fit.option.blur for name, fit in fits.items()},
                reach=reach_of(head.layout, taps),
                cross_validation={name: fit.why for name, fit in fits.items()},
                pairs=head.pairs,
                digest=head.hexdigest,
                exposure=asdict(Exposure.of_sums(sums)),
            ),
        )

    def _fit(
        self, search: Search, weights: dict[str, npt.NDArray[np.float32]], report: Report
    ) -> dict[str, _Fit]:
        """Fill in the weights of some expressions, and tell what was chosen for them."""
        first = Option(
            mirrored=True if self.mirrored is None else self.mirrored,
            blur=self.blurs(search.shape)[0],
            penalty=FIRST_PENALTY if self.penalty is None else self.penalty,
        )
        chosen = dict.fromkeys(search.names, first)
        tried: _Tried = {name: {} for name in search.names}
        if search.folds > 1:
            best = self._sharing(search, first, tried)
            chosen = self._with_penalty(search, best, tried)
        search.fill(weights, chosen)
        rule = f"the strongest within {TOLERANCE - 1:.2%} of the least error"
        fits: dict[str, _Fit] = {}
        for name, option in chosen.items():
            errors = tried[name]
            for line in table(name, search.pairs[name], search.folds, option, errors, rule):
                report.note(line)
            why = {
                "folds": search.folds,
                "errors": [asdict(o) | {"mse": errors[o]} for o in errors],
            }
            fits[name] = _Fit(search.displacement(option.mirrored), option, why)
        return fits

    def _sharing(self, search: Search, first: Option, tried: _Tried) -> dict[str, Option]:
        """Return each expression's best way to share samples, all tried with one penalty."""
        sides = [True, False] if self.mirrored is None else [self.mirrored]
        options = [
            replace(first, blur=blur, mirrored=side)
            for blur in self.blurs(search.shape)
            for side in sides
        ]
        soon = [
            replace(option, penalty=penalty)
            for option in options
            if option.mirrored == first.mirrored
            for penalty in self._penalties
            if penalty < first.penalty
        ]
        wanted, soon_wanted = (dict.fromkeys(search.names, some) for some in (options, soon))
        best: dict[str, Option] = {}
        for name, errors in search.errors(wanted, first.mirrored, soon_wanted).items():
            best[name] = min(errors, key=errors.__getitem__)
            tried[name] |= errors
            if best[name].mirrored != first.mirrored:  # it is moved in another way now
                del tried[name][best[name]]
        return best

    def _with_penalty(
        self, search: Search, best: dict[str, Option], tried: _Tried
    ) -> dict[str, Option]:
        """Return each expression's strongest penalty that is good with its way to share samples.

        Strong ones are tried only if one of them may be good: the error falls and then rises.
        """
        chosen, first = dict(best), best[search.names[0]]  # of several none is moved
        weak = [penalty for penalty in self._penalties if penalty <= first.penalty]
        strong = [penalty for penalty in self._penalties if penalty > first.penalty]
        names = list(search.names)
        for penalties in (weak, strong):
            options = {name: [replace(best[name], penalty=p) for p in penalties] for name in names}
            for name, errors in search.errors(options, first.mirrored).items():
                tried[name] |= errors
                alike = [o for o in tried[name] if replace(o, penalty=first.penalty) == best[name]]
                limit = TOLERANCE * min(tried[name][option] for option in alike)
                chosen[name] = max(option for option in alike if tried[name][option] <= limit)
                if chosen[name] != max(alike):
                    names.remove(name)
        return chosen

    @property
    def _penalties(self) -> tuple[float, ...]:
        """What there is to choose from."""
        return PENALTIES if self.penalty is None else (self.penalty,)

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


def prior_of(field: ReceptiveField, sharpen: float) -> npt.NDArray[np.float64]:
    """Return the weights that the penalty pulls to, (taps + 1,); the bias is last.

    They copy the middle pixel, sharpened, and add up to 1.
    """
    prior = np.zeros(len(field) + 1)
    for k, (dy, dx) in enumerate(field.offsets):
        if max(abs(dy), abs(dx)) <= 1:
            prior[k] = -sharpen * (2 - abs(dy)) * (2 - abs(dx)) / 16
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


@dataclass(frozen=True)
class _Fit:
    """What was chosen for an expression, and why."""

    displacement: Field | None
    option: Option
    why: dict[str, Any]
