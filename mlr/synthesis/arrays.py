"""Photographs in Python: paths or arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.model import Model
from mlr.errors import ImageError, OptionError
from mlr.io.images import Image, Pixels, read_image
from mlr.photo.align import aligned_crop
from mlr.photo.composite import Style, Target, changer
from mlr.photo.eyes import CENTRE, Eyes
from mlr.photo.faces import FaceFinder
from mlr.synthesis.animation import FRAMES, eased_strengths
from mlr.utils.progress import reporting

Photograph = str | Path | npt.NDArray[Any]
Positions = str | Path | npt.ArrayLike | None


def photograph(
    model: Model,
    image: Photograph,
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
    region: str | Sequence[str] = (),
    *,
    eyes: Positions = None,
    face: int | str = "all",
    progress: bool = False,
) -> Pixels:
    """Change the expression of the faces in a photograph.

    Parameters
    ----------
    model : Model
    image : path or ndarray of uint8 or uint16, shape (height, width[, 1, 3 or 4])
        An upright photograph of any size; a fourth channel is alpha, which is kept.
    target, strength, style, region
        See `Model.synthesize`.
    eyes : path or array_like, shape (faces, 2, 2), optional
        A table, see `mlr.photo.eyes.EyeTable`, or (x, y) of the left and the right eye of each
        face, in pixels; left is the viewer's left, and whole numbers are the centres of pixels. By
        default eyes are detected, which needs the extra ``align``.
    face : "all", "largest" or int
        Which faces to change: all, or one by its rank in size.
    progress : bool
        Show progress on stderr.

    Returns
    -------
    ndarray
        Of the shape and the dtype of the image; equal to it outside the faces, and where a face
        does not look like those of the training set.

    Raises
    ------
    ImageError
        If the image cannot be read, is no array of this kind, or no face is found.
    OptionError
        If an option is out of range.
    """
    options = target, strength, style, region
    return animation(model, image, *options, eyes=eyes, face=face, frames=0, progress=progress)[0]


def animation(
    model: Model,
    image: Photograph,
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
    region: str | Sequence[str] = (),
    *,
    eyes: Positions = None,
    face: int | str = "all",
    frames: int = FRAMES,
    progress: bool = False,
) -> Pixels:
    """Change the faces in a photograph to an expression and back: a smooth, endless loop.

    Parameters and errors are those of `photograph`.

    Parameters
    ----------
    frames : int
        Number of frames; with 0 there is one, with the full strength.

    Returns
    -------
    ndarray, shape (frames, *image.shape)
    """
    if frames < 0:
        raise OptionError(f"an animation cannot have {frames} frames")
    photo = _read(image)
    change = changer(model, photo.pixels, _faces(image, photo, eyes, face), target, style, region)
    shape = np.shape(image) if isinstance(image, np.ndarray) else ()

    def at(strength: float) -> Pixels:
        pixels = change(strength)
        whole = pixels if photo.alpha is None else np.dstack([pixels, photo.alpha])
        return whole.reshape(shape or whole.shape)

    strengths = eased_strengths(frames, strength) if frames else [strength]
    shown = reporting(None, progress).progress(strengths, len(strengths), "changing faces")
    return np.stack([at(each) for each in shown])


def crops(
    image: Photograph, size: int = 128, *, eyes: Positions = None, face: int | str = "all"
) -> list[Pixels]:
    """Return aligned crops of the faces in a photograph, the largest first.

    Parameters and errors are those of `photograph`.

    Parameters
    ----------
    size : int
        Side of the crops in pixels, at least 16.

    Returns
    -------
    list of ndarray, shape (size, size, 1 or 3)
        In the dtype of the image.
    """
    if size < 16:
        raise OptionError(f"crops must have at least 16 px, not {size}")
    photo = _read(image)
    return [aligned_crop(photo.pixels, each, size) for each in _faces(image, photo, eyes, face)]


def _read(image: Photograph) -> Image:
    """Return a photograph with colour and alpha apart."""
    if not isinstance(image, np.ndarray):
        return read_image(Path(image))
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        raise ImageError(
            f"expected uint8 or uint16 of (height, width[, channels]), not {image.dtype} of "
            f"{image.shape}"
        )
    if channels not in (1, 3, 4):
        raise ImageError(f"expected 1, 3 or 4 channels, not {channels}")
    pixels = image.reshape(*image.shape[:2], channels)
    colour = np.ascontiguousarray(pixels[..., :3])
    return Image(colour, pixels[..., 3] if channels == 4 else None, digest=b"")


def _faces(image: Photograph, photo: Image, eyes: Positions, face: int | str) -> list[Eyes]:
    """Return the selected faces of a photograph."""
    file = Path() if isinstance(image, np.ndarray) else Path(image)
    if eyes is None or isinstance(eyes, str | Path):
        return FaceFinder(eyes, face).find(file, photo.pixels)
    positions = np.asarray(eyes, float)
    if positions.ndim != 3 or positions.shape[1:] != (2, 2):
        raise OptionError(f"eyes must have the shape (faces, 2, 2), not {positions.shape}")
    pairs = [[complex(x, y) + CENTRE for x, y in pair] for pair in positions]
    return FaceFinder(None, face).select([Eyes(left, right) for left, right in pairs], photo.pixels)
