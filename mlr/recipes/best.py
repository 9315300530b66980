"""The default recipe: faces are registered first, then regressed, then the change is moved back.

In the common frame of an expression mouths coincide, so that a small ridge regression on the
framed pairs, with weights that all channels share, keeps what they have in common sharp:

- each pixel shares the samples of its neighbours (a Gaussian blur of the sums);
- the penalty pulls to the identity, the middle tap, and the bias is left out;
- the residual of the ridge is regressed, for each pixel and channel, on two features of the pair:
  the light l of the face, and l times its style s.

None of its choices depends on the data: cross-validation chose between them by less than half a
percent of the error, see ``benchmarks/results/recipes.md``.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import DataError, MlrError, OptionError
from mlr.exposure import Exposure
from mlr.folds import Folds
from mlr.layout import Layout
from mlr.model import Model, new_meta
from mlr.receptive_field import ReceptiveField
from mlr.recipes.moments import halo_for, is_closed, moments_bytes, residual, solved
from mlr.registration.fields import STEP, halved
from mlr.registration.geometry import SIDE
from mlr.registration.synthesis import Look, Registered
from mlr.registration.templates import UNITS
from mlr.running.bands import Band, RowSums, Work, check_memory
from mlr.running.report import Report
from mlr.solve import check_penalty
from mlr.statistics import StyleSums

FIELD = 3  # side of the default window
PENALTY = 0.01  # of a tap, for intensities in [0, 1], as if there were one channel
BLUR = 3.0  # pixels, for a shorter side of 128
BIAS = 1e6  # penalty of the bias over that of a tap: the residual carries it

#: Rows of an expression: weights (taps + 1, rows, width), b and c (2, channels, rows, width) and
#: the mean face (channels, rows, width).
_Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Best:
    """A regression of registered faces.

    Parameters
    ----------
    receptive_field : ReceptiveField, int, str, optional
        The taps, as `ReceptiveField.of` takes them; with each tap those between it and the middle
        one. By default what the statistics hold, or 3x3.
    penalty : float
        Of a tap, for intensities in [0, 1], as if there were one channel.
    blur : float, optional
        Standard deviation of the blur of the sums, in pixels; by default 3 for a side of 128.

    Raises
    ------
    OptionError
        If one of them makes no sense.
    """

    options = ("receptive_field", "penalty", "blur")
    folds = 1
    registers = True

    def __init__(
        self,
        receptive_field: Any = None,
        penalty: float = PENALTY,
        blur: float | None = None,
    ) -> None:
        self.field = None if receptive_field is None else ReceptiveField.of(receptive_field)
        if self.field is not None and not is_closed(self.field):
            raise OptionError(
                "the recipe best takes a receptive field that holds, with each tap, those between "
                "it and the middle one"
            )
        check_penalty(penalty)
        if penalty == 0:
            raise OptionError("the recipe best needs a penalty above 0")
        if blur is not None and not 0 <= blur <= 64:
            raise OptionError(f"the blur must lie between 0 and 64 pixels, not {blur}")
        self.penalty, self.blur = penalty, blur

    def layout(self, shape: tuple[int, int, int]) -> Layout:
        """Return the layout of the taps, channels pooled."""
        return Layout(self.field or ReceptiveField.square(FIELD), pooled=True)

    def fitting(self, found: Layout, shape: tuple[int, int, int]) -> Layout:
        """Return the layout of the taps asked for, or else of all that there are.

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
        return Layout(self.field or found.receptive_field, pooled=True)

    def works(self, sums: RowSums) -> list[Work]:
        """Return what `fit` takes."""
        head = sums.head
        field, (channels, _, width) = head.layout.receptive_field, sums.shape
        sigma = self._sigma(sums.shape)
        each = 8 * 10 * channels * width + head.adding_bytes

        def cost(rows: int) -> float:
            return moments_bytes(field, sigma, width, rows) + each * rows

        return [(sums, cost, halo_for(field, sigma))]

    def fit(self, sums: RowSums, report: Report) -> Model:
        """Return the model.

        Raises
        ------
        MlrError
            If there are no pairs or weights overflow.
        """
        head, templates = sums.head, sums.head.templates
        names = head.expressions
        if not names or templates is None:
            raise MlrError("there is no registered training pair in these statistics")
        field = head.layout.receptive_field
        channels, height, width = sums.shape
        weights = sums.array((len(names), 1, len(field) + 1, height, width), np.float32)
        added = np.zeros((len(names), 2, channels, height, width), np.float32)
        faces = np.zeros((len(names), channels, height, width), np.float32)
        works = self.works(sums)
        check_memory(works)
        ((_, cost, halo),) = works
        bands = sums.bands(cost, halo)
        work = partial(
            _fitted,
            names=names,
            sigma=self._sigma(sums.shape),
            penalty=self.penalty,
            height=height,
        )
        for band, found in report.progress(sums.each(work, bands), len(bands), "solving"):
            for index, (taps, both, face) in enumerate(found):
                weights[index, 0, :, band.rows] = taps
                added[index, :, :, band.rows] = both
                faces[index, :, band.rows] = face
        looks = {}
        for index, name in enumerate(names):
            frame, styles = templates.frames[name], head.styles(name)
            low, high = frame.groups or (0.0, 0.0)
            looks[name] = Look(
                template=halved(frame.template),
                variation=halved(frame.variation),
                motion=frame.motion,
                shape=_shape(styles, head.pairs[name]),
                mean=added[index, 0],
                spread=added[index, 1],
                face=np.rint(np.clip(faces[index], 0, 1) * 255).astype(np.uint8),
                light=frame.light,
                style=high,
                other=low,
                explained=frame.explained,
            )
            report.note(told(name, looks[name], head.pairs[name]))
        return Model(
            weights=weights,
            receptive_field=field,
            expressions=names,
            registered=Registered(templates.geometry, templates.source, looks),
            edge=True,
            channels=channels,
            meta=new_meta(
                source=head.source,
                recipe="best",
                prior="input",
                penalty=self.penalty,
                blur=self._sigma(sums.shape),
                pairs=head.pairs,
                digest=head.hexdigest,
                templates=templates.digest,
                exposure=asdict(Exposure.of_sums(sums)),
            )
            | {"eyes": templates.geometry.eyes},
        )

    def _sigma(self, shape: tuple[int, int, int]) -> float:
        """Return the blur for images of this shape, in pixels."""
        return BLUR * min(shape[1:]) / SIDE if self.blur is None else self.blur


