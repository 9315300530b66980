"""Curves of training losses: a row for each method, a small chart for each of its losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

WIDTH, HEIGHT, MARGIN, LEFT = 230, 120, 10, 110  # of a chart, of its surroundings, of the names
INK, FAINT, LINE, PAPER = (40, 40, 40), (205, 205, 205), (30, 90, 170), (250, 250, 250)

History = Sequence[tuple[int, Mapping[str, float]]]


def thinned(history: History, points: int = 100) -> list[dict[str, float]]:
    """Return a history as means over so many equal parts of it.

    Returns
    -------
    list of dict
        ``step``, the last one of the part, and the mean of each loss that occurs in it.
    """
    length = max(1, math.ceil(len(history) / points))
    parts = [history[start : start + length] for start in range(0, len(history), length)]
    return [{"step": part[-1][0]} | _means([losses for _, losses in part]) for part in parts]


def draw_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> np.ndarray:
    """Draw the losses of each method against its steps.

    Parameters
    ----------
    histories : dict of str to sequence of dict
        What `thinned` returns, for each name.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Each chart has its own scale, whose ends stand beside it.
    """
    names = {title: _losses(history) for title, history in histories.items()}
    columns = max(1, *map(len, names.values()))
    across, down = WIDTH + 2 * MARGIN, HEIGHT + 4 * MARGIN
    size = (LEFT + columns * across, len(names) * down + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=14)
    small = PIL.ImageFont.load_default(size=11)
    for row, (title, history) in enumerate(histories.items()):
        top = row * down + 3 * MARGIN
        draw.text((MARGIN, top + HEIGHT / 2), title, INK, font, anchor="lm")
        if history:
            steps = f"{history[-1]['step'] + 1:.0f} steps"
            draw.text((MARGIN, top + HEIGHT / 2 + 18), steps, INK, small, anchor="lm")
        for column, name in enumerate(names[title]):
            left = LEFT + column * across
            _draw_chart(draw, small, (left, top), name, history)
    return np.asarray(sheet)


def _draw_chart(
    draw: PIL.ImageDraw.ImageDraw,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
    corner: tuple[int, int],
    name: str,
    history: Sequence[Mapping[str, float]],
) -> None:
    """Draw one loss into a frame, from the first step on the left to the last on the right."""
    left, top = corner
    points = [(part["step"], part[name]) for part in history if name in part]
    low, high = (f([value for _, value in points]) for f in (min, max))
    last = max(1, history[-1]["step"])
    draw.text((left, top - 3), name, INK, font, anchor="lb")
    draw.text((left + WIDTH, top - 3), f"{low:.3g} to {high:.3g}", INK, font, anchor="rb")
    draw.rectangle((left, top, left + WIDTH, top + HEIGHT), outline=FAINT)
    span = high - low or 1
    line = [
        (left + WIDTH * step / last, top + HEIGHT - 4 - (HEIGHT - 8) * (value - low) / span)
        for step, value in points
    ]
    draw.line(line if len(line) > 1 else [*line, *line], LINE, 2)


def _losses(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of all losses in the order in which they turn up."""
    return [
        name for name in dict.fromkeys(key for part in history for key in part) if name != "step"
    ]


def _means(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for entry in losses:
        for name, value in entry.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}
