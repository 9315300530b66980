"""Whether an aligned face keeps its identity, measured with ``mlr[align]``.

dlib's residual network maps a face to 128 numbers, its embedding. Two pictures of one subject have
close embeddings (King 2017: mostly below a distance of 0.6), those of two subjects do not.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.photo.detect import load_dlib_model, predictor

Embedding = npt.NDArray[np.float64]

SIDE = 512  # of the enlarged face, in pixels
PADDING = 100  # pixels of its edge, repeated around it
RECTANGLE = (150, 180, 562, 580)  # of the face in there: left, top, right, bottom

_one_at_a_time = threading.Lock()  # the network has state; it holds the GIL anyway


def embedding(pixels: npt.NDArray[np.uint8]) -> Embedding:
    """Return dlib's embedding of an aligned face.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        The face, with its eyes at `mlr.core.alignment.EYES`. It is resized to a square.

    Returns
    -------
    ndarray of float64, shape (128,)
        Compare two by their Euclidean distance.
    """
    import dlib

    face = PIL.Image.fromarray(pixels).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    around = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded = np.pad(np.asarray(face), around, mode="edge")
    with _one_at_a_time:
        points = predictor()(padded, dlib.rectangle(*RECTANGLE))
        return np.array(_network().compute_face_descriptor(padded, points))


@cache
def _network() -> Any:
    import dlib

    name = "dlib_face_recognition_resnet_model_v1.dat"
    return load_dlib_model(dlib.face_recognition_model_v1, name)
