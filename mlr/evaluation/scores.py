"""Scores of outputs against their targets, and how well outputs keep the identity of a face.

The confidence intervals of means are percentiles of the bootstrap (Efron 1979): as many subjects as
there are, drawn again and again with replacement, show how the mean varies. A subject is drawn with
all its pairs, because these are alike.

dlib's residual network maps a face to 128 numbers, its embedding. The distance of the embeddings of
two images of one subject is mostly below 0.6 (King 2017), of two subjects it is larger.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.core import metrics
from mlr.core.metrics import Scores
from mlr.io.sheet import as_rgb8
from mlr.photo.detect import installed, load_dlib_model, predictor
from mlr.training.decode import as_channels

Pixels = npt.NDArray[Any]

SIDE = 512  # of the enlarged face, in pixels
PADDING = 100  # pixels of its edge, repeated around it
RECTANGLE = (150, 180, 562, 580)  # of the face, in padded pixels: left, top, right, bottom

MEASURES = ("mse", "psnr", "ssim", "sharpness")  # of the whole image
REGIONS = ("face", "mouth")
REGION_MEASURES = ("mse", "ssim", "sharpness")

PERCENTILES = (2.5, 97.5)  # the ends of an interval
RESAMPLES = 2000
SEED = 0
DRAWN = 1 << 20  # subjects drawn at once, which limits the memory


class PairScores(NamedTuple):
    """The scores of one pair."""

    subject: str
    expression: str
    output: Scores
    copy: Scores  # of the unchanged input
    same_person: float | None = None  # distance of the embeddings of output and input
    digest: int = 0  # of the two files, as `mlr.core.accumulate.pair_digest`
    fit: float | None = None  # of the input, see `Fit.value`; None without registration
    fitted: bool | None = None  # whether the input fits, and is changed at all


def score(image: Pixels, target: Pixels) -> Scores:
    """Return all scores of an 8-bit or 16-bit image; grey becomes colour if the other is."""
    channels = max(image.shape[2], target.shape[2])
    units = (pixels / float(np.iinfo(pixels.dtype).max) for pixels in (image, target))
    return metrics.scores(*(as_channels(unit, channels) for unit in units))


def identity_distance(source: Pixels) -> Callable[[Pixels], float | None]:
    """Return a function that measures the distance of an output's embedding from the input's.

    It returns None without the extra ``align``.
    """
    if not installed():
        return lambda output: None
    origin = embedding(as_rgb8(source))
    return lambda output: float(np.linalg.norm(embedding(as_rgb8(output)) - origin))


def embedding(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return dlib's embedding (128,) of an aligned face of any size, 8-bit colour."""
    import dlib

    face = PIL.Image.fromarray(pixels).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    around = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded = np.pad(np.asarray(face), around, mode="edge")
    with _lock:
        points = predictor()(padded, dlib.rectangle(*RECTANGLE))
        return np.array(_network().compute_face_descriptor(padded, points))


_lock = threading.Lock()  # the network has state; it holds the GIL anyway


@cache
def _network() -> Any:
    import dlib

    name = "dlib_face_recognition_resnet_model_v1.dat"
    return load_dlib_model(dlib.face_recognition_model_v1, name)


def by_expression(pairs: Iterable[PairScores]) -> dict[str, list[PairScores]]:
    """Return the pairs of each expression, in order; expressions are sorted."""
    found: dict[str, list[PairScores]] = {}
    for pair in pairs:
        found.setdefault(pair.expression, []).append(pair)
    return dict(sorted(found.items()))


def summarize(pairs: Sequence[PairScores]) -> dict[str, Any]:
    """Return the mean scores of the outputs, and more.

    ``copy_input`` has the means of the unchanged inputs, ``fitted`` the share of inputs that fit,
    and ``interval`` the confidence intervals of the means, nested like these.
    """
    distances = [pair.same_person for pair in pairs]
    unchanged = [None if each is None else 0.0 for each in distances]
    subjects = subjects_of([pair.subject for pair in pairs])

    def summary(function: Callable[[Sequence[float | None]], Any]) -> dict[str, Any]:
        ours = by_measure(function, [pair.output for pair in pairs])
        copied = by_measure(function, [pair.copy for pair in pairs])
        copied["same_person"] = function(unchanged)
        return {**ours, "same_person": function(distances), "copy_input": copied}

    interval = summary(lambda values: mean_interval(values, subjects))
    fitted = _mean([pair.fitted for pair in pairs])
    return {**summary(_mean), "fitted": fitted, "interval": interval}


def subjects_of(names: Sequence[str]) -> list[str]:
    """Return the subject of each name: more pictures of "ann" are "ann-2", "ann-3" and so on."""
    known = set(names)
    firsts = [re.sub(r"-\d+$", "", name) for name in names]
    return [first if first in known else name for first, name in zip(firsts, names, strict=True)]


def mean_interval(
    values: Sequence[float | None], subjects: Sequence[str] | None = None
) -> list[float] | None:
    """Return the 95 % confidence interval of a mean, by the bootstrap over subjects.

    Parameters
    ----------
    values : sequence of float or None, length N
        Of the pairs; None is unknown.
    subjects : sequence of str, length N, optional
        The subject of each value; by default all differ.

    Returns
    -------
    list of float or None
        ``[low, high]``: the same for the same values in any order. None for fewer than two
        subjects, and if a value is unknown or not finite.
    """
    known = np.array(values, dtype=np.float64)
    names = range(len(known)) if subjects is None else subjects
    _, index = np.unique(np.array(names), return_inverse=True)
    counts, sums = np.bincount(index), np.bincount(index, known)
    size = len(counts)
    if size < 2 or not np.isfinite(known).all():
        return None
    random, means = np.random.default_rng(SEED), np.empty(RESAMPLES)
    rows = max(1, DRAWN // size)
    for first in range(0, RESAMPLES, rows):
        part = means[first : first + rows]
        drawn = random.integers(size, size=(len(part), size))
        part[:] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [float(end) for end in np.percentile(means, PERCENTILES)]


def mean_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each measure of at least one `Scores`; None where it is not finite."""
    return by_measure(_mean, scores)


def by_measure(
    function: Callable[[Sequence[float | None]], Any], scores: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a function of the values of each measure, nested like each of the `Scores`."""
    found = {name: function([each[name] for each in scores]) for name in MEASURES}
    for region in REGIONS:
        found[region] = {
            name: function([each[region][name] for each in scores]) for name in REGION_MEASURES
        }
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    mean = float(np.mean(np.array(values, dtype=np.float64)))
    return mean if math.isfinite(mean) else None
