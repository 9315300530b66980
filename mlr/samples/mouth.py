"""Lips, teeth and the inside of the mouth."""

from __future__ import annotations

import numpy as np

from mlr.samples.canvas import LIT, Array, Grid, Surface, band, bump, layer, over, ramp, smooth
from mlr.samples.expressions import Mouth
from mlr.samples.subjects import Subject

TEETH = (0.80, 0.74, 0.64)
CAVITY = (0.075, 0.016, 0.014)
TONGUE = (0.36, 0.10, 0.09)


def _roll(y: Array, top: Array, bottom: Array, peak: float) -> Array:
    """Return the height of a roll between two curves, with its top at the share ``peak``."""
    thick = np.maximum(bottom - top, 1e-4)
    v = np.clip((y - top) / thick, 0, 1)
    v = v + (0.5 - peak) * 4 * v * (1 - v) * 0.6
    return 4 * v * (1 - v) * thick


class Lips:
    """The curves of a mouth, from which its relief, colours and interior are drawn."""

    def __init__(self, g: Grid, m: Mouth, p: Subject) -> None:
        reach, top = m.half + 0.05, m.y - m.open_up - 0.07
        self.m = m
        self.g = c = g.crop(m.x - reach, m.x + reach, top, m.y + m.open_down + 0.07 + 0.02)
        self.edge = 1.3 * c.px
        self.x = x = (c.x - m.x) * (1 / m.half)
        x2 = np.minimum(x * x, 1.0)
        flat = 1.0 - x2
        oval = np.sqrt(flat)
        almond = flat * (0.75 + 0.25 * x2)
        opening = almond + m.round * (oval - almond)
        left, right = m.corners
        corner = left + (right - left) * smooth(x, 1.2)
        bend = x2 * (0.62 + 0.38 * x2)
        # the line between closed lips is slightly lower in the middle
        rest = 0.0032 * (bump(x * 3.0) - 0.6 * bump((np.abs(x) - 0.42) * 3.6)) * (1 - 0.6 * m.press)
        self.line = line = m.y + corner * bend + rest
        square = m.sneer * 0.35 * (flat * x2 * 4 - 0.3 * flat)
        self.upper_in = line - m.open_up * (opening + square)
        self.lower_in = line + m.open_down * opening
        bow = 1 + 0.30 * p.bow * (bump((np.abs(x) - 0.24) * 3.8) - 0.75 * bump(x * 5.0))
        self.upper_out = self.upper_in - m.lip_upper * (
            (0.55 * flat + 0.45 * oval * flat) * bow + 0.6 * m.round * (oval - flat)
        )
        full = 0.3 * flat + 0.7 * oval * (0.55 + 0.45 * flat)
        self.lower_out = self.lower_in + m.lip_lower * (full + 0.75 * m.round * (oval - full))

    def model(self, surface: Surface, p: Subject) -> None:
        """Add the lips to the surface of the face."""
        g, m = self.g, self.m
        s = surface.part(g)
        soft = max(0.006, self.edge)
        upper = band(g.y, self.upper_out, self.line, soft)
        lower = band(g.y, self.line, self.lower_out, soft)
        roll = _roll(g.y, self.upper_out, self.line, 0.62) * 0.62
        s.height += p.relief * (roll + _roll(g.y, self.line, self.lower_out, 0.45) * 0.62)
        over(s.albedo, 0.88 * upper, tuple(c * 0.80 for c in p.lips))
        over(s.albedo, 0.82 * lower, p.lips)
        s.albedo *= 1 + 0.10 * bump(self.x * 2.0) * lower
        s.gloss += (0.25 * upper + 0.9 * lower) * p.gloss
        # closed lips meet in a soft dark line with pits at its ends
        wide = max(0.0048, 0.8 * g.px)
        depth = (0.0048 / wide) * (0.62 + 0.2 * m.press)
        if m.open_down < 0.02:
            within = smooth(1.06 - np.abs(self.x), 0.16)
            s.open *= 1 - depth * bump((g.y - self.line) * (1 / wide)) * within
        corner_y = np.where(self.x < 0, m.y + m.corners[0], m.y + m.corners[1])
        pit = bump((np.abs(self.x) - 1.0) * 9) * bump((g.y - corner_y) * (1 / 0.011))
        s.open *= 1 - 0.40 * pit

    def inside(self, image: Array) -> None:
        """Paint the opening with teeth and tongue onto the lit face."""
        m, g = self.m, self.g
        if m.open_up + m.open_down < 0.002:
            return
        view = g.of(image)
        hole = band(g.y, self.upper_in, self.lower_in, self.edge)
        depth = ramp(g.y - (m.y + 0.4 * m.open_down), 0.10)
        over(view, hole, CAVITY)
        if m.open_down > 0.045:
            tongue = bump((g.x - m.x) * (1 / (0.62 * m.half))) * depth
            tongue *= bump((g.y - (m.y + m.open_down * 1.05)) * (1 / (0.36 * m.open_down)))
            over(view, 0.75 * hole * tongue, TONGUE)
        self._teeth(view, hole)

    def _teeth(self, view: Array, hole: Array) -> None:
        m, g = self.m, self.g
        x = g.x - m.x
        # teeth form an arch: they look narrower and darker towards the sides
        far = np.abs(x) * (1 / 0.15)
        index = x * (1 / 0.0235) * (1 + 0.35 * far * far)
        split = np.abs(index - np.floor(index) - 0.5) * 2  # 1 between two teeth
        fine = min(1.0, max(0.0, 0.0235 / g.px / 2.5 - 0.6))
        seam = 1 - 0.20 * fine * np.maximum(split * 5 - 4, 0) ** 2
        dim = np.clip(1.12 - 0.75 * far * far, 0.25, 1.0) * seam * LIT
        if m.teeth_upper > 0.012:
            curve = m.y - m.open_up + m.teeth_upper + (self.line - m.y) * 0.75
            tip = curve - fine * 0.0025 * np.maximum(split * 3 - 2, 0)
            shadow = 0.62 + 0.38 * smooth(g.y - self.upper_in - 0.006, 0.014)
            mask = hole * ramp(tip - g.y, max(0.003, self.edge))
            mask *= smooth(0.93 - np.abs(self.x), 0.22)
            over(view, mask, layer(TEETH) * (dim * shadow))
        if m.teeth_lower > 0.010:
            top = self.lower_in - m.teeth_lower + 0.002
            mask = hole * ramp(g.y - top, max(0.003, self.edge))
            mask *= smooth(0.80 - np.abs(self.x), 0.3)
            over(view, mask, layer(TEETH) * (dim * 0.72))
