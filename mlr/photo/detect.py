"""Detection of faces and their eyes with dlib, which comes with ``mlr[align]``.

A histogram of oriented gradients finds upright faces (King 2015, Max-Margin Object Detection), an
ensemble of regression trees the corners of the eyes (Kazemi and Sullivan 2014, One Millisecond Face
Alignment), and `pupil` the irises between them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr.errors import MlrError
from mlr.io.images import Pixels
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Similarity, warp

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]

NEEDS = "needs mlr[align]: pip install 'mlr[align]'"

COPY = 1_200_000  # pixels of the copy that is searched, in which a face is at least 80 px wide
PART = 1 / 20  # of a photograph's pixels, if that is more: in a panorama faces are small
ENLARGED = 2.0  # scale of a second copy of a small photograph, if nothing is found in the first
TURNS = (90, -90, 45, -45, 135, -135, 180)  # degrees, tried in turn while no face is found
SURE = 0.4  # least score of a face in a photograph that had to be turned

KEPT = -0.3  # least score of a face that was there in the frame before
VIEW = 180  # side of the crop in which it is looked for again, in pixels
EYES_IN_VIEW = ((0.38, 0.42), (0.62, 0.42))

CLOSE_UP = 200  # side of the crop in which eyes are located, in pixels
EYES_IN_CLOSE_UP = ((0.35, 0.4), (0.65, 0.4))
FACE = (0.5, 0.58, 0.72)  # centre and side of dlib's rectangle of the face in there
JITTER = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))
ROUNDS = 2

#: From the middle of an eye's corners to its pupil, for the left eye, in eye distances: the mean
#: over 146 photographs of the Face Research Lab London Set (neutral and smiling).
TO_PUPIL = complex(-0.0087, -0.0322)

# All in eye distances, but for the last.
IRIS_RADIUS = 0.09  # 11.7 mm across at 63 mm, less what the lids hide
PUPIL_SEARCH = 0.12  # largest distance of the pupil from where it is expected
PUPIL_DEVIATION = 0.05  # standard deviation of the expected position
SHARPNESS = 0.1  # how much darker the best position must be to win; a share of its contrast


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
        self._of_thread = threading.local()  # dlib's detectors have state

    def find(self, pixels: Pixels) -> list[Eyes]:
        """Return the eyes of all faces in a photograph, those of the largest face first.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            The photograph. A copy of `COPY` pixels or `PART` of its own is searched, and turned if
            need be; then the eyes are located at full resolution.
        """
        largest = math.sqrt(max(PART, COPY / (pixels.shape[0] * pixels.shape[1])))
        scales = [min(1.0, largest)] + ([min(ENLARGED, largest)] if largest > 1 else [])
        for scale in scales:
            copy = _grey_copy(pixels, scale)
            if found := self._search(copy):
                break
        else:
            turned = (self._search(copy, degrees, SURE) for degrees in TURNS)
            found = next(filter(None, turned), [])
        faces: list[Eyes] = []
        for rough in sorted(found, key=lambda eyes: eyes.confidence or 0.0, reverse=True):
            eyes = Eyes(rough.left / scale, rough.right / scale, rough.confidence)
            eyes = self._located(pixels, eyes)
            if not any(abs(eyes.middle - other.middle) < other.distance / 2 for other in faces):
                faces.append(eyes)
        return sorted(faces, key=lambda eyes: eyes.distance, reverse=True)

    def find_again(self, pixels: Pixels, eyes: Eyes) -> Eyes | None:
        """Return the eyes of a face that had them nearby in an earlier frame, or None.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            The later frame.
        eyes : Eyes
            In the earlier frame.
        """
        if not eyes.lie_within(*pixels.shape[:2]):
            return None
        view, to_frame = _close_up(pixels, eyes, VIEW, EYES_IN_VIEW)
        found = self._search(view, threshold=KEPT)
        if not found:
            return None
        middle = sum(complex(x, y) for x, y in EYES_IN_VIEW) / 2 * VIEW
        nearest = min(found, key=lambda face: abs(face.middle - middle))
        return self._located(pixels, nearest.under(to_frame))

    def _search(self, copy: Grey, degrees: float = 0, threshold: float = 0.0) -> list[Eyes]:
        """Return the middles of the eyes' corners of all faces in a copy, turned for the search."""
        turn = Similarity(1, 0)
        if degrees:
            angle = math.radians(degrees)
            turn = Similarity(complex(math.cos(angle), math.sin(angle)), 0)
            bounds = turn.bounds(*copy.shape)
            turn = turn.into(bounds)
            turned = warp(copy[..., None], turn, *bounds.size)[..., 0]
            copy = np.clip(turned, 0, 255).astype(np.uint8)
        boxes, scores, _ = self._detector().run(copy, 0, threshold)
        return [
            Eyes(*_eye_corners(copy, box), float(score)).under(turn.inverse)
            for box, score in zip(boxes, scores, strict=True)
        ]

    def _located(self, pixels: Pixels, eyes: Eyes) -> Eyes:
        """Return the pupils, given the eyes roughly."""
        for _ in range(ROUNDS):
            grey, to_photo = _close_up(pixels, eyes)
            eyes = Eyes(*_steady_corners(grey), eyes.confidence).under(to_photo)
        along = eyes.right - eyes.left
        left = eyes.left + TO_PUPIL * along
        right = eyes.right - TO_PUPIL.conjugate() * along
        grey, to_photo = _close_up(pixels, Eyes(left, right))
        left, right = (complex(x * CLOSE_UP, y * CLOSE_UP) for x, y in EYES_IN_CLOSE_UP)
        distance = abs(right - left)
        left, right = (pupil(grey.astype(np.float64), eye, distance) for eye in (left, right))
        return Eyes(left, right, eyes.confidence).under(to_photo)

    def _detector(self) -> Any:
        """Return this thread's detector of faces."""
        if not hasattr(self._of_thread, "detector"):
            import dlib

            self._of_thread.detector = dlib.get_frontal_face_detector()
        return self._of_thread.detector


