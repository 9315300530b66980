"""Templates, motions and styles: what is made once from a training set, and then frozen.

Source images are registered to their common template; the targets of an expression to theirs, and
then once more to the template of their own style. Once all of this is frozen, what becomes of a
pair depends on that pair alone, so that statistics stay exact, additive and splittable.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.kernels.parallel import share_out
from mlr.kernels.register import blur_planes, gaussian
from mlr.registration.features import Features, features_of_reduced
from mlr.registration.fields import (
    STEP,
    composed,
    enlarged,
    halved,
    inverse,
    looked_up,
    moved,
    rounded,
)
from mlr.registration.geometry import Geometry, planes_of
from mlr.registration.register import Template

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]

ROUNDS = (2.0, 1.0, 0.0)  # blur of the template in each round, in pixels of the half size
GAIN = 1.05  # of the templates that targets are registered to a second time
MOST_STYLE = 1.7  # deviations that such a template shows at most
LEAST_PAIRS = 8  # that a style is told from
GROUPS = 0.70  # of the variance that two groups explain at least; of a normal distribution .64
SMALLEST = 0.2  # share of the pairs in the smaller group, at least
ITERATIONS = 300  # of the power method
UNITS = 256  # light and style are rounded to parts of this number


@dataclass(frozen=True, eq=False)
class Frame:
    """The common frame of an expression: all that is frozen of it.

    Arrays are float32; fields and planes have the half size, that of fields.

    Attributes
    ----------
    template : ndarray, shape (height, width, 2)
        Mean features of the targets, T_e, at full size.
    variation : ndarray, shape (height, width, 2)
        Mean of the features times the scores, C_e, at full size.
    motion : ndarray, shape (2, half height, half width)
        The mean face's motion m_e, in pixels of the half size and steps of 1/64.
    light : float
        Mean brightness of the sources in the oval.
    change : ndarray, shape (half height, half width)
        Mean change of the first feature, D.
    component : ndarray, shape (half height, half width)
        The score of a pair is the sum of (its change - D) times this.
    explained : float
        Share of the variation of the change that the component explains.
    groups : (float, float) or None
        Centres of the scores of two groups, that with more change last.
    """

    template: Floats
    variation: Floats
    motion: Floats
    light: float
    change: Floats
    component: Floats
    explained: float
    groups: tuple[float, float] | None

    @property
    def styled(self) -> bool:
        """Whether there is a style."""
        return bool(self.component.any())


_ARRAYS = ("template", "variation", "motion", "change", "component")
_NUMBERS = ("light", "explained", "groups")


@dataclass(frozen=True, eq=False)
class Templates:
    """All that is frozen of a training set.

    Attributes
    ----------
    geometry : Geometry
        Where faces lie in the images.
    source : ndarray of float32, shape (half height, half width, 2)
        Mean features of the sources, T_source, at the half size.
    frames : dict of str to Frame
        The frame of each expression.
    """

    geometry: Geometry
    source: Floats
    frames: dict[str, Frame]

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: without what can be made of it, but for the digest."""
        return {key: getattr(self, key) for key in ("geometry", "source", "frames", "digest")}

    @cached_property
    def source_template(self) -> Template:
        """What source images are registered to."""
        return Template(self.geometry, self.source)

    @cached_property
    def target_templates(self) -> dict[str, Template]:
        """What target images of each expression are registered to first."""
        return {
            name: Template(self.geometry, halved(frame.template), frame.template)
            for name, frame in self.frames.items()
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is frozen, 64 hexadecimal digits."""
        found = hashlib.sha256(repr(self.geometry).encode())
        arrays, numbers = self.to_arrays()
        for name, array in sorted(arrays.items()):
            found.update(name.encode() + np.ascontiguousarray(array).tobytes())
        found.update(json.dumps(numbers, sort_keys=True).encode())
        return found.hexdigest()

    def to_arrays(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Return the arrays by name, and all else ready for JSON."""
        arrays = {"source": self.source}
        frames: dict[str, Any] = {}
        for index, (name, frame) in enumerate(sorted(self.frames.items())):
            arrays |= {f"{key}{index}": getattr(frame, key) for key in _ARRAYS}
            frames[name] = {key: getattr(frame, key) for key in _NUMBERS}
        return arrays, {"size": self.geometry.size, "eyes": self.geometry.eyes, "frames": frames}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats], details: Mapping[str, Any]) -> Templates:
        """Return the templates that `to_arrays` took apart.

        Raises
        ------
        LookupError, TypeError, ValueError
            If something is missing or not what it should be.
        """
        height, width = (int(side) for side in details["size"])
        (x0, y0), (x1, y1) = details["eyes"]
        eyes = ((float(x0), float(y0)), (float(x1), float(y1)))
        if not all(math.isfinite(value) for eye in eyes for value in eye) or x0 == x1:
            raise ValueError(f"its eyes are {eyes}")
        geometry = Geometry((height, width), eyes)
        whole, half = (*geometry.features, 2), geometry.fields
        shapes = dict(zip(_ARRAYS, (whole, whole, (2, *half), half, half), strict=True))

        def checked(name: str, shape: tuple[int, ...]) -> Floats:
            array = np.array(arrays[name])
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"template {name} is {array.dtype} {array.shape}, not {shape}")
            return array

        frames = {}
        for index, (name, numbers) in enumerate(sorted(details["frames"].items())):
            groups = numbers["groups"]
            frames[str(name)] = Frame(
                **{key: checked(f"{key}{index}", shape) for key, shape in shapes.items()},
                light=float(numbers["light"]),
                explained=float(numbers["explained"]),
                groups=None if groups is None else (float(groups[0]), float(groups[1])),
            )
            if not frames[name].light > 0:
                raise ValueError(f"the light of {name} is {numbers['light']}")
        return cls(geometry, checked("source", (*half, 2)), frames)

    def source_field(self, features: Features) -> Floats:
        """Return the field of a training source, in steps of 1/64."""
        return rounded(self.source_template.register(features))


