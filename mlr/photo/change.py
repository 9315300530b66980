"""The change of expression, put back into a photograph of any size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.alignment import EYES, face_share
from mlr.errors import ModelError
from mlr.exposure import Exposure
from mlr.model import LUMA, Model
from mlr.photo.detail import Part, moved_detail
from mlr.photo.eyes import Eyes, Places
from mlr.photo.track import Seen
from mlr.photo.warp import seen, warp

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

TILE = 256  # pixels of a photograph, each way, that are changed at once


def change_faces(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: str | Mapping[str, float] | None = None,
    strength: float = 1.0,
) -> Pixels:
    """Change the expression of faces in a photograph, and nothing else in it.

    Each face is aligned to the model's size; what the model changes there, f(x) - x, is faded out
    towards the edge, brought to the size and angle of the face in the photograph, and added. So the
    photograph keeps its own detail, which moves with the model's displacement if there is one (see
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
    target, strength
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
    result = pixels.copy()
    for eyes in faces:
        eyes.check_within(*pixels.shape[:2])
        _add_change(result, model, pixels, eyes, target, strength)
    return result


def change_seen(
    model: Model,
    frame: tuple[Pixels, Iterable[Seen]],
    target: str | Mapping[str, float] | None = None,
    strength: float = 1.0,
) -> Pixels:
    """Change the faces seen in a frame of a clip, as `change_faces` does, each by its share."""
    pixels, faces = frame
    for face in faces:
        pixels = change_faces(model, pixels, [face.eyes], target, strength * face.share)
    return pixels


def _add_change(
    result: Pixels,
    model: Model,
    pixels: Pixels,
    eyes: Eyes,
    target: str | Mapping[str, float] | None,
    strength: float,
) -> None:
    """Add the change of one face of ``pixels`` to ``result``."""
    _, height, width = model.shape
    white = np.float32(np.iinfo(pixels.dtype).max)
    to_crop = eyes.to_crop(height, width, places_of(model))
    crop = np.clip(warp(pixels, to_crop, height, width) / white, 0, 1)
    grey_in_colour = crop.shape[2] < model.shape[0]
    face = crop.repeat(model.shape[0], axis=2) if grey_in_colour else crop
    gain, offset = light_of(model, face)
    lit = gain * face + offset
    change = (model.synthesize(lit, target, strength) - lit) / gain
    if grey_in_colour:
        change = (change @ LUMA)[..., None]
    inside = face_share(height, width)
    change *= inside[..., None]
    moves = [
        (strength * share * inside, displacement)
        for share, displacement in model.displacements(target)
        if to_crop.scale < 1  # else the crop has all of the detail
    ]
    for area in _tiles(seen(to_crop.inverse, height, width), pixels.shape[:2]):
        added = warp(change, area.seen_from(to_crop), *area.size)
        if moves and strength:
            added += moved_detail(pixels, crop, to_crop, moves, area)
        part = result[area.top : area.bottom, area.left : area.right]
        part[:] = np.clip(part + np.rint(added * white), 0, white).astype(pixels.dtype)


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
    noted = model.meta.get("exposure")
    if noted is None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    channels = model.shape[0]
    measured = face if face.shape[2] == channels else (face @ LUMA)[..., None]
    wanted = Exposure.from_meta(noted, channels)
    pooled = len(wanted.brightness) < measured.shape[2]
    return Exposure.of_image(measured, pooled).to(wanted)


def places_of(model: Model) -> Places:
    """Return where a model has the eyes, as (x, y) in units of the image's sides.

    Raises
    ------
    ModelError
        If what its file says of it makes no sense.
    """
    places = model.meta.get("eyes", EYES)
    try:
        (x0, y0), (x1, y1) = places
        if math.isfinite(x0 + y0 + x1 + y1) and (x0, y0) != (x1, y1):
            return ((x0, y0), (x1, y1))
    except (TypeError, ValueError):
        pass
    raise ModelError(f"the model's eyes are {places!r}, expected two places") from None
