"""Contact sheets: rows of labelled pictures side by side in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from mlr.io.images import Pixels, write_image
from mlr.training.decode import as_channels

CELL = 192  # smallest side of a picture on a sheet; small ones are enlarged
ERROR_GAIN = 3  # a third of the full range is white in the picture of the error
_GAP, _CAPTION, _INK, _PAPER = 8, 22, (40, 40, 40), (250, 250, 250)


@dataclass(frozen=True)
class PairPicture:
    """What a contact sheet shows of one pair.

    Attributes
    ----------
    caption : str
        One line.
    source, output, target : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
        Images of the same size.
    """

    caption: str
    source: Pixels
    output: Pixels
    target: Pixels


def write_contact_sheet(
    path: Path,
    title: str,
    pairs: Sequence[PairPicture],
    *,
    exif: PIL.Image.Exif | None = None,
    force: bool = False,
) -> None:
    """Write input, output, target and error of each pair, one pair a row.

    The error is the absolute difference, averaged over channels: black for none, then red and
    yellow, white for 1 / `ERROR_GAIN` of the range and more.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    rows = [
        (
            pair.caption,
            [
                as_rgb8(pair.source),
                as_rgb8(pair.output),
                as_rgb8(pair.target),
                error_picture(as_rgb8(pair.output), as_rgb8(pair.target)),
            ],
        )
        for pair in pairs
    ]
    heads = ["input", f"output: {title}", "target", f"error x{ERROR_GAIN}"]
    write_image(path, draw_sheet(heads, rows), exif=exif, force=force)


def draw_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Pixels:
    """Draw pictures in rows and columns.

    Parameters
    ----------
    heads : sequence of str
        A title for each column; none leaves the line out.
    rows : sequence of (str, sequence of ndarray of uint8, shape (height, width, 3))
        A caption for each row, empty for none, and pictures of the same size.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        The sheet.
    """
    pictures = [[_enlarged(picture) for picture in row] for _, row in rows]
    height, width, _ = pictures[0][0].shape
    columns = max(len(row) for row in pictures)
    head = _CAPTION if heads else 0
    tops: list[int] = []
    bottom = _GAP + head
    for caption, _ in rows:
        tops.append(bottom)
        bottom += (_CAPTION if caption else 0) + height + _GAP
    sheet = PIL.Image.new("RGB", (_GAP + columns * (width + _GAP), bottom), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=15)
    for column, text in enumerate(heads):
        draw.text((_GAP + column * (width + _GAP), _GAP), text, _INK, font)
    for top, (caption, _), row in zip(tops, rows, pictures, strict=True):
        if caption:
            draw.text((_GAP, top), caption, _INK, font)
        for column, picture in enumerate(row):
            place = (_GAP + column * (width + _GAP), top + (_CAPTION if caption else 0))
            sheet.paste(PIL.Image.fromarray(picture), place)
    return np.asarray(sheet)


def as_rgb8(pixels: Pixels) -> Pixels:
    """Return an image as 8-bit colour, for showing."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return as_channels(pixels, 3)


def _enlarged(picture: Pixels) -> Pixels:
    """Return a picture a whole number of times as large, at least `CELL` px wide."""
    times = max(1, -(-CELL // picture.shape[1]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def error_picture(output: Pixels, target: Pixels) -> Pixels:
    """Return a picture of the difference: black, red, yellow, white."""
    difference = np.abs(output.astype(np.float32) - target).mean(axis=2) / 255 * ERROR_GAIN
    ramp = [np.clip(3 * difference - step, 0, 1) for step in range(3)]
    return np.rint(np.dstack(ramp) * 255).astype(np.uint8)
