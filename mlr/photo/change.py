"""The change of expression, put back into a photograph of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import BORDER, face_share
from mlr.core.exposure import Exposure
from mlr.core.model import LUMA, Model, check_strength
from mlr.photo.detail import Part, moved_detail
from mlr.photo.eyes import Eyes, Places
from mlr.photo.track import Seen
from mlr.photo.warp import seen, warp

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Style = float | Mapping[str, float] | None

FADE = 0.08  # of the side, over which a change fades out towards the border of a crop
LITTLE, MUCH = 0.05, 0.15  # of the range: what is added where all detail is kept, and none
TILE = 256  # pixels of a photograph, each way, that are changed at once


def change_faces(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: str | Mapping[str, float] | None = None,
    strength: float = 1.0,
    style: Style = None,
) -> Pixels:
    """Change the expression of faces in a photograph, and nothing else in it.

    Each face is aligned to the model's size; what the model changes there, f(x) - x, is faded out
    towards the edge, brought to the size and angle of the face in the photograph, and added. So the
    photograph keeps its own detail, which moves with the face if the model registers it (see
    `mlr.photo.detail`), and every pixel outside of `face_share` keeps its value.

    The model works on the face as it would be in the light of the training set: a gain and an
    offset for each channel bring its brightness and contrast to those of the training images, and
    the gain is undone on the change. Old models, which do not know these, get the face as it is.

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
        Rounded and clipped; the very pixels of the photograph where nothing changes.

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
    target: str | Mapping[str, float] | None = None,
    style: Style = None,
) -> Callable[[float], Pixels]:
    """Return what `change_faces` returns, as a function of the strength."""
    found = []
    for eyes in faces:
        eyes.check_within(*pixels.shape[:2])
        found.append(_Crop(model, pixels, eyes, target, style))

    def change(strength: float) -> Pixels:
        check_strength(strength)
        result = pixels.copy()
        if strength:
            for crop in found:
                crop.add_change(result, strength)
        return result

    return change


def change_seen(
    model: Model,
    frame: tuple[Pixels, Iterable[Seen]],
    target: str | Mapping[str, float] | None = None,
    strength: float = 1.0,
    style: Style = None,
) -> Pixels:
    """Change the faces seen in a frame of a clip, as `change_faces` does, each by its share."""
    pixels, faces = frame
    for face in faces:
        pixels = change_faces(model, pixels, [face.eyes], target, strength * face.share, style)
    return pixels


class _Crop:
    """A face in a photograph, aligned and ready to be changed; parameters as `change_faces`."""

    def __init__(
        self,
        model: Model,
        pixels: Pixels,
        eyes: Eyes,
        target: str | Mapping[str, float] | None,
        style: Style,
    ) -> None:
        _, height, width = model.shape
        self._model, self._pixels, self._target = model, pixels, target
        self._white = np.float32(np.iinfo(pixels.dtype).max)
        self._to_crop = eyes.to_crop(height, width, places_of(model))
        self._crop = np.clip(warp(pixels, self._to_crop, height, width) / self._white, 0, 1)
        self._grey_in_colour = self._crop.shape[2] < model.shape[0]
        face = self._crop
        if self._grey_in_colour:
            face = face.repeat(model.shape[0], axis=2)
        self._gain, offset = light_of(model, face)
        self._lit = self._gain * face + offset
        shares, styles = model.shares_of(target), model.styles_of(style, model.shares_of(target))
        self._registered = None
        if model.registered is not None:
            planes = np.ascontiguousarray(self._lit.transpose(2, 0, 1))
            self._registered = model.face(planes, shares, styles)

    def add_change(self, result: Pixels, strength: float) -> None:
        """Add the change to the photograph."""
        _, height, width = self._model.shape
        moves: tuple[Floats, Floats] | None = None
        if self._registered is None:
            output = self._model.synthesize(self._lit, self._target, strength)
            output = self._lit + face_share(height, width)[..., None] * (output - self._lit)
        else:
            found = self._registered.change(strength)
            # Faded before it moves anything: a moved face over the other one would be two.
            found = found.faded(border_fade(height, width))
            output = found.applied(np.ascontiguousarray(self._lit.transpose(2, 0, 1)))
            output = output.transpose(1, 2, 0)
            if self._to_crop.scale < 1:  # else the crop has all of the detail
                moves = found.motion, kept_detail(found.added / self._gain.mean())
        change = (output - self._lit) / self._gain
        if self._grey_in_colour:
            change = (change @ LUMA)[..., None]
        outline = seen(self._to_crop.inverse, height, width)
        for area in _tiles(outline, self._pixels.shape[:2]):
            added = warp(change, area.seen_from(self._to_crop), *area.size)
            if moves is not None:
                added += moved_detail(self._pixels, self._crop, self._to_crop, *moves, area)
            part = result[area.top : area.bottom, area.left : area.right]
            rounded = np.clip(part + np.rint(added * self._white), 0, self._white)
            part[:] = rounded.astype(self._pixels.dtype)


def border_fade(height: int, width: int) -> Floats:
    """Return how much of a change each pixel of a crop gets: all but towards its border, where 0.

    Returns
    -------
    ndarray of float32, shape (height, width)
    """
    inward = [
        np.clip((np.minimum(at, size - 1 - at) - BORDER) / (FADE * size), 0, 1)
        for size in (height, width)
        for at in [np.arange(size)]
    ]
    y, x = (t * t * (3 - 2 * t) for t in inward)
    return (y[:, None] * x).astype(np.float32)


def kept_detail(added: Floats) -> Floats:
    """Return the share of finer detail that is kept where something is added to a crop.

    Where much is added, as teeth or an open mouth, lines of what was there would shine through.

    Parameters
    ----------
    added : ndarray of float32, shape (channels, height, width)
    """
    amount = np.abs(added).max(axis=0)
    lost = np.clip((amount - LITTLE) / (MUCH - LITTLE), 0, 1)
    return (1 - lost * lost * (3 - 2 * lost)).astype(np.float32)


def _tiles(outline: tuple[int, int, int, int], size: tuple[int, ...]) -> Iterator[Part]:
    """Yield parts of an image of a size that together hold what of an outline lies within."""
    top, bottom, left, right = outline
    bottom, right = min(size[0], bottom), min(size[1], right)
    for y in range(max(0, top), bottom, TILE):
        for x in range(max(0, left), right, TILE):
            yield Part(y, min(y + TILE, bottom), x, min(x + TILE, right))


def light_of(model: Model, face: Floats) -> tuple[Floats, Floats]:
    """Return gain and offset of each channel from a face's light to that of the training images.

    Parameters
    ----------
    model : Model
        Whose training images are meant; gain 1 and offset 0 if it does not know their exposure.
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


def places_of(model: Model) -> Places:
    """Return where a model has the eyes, as (x, y) in units of the image's sides."""
    return model.info.eyes
