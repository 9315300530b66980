"""How templates, motions and styles are made of a training set, once, to be frozen.

Source images are registered to their own mean; the targets of an expression to theirs, and then
once more to the template of their own style. In the frame, most of what subjects do differently is
one component, the style: teeth or none in a smile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mlr.core.registration.eyes import find_eyes
from mlr.core.registration.features import Features, features_of_reduced
from mlr.core.registration.fields import (
    composed,
    enlarged,
    inverse,
    looked_up,
    rounded,
    symmetric,
    symmetric_field,
)
from mlr.core.registration.geometry import Geometry, planes_of
from mlr.core.registration.register import Template
from mlr.core.registration.templates import (
    Frame,
    Templates,
    light_of,
    luminance_in,
    styled_field,
    white_of,
)
from mlr.kernels.parallel import share_out
from mlr.kernels.register import blur_planes, gaussian

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Reduced = npt.NDArray[np.uint8]  # an image of a shorter side of 128 px, (height, width, channels)

ROUNDS = (2.0, 1.0, 0.0)  # blur of the template in each round, in pixels of the half size
LEAST_PAIRS = 8  # that a style is told from
LEAST_FACES = 5  # whose mean is clear enough to find the eyes in
GROUPS = 0.80  # of the variance that two groups explain at least; of even scores they do .75
SMALLEST = 0.2  # share of the pairs in the smaller group, at least
ITERATIONS = 300  # of the power method


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
        mean = _mean_features(geometry, halves, fields)
        planes = np.ascontiguousarray(mean.transpose(2, 0, 1))
        blur_planes(0, len(planes), planes, gaussian(sigma))
        template = Template(geometry, np.ascontiguousarray(planes.transpose(1, 2, 0)))
        found = np.empty_like(fields)
        _fill(found, partial(_registered, template, features))
        back = inverse(np.asarray(found.mean(axis=0, dtype=np.float64), np.float32))
        _fill(fields, partial(_composed, found, back))
    return fields, _mean_features(geometry, halves, fields)


def _registered(template: Template, features: Sequence[Features], n: int) -> Floats:
    return template.register(features[n])


def _composed(fields: Floats, inner: Floats, n: int) -> Floats:
    return composed(fields[n], inner)


def _mean_features(
    geometry: Geometry, features: Sequence[Floats], fields: Floats, scores: Float | None = None
) -> Floats:
    """Return the mean of moved features, (height, width, 2), of any size; times scores if given.

    Where mirroring keeps the face, the mirror images count, too: flip augmentation.
    """
    total = np.zeros(features[0].shape, np.float64)
    height, width = features[0].shape[:2]
    for n, (each, field) in enumerate(zip(features, fields, strict=True)):
        planes = np.ascontiguousarray(each.transpose(2, 0, 1))
        found = looked_up(planes, enlarged(field, height, width)).transpose(1, 2, 0)
        total += found if scores is None else scores[n] * found
    mean = np.asarray(total / len(features), np.float32)
    return symmetric(mean, axis=1) if geometry.symmetric else mean


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
    light = source[..., 0]  # which a template has none of, and registration does not need
    motion = template.register(Features(source, source, light, light, grey))
    motion = rounded(symmetric_field(motion) if geometry.symmetric else motion)
    wholes = [composed(field, motion) for field in source_fields]
    before = [luminance_in(each, whole) for each, whole in zip(sources, wholes, strict=True)]
    lights = [light_of(geometry, *each) for each in zip(sources, wholes, strict=True)]
    brightness = float(np.mean(lights))

    def changes_with(fields: Floats) -> tuple[Floats, Floats]:
        """Return the changes of the first feature, and their mean."""
        changes = np.empty((count, *geometry.fields), np.float32)
        _fill(changes, lambda n: luminance_in(features[n], fields[n]) - before[n])
        if geometry.symmetric:
            changes = symmetric(changes)
        return changes, np.asarray(changes.mean(axis=0, dtype=np.float64), np.float32)

    wholes_of = [each.whole for each in features]
    whole = _mean_features(geometry, wholes_of, fields)
    changes, mean = changes_with(fields)
    zeros = np.zeros(geometry.fields, np.float32)
    if count < LEAST_PAIRS:
        return Frame(whole, np.zeros_like(whole), motion, brightness, mean, zeros, 0.0, None)
    scores, component, explained = main_variation(geometry, changes, mean)
    variation = _mean_features(geometry, wholes_of, fields, scores)
    common = variation, motion, brightness
    first = Frame(whole, *common, mean, component, explained, None)
    refined = np.empty_like(fields)
    _fill(refined, lambda n: styled_field(geometry, first, features[n], fields[n], scores[n]))
    changes, mean = changes_with(refined)
    scores, component, explained = main_variation(geometry, changes, mean)
    return Frame(whole, *common, mean, component, explained, groups_of(scores))


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

    Two-means must explain more than 80 % of the variance, and the smaller group hold a fifth.
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
    size: tuple[int, int],
    sources: Sequence[Reduced],
    targets: Mapping[str, tuple[Sequence[int], Sequence[Reduced]]],
) -> Templates:
    """Make the templates of a training set.

    Parameters
    ----------
    size : (int, int)
        Height and width of the images themselves.
    sources : sequence of ndarray of uint8, shape (height, width, channels)
        The sources, each once, of the size of features.
    targets : mapping of str to (sequence of int, sequence of ndarray)
        For each expression, the numbers of its sources, and the targets.
    """
    features = _features(sources)
    geometry = Geometry(size)
    if len(features) >= LEAST_FACES:
        mean = sum(each.whole[..., 0].astype(np.float64) for each in features) / len(features)
        geometry = Geometry(size, find_eyes(np.asarray(mean, np.float32)))
    fields, source = group(geometry, features)
    whites = [white_of(geometry, *each) for each in zip(features, fields, strict=True)]
    frames = {
        name: frame_of(geometry, source, [features[n] for n in numbers], fields[numbers], images)
        for name, (numbers, images) in sorted(targets.items())
    }
    return Templates(geometry, source, float(np.mean(whites)), frames)