@dataclass(frozen=True, eq=False)
class FramedPair:
    """A pair moved into the frame of an expression.

    Attributes
    ----------
    source, target : ndarray of float32, shape (channels, height, width)
        In [0, 1], not clipped.
    light : int
        Brightness of the source over the templates' mean, in parts of 1/256.
    style : int
        Score of the pair, in parts of 1/256.
    shape : ndarray of int32, shape (2, half height, half width)
        Field of the target less the shape of the person, in parts of 1/64.
    """

    source: Floats
    target: Floats
    light: int
    style: int
    shape: npt.NDArray[np.int32]


def framed(
    frame: Frame,
    template: Template,
    source: Floats,
    source_features: Features,
    source_field: Floats,
    target: Floats,
    target_features: Features,
) -> FramedPair:
    """Return a pair moved into the frame of an expression.

    Parameters
    ----------
    frame : Frame
        Of the expression.
    template : Template
        Of its targets.
    source, target : ndarray of float32, shape (channels, height, width)
        In [0, 1].
    source_features, target_features : Features
        Theirs.
    source_field : ndarray of float32, shape (2, half height, half width)
        As `Templates.source_field` returns it.
    """
    geometry = template.geometry
    size = geometry.size
    whole = composed(source_field, frame.motion)
    before = _luminance(source_features, whole)
    field = rounded(template.register(target_features))
    score = 0.0
    if frame.styled:
        score = score_of(frame, _luminance(target_features, field) - before)
        field = rounded(styled_field(geometry, frame, target_features, field, score))
        score = score_of(frame, _luminance(target_features, field) - before)
    shape = field - rounded(whole - frame.motion)
    return FramedPair(
        moved(source, enlarged(whole, *size)),
        moved(target, enlarged(field, *size)),
        round(UNITS * light_of(geometry, source_features, whole) / frame.light),
        round(UNITS * score),
        np.rint(shape * np.float32(STEP)).astype(np.int32),
    )


def styled_field(
    geometry: Geometry, frame: Frame, features: Features, start: Floats, score: float
) -> Floats:
    """Return the field of a target registered to the template of its style, from a field."""
    clipped = np.float32(min(max(score, -MOST_STYLE), MOST_STYLE))
    whole = np.float32(GAIN) * (frame.template + clipped * frame.variation)
    template = Template(geometry, halved(whole), whole)
    return template.refined(features, template.register(features, start))


def light_of(geometry: Geometry, features: Features, field: Floats) -> float:
    """Return the mean brightness in the oval of an image moved by a field, in [0, 1]."""
    _, oval = planes_of(geometry)
    framed = looked_up(features.light[None], field)[0]
    return max(float(framed[oval].mean(dtype=np.float64)), 1 / 255)


def _luminance(features: Features, field: Floats) -> Floats:
    """Return the first feature moved by a field, (half height, half width)."""
    return looked_up(np.ascontiguousarray(features.half[None, ..., 0]), field)[0]


