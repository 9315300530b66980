"""What is measured of outputs: against their targets, and against their inputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core import metrics
from mlr.core.alignment import EYES
from mlr.evaluation.evaluate import MEASURES

Outputs = npt.NDArray[np.floating]
Images = npt.NDArray[np.uint8]

BESIDE, ABOVE = 0.14, 0.10  # what belongs to an eye, around its centre, in units of the sides
MOUTH = (0.58, 0.88, 0.26, 0.74)  # top, bottom, left and right


def written(outputs: Outputs) -> Images:
    """Return outputs as they would be written: clipped, 8 bits."""
    return np.rint(255 * np.clip(outputs, 0, 1)).astype(np.uint8)


def against_targets(outputs: Images, targets: Images) -> dict[str, list[float]]:
    """Return MSE, PSNR, SSIM and sharpness of each pair, intensities in [0, 1]."""
    scores = [metrics.scores(o / 255, t / 255) for o, t in zip(outputs, targets, strict=True)]
    return {name: [score[name] for score in scores] for name in MEASURES}


def against_inputs(outputs: Images, inputs: Images) -> dict[str, float]:
    """Return what is kept of faces without a target, means over them in levels of 255.

    ``elsewhere``: root mean square change outside of the mouth and the eyes, where an expression
    changes little and the person should stay the same. ``colour``: shift of the mean colour, root
    mean square over the channels.
    """
    change = outputs.astype(float) - inputs
    rest = ~expressive(*inputs.shape[1:3])
    elsewhere = np.sqrt(np.square(change[:, rest]).mean(axis=(1, 2)))
    colour = np.sqrt(np.square(change.mean(axis=(1, 2))).mean(axis=1))
    return {"elsewhere": float(elsewhere.mean()), "colour": float(colour.mean())}


def expressive(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return where the eyes and the mouth of an aligned face are, (height, width)."""
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    top, bottom, left, right = MOUTH
    found = (y > top) & (y < bottom) & (x > left) & (x < right)
    for eye_x, eye_y in EYES:
        found |= (abs(x - eye_x) < BESIDE) & (abs(y - eye_y) < ABOVE)
    return found
