"""The change of expression, put back into a photograph of any size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.alignment import EYES, face_share
from mlr.errors import ModelError
from mlr.exposure import Exposure
from mlr.model import LUMA, Model
from mlr.photo.eyes import Eyes, Places
from mlr.photo.similarity import Similarity
from mlr.photo.track import Seen
from mlr.photo.warp import seen, warp

Pixels = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


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
    photograph keeps its own detail, and every pixel outside of `face_share` its value.

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
    white = np.iinfo(pixels.dtype).max
    to_crop = eyes.to_crop(height, width, places_of(model))
    crop = np.clip(warp(pixels, to_crop, height, width) / np.float32(white), 0, 1)
    grey_in_colour = crop.shape[2] < model.shape[0]
    face = crop.repeat(model.shape[0], axis=2) if grey_in_colour else crop
    gain, offset = _light(model, face)
    lit = gain * face + offset
    change = (model.synthesize(lit, target, strength) - lit) / gain
    if grey_in_colour:
        change = (change @ LUMA)[..., None]
    change *= face_share(height, width)[..., None]
    top, bottom, left, right = seen(to_crop.inverse, height, width)
    top, left = max(0, top), max(0, left)
    bottom, right = min(pixels.shape[0], bottom), min(pixels.shape[1], right)
    if bottom <= top or right <= left:
        return
    back = Similarity(1, -complex(left, top)) @ to_crop.inverse
    added = np.rint(warp(change, back, bottom - top, right - left) * np.float32(white))
    part = result[top:bottom, left:right]
    part[:] = np.clip(part + added, 0, white).astype(pixels.dtype)


def _light(model: Model, face: Floats) -> tuple[Floats, Floats]:
    """Return the gains and offsets from a face's exposure to that of the training images."""
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