def score_of(frame: Frame, change: Floats) -> float:
    """Return the score of a change of the first feature, in standard deviations."""
    difference = change.astype(np.float64) - frame.change
    return float((difference * frame.component).sum())


# --- making templates -------------------------------------------------------------------------


Reduced = npt.NDArray[np.uint8]  # an image of a shorter side of 128 px, (height, width, channels)


def _features(images: Sequence[Reduced]) -> list[Features]:
    """Return the features of images."""
    found: dict[int, Features] = {}

    def fill(begin: int, end: int) -> None:
        for n in range(begin, end):
            found[n] = features_of_reduced(images[n] * np.float32(1 / 255))

    share_out(fill, len(images))
    return [found[n] for n in range(len(images))]


def group(geometry: Geometry, features: Sequence[Features]) -> tuple[Floats, Floats]:
    """Register images to their own mean.

    Returns
    -------
    fields : ndarray of float32, shape (N, 2, half height, half width)
        Of mean 0, about.
    mean : ndarray of float32, shape (half height, half width, 2)
        Mean of the moved features.
    """
    fields = np.zeros((len(features), 2, *geometry.fields), np.float32)
    halves = [each.half for each in features]
    for sigma in ROUNDS:
        planes = np.ascontiguousarray(_mean_features(halves, fields).transpose(2, 0, 1))
        blur_planes(0, len(planes), planes, gaussian(sigma))
        template = Template(geometry, np.ascontiguousarray(planes.transpose(1, 2, 0)))
        found = np.empty_like(fields)
        _fill(found, partial(_registered, template, features))
        back = inverse(np.asarray(found.mean(axis=0, dtype=np.float64), np.float32))
        _fill(fields, partial(_composed, found, back))
    return fields, _mean_features(halves, fields)


def _registered(template: Template, features: Sequence[Features], n: int) -> Floats:
    return template.register(features[n])


def _composed(fields: Floats, inner: Floats, n: int) -> Floats:
    return composed(fields[n], inner)


def _mean_features(
    features: Sequence[Floats], fields: Floats, scores: Float | None = None
) -> Floats:
    """Return the mean of moved features, (height, width, 2), of any size; times scores if given."""
    total = np.zeros(features[0].shape, np.float64)
    height, width = features[0].shape[:2]
    for n, (each, field) in enumerate(zip(features, fields, strict=True)):
        planes = np.ascontiguousarray(each.transpose(2, 0, 1))
        found = looked_up(planes, enlarged(field, height, width)).transpose(1, 2, 0)
        total += found if scores is None else scores[n] * found
    return np.asarray(total / len(features), np.float32)


def _fill(output: Floats, make: Callable[[int], Floats]) -> None:
    """Fill in output[n] = make(n), in all threads."""

    def fill(begin: int, end: int) -> None:
        for n in range(begin, end):
            output[n] = make(n)

    share_out(fill, len(output))


def frame_of(
    geometry: Geometry,
    source: Floats,
    sources: Sequence[Features],
    source_fields: Floats,
    targets: Sequence[Reduced],
) -> Frame:
    """Make the frame of an expression.

    Parameters
    ----------
    geometry : Geometry
        Of the images.
    source : ndarray of float32, shape (half height, half width, 2)
        Template of the sources.
    sources : sequence of Features
        Of the sources of the pairs.
    targets : sequence of ndarray of uint8, shape (height, width, channels)
        Their targets, of the size of features.
    source_fields : ndarray of float32, shape (N, 2, half height, half width)
        Fields of the sources.
    """
    count = len(targets)
    grey = not source[..., 1].any()
    features = _features(targets)
    fields, half = group(geometry, features)
    template = Template(geometry, half)
    motion = rounded(template.register(Features(source, source, source[..., 0], grey)))
    wholes = [composed(field, motion) for field in source_fields]
    before = [_luminance(each, whole) for each, whole in zip(sources, wholes, strict=True)]
    lights = [light_of(geometry, *each) for each in zip(sources, wholes, strict=True)]
    light = float(np.mean(lights))

    def changes_with(fields: Floats) -> tuple[Floats, Floats]:
        """Return the changes of the first feature, and their mean."""
        changes = np.empty((count, *geometry.fields), np.float32)
        _fill(changes, lambda n: _luminance(features[n], fields[n]) - before[n])
        return changes, np.asarray(changes.mean(axis=0, dtype=np.float64), np.float32)

    wholes_of = [each.whole for each in features]
    whole = _mean_features(wholes_of, fields)
    changes, mean = changes_with(fields)
    zeros = np.zeros(geometry.fields, np.float32)
    if count < LEAST_PAIRS:
        return Frame(whole, np.zeros_like(whole), motion, light, mean, zeros, 0.0, None)
    scores, component, explained = main_variation(geometry, changes, mean)
    variation = _mean_features(wholes_of, fields, scores)
    first = Frame(whole, variation, motion, light, mean, component, explained, None)
    refined = np.empty_like(fields)
    _fill(refined, lambda n: styled_field(geometry, first, features[n], fields[n], scores[n]))
    changes, mean = changes_with(refined)
    scores, component, explained = main_variation(geometry, changes, mean)
    return Frame(whole, variation, motion, light, mean, component, explained, groups_of(scores))


