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
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import DataError, MlrError, OptionError
from mlr.exposure import Exposure
from mlr.folds import Folds
from mlr.layout import Layout
from mlr.model import Model, new_meta
from mlr.receptive_field import ReceptiveField
from mlr.recipes.displacement import (
    Field,
    Frame,
    estimate,
    estimating,
    halo_for,
    holds,
    layout_for,
    moments,
    moments_bytes,
    reach_of,
)
from mlr.recipes.moments import Moments, lags_of, margin_for
from mlr.recipes.option import Option, table
from mlr.running.bands import Band, Cost, Result, RowSums, Work, check_memory
from mlr.running.report import Report
from mlr.solve import check_penalty
from mlr.statistics import Statistics

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

    def works(self, sums: RowSums) -> list[Work]:
        """Return what `fit` takes."""
        return [work for search in self._searches(sums) for work in search.works]

    def _searches(self, sums: RowSums) -> list[_Search]:
        return [_Search(self, sums.only([name]), name) for name in sums.head.expressions]

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
        fits = {
            search.name: self._fit(search, weights[place, 0], report)
            for place, search in enumerate(report.progress(searches, len(names), "choosing"))
        }
        fields = [fit[0] for fit in fits.values() if fit[0] is not None]
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
                penalty={name: fit[1].penalty for name, fit in fits.items()},
                mirrored={name: fit[1].mirrored for name, fit in fits.items()},
                blur={name: fit[1].blur for name, fit in fits.items()},
                reach=reach_of(head.layout, taps),
                cross_validation={name: fit[2] for name, fit in fits.items()},
                pairs=head.pairs,
                digest=head.hexdigest,
                exposure=asdict(Exposure.of_sums(sums)),
            ),
        )

    def _fit(
        self, search: _Search, weights: npt.NDArray[np.float32], report: Report
    ) -> tuple[Field | None, Option, dict[str, Any]]:
        """Fill in weights; return displacement, what was chosen for an expression, and why."""
        blurs = self.blurs(search.shape)
        first = Option(
            mirrored=True if self.mirrored is None else self.mirrored,
            blur=blurs[0],
            penalty=FIRST_PENALTY if self.penalty is None else self.penalty,
        )
        tried: dict[Option, float] = {}
        chosen = self._chosen(search, first, blurs, tried) if search.folds > 1 else first
        search.fill(weights, chosen)
        details = {
            "folds": search.folds,
            "errors": [
                {"mirrored": o.mirrored, "blur": o.blur, "penalty": o.penalty, "mse": error}
                for o, error in tried.items()
            ],
        }
        people = f"{search.pairs} pairs, left out in {search.folds} folds"
        rule = f"the strongest within {TOLERANCE - 1:.2%}"
        for line in table(search.name, people, chosen, tried, rule):
            report.note(line)
        return search.displacement(chosen.mirrored), chosen, details

    def _chosen(
        self, search: _Search, first: Option, blurs: list[float], tried: dict[Option, float]
    ) -> Option:
        """Return the best way to share samples, with the strongest penalty that is good with it.

        The former with one penalty; then the penalties, the strong ones only if one of them may be
        good: the error falls and then rises. What was tried is noted with its error. One look at
        the sums costs as much as many errors: the weak penalties are tried before it is known
        whether that is needed.
        """
        penalties = PENALTIES if self.penalty is None else (self.penalty,)
        weak = [penalty for penalty in penalties if penalty <= first.penalty]
        options = [
            Option(side, blur, penalty)
            for blur in blurs
            for side in ([True, False] if self.mirrored is None else [self.mirrored])
            for penalty in (weak if side == first.mirrored else [first.penalty])
        ]
        tried |= search.errors(options, moved=first.mirrored)
        chosen = min((o for o in tried if o.penalty == first.penalty), key=tried.__getitem__)
        alike = [replace(chosen, penalty=penalty) for penalty in penalties]
        if chosen.mirrored != first.mirrored:  # it is moved in another way now
            del tried[chosen]
        for strong in (False, True):
            options = [o for o in alike if (o.penalty > first.penalty) == strong and o not in tried]
            tried |= search.errors(options, moved=chosen.mirrored)
            known = [option for option in alike if option in tried]
            least = min(tried[option] for option in known)
            good = [option for option in known if tried[option] <= TOLERANCE * least]
            if good[-1] != known[-1]:
                break
        return good[-1]

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


