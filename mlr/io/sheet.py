"""Sheets: labelled tables of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from mlr.io.images import Pixels, to_8_bits

CELL = 192  # smallest width of a picture on a sheet, in pixels; small ones are enlarged
_GAP, _CAPTION, _INK, _PAPER = 8, 22, (40, 40, 40), (250, 250, 250)


def as_rgb8(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return an 8-bit or 16-bit image (height, width, 1 or 3) as 8-bit colour."""
    return to_8_bits(pixels).repeat(3 // pixels.shape[2], axis=2)


def draw_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Pixels:
    """Draw 8-bit pictures of the same size, below heads and each row below its caption, if any."""
    times = max(1, -(-CELL // rows[0][1][0].shape[1]))  # a whole number
    pictures = [[each.repeat(times, 0).repeat(times, 1) for each in row] for _, row in rows]
    height, width, _ = pictures[0][0].shape
    columns = max(len(row) for row in pictures)
    caption_heights = [_CAPTION if caption else 0 for caption, _ in rows]
    bottom = _GAP + _CAPTION + sum(caption_heights) + len(rows) * (height + _GAP)
    sheet = PIL.Image.new("RGB", (_GAP + columns * (width + _GAP), bottom), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=15)
    for column, text in enumerate(heads):
        draw.text((_GAP + column * (width + _GAP), _GAP), text, _INK, font)
    top = _GAP + _CAPTION
    for (caption, _), caption_height, row in zip(rows, caption_heights, pictures, strict=True):
        draw.text((_GAP, top), caption, _INK, font)
        for column, picture in enumerate(row):
            corner = (_GAP + column * (width + _GAP), top + caption_height)
            sheet.paste(PIL.Image.fromarray(picture), corner)
        top += caption_height + height + _GAP
    return np.asarray(sheet)