def told(name: str, look: Look, pairs: int) -> str:
    """Return what training says of the style of an expression, in a line."""
    if not look.styled:
        return f"{name}: no style, which takes at least 8 pairs (there are {pairs})"
    groups = "in one group"
    if look.groups is not None:
        groups = "in two groups about {:.2f} and {:.2f}".format(*look.groups)
    share = f"the style is {look.explained:.0%} of what varies"
    return f"{name}: {share}, {groups}; default style {round(look.style, 2):g}"


def penalties(field: ReceptiveField, penalty: float) -> npt.NDArray[np.float64]:
    """Return the penalty D as a matrix, (taps + 1, taps + 1); the bias is last."""
    return penalty * np.diag(np.append(np.ones(len(field)), BIAS))


def prior_of(field: ReceptiveField) -> npt.NDArray[np.float64]:
    """Return the weights of the identity, (taps + 1,); the bias is last."""
    prior = np.zeros(len(field) + 1)
    prior[field.offsets.index((0, 0))] = 1
    return prior


def _fitted(
    sums: Folds,
    band: Band,
    names: tuple[str, ...],
    sigma: float,
    penalty: float,
    height: int,
) -> list[_Rows]:
    """Return what is learnt of each expression for the rows of a band."""
    statistics = sums.total
    field, white = statistics.receptive_field, statistics.white
    matrix = penalties(field, penalty * statistics.shape[0])
    prior = prior_of(field)
    found: list[_Rows] = []
    for name in names:
        weights = solved(statistics, name, sigma, matrix, prior, band, height)
        weights = weights.astype(np.float32).astype(np.float64)  # those that the model will have
        if not np.isfinite(weights).all():
            raise MlrError("the weights are too large for a model; give intensities in [0, 1]")
        styles = statistics.targets[name].styles
        assert styles is not None
        light, lit, square, mixed, styled, _ = (
            number / UNITS**power for number, power in zip(styles.numbers, _POWERS, strict=True)
        )
        rest = []
        for first, total in ((0, light), (1, lit)):
            unit = 1 / (white * UNITS ** (first + 1))
            planes = (styles.planes[first + k] * unit for k in (0, 2))
            source, target = planes
            rest.append(residual(source, total, target, weights, field, band, height))
            if first == 0:
                face = source[:, band.inner] / light
        determinant = square * styled - mixed**2
        if determinant > 1e-9 * square * max(styled, 1e-9):
            mean = (styled * rest[0] - mixed * rest[1]) / determinant
            spread = (square * rest[1] - mixed * rest[0]) / determinant
        else:
            mean, spread = rest[0] / square, np.zeros_like(rest[0])
        both = np.stack([mean, spread]).astype(np.float32)
        found.append((weights.astype(np.float32), both, face.astype(np.float32)))
    return found


_POWERS = (1, 2, 2, 3, 4, 2)  # of the units of `StyleSums.numbers`


def _shape(styles: StyleSums, pairs: int) -> npt.NDArray[np.float32]:
    """Return how the shape varies with the style, d1 = mean of s u."""
    return np.asarray(styles.shape / (UNITS * STEP * pairs), np.float32)
