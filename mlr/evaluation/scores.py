"""Scores of outputs against their targets: arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core import metrics
from mlr.core.metrics import Scores
from mlr.photo.detect import installed
from mlr.training.decode import as_channels

Pixels = npt.NDArray[Any]

MEASURES = ("mse", "psnr", "ssim", "sharpness")  # of the whole image
REGIONS = ("face", "mouth")
REGION_MEASURES = ("mse", "ssim", "sharpness")


class PairScores(NamedTuple):
    """The scores of one pair.

    Attributes
    ----------
    subject, expression : str
        Names.
    output, copy : Scores
        Of the output and of the unchanged input.
    same_person : float or None
        Distance of the face embeddings of output and input; None if unknown.
    """

    subject: str
    expression: str
    output: Scores
    copy: Scores
    same_person: float | None = None


def score(image: Pixels, target: Pixels) -> Scores:
    """Return all measures of an image.

    Parameters
    ----------
    image, target : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
        A grey one counts as colour if the other is.
    """
    channels = max(image.shape[2], target.shape[2])
    units = (pixels / float(np.iinfo(pixels.dtype).max) for pixels in (image, target))
    return metrics.scores(*(as_channels(unit, channels) for unit in units))


def identity_distance(source: Pixels) -> Callable[[Pixels], float | None]:
    """Return a function that measures the distance of an output's face embedding from an input's.

    Parameters
    ----------
    source : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
        The input; outputs are like it.

    Returns
    -------
    function
        Returns dlib's distance, below 0.6 for most pictures of one subject; None without
        ``mlr[align]``.
    """
    if not installed():
        return lambda output: None
    from mlr.evaluation.identity import embedding  # dlib takes a while to import

    origin = embedding(as_rgb8(source))
    return lambda output: float(np.linalg.norm(embedding(as_rgb8(output)) - origin))


def by_expression(pairs: Iterable[PairScores]) -> dict[str, list[PairScores]]:
    """Return the pairs of each expression, in order; expressions are sorted."""
    found: dict[str, list[PairScores]] = {}
    for pair in pairs:
        found.setdefault(pair.expression, []).append(pair)
    return dict(sorted(found.items()))


def summarize(pairs: Sequence[PairScores]) -> dict[str, Any]:
    """Return the mean scores of the outputs, and those of the unchanged inputs in ``copy_input``.

    Parameters
    ----------
    pairs : sequence of PairScores
        At least one.
    """
    distances = [pair.same_person for pair in pairs]
    known = None not in distances
    return {
        **mean_scores([pair.output for pair in pairs]),
        "same_person": _mean(distances) if known else None,
        "copy_input": {
            **mean_scores([pair.copy for pair in pairs]),
            "same_person": 0.0 if known else None,
        },
    }


def mean_scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each measure of at least one `Scores`; None where it is not finite."""
    means: dict[str, Any] = {name: _mean([each[name] for each in scores]) for name in MEASURES}
    for region in REGIONS:
        means[region] = {
            name: _mean([each[region][name] for each in scores]) for name in REGION_MEASURES
        }
    return means


def as_rgb8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return an 8-bit or 16-bit image (height, width, 1 or 3) as 8-bit colour."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return as_channels(pixels, 3)


def _mean(values: Sequence[float | None]) -> float | None:
    mean = float(np.mean(np.array(values, dtype=np.float64)))
    return mean if math.isfinite(mean) else None
