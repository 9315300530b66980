"""Animations to an expression and back: GIF, WebP, animated PNG, PNG frames, or a sprite sheet."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import PIL.Image
from imageio.plugins.pillow import PillowPlugin

from mlr.errors import ImageError, MlrError
from mlr.io.files import replacing, replacing_folder
from mlr.io.images import PNG_LEVEL, QUALITY, Image, Pixels, write_image
from mlr.io.outputs import FRAMES_FOLDER, SHEET_FOLDER
from mlr.io.provenance import Record, kept_exif, to_exif, to_json

#: Pillow's formats of animations by suffix; None for folders.
ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", FRAMES_FOLDER: None, SHEET_FOLDER: None}
FRAMES = 24
SECONDS = 2.0
MILLISECONDS = round(1000 * SECONDS / FRAMES)  # that an image is shown
COLUMNS = 6  # of a sprite sheet
SHEET_SIDE = 8192  # largest side of a sprite sheet in pixels, as graphics cards limit textures
PALETTE_PIXELS = 50_000  # number of pixels that the palette of a GIF is computed from
NO_DITHER = PIL.Image.Dither.NONE  # dither would flicker
CLEAR = 255  # index of transparent pixels in the palette of a GIF
CACHE_BYTES = 100 << 20  # size of the changed images that are cached

Change = Callable[[float], Pixels]


def eased_strengths(frames: int = FRAMES, peak: float = 1.0) -> list[float]:
    """Return the strength of each image: peak (1 - cos(2 pi k / frames)) / 2, a smooth loop."""
    index = np.arange(frames)
    angle = 2 * np.pi * np.minimum(index, frames - index) / frames  # rises and falls identically
    return [float(strength) for strength in peak * (1 - np.cos(angle)) / 2]


def write_animation(
    path: Path,
    change: Change,
    image: Image,
    *,
    strength: float = 1.0,
    record: Callable[[float], Record | None] = lambda strength: None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    force: bool = False,
) -> None:
    """Write an endless animation that begins without strength, reaches it, and returns.

    The suffix of ``path`` is one of `ANIMATED`. A folder gets numbered files such as ``00.png``, of
    the same bit depth as the image, each with its own record, or a sprite sheet of that depth and
    its JSON. `ImageError` is raised if the sheet would exceed `SHEET_SIDE`. Other animations have
    8 bits; GIF has 256 colours, pixels that are opaque or transparent, and no colour profile.
    ``change`` returns the image for a strength, and ``record`` its record, or None to write no
    metadata, not even the image's; the largest strength is ``strength``. Further parameters and
    errors are those of `write_image`.
    """
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise ImageError(f"{path}: cannot store an animation; use {', '.join(ANIMATED)}")
    strengths, alpha, icc = eased_strengths(peak=strength), image.alpha, image.icc
    change = lru_cache(CACHE_BYTES // image.pixels.nbytes)(change)  # each strength occurs twice
    kind = ANIMATED[suffix]

    def stamped(strength: float) -> PIL.Image.Exif:
        found = record(strength)
        return to_exif(found, None if found is None else kept_exif(image))

    if suffix == SHEET_FOLDER:
        height, width = image.pixels.shape[:2]
        rows = -(-len(strengths) // COLUMNS)
        size = {"w": COLUMNS * width, "h": rows * height}
        if max(size.values()) > SHEET_SIDE:
            raise ImageError(
                f"{path}: a sheet would have {size['w']}x{size['h']} pixels; expected at most "
                f"{SHEET_SIDE} a side: reduce the image, or use --format frames"
            )
        with replacing_folder(path, force=force) as folder:
            (folder / "sheet.json").write_text(_sheet_frames(path.stem, width, height, size))
            pixels = _tiled([change(each) for each in strengths])
            alpha = None if alpha is None else _tiled([alpha] * len(strengths))
            exif = stamped(strength)
            file = folder / "sheet.png"
            write_image(file, pixels, alpha, icc=icc, exif=exif, png_level=png_level)
        return
    if kind is None:
        with replacing_folder(path, force=force) as folder:
            for number, each in enumerate(strengths):
                exif = stamped(each)
                file = folder / f"{number:02}.png"
                write_image(file, change(each), alpha, icc=icc, exif=exif, png_level=png_level)
        return
    options: dict[str, Any] = {"duration": MILLISECONDS, "loop": 0}
    options |= {"WEBP": {"quality": quality}, "PNG": {"compress_level": png_level}}.get(kind, {})
    palette, hidden, whole = None, None, record(strength)
    if kind == "GIF":
        if alpha is not None:
            hidden, alpha = _to_8_bit(alpha) <= CLEAR // 2, None
            options["transparency"] = CLEAR
        palette = _palette(change, strength, hidden)
        # Given the palette, Pillow stores it once. Optimized frames contain only what changes.
        options |= {"palette": palette.getpalette(), "optimize": True}
        options |= {} if whole is None else {"comment": to_json(whole).encode()}
    else:
        options |= {"exif": stamped(strength)} | ({"icc_profile": icc} if icc else {})
    with replacing(path, force=force) as temporary:
        try:
            with iio.imopen(temporary, "w", plugin=PillowPlugin, extension=suffix) as output:
                for each in strengths:
                    pixels = _to_8_bit(change(each))
                    if alpha is not None:
                        pixels = np.dstack([pixels, _to_8_bit(alpha)])
                    if pixels.shape[2] == 1:  # Pillow takes greys for their own index
                        pixels = np.minimum(pixels[..., 0], 255 if hidden is None else CLEAR - 1)
                    output.write(pixels, is_batch=False, format=kind, **options)
                    if palette is not None:  # imageio would choose one for each frame
                        frames = output.images_to_write
                        frames[-1] = frames[-1].quantize(palette=palette, dither=NO_DITHER)
                        if hidden is not None:
                            frames[-1].paste(CLEAR, mask=PIL.Image.fromarray(hidden))
        except MlrError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise ImageError(f"{path}: cannot be encoded: {error}") from error


def is_partial(alpha: Pixels | None) -> bool:
    """Return whether pixels are neither opaque nor transparent, as GIF cannot store."""
    return alpha is not None and not np.isin(alpha, (0, np.iinfo(alpha.dtype).max)).all()


def _tiled(images: list[Pixels]) -> Pixels:
    """Return images of one size in rows of `COLUMNS`."""
    rows = [images[first : first + COLUMNS] for first in range(0, len(images), COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


def _sheet_frames(name: str, width: int, height: int, size: dict[str, int]) -> str:
    """Return TexturePacker's JSON (hash), which Phaser and PixiJS load, with Aseprite's durations.

    Names of images contain that of the sheet, as PixiJS keeps those of all sheets together.
    """
    frames = {
        f"{name}-{index:02}": {
            "frame": {
                "x": index % COLUMNS * width,
                "y": index // COLUMNS * height,
                "w": width,
                "h": height,
            },
            "rotated": False,
            "trimmed": False,
            "spriteSourceSize": {"x": 0, "y": 0, "w": width, "h": height},
            "sourceSize": {"w": width, "h": height},
            "duration": MILLISECONDS,
        }
        for index in range(FRAMES)
    }
    meta = {"app": "mlr", "image": "sheet.png", "format": "RGBA8888", "size": size, "scale": "1"}
    return json.dumps(
        {"frames": frames, "animations": {name: list(frames)}, "meta": meta}, indent=1
    )


def _palette(
    change: Change, strength: float, hidden: npt.NDArray[np.bool_] | None
) -> PIL.Image.Image:
    """Return an image with the palette of a GIF: for opaque grey images all greys.

    A common palette avoids flicker. Its colours are chosen by how much of the colour range they
    cover; chosen by the number of pixels, they would turn lips grey. The colour `CLEAR` is free if
    pixels are hidden.
    """
    extremes = np.vstack([_to_8_bit(change(share * strength)) for share in (0, 0.5, 1)])
    if hidden is not None:
        extremes[np.tile(hidden, (3, 1))] = 0
    if extremes.shape[2] == 1:
        palette = PIL.Image.fromarray(extremes[..., 0]).convert("P")
    else:
        step = max(1, round((extremes.size / 3 / PALETTE_PIXELS) ** 0.5))
        palette = PIL.Image.fromarray(extremes[::step, ::step]).quantize(
            256 if hidden is None else CLEAR, method=PIL.Image.Quantize.MAXCOVERAGE, kmeans=1
        )
    if hidden is not None:  # repeat a colour: of two equal ones, the first is chosen
        colours = palette.getpalette() or []
        palette.putpalette((colours + colours[:3] * 256)[: 3 * CLEAR] + colours[:3])
    return palette


def _to_8_bit(pixels: Pixels) -> Pixels:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