@dataclass(frozen=True)
class _Learner:
    """What learning from moments depends on."""

    recipe: Best
    field: ReceptiveField
    channels: int

    def to_learn_from(self, shared: Moments, mirrored: bool) -> Moments:
        """Return moments of the mirrored pairs too, if wanted, and of other light."""
        both = shared + shared.mirrored() if mirrored else shared
        return both.brightened(self.recipe.brightness**2)

    def solve(self, sums: Moments, penalty: float) -> npt.NDArray[np.float64]:
        """Return the weights of the image's part of the frame."""
        matrix = self.channels * penalties(self.field, penalty)
        return sums.solve(matrix, self.recipe.prior(self.field))


def _left_out(
    parts: list[Moments], learner: _Learner, options: Sequence[Option]
) -> tuple[float, dict[Option, npt.NDArray[np.float64]]]:
    """Return the samples, and for each option the squared errors in each row of a band."""
    errors: dict[Option, npt.NDArray[np.float64]] = {}
    for blur, equally_wide in groupby(options, key=lambda option: option.blur):
        near = [part.blurred(blur) for part in parts]
        for mirrored, alike in groupby(equally_wide, key=lambda option: option.mirrored):
            rest = [learner.to_learn_from(part, mirrored) for part in near]
            total = reduce(operator.add, rest)
            for place, part in enumerate(rest):  # one by one, for they are large
                rest[place] = total - part
            for option in alike:
                errors[option] = np.zeros(len(total.squares) - 2 * total.margin)
                for others, left_out in zip(rest, parts, strict=True):
                    weights = learner.solve(others, option.penalty)
                    errors[option] += left_out.errors(weights)
    return sum(part.samples for part in parts), errors


def _learnt(parts: list[Moments], learner: _Learner, option: Option) -> npt.NDArray[np.float32]:
    """Return the weights of a band, learnt from everybody."""
    (everybody,) = parts
    sums = learner.to_learn_from(everybody.blurred(option.blur), option.mirrored)
    solution = learner.solve(sums, option.penalty)
    with np.errstate(over="ignore"):
        return solution.astype(np.float32)


def _everybody(folds: Folds) -> list[Statistics]:
    return [folds.total]


def _showing(folds: Folds, name: str) -> list[Statistics]:
    """Return the folds in which somebody shows the expression."""
    return [part for part in folds.parts if name in part.targets]


def _on_moments(
    folds: Folds,
    band: Band,
    *,
    work: Callable[[list[Moments]], Result],
    chosen: Callable[[Folds], list[Statistics]],
    name: str,
    field: ReceptiveField,
    moved: Field | None,
    height: int,
    margin: int,
) -> Result:
    """Do some work on the moments of a band that is looked at by itself."""
    frame = Frame(height, margin, band.first - margin, band.end + margin)
    return work([moments(part, name, field, moved, frame, band.above) for part in chosen(folds)])


