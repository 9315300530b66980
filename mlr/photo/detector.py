"""Finding faces and their eyes with dlib, which comes with ``mlr[align]``.

A histogram of oriented gradients finds upright faces (King 2015, Max-Margin Object Detection), an
ensemble of regression trees the corners of the eyes (Kazemi and Sullivan 2014, One Millisecond Face
Alignment), and `pupils` the irises between them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.errors import MlrError
from mlr.photo.eyes import Eyes, Places
from mlr.photo.pupils import pupil
from mlr.photo.similarity import Similarity
from mlr.photo.warp import seen, warp

Pixels = npt.NDArray[Any]
Grey = npt.NDArray[np.uint8]

NEEDS = "needs mlr[align]: pip install 'mlr[align]'"

COPY = 1_200_000  # pixels of the copy that is searched, in which a face is at least 80 px wide
PART = 1 / 20  # of a photograph's pixels, if that is more: in a panorama faces are small
ENLARGED = 2.0  # a smaller photograph, where nothing is found in it
TURNS = (90, -90, 45, -45, 135, -135, 180)  # degrees, tried in turn while no face is found
SURE = 0.4  # score that a face must have to be believed where the photograph had to be turned

KEPT = -0.3  # score that is enough for a face that was there a moment ago
VIEW = 180  # side of the crop in which it is looked for again, in pixels
VIEW_PLACES = ((0.38, 0.42), (0.62, 0.42))  # of its eyes in there

CLOSE_UP = 200  # side of the crop in which eyes are located, in pixels
PLACES = ((0.35, 0.4), (0.65, 0.4))  # of the eyes in there
FACE = (0.5, 0.58, 0.72)  # where dlib would find the face in there: centre and side
JITTER = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))
ROUNDS = 2

#: From the middle of an eye's corners to its pupil, for the left eye, in eye distances: the mean
#: over 146 photographs of the Face Research Lab London Set (neutral and smiling).
TO_PUPIL = complex(-0.0087, -0.0322)


class Detector:
    """Finds eyes in photographs; may be used from several threads.

    Raises
    ------
    MlrError
        If ``mlr[align]`` is not installed.
    """

    def __init__(self) -> None:
        if not installed():
            raise MlrError(f"finding faces {NEEDS}")
        self._of_thread = threading.local()  # dlib's detectors keep notes while they work

    def find(self, pixels: Pixels) -> list[Eyes]:
        """Return the eyes of all faces in a photograph, those of the largest face first.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            The photograph. A copy of `COPY` pixels or `PART` of its own is searched, and turned if
            need be; then the eyes are located at full resolution.
        """
        largest = math.sqrt(max(PART, COPY / (pixels.shape[0] * pixels.shape[1])))
        scale = min(1.0, largest)
        copy = _copy(pixels, scale)
        found = self._rough(copy, 0, 0.0)
        if not found and largest > 1:
            scale = min(ENLARGED, largest)
            copy = _copy(pixels, scale)
            found = self._rough(copy, 0, 0.0)
        for degrees in TURNS:
            if found:
                break
            found = self._rough(copy, degrees, SURE)
        faces: list[Eyes] = []
        for rough in sorted(found, key=_confidence, reverse=True):
            eyes = Eyes(rough.left / scale, rough.right / scale, rough.confidence)
            eyes = self._located(pixels, eyes)
            if not any(abs(eyes.middle - other.middle) < other.distance / 2 for other in faces):
                faces.append(eyes)
        return sorted(faces, key=lambda eyes: eyes.distance, reverse=True)

    def again(self, pixels: Pixels, eyes: Eyes) -> Eyes | None:
        """Return the eyes of a face that was near there a moment ago, or None if it is gone.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            A later frame.
        eyes : Eyes
            Where it was.
        """
        if not eyes.lie_within(*pixels.shape[:2]):
            return None
        view, to_frame = _close_up(pixels, eyes, VIEW, VIEW_PLACES)
        found = self._rough(view, 0, KEPT)
        if not found:
            return None
        middle = sum(complex(x, y) for x, y in VIEW_PLACES) / 2 * VIEW
        nearest = min(found, key=lambda face: abs(face.middle - middle))
        rough = Eyes(to_frame(nearest.left), to_frame(nearest.right), nearest.confidence)
        return self._located(pixels, rough)

    def _rough(self, copy: Grey, degrees: float, threshold: float) -> list[Eyes]:
        """Return the corners' middles of all faces in a copy that is turned for the search."""
        height, width = copy.shape
        turn = Similarity(1, 0)
        if degrees:
            turn, height, width = _turned(degrees, height, width)
            copy = np.clip(warp(copy[..., None], turn, height, width)[..., 0], 0, 255)
            copy = copy.astype(np.uint8)
        detector, predictor = self._tools()
        boxes, scores, _ = detector.run(copy, 0, threshold)
        back = turn.inverse
        corners = [_eye_corners(predictor, copy, box) for box in boxes]
        return [
            Eyes(back(left), back(right), float(score))
            for (left, right), score in zip(corners, scores, strict=True)
        ]

    def _located(self, pixels: Pixels, eyes: Eyes) -> Eyes:
        """Return the pupils, given the eyes roughly."""
        for _ in range(ROUNDS):
            grey, to_photo = _close_up(pixels, eyes)
            left, right = self._corners(grey)
            eyes = Eyes(to_photo(left), to_photo(right), eyes.confidence)
        along = eyes.right - eyes.left
        left = eyes.left + TO_PUPIL * along
        right = eyes.right - TO_PUPIL.conjugate() * along
        grey, to_photo = _close_up(pixels, Eyes(left, right))
        left, right = (complex(x * CLOSE_UP, y * CLOSE_UP) for x, y in PLACES)
        distance = abs(right - left)
        left, right = (pupil(grey.astype(np.float64), place, distance) for place in (left, right))
        return Eyes(to_photo(left), to_photo(right), eyes.confidence)

    def _corners(self, grey: Grey) -> tuple[complex, complex]:
        """Return the middles of the eyes' corners in a close-up.

        The mean over boxes shifted a little and over the mirror image: a box moved by a pixel moves
        the prediction by more than that.
        """
        import dlib

        _, predictor = self._tools()
        centre_x, centre_y, side = (CLOSE_UP * number for number in FACE)
        mirrored = np.ascontiguousarray(grey[:, ::-1])
        total = np.zeros(2, complex)
        for dx, dy in JITTER:
            x, y = centre_x + CLOSE_UP * dx - side / 2, centre_y + CLOSE_UP * dy - side / 2
            box = dlib.rectangle(round(x), round(y), round(x + side), round(y + side))
            total += _eye_corners(predictor, grey, box)
            left, right = _eye_corners(predictor, mirrored, box)
            total += (CLOSE_UP - right.conjugate(), CLOSE_UP - left.conjugate())
        left, right = total / (2 * len(JITTER))
        return complex(left), complex(right)

    def _tools(self) -> tuple[Any, Any]:
        """Return this thread's detector and predictor."""
        if not hasattr(self._of_thread, "tools"):
            import dlib

            self._of_thread.tools = (dlib.get_frontal_face_detector(), predictor())
        tools: tuple[Any, Any] = self._of_thread.tools
        return tools


