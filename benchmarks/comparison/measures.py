"""Measures of outputs: against their targets, and against their inputs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.evaluation.scores import MEASURES, embedding, score
from mlr.photo.detect import installed

Outputs = npt.NDArray[np.floating]
Images = npt.NDArray[np.uint8]

IN_FACE, IN_MOUTH = ("mse", "ssim", "sharpness"), ("mse", "sharpness")
EYE = (0.14, 0.10)  # half width and half height of an eye with its brow, as fractions of the sides
MOUTH = (0.58, 0.88, 0.26, 0.74)  # top, bottom, left and right


def as_8bit(outputs: Outputs) -> Images:
    """Return outputs in [0, 1] as they would be written."""
    return np.rint(255 * np.clip(outputs, 0, 1)).astype(np.uint8)


def against_targets(outputs: Images, targets: Images) -> dict[str, list[float]]:
    """Return the scores of each pair, intensities in [0, 1]: of the image, the face, the mouth."""
    scores = [score(*pair) for pair in zip(outputs, targets, strict=True)]
    found = {name: [each[name] for each in scores] for name in MEASURES}
    found |= {f"face {name}": [each["face"][name] for each in scores] for name in IN_FACE}
    return found | {f"mouth {name}": [each["mouth"][name] for each in scores] for name in IN_MOUTH}


def same_person(outputs: Images, inputs: Images) -> dict[str, list[float]]:
    """Return the distance of each output's embedding from the input's; nothing without dlib."""
    if not installed():
        return {}
    pairs = zip(outputs, inputs, strict=True)
    found = [
        float(np.linalg.norm(embedding(one) - _embedding_once(_key(two)))) for one, two in pairs
    ]
    return {"same person": found}


def against_inputs(outputs: Images, inputs: Images) -> dict[str, float]:
    """Return the mean change of faces without a target, in intensities of 0 to 255.

    ``elsewhere``: root mean square outside the mouth and the eyes, where an expression changes
    little and the identity should stay. ``colour``: of the mean colour, root mean square over the
    channels.
    """
    change = outputs.astype(float) - inputs
    rest = ~expressive(*inputs.shape[1:3])
    elsewhere = np.sqrt(np.square(change[:, rest]).mean(axis=(1, 2)))
    colour = np.sqrt(np.square(change.mean(axis=(1, 2))).mean(axis=1))
    return {"elsewhere": float(elsewhere.mean()), "colour": float(colour.mean())}


def _key(image: Images) -> tuple[bytes, tuple[int, ...]]:
    return image.tobytes(), image.shape


@lru_cache(maxsize=1024)
def _embedding_once(key: tuple[bytes, tuple[int, ...]]) -> npt.NDArray[np.float64]:
    """Return the embedding of an input, which all rivals share."""
    pixels, shape = key
    return embedding(np.frombuffer(pixels, np.uint8).reshape(shape))


def expressive(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the region of the eyes and the mouth of an aligned face, (height, width)."""
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    top, bottom, left, right = MOUTH
    found = (y > top) & (y < bottom) & (x > left) & (x < right)
    for eye_x, eye_y in EYES:
        found |= (abs(x - eye_x) < EYE[0]) & (abs(y - eye_y) < EYE[1])
    return found
