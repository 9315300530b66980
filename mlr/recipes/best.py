"""The default recipe: faces are registered first, then regressed, then the change is moved back.

In the common frame of an expression mouths coincide, so that a small ridge regression on the
framed pairs, with weights that all channels share, keeps what they have in common sharp:

- each pixel shares the samples of its neighbours (a Gaussian blur of the sums);
- the penalty pulls to the identity, the middle tap; the light l of the face stands for the bias;
- the residual of the ridge is regressed, for each pixel and channel, on two features of the pair:
  l, and g = e (s - s_0), the light e on teeth times the style s beyond that without teeth, s_0;
- what is added with g was learnt over the lips of the training set: the share of it that takes
  their colour away is subtracted of the face's own lips instead.

None of the choices depends on the data: on held-out subjects others were better by less than half a
percent, see ``benchmarks/results/registration.md``.
"""

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
from mlr.core.registration.fields import STEP, halved, symmetric, symmetric_field
from mlr.core.registration.geometry import SIDE
from mlr.core.registration.synthesis import Appearance, Registered
from mlr.core.registration.templates import UNITS
from mlr.core.solve import check_penalty
from mlr.core.statistics import StyleSums
from mlr.errors import DataError, MlrError, OptionError
from mlr.kernels.blur import blur
from mlr.recipes.moments import halo_for, is_closed, moments_bytes, residual, solved
from mlr.utils.progress import Report

FIELD = 3  # side of the default window
PENALTY = 0.006  # of a tap, for intensities in [0, 1], as if there were one channel
BLUR = 2.0  # pixels, for a shorter side of 128
LIGHT = 1e-3  # penalty of the light's coefficient over that of a tap
SHRINKAGE = 1.0  # added to the sums of squares of light and teeth: as if of a pair more
WITHOUT_STYLE = 2.0  # the same where there is no style, with fewer than 8 pairs
REPLACED = 0.4  # largest share of the lips that teeth replace
SPREAD = 1.0  # blur of that share, in pixels for a shorter side of 128
FLOOR = 0.002  # of the variance of the mean face over the channels

#: Rows of an expression: weights (taps, rows, width), b and c (2, channels, rows, width) and the
#: mean face (channels, rows, width).
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
        Standard deviation of the blur of the sums, in pixels; by default 2 for a side of 128.

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
        added = sums.array((len(names), 2, channels, height, width), np.float32)
        faces = sums.array((len(names), channels, height, width), np.float32)
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
                weights[index, 0, :-1, band.rows] = taps
                added[index, :, :, band.rows] = both
                faces[index, :, band.rows] = face
        flipped = templates.geometry.symmetric and mirrored_taps(field) is not None
        appearances = {}
        for index, name in enumerate(names):
            if flipped:  # flip augmentation: what mirrored pairs give is the mirror image
                make_symmetric(weights[index, 0, :-1], field)
                added[index], faces[index] = symmetric(added[index]), symmetric(faces[index])
            frame, styles = templates.frames[name], head.styles(name)
            low, high = frame.groups or (0.0, 0.0)
            light, _, square, *_ = styles.numbers
            own = faces[index] * np.float32(light * UNITS / square)  # sum l x / sum l^2
            share = replaced_share(added[index, 1], own)
            added[index, 1] += share * own
            appearances[name] = Appearance(
                template=halved(frame.template),
                variation=halved(frame.variation),
                motion=frame.motion,
                shape=_shape(styles, head.pairs[name], flipped),
                mean=added[index, 0],
                spread=added[index, 1],
                share=share,
                face=np.rint(np.clip(faces[index], 0, 1) * 255).astype(np.uint8),
                light=frame.light,
                style=high,
                other=low,
                plain=frame.plain,
                explained=frame.explained,
            )
            report.note(told(name, appearances[name], head.pairs[name]))
        return Model(
            weights=weights,
            receptive_field=field,
            expressions=names,
            registered=Registered(
                templates.geometry, templates.source, templates.eye_white, appearances
            ),
            edge=True,
            channels=channels,
            info=ModelInfo(
                source=head.source,
                recipe="best",
                prior="input",
                penalty=self.penalty,
                blur=self._sigma(sums.shape),
                pairs=head.pairs,
                digest=head.hexdigest,
                templates=templates.digest,
                exposure=Exposure.of_sums(sums),
                eyes=templates.geometry.eyes,
            ),
        )

    def _sigma(self, shape: tuple[int, int, int]) -> float:
        """Return the blur for images of this shape, in pixels."""
        return BLUR * min(shape[1:]) / SIDE if self.blur is None else self.blur


