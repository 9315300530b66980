"""Changed faces, composited into photographs of any size.

A face is aligned to the model's size. The change of the crop fades out towards its border, is
warped to the size and angle of the face in the photograph, and added there. So the photograph keeps
its own detail, and every pixel outside of the crop keeps its value.

Detail of the photograph that is finer than the crop moves along with what the model moves: a model
of 128 pixels raises the corners of a mouth, but the fine line between the lips is not in its input
and would stay behind.

The model is given the face in the exposure of its training images: a gain and an offset for each
channel match brightness and contrast, and the gain is undone on the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import BORDER, face_share
from mlr.core.exposure import Exposure
from mlr.core.model import LUMA, Model, check_strength
from mlr.io.images import Pixels
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Box, Similarity, warp
from mlr.photo.track import TrackedFace

Floats = npt.NDArray[np.float32]
Target = str | Mapping[str, float] | None
Style = float | Mapping[str, float] | None

FADE = 0.08  # of the side, over which a change fades out towards the border of a crop
LITTLE, MUCH = 0.05, 0.15  # of the range: what is added where all detail is kept, and none
TILE = 256  # pixels of a photograph, each way, that are changed at once
SPLINE_REACH = 8  # pixels; those farther away weigh less than 1/40,000 in an interpolation


def change_faces(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
) -> Pixels:
    """Change the expression of faces in a photograph, and nothing else in it.

    Parameters
    ----------
    model : Model
        What to apply.
    pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
        The photograph.
    faces : iterable of Eyes
        The faces to change.
    target, strength, style
        As for `Model.synthesize`.

    Returns
    -------
    ndarray of the same shape and dtype
        Rounded and clipped; identical to the photograph where nothing changes.

    Raises
    ------
    ImageError
        If eyes lie outside of the photograph.
    ModelError, OptionError
        As `Model.synthesize` does.
    """
    return changer(model, pixels, faces, target, style)(strength)


def changer(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    style: Style = None,
) -> Callable[[float], Pixels]:
    """Return what `change_faces` returns, as a function of the strength; faster for several."""
    found = [_Face(model, pixels, eyes, target, style) for eyes in faces]

    def change(strength: float) -> Pixels:
        check_strength(strength)
        result = pixels.copy()
        if strength:
            for face in found:
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
    """Change the faces in a frame of a clip, as `change_faces` does, each by its fade."""
    pixels, faces = frame
    for face in faces:
        pixels = change_faces(model, pixels, [face.eyes], target, strength * face.fade, style)
    return pixels


class _Face:
    """A face in a photograph, aligned and ready to be changed; parameters as `change_faces`."""

    def __init__(
        self, model: Model, pixels: Pixels, eyes: Eyes, target: Target, style: Style
    ) -> None:
        eyes.check_within(*pixels.shape[:2])
        channels, height, width = model.shape
        self._model, self._pixels, self._target = model, pixels, target
        self._data_range = np.float32(np.iinfo(pixels.dtype).max)
        self._to_crop = eyes.to_crop(height, width, eye_positions(model))
        self._crop = np.clip(warp(pixels, self._to_crop, height, width) / self._data_range, 0, 1)
        self._grey_in_colour = self._crop.shape[2] < channels
        face = self._crop.repeat(channels, axis=2) if self._grey_in_colour else self._crop
        self._gain, offset = exposure_match(model, face)
        self._matched = self._gain * face + offset
        self._planes = np.ascontiguousarray(self._matched.transpose(2, 0, 1))
        shares = model.shares_of(target)
        styles = model.styles_of(style, shares)
        registered = model.registered is not None
        self._registered = model.face(self._planes, shares, styles) if registered else None

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
        """Return what to add to the crop; and motion and kept share of finer detail, if any."""
        height, width = self._crop.shape[:2]
        detail = None
        if self._registered is None:
            output = self._model.synthesize(self._matched, self._target, strength)
            output = self._matched + face_share(height, width)[..., None] * (output - self._matched)
        else:
            # Faded before it moves anything: a moved face blended over the other would show twice.
            found = self._registered.change(strength).faded(_border_fade(height, width))
            output = found.applied(self._planes).transpose(1, 2, 0)
            if self._to_crop.scale < 1:  # otherwise the crop has all of the detail
                detail = found.motion, _kept_detail(found.added / self._gain.mean())
        added = (output - self._matched) / self._gain
        return (added @ LUMA)[..., None] if self._grey_in_colour else added, detail


def moved_detail(
    pixels: Pixels, crop: Floats, to_crop: Similarity, motion: Floats, kept: Floats, tile: Box
) -> Floats:
    """Return how moving the detail r changes a photograph: a(p) r(p + u(p)) - r(p).

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (rows, columns, channels)
        The photograph.
    crop : ndarray of float32, shape (height, width, channels)
        Its aligned crop, in [0, 1]. The detail r is the photograph less the enlarged crop.
    to_crop : Similarity
        From the photograph to the crop.
    motion : ndarray of float32, shape (2, height, width)
        u, as (dy, dx) in pixels of the crop.
    kept : ndarray of float32, shape (height, width)
        a, the share of the detail that is kept. Where it is 1 and u is 0, so is the result.
    tile : Box
        The part of the photograph to return.

    Returns
    -------
    ndarray of float32, shape (height and width of the tile, channels)
        In units of the data range.
    """
    from mlr.core.registration.fields import moved  # without motion nothing loads the compiler

    to_tile = to_crop.inverse.into(tile)
    down, across = motion
    turned = (across + 1j * down) * to_tile.factor
    planes = np.dstack([turned.imag, turned.real, 1 - kept]).astype(np.float32)
    planes = warp(planes, to_tile, *tile.size)
    still = ~planes.any(axis=2)
    if still.all():
        return np.zeros((*tile.size, pixels.shape[2]), np.float32)
    field, lost = planes[..., :2], planes[..., 2:]
    around = math.ceil(np.abs(field).max()) + SPLINE_REACH
    wide = Box(
        max(0, tile.top - around),
        min(pixels.shape[0], tile.bottom + around),
        max(0, tile.left - around),
        min(pixels.shape[1], tile.right + around),
    )
    detail = pixels[wide.slices] * np.float32(1 / np.iinfo(pixels.dtype).max)
    detail -= warp(crop, to_crop.inverse.into(wide), *wide.size)
    inner = Box(
        tile.top - wide.top, tile.bottom - wide.top, tile.left - wide.left, tile.right - wide.left
    ).slices
    wide_field = np.zeros((2, *wide.size), np.float32)
    wide_field[:, *inner] = field.transpose(2, 0, 1)
    found = moved(np.ascontiguousarray(detail.transpose(2, 0, 1)), wide_field)
    change: Floats = (1 - lost) * found.transpose(1, 2, 0)[inner] - detail[inner]
    change[still] = 0
    return change


def exposure_match(model: Model, face: Floats) -> tuple[Floats, Floats]:
    """Return gain and offset of each channel from a face's exposure to that of the training images.

    Parameters
    ----------
    model : Model
        The model; gain 1 and offset 0 if it does not know the exposure of its training images.
    face : ndarray of float32, shape (height, width, channels)
        An aligned face, in [0, 1].
    """
    wanted = model.info.exposure
    if wanted is None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    channels = model.shape[0]
    measured = face if face.shape[2] == channels else (face @ LUMA)[..., None]
    pooled = len(wanted.brightness) < measured.shape[2]
    return Exposure.of_image(measured, pooled).to(wanted)


def eye_positions(model: Model) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the eyes in the images of a model, as (x, y) in units of the sides."""
    return model.info.eyes


