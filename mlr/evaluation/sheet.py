"""Contact sheets: rows of labelled pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from mlr.evaluation.scores import as_rgb8
from mlr.io.images import Pixels

CELL = 192  # smallest side of a picture on a sheet; small ones are enlarged
ERROR_GAIN = 3  # in the picture of the error a third of the data range is white
_GAP, _CAPTION, _INK, _PAPER = 8, 22, (40, 40, 40), (250, 250, 250)


def pair_pictures(source: Pixels, output: Pixels, target: Pixels) -> list[Pixels]:
    """Return input, output, target and error of a pair as 8-bit colour.

    The error is the absolute difference, averaged over channels: black for none, then red and
    yellow, white for 1 / `ERROR_GAIN` of the data range and more.
    """
    source, output, target = map(as_rgb8, (source, output, target))
    error = np.abs(output.astype(np.float32) - target).mean(axis=2) / 255 * ERROR_GAIN
    ramp = [np.clip(3 * error - step, 0, 1) for step in range(3)]
    return [source, output, target, np.rint(np.dstack(ramp) * 255).astype(np.uint8)]


def draw_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Pixels:
    """Draw 8-bit pictures of the same size, below heads and each row below its caption, if any."""
    pictures = [[_enlarge(picture) for picture in row] for _, row in rows]
    height, width, _ = pictures[0][0].shape
    columns = max(len(row) for row in pictures)
    captions = [_CAPTION if caption else 0 for caption, _ in rows]
    bottom = _GAP + _CAPTION + sum(captions) + len(rows) * (height + _GAP)
    sheet = PIL.Image.new("RGB", (_GAP + columns * (width + _GAP), bottom), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=15)
    for column, text in enumerate(heads):
        draw.text((_GAP + column * (width + _GAP), _GAP), text, _INK, font)
    top = _GAP + _CAPTION
    for (caption, _), room, row in zip(rows, captions, pictures, strict=True):
        draw.text((_GAP, top), caption, _INK, font)
        for column, picture in enumerate(row):
            corner = (_GAP + column * (width + _GAP), top + room)
            sheet.paste(PIL.Image.fromarray(picture), corner)
        top += room + height + _GAP
    return np.asarray(sheet)


def _enlarge(picture: Pixels) -> Pixels:
    """Return a picture a whole number of times as large, at least `CELL` px wide."""
    times = max(1, -(-CELL // picture.shape[1]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
