"""The default recipe: register faces, regress in the common frame, move the change back.

In the common frame of an expression mouths coincide, so that a small ridge regression on the
framed pairs, whose channels share the weights, stays sharp:

- each pixel shares the samples of its neighbours (a Gaussian blur of the statistics);
- the penalty pulls the weights to the identity, the middle tap; the light l of the face takes the
  role of the bias;
- the residual of the ridge is regressed, for each pixel and channel, on two features of the pair:
  on l with the coefficient b, and on g = e (s - s_0) with the coefficient c, where e is the light
  on teeth, s the style, and s_0 the style without teeth;
- the part of c that removes the colour of the training subjects' lips is replaced by a share of the
  face's own lips.

No parameter is tuned to the data: on held-out subjects other values were better by less than half
a percent, see ``benchmarks/results/registration.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlr.core.bands import Band
from mlr.core.exposure import Exposure
from mlr.core.model import Model, ModelInfo
from mlr.core.registration.fields import STEP, halved, symmetric, symmetric_field
from mlr.core.registration.geometry import SIDE
from mlr.core.registration.synthesis import Appearance, Registered
from mlr.core.registration.templates import UNITS
from mlr.core.statistics import Statistics
from mlr.errors import MlrError, OptionError
from mlr.kernels.blur import blur
from mlr.recipes.base import Floats, Recipe
from mlr.recipes.moments import halo_for, is_closed, moments_bytes, residual, solved
from mlr.recipes.options import BestOptions

BLUR = 2.0  # pixels, for a shorter side of 128
LIGHT = 1e-3  # penalty of the light, relative to a tap's
SHRINKAGE = 1.0  # added to the sums of squares of light and teeth
WITHOUT_STYLE = 2.0  # the same without a style, from fewer than 8 pairs
REPLACED = 0.4  # largest share of the lips that teeth replace
SPREAD = 1.0  # blur of that share, in pixels for a shorter side of 128
FLOOR = 0.002  # of the variance of the mean face over the channels


@dataclass(frozen=True)
class Best(BestOptions, Recipe):
    """A regression of registered faces.

    ``receptive_field`` is converted by `ReceptiveField.of`, by default the one of the statistics or
    3x3; every tap between one of its taps and the middle must be there, too. ``penalty``, of a tap
    for intensities in [0, 1] as if there were one channel, is positive. ``blur`` is the standard
    deviation of the blur of the statistics, from 0 to 64 pixels, by default 2 for a shorter side of
    128. Raises an `OptionError` if one is out of range.
    """

    registers = True
    unfit = (
        "statistics for the recipe paper, whose channels are separate; "
        "compute them with --recipe best, or give --recipe paper"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.receptive_field is not None and not is_closed(self.receptive_field):
            raise OptionError(
                "the receptive field of the recipe best must also have all taps between one of "
                "its taps and the middle"
            )
        if self.penalty == 0:
            raise OptionError("the recipe best needs a penalty above 0")

    def halo(self, head: Statistics) -> int:
        """Return the number of rows above and below a band that its weights depend on."""
        return halo_for(head.receptive_field, self.sigma(head.shape))

    def solving_bytes(self, head: Statistics, rows: int) -> float:
        """Return the bytes that `solve` allocates for a band."""
        channels, _, width = head.shape
        moments = moments_bytes(head.receptive_field, self.sigma(head.shape), width, rows)
        return moments + 80.0 * channels * width * rows

    def sigma(self, shape: tuple[int, int, int]) -> float:
        """Return the blur for images of (channels, height, width), in pixels."""
        return BLUR * min(shape[1:]) / SIDE if self.blur is None else self.blur

    def solve(self, crop: Statistics, band: Band) -> tuple[Floats, ...]:
        """Return weights, residuals and faces of a band, as float32 arrays.

        The weights are (expressions, 1, taps + 1, rows, width), with a bias of 0; the residuals b
        and c are (expressions, 2, channels, rows, width); the mean framed sources are
        (expressions, channels, rows, width).
        """
        if crop.templates is None:
            raise MlrError("there is no registered training pair in these statistics")
        taps, (channels, _, width) = crop.receptive_field, crop.shape
        count, size = len(crop.expressions), (band.end - band.first, width)
        weights = np.zeros((count, 1, len(taps) + 1, *size), np.float32)
        added = np.empty((count, 2, channels, *size), np.float32)
        faces = np.empty((count, channels, *size), np.float32)
        sigma = self.sigma((channels, band.height, width))
        penalty = self.penalty * channels * np.array([1.0] * len(taps) + [LIGHT])
        prior = np.array([tap == (0, 0) for tap in taps.offsets] + [False], np.float64)
        for index, name in enumerate(crop.expressions):
            found = solved(crop, name, sigma, penalty, prior, band)
            found = found.astype(np.float32).astype(np.float64)  # as in the model
            if not np.isfinite(found).all():
                raise MlrError("the weights are too large for a model; give intensities in [0, 1]")
            weights[index, 0, :-1] = found[:-1]
            added[index], faces[index] = _residuals(crop, name, found, band)
        return weights, added, faces

    def model(self, head: Statistics, solved: Sequence[Floats], exposure: Exposure) -> Model:
        """Return the model, see `Recipe.model`."""
        weights, added, faces = solved
        templates, taps = head.templates, head.receptive_field
        assert templates is not None
        mirrored = [(dy, -dx) for dy, dx in taps.offsets]
        flipped = templates.geometry.symmetric and {*mirrored} == {*taps.offsets}
        appearances = {}
        for index, name in enumerate(head.expressions):
            if flipped:  # flip augmentation: flipped pairs would give the mirror image
                _make_symmetric(weights[index, 0], [taps.offsets.index(tap) for tap in mirrored])
                added[index], faces[index] = symmetric(added[index]), symmetric(faces[index])
            appearances[name] = _appearance(head, name, added[index], faces[index], flipped)
        return Model(
            weights=weights,
            receptive_field=taps,
            expressions=head.expressions,
            registered=Registered(
                templates.geometry, templates.source, templates.eye_white, appearances
            ),
            edge=True,
            channels=head.shape[0],
            info=ModelInfo(
                source=head.source,
                recipe="best",
                prior="input",
                penalty=self.penalty,
                blur=self.sigma(head.shape),
                pairs=head.pairs,
                digest=head.hexdigest,
                templates=templates.digest,
                exposure=exposure,
                eyes=templates.geometry.eyes,
            ),
        )


def _appearance(
    head: Statistics, name: str, added: Floats, face: Floats, flipped: bool
) -> Appearance:
    """Return the appearance of an expression; changes ``added`` in place."""
    assert head.templates is not None
    frame, target = head.templates.frames[name], head.targets[name]
    assert target.styles is not None
    styles = target.styles
    low, high = frame.groups or (0.0, 0.0)
    light, _, square, *_ = styles.numbers
    own = face * np.float32(light * UNITS / square)  # sum l x / sum l^2
    share = replaced_share(added[1], own)
    added[1] += share * own
    shape = np.asarray(styles.shape / (UNITS * STEP * head.pairs[name]), np.float32)
    return Appearance(
        template=halved(frame.template),
        variation=halved(frame.variation),
        motion=frame.motion,
        shape=symmetric_field(shape) if flipped else shape,  # mean of s u
        mean=added[0],
        spread=added[1],
        share=share,
        face=np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8),
        light=frame.light,
        style=high,
        other=low,
        plain=frame.plain,
        explained=frame.explained,
    )


def style_note(name: str, appearance: Appearance, pairs: int) -> str:
    """Return a line of text about the style of an expression."""
    if not appearance.styled:
        return f"{name}: no style, which takes at least 8 pairs (there are {pairs})"
    groups = "in one group"
    if appearance.groups is not None:
        groups = "in two groups about {:.2f} and {:.2f}".format(*appearance.groups)
    share = f"the style is {appearance.explained:.0%} of what varies"
    return f"{name}: {share}, {groups}; default style {round(appearance.style, 2):g}"


def replaced_share(spread: Floats, face: Floats) -> Floats:
    """Return the share of the face that is replaced for each unit of style, (height, width).

    Teeth are not pink: where they cover lips, c removes colour. With dc and dx the differences of c
    and of the mean face, (channels, height, width), from their means over the channels, the share
    is -blur(dc dx) / (blur(dx dx) + floor), from 0 to `REPLACED`; for grey images it is 0.
    """
    apart = [planes - planes.mean(axis=0, dtype=np.float32) for planes in (spread, face)]
    products = np.stack([(apart[0] * apart[1]).sum(axis=0), (apart[1] * apart[1]).sum(axis=0)])
    products = blur(products, SPREAD * min(face.shape[1:]) / SIDE)
    share = -products[0] / (products[1] + np.float32(FLOOR))
    return np.clip(share, 0, np.float32(REPLACED))


def _residuals(
    crop: Statistics, name: str, weights: npt.NDArray[np.float64], band: Band
) -> tuple[Floats, Floats]:
    """Return b and c, (2, channels, rows, width), and the mean framed source of a band."""
    taps, styles = crop.receptive_field, crop.targets[name].styles
    assert styles is not None
    light = styles.numbers[0] / UNITS
    square, mixed, teeth = (number / UNITS**2 for number in styles.numbers[2:])
    planes = styles.planes.astype(np.float64) / (crop.data_range * UNITS)  # of l x, g x, l t, g t
    lit, shown = (
        residual(planes[k], total, planes[k + 2], weights, taps, band)
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
    added = np.stack([mean + weights[-1], spread]).astype(np.float32)
    return added, face.astype(np.float32)


def _make_symmetric(weights: Floats, mirrored: Sequence[int]) -> None:
    """Take the mean of weights (taps, height, width) and their mirror images, in place.

    Tap k is the mirror image of tap mirrored[k].
    """
    for k, other in enumerate(mirrored):
        if k <= other:
            mean = (weights[k] + weights[other, :, ::-1]) / 2
            weights[k], weights[other] = mean, mean[:, ::-1]
