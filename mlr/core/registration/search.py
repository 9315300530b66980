"""Search for a face whose position, proportions and expression differ from the sources'.

A coarse fit, at a quarter of the features' size, moves each of several templates by nine numbers:
position, zoom, roll and proportions of the lower face, from several starts. The best fits are
refined by `Template.register`. In addition to the template of the sources there is one of each
expression at two styles, so that a smiling face is found, too; its field is then composed with the
motion, which gives a field from the frame of the sources.

With Y and X the position in the canonical crop, from the point between the eyes and in units of its
side, and the ramp r = clip((y - .40) / .35, 0, 1.15) from the eyes down, the coarse fields are

    u_y in span{1, X, Y, r},    u_x in span{1, X, Y, X^2, X r}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.core.regions import in_mouth
from mlr.core.registration.features import Features
from mlr.core.registration.fields import compose, halved, look_up
from mlr.core.registration.geometry import Geometry, weights_and_oval
from mlr.core.registration.register import Template, with_derivatives_of
from mlr.kernels.blur import blur
from mlr.kernels.register import combine, normal_equations_of

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Expected size of the nine numbers, in sides of the canonical crop: of 1, X, Y, r down, and of
#: 1, X, Y, X^2, X r across.
SIGMAS = np.array([0.04, 0.12, 0.12, 0.06, 0.04, 0.12, 0.12, 0.3, 0.15])
LOWER_FACE = 3  # index of r down
STARTS = (0.0, -0.06, 0.06, 0.12)  # of that number
FIRST_STEPS, MORE_STEPS = 3, 5  # before and after candidates are pruned
PRUNED, REFINED = 8, 4  # candidates that are left by pruning, and that are refined
APART = 0.75  # largest difference of fields that count as equal, in pixels of the coarse size
PRICE = 0.01  # of unusual numbers, in correlation
STEADY = np.float32(0.5)  # share of the last video frame in the fit of a clip
STYLES = (-0.8, 1.2)  # of the templates of an expression

#: Bounds of ramps from 0 to 1. The fit: other pictures reach .44, aligned photographs begin at .58.
FIT = (0.42, 0.50)
#: The fit plus the mean local correlation at the mouth: .96 to 1.03 where a chin or a shadow was
#: taken for the mouth, otherwise 1.09 and more. The latter alone is low for dark skin, too.
MOUTH_FIT = (1.0, 1.1)
LOCAL_FIT = (0.15, 0.4)  # the local correlation
#: By how much the correlation at the mouth falls when a face that shows an expression is registered
#: to the sources: neutral faces .06, closed smiles .15, open ones .4 and more.
SHOWN = (0.15, 0.45)
LOCAL_SIGMA, TRUST_SIGMA = 5.0, 2.0  # blurs of the local correlation and of its ramp, half size


@dataclass(frozen=True, eq=False)
class Candidate:
    """A template that faces are searched with."""

    template: Template
    expression: str | None = None  #: what the face shows; None for the sources
    #: float32, (2, half height, half width), field from the sources' frame to the expression's
    back: Floats | None = None


@dataclass(frozen=True, eq=False)
class Fit:
    """The fit of a face; "half" is the size of fields."""

    #: float32, (2, half height, half width), from the sources' template to the face, in pixels of
    #: the half size
    field: Floats
    value: float  #: correlation with the best template, less the price of unusual proportions
    expression: str | None  #: of that template; None for the sources'
    shown: float  #: how much of that expression the face shows already, 0 to 1
    #: float32, (half height, half width), in the frame of the sources: the share of a change that
    #: each pixel gets, 0 to 1
    trust: Floats
    candidate: int  #: index of the template
    start: Floats  #: the field from that template to the face
    #: float64, (1 + channels,), brightness of the whites of the eyes in luminance and each channel
    whites: Float = dataclasses.field(default_factory=lambda: np.ones(1))

    @property
    def unlike(self) -> bool:
        """Whether the face is too unlike the training set, so that nothing is changed."""
        return not self.trust.any()

    def summary(self) -> dict[str, Any]:
        """Return a description of the fit, ready for JSON."""
        summary = {"fit": float(self.value), "trust": float(self.trust.max())}
        if self.expression is None:
            return summary
        return {**summary, "shows": self.expression, "shown": float(self.shown)}

    def after(self, last: Fit) -> Fit:
        """Return the mean of this fit and the one of the video frame before, against jitter."""

        def mean(one: Any, other: Any) -> Any:
            return STEADY * other + (1 - STEADY) * one

        return replace(
            self,
            field=mean(self.field, last.field),
            value=mean(self.value, last.value),
            shown=mean(self.shown, last.shown * (last.expression == self.expression)),
            trust=mean(self.trust, last.trust),
            whites=mean(self.whites, last.whites),
        )


class Search:
    """Finds the face in aligned images of one size; the first candidate is the sources'."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        geometry = candidates[0].template.geometry
        (self._weight, half_weight, _), _ = weights_and_oval(geometry)
        tall, wide = geometry.fields
        self.bases = coarse_fields(geometry, tall // 2, wide // 2)
        self.fixed = [with_derivatives_of(halved(each.template.half)) for each in candidates]
        bases = coarse_fields(geometry, tall, wide).reshape(len(SIGMAS), -1).astype(np.float64)
        weighted = bases * np.tile(half_weight.ravel(), 2)
        gram = np.einsum("ip,jp->ij", weighted, bases, optimize=False)
        self.to_numbers = np.linalg.solve(gram, weighted)
        self.mouth = in_mouth(*geometry.canonical(tall, wide))

    def find(self, features: Features) -> Fit:
        """Return the best fit of a face, from all starts."""
        fits = []
        for index, start in self._coarse(features):
            template = self.candidates[index].template
            field = template.register(features, start)
            fits.append((self._value(template, features, field), index, field))
        value, index, field = max(fits, key=lambda each: each[0])
        return self._finished(features, value, index, field)

    def follow(self, features: Features, last: Fit) -> Fit:
        """Return the fit of a face, starting from its fit in the video frame before."""
        template = self.candidates[last.candidate].template
        field = template.polished(features, last.start)
        value = self._value(template, features, field)
        return self._finished(features, value, last.candidate, field)

    def _finished(self, features: Features, value: float, index: int, field: Floats) -> Fit:
        """Return the fit, with its field from the frame of the sources."""
        source, found = self.candidates[0].template, self.candidates[index]
        start, shown = field, 0.0
        if found.back is not None:
            before = found.template.correlation(features, field, self.mouth)
            field = source.polished(features, compose(field, found.back))
            lost = before - source.correlation(features, field, self.mouth)
            shown = float(ramp(lost, *SHOWN))
        trust = self._trust(features, value, field)
        return Fit(field, value, found.expression, shown, trust, index, start)

    def _value(self, template: Template, features: Features, field: Floats) -> float:
        # Without BLAS, whose sums depend on its threads.
        numbers = np.einsum("np,p->n", self.to_numbers, field.ravel(), optimize=False)
        price = PRICE * float(np.square(numbers / SIGMAS).sum())
        return template.correlation(features, field) - price

    def _trust(self, features: Features, value: float, field: Floats) -> Floats:
        local = self.candidates[0].template.local_correlation(features, field, LOCAL_SIGMA)
        at_mouth = value + float(local[self.mouth].mean())
        whole = ramp(value, *FIT) * ramp(at_mouth, *MOUTH_FIT)
        return np.float32(whole) * blur(
            np.asarray(ramp(local, *LOCAL_FIT), np.float32), TRUST_SIGMA, threads=False
        )

    def _coarse(self, features: Features) -> list[tuple[int, Floats]]:
        """Return indices of candidates and coarse fields to refine."""
        moving, second = with_derivatives_of(halved(features.half)), np.float32(not features.grey)
        index = np.repeat(np.arange(len(self.candidates)), len(STARTS))
        numbers = np.zeros((len(index), len(SIGMAS)))
        numbers[:, LOWER_FACE] = STARTS * len(self.candidates)
        for steps in (FIRST_STEPS, MORE_STEPS):
            for _ in range(steps):
                numbers += self._steps(moving, second, index, numbers)
            fits = self._coarse_fits(moving, second, index, numbers)
            best = np.argsort(-fits, kind="stable")[:PRUNED]
            index, numbers = index[best], numbers[best]
        chosen: list[tuple[int, Floats]] = []
        for n, field in zip(index.tolist(), self._fields(numbers), strict=True):
            if not any(n == k and np.abs(field - other).max() < APART for k, other in chosen):
                chosen.append((n, field))
        return chosen[:REFINED]

    def _fields(self, numbers: Float) -> Floats:
        """Return the coarse fields of numbers (N, 9)."""
        fields = np.empty((len(numbers), *self.bases.shape[1:]), np.float32)
        for each, field in zip(numbers.astype(np.float32), fields, strict=True):
            combine(self.bases, each, field)
        return fields

    def _steps(self, moving: Floats, second: np.float32, index: Indices, numbers: Float) -> Float:
        """Return a Gauss-Newton step of the numbers of each candidate."""
        count, size = numbers.shape
        matrices = np.empty((count, size, size), np.float32)
        right = np.empty((count, size), np.float32)
        for n, field in enumerate(self._fields(numbers)):
            normal_equations_of(
                *(moving, self.fixed[index[n]], self._weight, second),
                *(self.bases, field, matrices[n], right[n]),
            )
        pull = SIGMAS**-2  # to 0
        steps = np.linalg.solve(matrices + np.diag(pull), (right - pull * numbers)[..., None])
        return np.asarray(steps[..., 0], np.float64)

    def _coarse_fits(
        self, moving: Floats, second: np.float32, index: Indices, numbers: Float
    ) -> Float:
        """Return the weighted correlation of each candidate."""
        kept = [0, 3] if second else [0]
        planes, fixed = np.ascontiguousarray(moving[kept]), [each[kept] for each in self.fixed]
        fields = self._fields(numbers)
        return np.array(
            [
                weighted_correlation(look_up(planes, field), fixed[n], self._weight)
                for n, field in zip(index, fields, strict=True)
            ]
        )


def coarse_fields(geometry: Geometry, height: int, width: int) -> Floats:
    """Return the nine coarse fields, (9, 2, height, width), in pixels, each for a number of 1."""
    y, x = geometry.canonical(height, width)
    down, across = y - EYES[0][1], x - 0.5
    ramped = np.clip((y - 0.40) / 0.35, 0, 1.15)
    fields = np.zeros((len(SIGMAS), 2, height, width), np.float32)
    for n, plane in enumerate((1, across, down, ramped)):
        fields[n, 0] = plane
    for n, plane in enumerate((1, across, down, across**2, across * ramped), 4):
        fields[n, 1] = plane
    return fields * np.float32(geometry.side(width))


def weighted_correlation(planes: Floats, others: Floats, weight: Floats) -> float:
    """Return the weighted correlation of planes (N, height, width) with others."""
    share = weight / weight.sum()
    a, b = (each - (each * share).sum(axis=(1, 2), keepdims=True) for each in (planes, others))
    scale = np.sqrt((a * a * share).sum() * (b * b * share).sum())
    return float((a * b * share).sum() / scale) if scale > 0 else 0.0


def ramp(value: Any, low: float, high: float) -> Any:
    """Return 0 up to ``low``, 1 from ``high`` on, and a straight line in between."""
    return np.clip((value - low) / (high - low), 0, 1)