def installed() -> bool:
    """Tell whether ``mlr[align]`` is installed."""
    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


@cache
def predictor() -> Any:
    """Return dlib's predictor of the five points of a face; threads may share it."""
    import dlib

    return load_dlib_model(dlib.shape_predictor, "shape_predictor_5_face_landmarks.dat")


def load_dlib_model(read: Callable[[str], Any], name: str) -> Any:
    """Return a model of face-recognition-models.

    Parameters
    ----------
    read : function of str
        dlib's class for models of this kind.
    name : str
        File name of the model.

    Raises
    ------
    MlrError
        If the file cannot be read.
    """
    # Found rather than imported: to import it needs a module that setuptools no longer has.
    spec = find_spec("face_recognition_models")
    folder = (spec.submodule_search_locations if spec else None) or ["."]
    path = Path(folder[0]) / "models" / name
    try:
        return read(str(path))
    except RuntimeError as error:
        raise MlrError(f"{path}: cannot be read; install mlr[align] anew") from error


def _confidence(eyes: Eyes) -> float:
    return eyes.confidence or 0.0


def _eye_corners(predictor: Any, grey: Grey, box: Any) -> tuple[complex, complex]:
    """Return the middle of the corners of the viewer's left eye and of the right one."""
    # Corners of the right eye, outer and inner, then those of the left one, and the nose.
    a, b, c, d, _ = (complex(p.x + 0.5, p.y + 0.5) for p in predictor(grey, box).parts())
    return (c + d) / 2, (a + b) / 2


def _copy(pixels: Pixels, scale: float) -> Grey:
    """Return a grey copy in another size."""
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _grey(_pillow(pixels).resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=2.0))


def _pillow(pixels: Pixels) -> PIL.Image.Image:
    """Return an 8-bit image as Pillow has it."""
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _grey(image: PIL.Image.Image) -> Grey:
    return np.array(image.convert("L"))


def _close_up(
    pixels: Pixels, eyes: Eyes, side: int = CLOSE_UP, places: Places = PLACES
) -> tuple[Grey, Similarity]:
    """Return a face, upright and grey, and the map from there to the photograph."""
    to_crop = eyes.to_crop(side, side, places)
    crop = warp(pixels, to_crop, side, side)
    white = np.iinfo(pixels.dtype).max
    crop = np.rint(np.clip(crop * (255 / white), 0, 255)).astype(np.uint8)
    return _grey(_pillow(crop)), to_crop.inverse


def _turned(degrees: float, height: int, width: int) -> tuple[Similarity, int, int]:
    """Return the map that turns an image about its corner, moved to fit, and the new size."""
    angle = math.radians(degrees)
    turn = Similarity(complex(math.cos(angle), math.sin(angle)), 0)
    top, bottom, left, right = seen(turn, height, width)
    return Similarity(turn.factor, -complex(left, top)), bottom - top, right - left
