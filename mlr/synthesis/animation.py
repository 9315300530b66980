"""Animations from the input to an expression and back: GIF, WebP, animated PNG, or PNG frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from mlr.errors import ImageError
from mlr.io.files import replacing, replacing_folder
from mlr.io.images import PNG_LEVEL, QUALITY, Pixels, encode, write_image
from mlr.io.outputs import FRAMES_FOLDER
from mlr.io.provenance import Record, to_exif, to_json

#: What Pillow calls the kinds of file that hold an animation; None for a folder.
ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", FRAMES_FOLDER: None}
FRAMES = 24  # there and back
SECONDS = 2.0  # there and back
PALETTE_PIXELS = 50_000  # from which the colours of a GIF are chosen
KEPT = 100 << 20  # bytes of frames that are kept for the way back

Change = Callable[[float], Pixels]


def eased_strengths(frames: int = FRAMES, peak: float = 1.0) -> list[float]:
    """Return the strength of each frame: peak (1 - cos(2 pi k / frames)) / 2, which starts gently.

    The first is 0 and the one half-way is the peak, if their number is even. The last one leads to
    the first, so that the animation runs on without a jolt.
    """
    way = np.arange(frames)
    turn = 2 * np.pi * np.minimum(way, frames - way) / frames  # the same bits there and back
    return [float(strength) for strength in peak * (1 - np.cos(turn)) / 2]


def write_animation(
    path: Path,
    change: Change,
    alpha: Pixels | None = None,
    *,
    strength: float = 1.0,
    frames: int = FRAMES,
    seconds: float = SECONDS,
    icc: bytes | None = None,
    record: Record | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    force: bool = False,
) -> None:
    """Write an endless animation from the input to an expression and back.

    GIF has 256 colours. Frames are computed while a WebP or a folder is written, and those of the
    way there are kept for the way back while there is room; for the other kinds Pillow keeps all.
    A folder has ``00.png``, ``01.png`` and so on, with 16 bits where the input has them, each with
    a record of its own strength.

    Parameters
    ----------
    path : Path
        File or folder to write; its suffix is one of `ANIMATED`.
    change : function of float
        Returns the image with an expression of this strength: uint8 or uint16, shape (height,
        width, 1 or 3). Files get 8 bits.
    alpha, icc : ndarray of shape (height, width), bytes, optional
        Opacity and colour profile of every frame; omitted in GIF.
    strength : float
        Strength of the expression half-way.
    frames : int
        Number of frames.
    seconds : float
        Duration of all frames.
    record : mapping, optional
        See `mlr.io.provenance`.
    quality, png_level, force
        As of `write_image`.

    Raises
    ------
    ImageError
        If the suffix is another one.
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise ImageError(f"{path}: cannot hold an animation; use {', '.join(ANIMATED)}")
    strengths, change = eased_strengths(frames, strength), _remembered(change)
    kind = ANIMATED[suffix]
    if kind is None:
        digits = len(str(frames - 1))
        with replacing_folder(path, force=force) as folder:
            for number, each in enumerate(strengths):
                exif = to_exif(None if record is None else {**record, "strength": each})
                file = folder / f"{number:0{digits}}.png"
                write_image(file, change(each), alpha, icc=icc, exif=exif, png_level=png_level)
        return
    options: dict[str, Any] = {"duration": round(1000 * seconds / frames), "loop": 0}
    options |= {"WEBP": {"quality": quality}, "PNG": {"compress_level": png_level}}.get(kind, {})
    palette = None
    if kind == "GIF":
        alpha, palette = None, _palette(change, strength)
        options |= {} if record is None else {"comment": to_json(record).encode()}
    else:
        options |= {"exif": to_exif(record)} | ({"icc_profile": icc} if icc else {})
    pictures = (_picture(change(each), alpha, palette) for each in strengths)
    if palette is not None:
        options |= {"mode": "P", "palette": bytes(palette.getpalette() or [])}
    with replacing(path, force=force) as output:
        try:
            first = np.asarray(next(pictures))
            # The encoder of PNG runs through the frames twice.
            others = list(pictures) if kind == "PNG" else pictures
            encode(output, first, kind, save_all=True, append_images=others, **options)
        except (ValueError, TypeError, KeyError) as error:
            raise ImageError(f"{path}: cannot be encoded: {error}") from error


def _remembered(change: Change) -> Change:
    """Cache what a function returns, up to `KEPT` bytes."""
    kept: dict[float, Pixels] = {}

    def remembered(strength: float) -> Pixels:
        if strength in kept:
            return kept[strength]
        pixels = change(strength)
        if (len(kept) + 1) * pixels.nbytes <= KEPT:
            kept[strength] = pixels
        return pixels

    return remembered


def _picture(
    pixels: Pixels, alpha: Pixels | None, palette: PIL.Image.Image | None
) -> PIL.Image.Image:
    """Return a frame for Pillow, in the colours of a palette if there is one."""
    pixels = _eight_bits(pixels)
    if alpha is not None:
        pixels = np.dstack([pixels, _eight_bits(alpha)])
    picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if palette is None:
        return picture
    return picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE)  # which would crawl


def _palette(change: Change, strength: float) -> PIL.Image.Image | None:
    """Return an image in the palette of a GIF in colour.

    One palette for all frames does not flicker. Its colours are those of the input, of the
    expression and of what lies between, chosen by how much of the range they cover: by how many
    pixels they have, lips turn grey.
    """
    extremes = np.vstack([_eight_bits(change(share * strength)) for share in (0, 0.5, 1)])
    if extremes.shape[2] == 1:
        return None
    step = max(1, round((extremes.size / 3 / PALETTE_PIXELS) ** 0.5))
    return PIL.Image.fromarray(extremes[::step, ::step]).quantize(
        256, method=PIL.Image.Quantize.MAXCOVERAGE, kmeans=1
    )


def _eight_bits(pixels: Pixels) -> Pixels:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