def _border_fade(height: int, width: int) -> Floats:
    """Return the share of the change at each pixel of a crop: 1, fading to 0 at its border."""
    inward = [
        np.clip((np.minimum(at, size - 1 - at) - BORDER) / (FADE * size), 0, 1)
        for size in (height, width)
        for at in [np.arange(size)]
    ]
    y, x = (t * t * (3 - 2 * t) for t in inward)
    return (y[:, None] * x).astype(np.float32)


def _kept_detail(added: Floats) -> Floats:
    """Return the share of finer detail to keep, given what is added (channels, height, width).

    Where much is added, as teeth or an open mouth, lines of what was there would shine through.
    """
    amount = np.abs(added).max(axis=0)
    lost = np.clip((amount - LITTLE) / (MUCH - LITTLE), 0, 1)
    return (1 - lost * lost * (3 - 2 * lost)).astype(np.float32)


def _tiles(outline: Box, height: int, width: int) -> Iterator[Box]:
    """Yield tiles of an image of this size that together cover what of an outline lies within."""
    bottom, right = min(height, outline.bottom), min(width, outline.right)
    for y in range(max(0, outline.top), bottom, TILE):
        for x in range(max(0, outline.left), right, TILE):
            yield Box(y, min(y + TILE, bottom), x, min(x + TILE, right))
