"""Computing templates, motions and styles from a training set.

Source images are registered to their own mean, and so are the targets of each expression; targets
are then registered again, each to the template of its own style. In the frame, most of the
variation over subjects is one component, the style: a smile with teeth or without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mlr.core.registration.eyes import find_eyes
from mlr.core.registration.features import Features, features_of_reduced
from mlr.core.registration.fields import (
    compose,
    invert,
    look_up,
    resize_field,
    rounded,
    symmetric,
    symmetric_field,
)
from mlr.core.registration.geometry import Geometry, weights_and_oval
from mlr.core.registration.register import Template
from mlr.core.registration.templates import (
    Frame,
    Templates,
    eye_white_of,
    first_feature,
    light_of,
    styled_field,
)
from mlr.kernels.blur import blur
from mlr.kernels.parallel import parallel_map

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Reduced = npt.NDArray[np.uint8]  # an image of a shorter side of 128 px, (height, width, channels)

ROUNDS = (2.0, 1.0, 0.0)  # blur of the template in each round, in pixels of the half size
LEAST_PAIRS = 8  # for a style
LEAST_FACES = 5  # to find the eyes in their mean
GROUPS = 0.80  # least share of the variance that two groups explain; .75 for uniform scores
SMALLEST = 0.2  # least share of the pairs in the smaller group
ITERATIONS = 300  # of the power method


def templates_of(
    size: tuple[int, int],
    sources: Sequence[Reduced],
    targets: Mapping[str, tuple[Sequence[int], Sequence[Reduced]]],
    step: Callable[[], object] = int,
) -> Templates:
    """Compute the templates of a training set.

    The sources, each once, and the targets have been reduced from ``size`` (height, width) to
    `geometry.feature_size`. For each expression, ``targets`` has the indices of its sources and its
    target images. ``step`` is called `steps` times, to show progress.
    """
    features = _features_of_all(sources)
    geometry = Geometry(size)
    if len(features) >= LEAST_FACES:
        mean = sum(each.whole[..., 0].astype(np.float64) for each in features) / len(features)
        geometry = Geometry(size, find_eyes(np.asarray(mean, np.float32)))
    fields, source = register_to_mean(geometry, features, step)
    whites = [eye_white_of(geometry, *each) for each in zip(features, fields, strict=True)]
    frames = {
        name: frame_of(
            geometry, source, [features[n] for n in indices], fields[indices], images, step
        )
        for name, (indices, images) in sorted(targets.items())
    }
    return Templates(geometry, source, float(np.mean(whites)), frames)


def steps(expressions: int) -> int:
    """Return how often `templates_of` calls ``step``."""
    return len(ROUNDS) + (len(ROUNDS) + 1) * expressions


def register_to_mean(
    geometry: Geometry, features: Sequence[Features], step: Callable[[], object] = int
) -> tuple[Floats, Floats]:
    """Register images to their own mean.

    Returns the fields, float32 (N, 2, half height, half width), whose mean is about 0, and the mean
    of the warped features, float32 (half height, half width, 2).
    """
    fields = np.zeros((len(features), 2, *geometry.fields), np.float32)
    for sigma in ROUNDS:
        fields = _registered_again(geometry, features, fields, sigma)
        step()
    return fields, _mean_features(geometry, [each.half for each in features], fields)


def _registered_again(
    geometry: Geometry, features: Sequence[Features], fields: Floats, sigma: float
) -> Floats:
    """Return fields to the blurred mean of the warped images, with their mean removed."""
    mean = _mean_features(geometry, [each.half for each in features], fields)
    planes = blur(mean.transpose(2, 0, 1), sigma)
    template = Template(geometry, np.ascontiguousarray(planes.transpose(1, 2, 0)))
    found = _for_each(lambda n: template.register(features[n]), len(features))
    back = invert(np.asarray(found.mean(axis=0, dtype=np.float64), np.float32))
    return _for_each(lambda n: compose(found[n], back), len(features))


def frame_of(
    geometry: Geometry,
    source: Floats,
    sources: Sequence[Features],
    source_fields: Floats,
    targets: Sequence[Reduced],
    step: Callable[[], object] = int,
) -> Frame:
    """Compute the frame of an expression.

    ``source`` is the template of the sources, (half height, half width, 2). For each pair there are
    the features of its source, the source's field, (N, 2, half height, half width), and the target,
    reduced to `geometry.feature_size`.
    """
    features = _features_of_all(targets)
    wholes = [each.whole for each in features]
    fields, half = register_to_mean(geometry, features, step)
    motion = _motion(geometry, source, half)
    moved = list(zip(sources, [compose(field, motion) for field in source_fields], strict=True))
    before = np.stack([first_feature(*each) for each in moved])
    change, changes = _changes(geometry, features, fields, before)
    frame = Frame(
        template=_mean_features(geometry, wholes, fields),
        variation=np.zeros(features[0].whole.shape, np.float32),
        motion=motion,
        light=float(np.mean([light_of(geometry, *each) for each in moved])),
        change=change,
        component=np.zeros(geometry.fields, np.float32),
        explained=0.0,
        groups=None,
    )
    if len(targets) < LEAST_PAIRS:
        step()
        return frame
    scores, component, _ = main_variation(geometry, changes, change)
    variation = _mean_features(geometry, wholes, fields, scores)
    frame = replace(frame, variation=variation, component=component)

    def styled(n: int) -> Floats:
        return styled_field(geometry, frame, features[n], fields[n], scores[n])

    change, changes = _changes(geometry, features, _for_each(styled, len(targets)), before)
    step()
    scores, component, explained = main_variation(geometry, changes, change)
    groups = groups_of(scores)
    return replace(frame, change=change, component=component, explained=explained, groups=groups)


def main_variation(
    geometry: Geometry, changes: Floats, mean: Floats
) -> tuple[Float, Floats, float]:
    """Return the main variation of changes D_n.

    It is the first right singular vector of (D_n - mean D) var(D), inside the oval. Its sign makes
    the covariance of the scores with the sum of D_n^2 positive: more style is more change.

    Returns
    -------
    scores : ndarray of float64, shape (N,)
        Of standard deviation 1.
    component : ndarray of float32, shape (half height, half width)
        The score of a change is the sum of (change - mean) times this.
    explained : float
        Share of the sum of squares.
    """
    _, oval = weights_and_oval(geometry)
    deviations = (changes - mean).astype(np.float64)[:, oval]
    variance = (deviations * deviations).mean(axis=0)
    weighted = deviations * variance
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
    component = np.zeros(geometry.fields, np.float32)
    component[oval] = variance * direction / float(scores.std())
    scores = (deviations * component[oval]).sum(axis=1)
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


def _motion(geometry: Geometry, source: Floats, target: Floats) -> Floats:
    """Return the field between two templates (half height, half width, 2), in steps of 1/64."""
    luminance = source[..., 0]  # templates have none, and registration does not need it
    features = Features(source, source, luminance, luminance, grey=not source[..., 1].any())
    motion = Template(geometry, target).register(features)
    return rounded(symmetric_field(motion) if geometry.symmetric else motion)


def _changes(
    geometry: Geometry, features: Sequence[Features], fields: Floats, before: Floats
) -> tuple[Floats, Floats]:
    """Return the mean change of the first feature, and the change of each pair."""
    changes = _for_each(lambda n: first_feature(features[n], fields[n]) - before[n], len(features))
    if geometry.symmetric:
        changes = symmetric(changes)
    return np.asarray(changes.mean(axis=0, dtype=np.float64), np.float32), changes


def _mean_features(
    geometry: Geometry, features: Sequence[Floats], fields: Floats, scores: Float | None = None
) -> Floats:
    """Return the mean of warped features (height, width, 2) of any size, times scores if given.

    Flipped features are included if the face is in the middle.
    """
    total = np.zeros(features[0].shape, np.float64)
    height, width = features[0].shape[:2]
    for n, (each, field) in enumerate(zip(features, fields, strict=True)):
        planes = np.ascontiguousarray(each.transpose(2, 0, 1))
        moved = look_up(planes, resize_field(field, height, width)).transpose(1, 2, 0)
        total += moved if scores is None else scores[n] * moved
    mean = np.asarray(total / len(features), np.float32)
    return symmetric(mean, axis=1) if geometry.symmetric else mean


def _features_of_all(images: Sequence[Reduced]) -> list[Features]:
    return parallel_map(lambda n: features_of_reduced(images[n] * np.float32(1 / 255)), len(images))


def _for_each(function: Callable[[int], Floats], count: int) -> Floats:
    """Return the arrays function(0), ..., function(count - 1), stacked."""
    return np.stack(parallel_map(function, count))