def told(name: str, appearance: Appearance, pairs: int) -> str:
    """Return what training says of the style of an expression, in a line."""
    if not appearance.styled:
        return f"{name}: no style, which takes at least 8 pairs (there are {pairs})"
    groups = "in one group"
    if appearance.groups is not None:
        groups = "in two groups about {:.2f} and {:.2f}".format(*appearance.groups)
    share = f"the style is {appearance.explained:.0%} of what varies"
    return f"{name}: {share}, {groups}; default style {round(appearance.style, 2):g}"


def replaced_share(
    spread: npt.NDArray[np.float32], face: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return which share of the face is replaced where the style is one more, (height, width).

    Teeth are not pink: over lips, c takes away of their colour. With dc and dx what c and the mean
    face differ from the means of their channels, the share is -blur(dc dx) / (blur(dx dx) + floor),
    from 0 to `REPLACED`; on grey images 0.

    Parameters
    ----------
    spread, face : ndarray of float32, shape (channels, height, width)
        c, and the mean face.
    """
    apart = [planes - planes.mean(axis=0, dtype=np.float32) for planes in (spread, face)]
    products = np.stack([(apart[0] * apart[1]).sum(axis=0), (apart[1] * apart[1]).sum(axis=0)])
    products = blur(products, SPREAD * min(face.shape[1:]) / SIDE)
    share = -products[0] / (products[1] + np.float32(FLOOR))
    return np.clip(share, 0, np.float32(REPLACED))


def penalties(field: ReceptiveField, penalty: float) -> npt.NDArray[np.float64]:
    """Return the penalty D as a matrix, (taps + 1, taps + 1); that of the light is last."""
    return penalty * np.diag(np.append(np.ones(len(field)), LIGHT))


def prior_of(field: ReceptiveField) -> npt.NDArray[np.float64]:
    """Return the weights of the identity, (taps + 1,); that of the light is last."""
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
        light = styles.numbers[0] / UNITS
        square, mixed, teeth = (number / UNITS**2 for number in styles.numbers[2:])
        planes = styles.planes.astype(np.float64) / (white * UNITS)  # of l x, g x, l t, g t
        lit, shown = (
            residual(planes[k], total, planes[k + 2], weights, field, band, height)
            for k, total in ((0, square), (1, mixed))
        )
        face = planes[0][:, band.inner] / light
        if teeth > 0:
            square, teeth = square + SHRINKAGE, teeth + SHRINKAGE
            determinant = square * teeth - mixed**2
            mean = (teeth * lit - mixed * shown) / determinant
            spread = (square * shown - mixed * lit) / determinant
        else:
            mean, spread = lit / (square + WITHOUT_STYLE), np.zeros_like(lit)
        both = np.stack([mean + weights[-1], spread]).astype(np.float32)
        found.append((weights[:-1].astype(np.float32), both, face.astype(np.float32)))
    return found


def _shape(styles: StyleSums, pairs: int, flipped: bool) -> npt.NDArray[np.float32]:
    """Return how the shape varies with the style, d1 = mean of s u."""
    shape = np.asarray(styles.shape / (UNITS * STEP * pairs), np.float32)
    return symmetric_field(shape) if flipped else shape


def mirrored_taps(field: ReceptiveField) -> list[int] | None:
    """Return which tap each is the mirror image of, or None if one has none."""
    place = {offset: k for k, offset in enumerate(field.offsets)}
    found = [place.get((dy, -dx)) for dy, dx in field.offsets]
    return None if None in found else [k for k in found if k is not None]


def make_symmetric(weights: npt.NDArray[np.float32], field: ReceptiveField) -> None:
    """Take the mean of weights (taps, height, width) and their mirror images, in place."""
    for k, other in enumerate(mirrored_taps(field) or ()):
        if k <= other:
            mean = (weights[k] + weights[other, :, ::-1]) / 2
            weights[k], weights[other] = mean, mean[:, ::-1]
