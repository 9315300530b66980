"""The comparison as a picture: a row for each method, as in the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

Picture = npt.NDArray[np.uint8]

CELL, GAP, LABEL, HEAD = 128, 4, 190, 24
INK, PAPER = (40, 40, 40), (250, 250, 250)


def rows_of_faces(
    heads: Sequence[tuple[str, int]], rows: Sequence[tuple[str, Sequence[Picture]]]
) -> Picture:
    """Draw a row of faces for each method.

    Parameters
    ----------
    heads : sequence of (str, int)
        Titles, and the number of columns of each.
    rows : sequence of (str, sequence of ndarray of uint8)
        Label, and square pictures of any size.
    """
    columns = max(len(pictures) for _, pictures in rows)
    step = CELL + GAP
    sheet = PIL.Image.new("RGB", (LABEL + columns * step, HEAD + len(rows) * step), PAPER)
    draw, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(size=14)
    column = 0
    for title, width in heads:
        draw.text((LABEL + column * step, 4), title, INK, font)
        column += width
    for r, (label, pictures) in enumerate(rows):
        top = HEAD + r * step
        for line, words in enumerate(_wrapped(label, draw, font)):
            draw.text((GAP, top + CELL // 2 - 9 + 18 * line), words, INK, font)
        for c, picture in enumerate(pictures):
            whole = CELL % len(picture) == 0
            method = PIL.Image.Resampling.NEAREST if whole else PIL.Image.Resampling.LANCZOS
            face = PIL.Image.fromarray(picture).resize((CELL, CELL), method)
            sheet.paste(face, (LABEL + c * step, top))
    return np.asarray(sheet)


def _wrapped(text: str, draw: PIL.ImageDraw.ImageDraw, font: PIL.ImageFont.ImageFont) -> list[str]:
    """Return the text in lines that fit the column of labels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) > LABEL - 2 * GAP and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
