"""Detection of faces and their eyes with dlib, from the extra ``align``.

Histograms of oriented gradients find upright faces (King 2015, Max-Margin Object Detection),
regression trees the corners of the eyes (Kazemi and Sullivan 2014, One Millisecond Face Alignment),
and `pupil` the irises.
"""

from __future__ import annotations

import cmath
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

from mlr._version import install
from mlr.errors import MlrError
from mlr.io.images import Pixels
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Similarity, warp

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]

NEEDS = f"needs dlib: {install('align')}"

COPY = 1_200_000  # pixels of the copy that is searched; its faces are at least 80 px wide
PART = 1 / 20  # of a photograph's pixels, if they are more: in a panorama faces are small
ENLARGED = 2.0  # scale of a second copy of a small photograph, if the first has no face
TURNS = (90, -90, 45, -45, 135, -135, 180)  # degrees, tried until a face is found
TURNED_SCORE = 0.4  # smallest score of a face in a rotated photograph

TRACKED_SCORE = -0.3  # smallest score of a face that the previous video frame had
VIEW = 180  # side of the crop in which such a face is searched, in pixels
EYES_IN_VIEW = ((0.38, 0.42), (0.62, 0.42))

CLOSE_UP = 200  # side of the crop in which eyes are located, in pixels
EYES_IN_CLOSE_UP = ((0.35, 0.4), (0.65, 0.4))
FACE = (0.5, 0.58, 0.72)  # centre and side of dlib's rectangle of the face in the close-up
JITTER = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))
ROUNDS = 2

#: From the middle of an eye's corners to its pupil, for the left eye, in eye distances: the mean
#: over 146 photographs of the Face Research Lab London Set (neutral and smiling).
TO_PUPIL = complex(-0.0087, -0.0322)

# Lengths in eye distances.
IRIS_RADIUS = 0.09  # an iris is 11.7 mm wide, eyes are 63 mm apart; lids cover some of the iris
PUPIL_SEARCH = 0.12  # largest distance of the pupil from its expected position
PUPIL_DEVIATION = 0.05  # standard deviation of the expected position
SHARPNESS = 0.1  # contrast, relative to the best, that lowers a weight by 1/e


class Detector:
    """Finds eyes in photographs, with the extra ``align``; may be used from several threads."""

    def __init__(self) -> None:
        if not installed():
            raise MlrError(f"finding faces {NEEDS}")
        self._local = threading.local()  # dlib's detectors are not thread-safe

    def find(self, pixels: Pixels) -> list[Eyes]:
        """Return the eyes of all faces in a photograph, the largest face first.

        A reduced copy is searched and, if no face is found, rotated copies. The eyes are then
        located at full resolution.
        """
        largest = math.sqrt(max(PART, COPY / (pixels.shape[0] * pixels.shape[1])))
        scales = [min(1.0, largest)] + ([min(ENLARGED, largest)] if largest > 1 else [])
        for scale in scales:
            copy = _grey_copy(pixels, scale)
            if found := self._search(copy):
                break
        else:
            turned = (self._search(copy, degrees, TURNED_SCORE) for degrees in TURNS)
            found = next(filter(None, turned), [])
        faces: list[Eyes] = []
        for rough in sorted(found, key=lambda eyes: eyes.confidence or 0.0, reverse=True):
            eyes = Eyes(rough.left / scale, rough.right / scale, rough.confidence)
            eyes = self._located(pixels, eyes)
            if not any(abs(eyes.middle - other.middle) < other.distance / 2 for other in faces):
                faces.append(eyes)
        return sorted(faces, key=lambda eyes: eyes.distance, reverse=True)

    def find_again(self, pixels: Pixels, eyes: Eyes) -> Eyes | None:
        """Return the eyes of a face near its eyes in an earlier video frame, or None."""
        if not eyes.lie_within(*pixels.shape[:2]):
            return None
        pixels = np.asarray(_pillow(pixels).convert("L"))[..., None]  # a third of the work
        view, to_frame = _close_up(pixels, eyes, VIEW, EYES_IN_VIEW)
        found = self._search(view, threshold=TRACKED_SCORE)
        middle = sum(complex(x, y) for x, y in EYES_IN_VIEW) / 2 * VIEW
        nearest = min(found, key=lambda face: abs(face.middle - middle), default=None)
        return nearest and self._located(pixels, nearest.under(to_frame), rounds=1)

    def _search(self, copy: Grey, degrees: float = 0, threshold: float = 0.0) -> list[Eyes]:
        """Return the middles of the eyes' corners of all faces in a rotated copy."""
        turn = Similarity(cmath.rect(1, math.radians(degrees)), 0)
        if degrees:
            bounds = turn.bounds(*copy.shape)
            turn = turn.into(bounds)
            turned = warp(copy[..., None], turn, *bounds.size)[..., 0]
            copy = np.clip(turned, 0, 255).astype(np.uint8)
        if not hasattr(self._local, "detector"):
            import dlib

            self._local.detector = dlib.get_frontal_face_detector()
        boxes, scores, _ = self._local.detector.run(copy, 0, threshold)
        return [
            Eyes(*_eye_corners(copy, box), float(score)).under(turn.inverse)
            for box, score in zip(boxes, scores, strict=True)
        ]

    def _located(self, pixels: Pixels, eyes: Eyes, rounds: int = ROUNDS) -> Eyes:
        """Return the pupils, given their rough positions."""
        for _ in range(rounds):
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


