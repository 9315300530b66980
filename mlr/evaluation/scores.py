"""Scores of outputs against their targets, and how well outputs keep the identity of a face.

dlib's residual network maps a face to 128 numbers, its embedding. The distance of the embeddings of
two images of one subject is mostly below 0.6 (King 2017), of two subjects it is larger.
"""

from __future__ import annotations

import math
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


class PairScores(NamedTuple):
    """The scores of one pair."""

    subject: str
    expression: str
    output: Scores
    copy: Scores  # of the unchanged input
    same_person: float | None = None  # distance of the embeddings of output and input
    digest: int = 0  # of the two files, as `mlr.core.accumulate.pair_digest`


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
    """Return the mean scores of the outputs, and of the unchanged inputs in ``copy_input``."""
    distances = [pair.same_person for pair in pairs]
    identity = None if None in distances else _mean(distances)
    copied = None if None in distances else 0.0
    copy_input = mean_scores([pair.copy for pair in pairs]) | {"same_person": copied}
    means = mean_scores([pair.output for pair in pairs])
    return {**means, "same_person": identity, "copy_input": copy_input}


def mean_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each measure of at least one `Scores`; None where it is not finite."""
    means: dict[str, Any] = {name: _mean([each[name] for each in scores]) for name in MEASURES}
    for region in REGIONS:
        means[region] = {
            name: _mean([each[region][name] for each in scores]) for name in REGION_MEASURES
        }
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    mean = float(np.mean(np.array(values, dtype=np.float64)))
    return mean if math.isfinite(mean) else None