def installed() -> bool:
    """Return whether ``mlr[align]`` is installed."""
    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


@cache
def predictor() -> Any:
    """Return dlib's predictor of the five points of a face; threads may share it."""
    import dlib

    return load_dlib_model(dlib.shape_predictor, "shape_predictor_5_face_landmarks.dat")


def load_dlib_model(read: Callable[[str], Any], name: str) -> Any:
    """Return a model in the package face-recognition-models, read by dlib's class for its kind.

    Raises
    ------
    MlrError
        If the file cannot be read.
    """
    # The package cannot be imported: that needs a module that setuptools no longer has.
    spec = find_spec("face_recognition_models")
    folder = (spec.submodule_search_locations if spec else None) or ["."]
    path = Path(folder[0]) / "models" / name
    try:
        return read(str(path))
    except RuntimeError as error:
        raise MlrError(f"{path}: cannot be read; install mlr[align] again") from error


def pupil(grey: Floats, expected: complex, distance: float) -> complex:
    """Return the centre of the iris: a disc darker than the sclera at its sides.

    The mean over positions, weighted by exp((c - 1) / SHARPNESS - d^2 / 2 PUPIL_DEVIATION^2), where
    c is the contrast of the disc in units of the best one, and d the distance from ``expected``.

    Parameters
    ----------
    grey : ndarray of float, shape (height, width)
        A face with its eyes level, at least 0.3 eye distances wide around ``expected``.
    expected : complex
        Expected position, x + iy in pixels.
    distance : float
        Distance of the eyes, in pixels.
    """
    kernel = _iris(IRIS_RADIUS * distance)
    reach, half = int(PUPIL_SEARCH * distance), len(kernel) // 2
    column, row = int(expected.real), int(expected.imag)
    span = reach + half
    part = grey[row - span : row + span + 1, column - span : column + span + 1]
    windows = np.lib.stride_tricks.sliding_window_view(part, kernel.shape)
    contrast = np.einsum("yxij,ij->yx", windows, kernel)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    positions = (column + x + 0.5) + 1j * (row + y + 0.5)
    away = np.abs(positions - expected) / (PUPIL_DEVIATION * distance)
    best = max(float(contrast.max()), 1e-6)
    weights = np.exp((contrast / best - 1) / SHARPNESS - away**2 / 2)
    return complex((weights * positions).sum() / weights.sum())


@cache
def _iris(radius: float) -> Floats:
    """Return a kernel that measures the contrast of a disc to what is left and right of it.

    Above and below are lids and lashes, as dark as the iris.
    """
    half = int(np.ceil(1.6 * radius)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    away = np.hypot(x, y)
    disc = np.clip(radius + 0.5 - away, 0, 1)
    sides = (np.clip(1.6 * radius + 0.5 - away, 0, 1) - disc) * (np.abs(x) > np.abs(y))
    return np.asarray(sides / sides.sum() - disc / disc.sum())


def _eye_corners(grey: Grey, box: Any) -> tuple[complex, complex]:
    """Return the middle of the corners of the viewer's left eye and of the right one."""
    # Corners of the right eye, outer and inner, then those of the left one, and the nose.
    a, b, c, d, _ = (complex(p.x + 0.5, p.y + 0.5) for p in predictor()(grey, box).parts())
    return (c + d) / 2, (a + b) / 2


def _steady_corners(grey: Grey) -> tuple[complex, complex]:
    """Return the middles of the eyes' corners in a close-up.

    The mean over shifted rectangles and the flipped image: a rectangle shifted by a pixel moves the
    prediction by more than that.
    """
    import dlib

    centre_x, centre_y, side = (CLOSE_UP * number for number in FACE)
    flipped = np.ascontiguousarray(grey[:, ::-1])
    total = np.zeros(2, complex)
    for dx, dy in JITTER:
        x, y = centre_x + CLOSE_UP * dx - side / 2, centre_y + CLOSE_UP * dy - side / 2
        box = dlib.rectangle(round(x), round(y), round(x + side), round(y + side))
        total += _eye_corners(grey, box)
        left, right = _eye_corners(flipped, box)
        total += (CLOSE_UP - right.conjugate(), CLOSE_UP - left.conjugate())
    left, right = total / (2 * len(JITTER))
    return complex(left), complex(right)


def _grey_copy(pixels: Pixels, scale: float) -> Grey:
    """Return a photograph scaled, grey and with 8 bits."""
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = _pillow(pixels).resize(size, PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(image.convert("L"))


def _close_up(
    pixels: Pixels,
    eyes: Eyes,
    side: int = CLOSE_UP,
    positions: Sequence[Sequence[float]] = EYES_IN_CLOSE_UP,
) -> tuple[Grey, Similarity]:
    """Return a face, upright and grey, and the map from there to the photograph."""
    to_crop = eyes.to_crop(side, side, positions)
    crop = warp(pixels, to_crop, side, side) * (255 / np.iinfo(pixels.dtype).max)
    image = _pillow(np.rint(np.clip(crop, 0, 255)).astype(np.uint8))
    return np.array(image.convert("L")), to_crop.inverse


def _pillow(pixels: Pixels) -> PIL.Image.Image:
    """Return an image with 8 bits as Pillow's."""
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
