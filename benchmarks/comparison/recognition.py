"""Recognition of the expression in outputs, by two classifiers.

The classifier is trained on the real faces of the training part of each fold: histograms of
oriented gradients (Dalal and Triggs 2005) and a logistic regression. The judge is a network that
others trained (face-api's expression net); it needs Node and a folder with its package, see
``judge.mjs``.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.comparison.data import Images, at_size
from mlr.core.model import LUMA
from mlr.errors import MlrError

SIDE = 64  # px, at which the classifier looks at faces
CELL = 8  # px, of the histograms
REGULARISATION = 0.01  # C of scikit-learn: far more features than faces
JUDGED_SIDE = 112  # px, at which the network looks at faces
CROP = (0.06, 0.04, 0.92)  # top, left and side of what it sees, as fractions of an aligned face


class Classifier:
    """Tells an expression from the neutral face.

    Parameters
    ----------
    neutral, expressive : ndarray of uint8, shape (N, height, width, 3)
        Real faces of the training part, and their mirror images are added.
    """

    def __init__(self, neutral: Images, expressive: Images) -> None:
        faces = np.concatenate([neutral, expressive])
        labels = np.repeat([False, True], [len(neutral), len(expressive)])
        features = np.concatenate([_gradients(faces), _gradients(faces[:, :, ::-1])])
        model = LogisticRegression(C=REGULARISATION, max_iter=1000)
        self._model: Pipeline = make_pipeline(StandardScaler(), model)
        self._model.fit(features, np.tile(labels, 2))

    def recognised(self, faces: Images) -> npt.NDArray[np.bool_]:
        """Return whether each face (N, height, width, 3) shows the expression."""
        found: npt.NDArray[np.bool_] = self._model.predict(_gradients(faces))
        return found


def judged(faces: Images, expression: str, modules: Path) -> list[float]:
    """Return the probability that the network gives to an expression of each face.

    Parameters
    ----------
    faces : ndarray of uint8, shape (N, height, width, 3)
        Aligned faces.
    expression : str
        "happy", "sad", "angry", "fearful", "disgusted", "surprised" or "neutral".
    modules : Path
        Folder with the network's package.

    Raises
    ------
    MlrError
        If Node or the package is missing, or the network does not know the expression.
    """
    side = faces.shape[1]
    top, left, whole = (round(side * part) for part in CROP)
    cropped = [face[top : top + whole, left : left + whole] for face in faces]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces"
        path.write_bytes(at_size(cropped, JUDGED_SIDE).tobytes())
        script = Path(__file__).with_name("judge.mjs")
        command = ["node", script, modules.absolute(), path, str(JUDGED_SIDE)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            raise MlrError(f"--judge needs Node: {error}") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["it gave no reason"]
            raise MlrError(f"--judge {modules}: {lines[-1]}; see {script.name}") from error
    found = json.loads(done.stdout.splitlines()[-1])
    if expression not in found[0]:
        raise MlrError(f"--judge does not know the expression {expression!r}")
    return [each[expression] for each in found]


def _gradients(faces: Images) -> npt.NDArray[np.float64]:
    """Return the histograms of oriented gradients of faces as rows."""
    grey = at_size(list(faces), SIDE) @ LUMA
    cells = {"pixels_per_cell": (CELL, CELL), "cells_per_block": (2, 2)}
    return np.stack([hog(face, **cells) for face in grey])
