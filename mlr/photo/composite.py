"""Changed faces, composited into photographs of any size.

A face is aligned to the model's size. The change of the crop fades out towards its border, is
warped to the size and angle of the face in the photograph, and added there. So the photograph keeps
its own detail, and pixels outside the crop keep their values.

Detail finer than the pixels of the crop, such as the line between the lips, moves with the motion
of the model.

Exposure matching adapts brightness and contrast of each channel to the training images by a gain
and an offset; the change is divided by the gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import BORDER, face_share
from mlr.core.exposure import Exposure
from mlr.core.model import LUMA, Model, check_strength
from mlr.core.registration import fields
from mlr.io.images import Pixels
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Box, Similarity, warp
from mlr.photo.track import TrackedFace

Floats = npt.NDArray[np.float32]
Target = str | Mapping[str, float] | None
Style = float | Mapping[str, float] | None

FADE = 0.08  # share of the sides over which a change fades out towards the border of a crop
LITTLE, MUCH = 0.05, 0.15  # of the data range: additions that keep all detail, and none
TILE = 256  # side of the parts of a photograph that are changed at once, in pixels
SPLINE_REACH = 8  # pixels; more distant ones weigh less than 1/40,000 in an interpolation


def change_faces(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
) -> Pixels:
    """Change the expression of faces in a photograph, and nothing else in it.

    Pixels are uint8 or uint16, of shape (height, width, 1 or 3); the result is rounded, clipped,
    and equal to the photograph where nothing changes. The options and errors are those of
    `Model.synthesize`; eyes outside the photograph raise an ImageError.
    """
    return changer(model, pixels, faces, target, style)(strength)


def changer(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    style: Style = None,
) -> Callable[[float], Pixels]:
    """Return `change_faces` as a function of the strength, which is faster for several."""
    prepared = [_Face(model, pixels, eyes, target, style) for eyes in faces]

    def change(strength: float) -> Pixels:
        check_strength(strength)
        result = pixels.copy()
        if strength:
            for face in prepared:
                face.composite(result, strength)
        return result

    return change


def change_frame(
    model: Model,
    frame: tuple[Pixels, Iterable[TrackedFace]],
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
) -> Pixels:
    """Change the faces in a video frame as `change_faces` does, each multiplied by its fade."""
    pixels, faces = frame
    for face in faces:
        pixels = change_faces(model, pixels, [face.eyes], target, strength * face.fade, style)
    return pixels


class _Face:
    """An aligned face of a photograph, ready to be changed with any strength."""

    def __init__(
        self, model: Model, pixels: Pixels, eyes: Eyes, target: Target, style: Style
    ) -> None:
        eyes.check_within(*pixels.shape[:2])
        channels, height, width = model.shape
        self._model, self._pixels, self._target = model, pixels, target
        self._data_range = np.float32(np.iinfo(pixels.dtype).max)
        self._to_crop = eyes.to_crop(height, width, model.info.eyes)
        self._crop = np.clip(warp(pixels, self._to_crop, height, width) / self._data_range, 0, 1)
        self._grey_in_colour = self._crop.shape[2] < channels
        face = self._crop.repeat(channels, axis=2) if self._grey_in_colour else self._crop
        self._gain, offset = exposure_match(model, face)
        self._matched = self._gain * face + offset
        self._planes = np.ascontiguousarray(self._matched.transpose(2, 0, 1))
        wanted = model.change_of(target, style)
        self._face_change = None
        if model.registered is not None:
            self._face_change = model.face_change(self._planes, wanted)

    def composite(self, result: Pixels, strength: float) -> None:
        """Add the change to the photograph, in place."""
        added, detail = self._change(strength)
        to_photo = self._to_crop.inverse
        for tile in _tiles(to_photo.bounds(*added.shape[:2]), *result.shape[:2]):
            change = warp(added, to_photo.into(tile), *tile.size)
            if detail is not None:
                change += moved_detail(self._pixels, self._crop, self._to_crop, *detail, tile)
            changed = result[tile.slices] + np.rint(change * self._data_range)
            result[tile.slices] = np.clip(changed, 0, self._data_range).astype(result.dtype)

    def _change(self, strength: float) -> tuple[Floats, tuple[Floats, Floats] | None]:
        """Return the change of the crop; and motion and kept share of finer detail, if any."""
        height, width = self._crop.shape[:2]
        detail = None
        if self._face_change is None:
            output = self._model.synthesize(self._matched, self._target, strength)
            output = self._matched + face_share(height, width)[..., None] * (output - self._matched)
        else:
            # Fading the field rather than the output avoids a double image.
            change = self._face_change(strength).faded(_border_fade(height, width))
            output = change.applied(self._planes).transpose(1, 2, 0)
            if self._to_crop.scale < 1:  # otherwise the crop has all detail
                detail = change.motion, _kept_detail(change.added / self._gain.mean())
        added = (output - self._matched) / self._gain
        return (added @ LUMA)[..., None] if self._grey_in_colour else added, detail


def moved_detail(
    pixels: Pixels, crop: Floats, to_crop: Similarity, motion: Floats, kept: Floats, tile: Box
) -> Floats:
    """Return how motion u changes the fine detail r of a tile: a(p) r(p + u(p)) - r(p).

    The detail is the photograph minus its enlarged crop in [0, 1]. ``motion`` has the shape
    (2, height, width) of the crop, as (dy, dx) in its pixels; ``kept`` is a, the share of the
    detail that is kept. The result, in units of the data range, is 0 where a = 1 and u = 0.
    """
    to_tile = to_crop.inverse.into(tile)
    down, across = motion
    turned = (across + 1j * down) * to_tile.factor
    planes = np.dstack([turned.imag, turned.real, 1 - kept]).astype(np.float32)
    planes = warp(planes, to_tile, *tile.size)
    still = ~planes.any(axis=2)
    if still.all():
        return np.zeros((*tile.size, pixels.shape[2]), np.float32)
    field, lost = planes[..., :2], planes[..., 2:]
    wide = tile.grown(math.ceil(np.abs(field).max()) + SPLINE_REACH, *pixels.shape[:2])
    detail = pixels[wide.slices] * np.float32(1 / np.iinfo(pixels.dtype).max)
    detail -= warp(crop, to_crop.inverse.into(wide), *wide.size)
    top, left = tile.top - wide.top, tile.left - wide.left
    inner = Box(top, top + tile.size[0], left, left + tile.size[1]).slices
    wide_field = np.zeros((2, *wide.size), np.float32)
    wide_field[:, *inner] = field.transpose(2, 0, 1)
    found = fields.warp(np.ascontiguousarray(detail.transpose(2, 0, 1)), wide_field)
    change: Floats = (1 - lost) * found.transpose(1, 2, 0)[inner] - detail[inner]
    change[still] = 0
    return change


def exposure_match(model: Model, face: Floats) -> tuple[Floats, Floats]:
    """Return gain and offset of each channel that match a face to the training images.

    The face has the shape (height, width, channels) and values in [0, 1]. Without the exposure of
    the training images in the model, gain is 1 and offset 0.
    """
    training = model.info.exposure
    if training is None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    channels = model.shape[0]
    measured = face if face.shape[2] == channels else (face @ LUMA)[..., None]
    pooled = len(training.brightness) < measured.shape[2]
    return Exposure.of_image(measured, pooled).to(training)


def _border_fade(height: int, width: int) -> Floats:
    """Return the share of the change at each pixel of a crop: 1, fading to 0 at its border."""
    distances = (np.minimum(at, at[::-1]) for at in (np.arange(height), np.arange(width)))
    inward = (np.clip((d - BORDER) / (FADE * len(d)), 0, 1) for d in distances)
    y, x = (t * t * (3 - 2 * t) for t in inward)
    return (y[:, None] * x).astype(np.float32)


def _kept_detail(added: Floats) -> Floats:
    """Return the share of finer detail to keep, given what is added (channels, height, width).

    Old detail would shine through large additions, such as teeth or an open mouth.
    """
    amount = np.abs(added).max(axis=0)
    lost = np.clip((amount - LITTLE) / (MUCH - LITTLE), 0, 1)
    return (1 - lost * lost * (3 - 2 * lost)).astype(np.float32)


def _tiles(outline: Box, height: int, width: int) -> Iterator[Box]:
    """Yield tiles that cover the part of an outline within an image of this size."""
    top, bottom, left, right = outline.grown(0, height, width)
    for y in range(top, bottom, TILE):
        for x in range(left, right, TILE):
            yield Box(y, min(y + TILE, bottom), x, min(x + TILE, right))