def main_variation(
    geometry: Geometry, changes: Floats, mean: Floats
) -> tuple[Float, Floats, float]:
    """Return the main variation of changes.

    The first right singular vector of (D_n - mean D) var(D), inside the oval. More of it is more
    change: its scores have a positive covariance with the sum of D_n^2.

    Returns
    -------
    scores : ndarray of float64, shape (N,)
        Of standard deviation 1.
    component : ndarray of float32, shape (half height, half width)
        The score of a change is the sum of (change - mean) times this.
    explained : float
        Share of the sum of squares.
    """
    _, oval = planes_of(geometry)
    apart = (changes - mean).astype(np.float64)[:, oval]
    variance = (apart * apart).mean(axis=0)
    weighted = apart * variance
    # Dot products without BLAS, whose sums depend on its threads.
    gram = np.einsum("ik,jk->ij", weighted, weighted, optimize=False)
    vector = gram[int(np.argmax(gram.diagonal()))].copy()
    value = 0.0
    for _ in range(ITERATIONS):
        norm = float(np.sqrt((vector * vector).sum()))
        if norm == 0:
            return np.zeros(len(changes)), np.zeros(geometry.fields, np.float32), 0.0
        vector /= norm
        vector = (gram * vector).sum(axis=1)
        value = float(np.sqrt((vector * vector).sum()))
    direction = (weighted * vector[:, None]).sum(axis=0)
    direction /= np.sqrt((direction * direction).sum())
    scores = (weighted * direction).sum(axis=1)
    energy = (changes.astype(np.float64) ** 2)[:, oval].sum(axis=1)
    if ((scores - scores.mean()) * (energy - energy.mean())).sum() < 0:
        direction = -direction
    deviation = float(scores.std())
    component = np.zeros(geometry.fields, np.float32)
    component[oval] = variance * direction / deviation
    scores = (apart * component[oval]).sum(axis=1)
    return scores, component, value / float(gram.trace())


def groups_of(scores: Float) -> tuple[float, float] | None:
    """Return the centres of two groups of scores, lower first, or None if there are not two.

    Two-means must explain more than 70 % of the variance, and the smaller group hold a fifth.
    """
    ordered = np.sort(scores)
    count = len(ordered)
    lower = np.arange(1, count)  # sizes of the lower group, for every cut of the sorted scores
    sums = np.cumsum(ordered)
    low, high = sums[:-1] / lower, (sums[-1] - sums[:-1]) / (count - lower)
    between = lower * (count - lower) / count * (high - low) ** 2
    best = int(np.argmax(between))
    total = float(((ordered - ordered.mean()) ** 2).sum())
    smaller = min(lower[best], count - lower[best])
    if total == 0 or between[best] <= GROUPS * total or smaller < SMALLEST * count:
        return None
    return float(low[best]), float(high[best])


def templates_of(
    geometry: Geometry,
    sources: Sequence[Reduced],
    targets: Mapping[str, tuple[Sequence[int], Sequence[Reduced]]],
) -> Templates:
    """Make the templates of a training set.

    Parameters
    ----------
    geometry : Geometry
        Of the images.
    sources : sequence of ndarray of uint8, shape (height, width, channels)
        The sources, each once, of the size of features.
    targets : mapping of str to (sequence of int, sequence of ndarray)
        For each expression, the numbers of its sources, and the targets.
    """
    features = _features(sources)
    fields, source = group(geometry, features)
    frames = {
        name: frame_of(geometry, source, [features[n] for n in numbers], fields[numbers], images)
        for name, (numbers, images) in sorted(targets.items())
    }
    return Templates(geometry, source, frames)