class _Search:
    """The sums of one expression's folds, and what they say of an option."""

    def __init__(self, recipe: Best, sums: RowSums, name: str) -> None:
        self._recipe, self._sums, self.name, self.shape = recipe, sums, name, sums.shape
        self._layout = sums.head.layout
        self._displacements: dict[bool, Field | None] = {}
        self._field = recipe._field_in(self._layout)
        self._margin = margin_for(self._field, max(recipe.blurs(sums.shape)))
        self._reach = reach_of(self._layout, self._field)
        self._halo = halo_for(self._layout, self._reach)
        planes = len(lags_of(self._field)) + len(self._field) + 3
        self._row = 8 * planes * (sums.shape[2] + 2 * self._margin)  # bytes of moments
        self._making = moments_bytes(self._layout, sums.shape[2], self._reach)
        self._learner = _Learner(recipe, self._field, sums.shape[0])
        self.pairs = sums.head.pairs[name]
        self.folds = len(_showing(sums.head, name))
        # The first band begins with the rows above the image, and ends with those below it.
        self._around = around = max(self._halo, (self._halo + self._margin + 1) // 2)
        costs: list[Cost] = [self._choosing_bytes, self._filling_bytes]
        self.works = [(sums, cost, around) for cost in costs]
        if self._reach:
            self.works.append((sums, *estimating(sums, self._reach)))

    def displacement(self, mirrored: bool) -> Field | None:
        """Return the field that moves the input."""
        if mirrored not in self._displacements:
            self._displacements[mirrored] = (
                estimate(self._sums, self.name, self._reach, mirrored=mirrored)
                if self._reach
                else None
            )
        return self._displacements[mirrored]

    def errors(self, options: Sequence[Option], moved: bool) -> dict[Option, float]:
        """Return the mean squared error of people left out of training, for each option.

        The input is moved as for mirrored pairs or not, whatever the option says. To choose
        between the two, one way is enough: the other takes as long as all else together.
        """
        _, height, width = self._sums.shape
        errors = {option: np.zeros(height) for option in options}
        samples = 0.0
        work = partial(_left_out, learner=self._learner, options=options)
        chosen = partial(_showing, name=self.name)
        found = self._on_bands(work, moved, chosen, self._choosing_bytes) if options else ()
        for band, (count, rows) in found:
            samples = count
            for option in options:
                errors[option][band.rows] = rows[option]
        return {o: float(rows.sum() / (height * width * samples)) for o, rows in errors.items()}

    def fill(self, weights: npt.NDArray[np.float32], option: Option) -> None:
        """Fill in the weights learnt from everybody; the folds play no part.

        Parameters
        ----------
        weights : ndarray of float32, shape (taps + 1, height, width)
        option : Option
            How to learn them.
        """
        work = partial(_learnt, learner=self._learner, option=option)
        found = self._on_bands(work, option.mirrored, _everybody, self._filling_bytes)
        for band, solution in found:
            weights[:, band.rows] = solution
            if not np.isfinite(weights[:, band.rows]).all():
                raise MlrError("the weights are too large for a model; give intensities in [0, 1]")

    def _on_bands(
        self,
        work: Callable[[list[Moments]], Result],
        mirrored: bool,
        chosen: Callable[[Folds], list[Statistics]],
        cost: Cost,
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the moments of some statistics."""
        if self._sums.elsewhere:
            found = self._sums.bands(cost, self._halo + self._margin)
            whole = partial(
                _on_moments,
                work=work,
                chosen=chosen,
                name=self.name,
                field=self._field,
                moved=self.displacement(mirrored),
                height=self._sums.shape[1],
                margin=self._margin,
            )
            yield from self._sums.each(whole, found)
        else:
            for band, parts in self._moments(mirrored, chosen, cost):
                yield band, work(parts)

    def _moments(
        self, mirrored: bool, chosen: Callable[[Folds], list[Statistics]], cost: Cost
    ) -> Iterator[tuple[Band, list[Moments]]]:
        """Yield the moments of some statistics, band by band; each row is worked out once."""
        moved, margin = self.displacement(mirrored), self._margin
        height = self._sums.shape[1]
        held: list[Moments] = []
        above = begin = -margin
        for band in self._sums.bands(cost, self._around):
            frame = Frame(height, margin, begin, band.end + margin)
            top = max(0, min(begin, height - 1) - self._halo)  # beyond the edge its pixels repeat
            skip = band.first - margin - above
            statistics = chosen(self._sums.rows(top, min(height, max(frame.end, 1) + self._halo)))
            for place in range(len(statistics)):
                rows = moments(statistics[place], self.name, self._field, moved, frame, top)
                if begin == -margin:
                    held.append(rows)
                else:
                    held[place] = held[place].continued(rows, skip)
            del statistics, rows  # before there are others
            above, begin = band.first - margin, frame.end
            yield band, held

    def _choosing_bytes(self, rows: int) -> int:
        """Return what choosing takes for a band of so many rows."""
        around = rows + 2 * self._margin
        raw = self.folds * around
        return self._row * raw + max(
            self._row * (2 * self.folds + 4) * (rows + 4), self._row * around + self._making
        )

    def _filling_bytes(self, rows: int) -> int:
        """Return what learning from everybody takes for a band of so many rows."""
        around = rows + 2 * self._margin
        added = self._sums.head.adding_bytes * (rows + self._margin + 2 * self._halo)
        return added + self._row * (2 * around + 4 * rows) + self._making