def installed() -> bool:
    """Return whether the extra ``align`` is installed."""
    return find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


@cache
def predictor() -> Any:
    """Return dlib's predictor of the five landmarks of a face, which is thread-safe."""
    import dlib

    return load_dlib_model(dlib.shape_predictor, "shape_predictor_5_face_landmarks.dat")


def load_dlib_model(read: Callable[[str], Any], name: str) -> Any:
    """Return a model of the package face-recognition-models, opened with a class of dlib."""
    # The package cannot be imported: it needs pkg_resources, which setuptools has dropped.
    spec = find_spec("face_recognition_models")
    folder = (spec.submodule_search_locations if spec else None) or ["."]
    path = Path(folder[0]) / "models" / name
    try:
        return read(str(path))
    except RuntimeError as error:
        raise MlrError(f"{path}: cannot be read; install face-recognition-models again") from error


def pupil(grey: Floats, expected: complex, distance: float) -> complex:
    """Return the centre of the iris, a disc darker than the sclera on both sides.

    It is the mean of the positions up to `PUPIL_SEARCH` from the expected one (x + iy), weighted by
    exp((c - 1) / SHARPNESS - d^2 / 2 PUPIL_DEVIATION^2), with c the contrast of the disc relative
    to the best one and d the distance from the expected position. The eyes are level and
    ``distance`` pixels apart, and the image extends 0.3 distances around the expected position.
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
    """Return a kernel that measures the contrast between a disc and the sclera on both sides."""
    half = int(np.ceil(1.6 * radius)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    away = np.hypot(x, y)
    disc = np.clip(radius + 0.5 - away, 0, 1)
    # Lids and lashes above and below are as dark as the iris.
    sides = (np.clip(1.6 * radius + 0.5 - away, 0, 1) - disc) * (np.abs(x) > np.abs(y))
    return np.asarray(sides / sides.sum() - disc / disc.sum())


def _eye_corners(grey: Grey, box: Any) -> tuple[complex, complex]:
    """Return the middle of the corners of the viewer's left eye and of the right one."""
    # Outer and inner corner of the right eye, the same of the left eye, and the nose.
    a, b, c, d, _ = (complex(p.x + 0.5, p.y + 0.5) for p in predictor()(grey, box).parts())
    return (c + d) / 2, (a + b) / 2


def _steady_corners(grey: Grey) -> tuple[complex, complex]:
    """Return the middles of the eyes' corners in a close-up.

    They are means over shifted rectangles and the flipped image, because shifting a rectangle by
    one pixel moves the prediction by more than a pixel.
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
    """Return a scaled grey 8-bit copy of a photograph."""
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
    """Return an upright grey crop of a face, and the map from it to the photograph."""
    to_crop = eyes.to_crop(side, side, positions)
    crop = warp(pixels, to_crop, side, side) * (255 / np.iinfo(pixels.dtype).max)
    image = _pillow(np.rint(np.clip(crop, 0, 255)).astype(np.uint8))
    return np.array(image.convert("L")), to_crop.inverse


def _pillow(pixels: Pixels) -> PIL.Image.Image:
    """Convert an image to an 8-bit one of Pillow."""
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
