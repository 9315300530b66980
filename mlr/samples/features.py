"""Eyes, brows, glasses, lips and teeth."""

from __future__ import annotations

import numpy as np

from mlr.samples.canvas import LIT, Array, Grid, Surface, band, bump, layer, over, ramp, smooth
from mlr.samples.subjects import Brow, Eye, Face, Mouth, Subject
from mlr.samples.textures import fade, noise1

SCLERA = (0.66, 0.62, 0.59)
LASH = (0.018, 0.012, 0.010)
TEETH = (0.80, 0.74, 0.64)
CAVITY = (0.075, 0.016, 0.014)
TONGUE = (0.36, 0.10, 0.09)
IRIS = 0.0345  # radius; an iris is 11.7 mm wide, pupils are 63 mm apart


def draw_eye(image: Array, face: Grid, p: Subject, e: Eye) -> None:
    """Paint one eye with its lids and lashes onto the lit face."""
    g = face.crop(e.x - 0.13, e.x + 0.13, e.y - 0.11, e.y + 0.09)
    view = g.of(image)
    u = (g.x - e.x) * (e.side / e.half)  # -1 at the inner, 1 at the outer corner
    u2 = np.minimum(u * u, 1.0)
    axis = e.y + 0.0035 - e.tilt * u - 0.004 * np.maximum(-u - 0.6, 0)
    upper = axis - (e.upper + 0.0035) * (1.0 - u2) * (1 + 0.45 * u2) * (1 - 0.10 * u)
    lower = axis + (e.lower - 0.0035) * (1.0 - u2) * (1 + 0.35 * u2) * (1 + 0.16 * u)
    within = smooth(1.06 - np.abs(u), 0.2)
    _lid_skin(view, g, e, u, upper)
    ball = band(g.y, upper, lower, 1.3 * g.px)
    r = np.sqrt((g.x - e.x) ** 2 + (g.y - e.y) ** 2)
    # the eyeball curves back at both corners and is shaded by the upper lid
    shade = (1.0 - 0.38 * u * u) * (0.55 + 0.45 * smooth(g.y - upper - 0.010, 0.026))
    sclera = layer(SCLERA) * (shade * LIT)
    sclera[1:] *= 1 - 0.22 * np.maximum(np.abs(u) - 0.5, 0) * 2
    over(view, ball, sclera)
    _iris(view, g, p, e, r, ball, shade)
    caruncle = bump((u + 0.93) * 7) * bump((g.y - e.y - 0.005 - e.tilt) * 90) * within
    over(view, 0.6 * caruncle, (0.42 * LIT, 0.17 * LIT, 0.15 * LIT))
    _lashes(view, g, p, e, u, upper, lower, within)


def _iris(view: Array, g: Grid, p: Subject, e: Eye, r: Array, ball: Array, shade: Array) -> None:
    edge = max(1.3 * g.px, 0.004)
    disc = ramp(IRIS - r, edge) * ball
    rim = smooth(r - 0.82 * IRIS, 0.5 * IRIS)
    # the cornea focuses light opposite its source
    glow = 0.80 + 0.55 * ramp(g.y - e.y + 0.3 * (g.x - e.x), 0.06)
    if g.px < 0.006:
        angle = np.arctan2(g.y - e.y, g.x - e.x) * (24 / np.pi)
        fibre = noise1(p.strands[:64], angle + 24) * (r * (1 / IRIS))
        glow = glow * (1 + 0.10 * fibre)
    ring = bump((r - 1.5 * p.pupil) * 110)
    tone = glow * (1 - 0.62 * rim) * (1 + 0.25 * ring) * (0.55 + 0.45 * shade) * LIT
    over(view, disc, layer(p.iris) * tone)
    over(view, ramp(p.pupil - r, edge) * ball, (0.006, 0.005, 0.005))
    lx, ly = p.light[0], p.light[1]
    spot = max(0.0066, 0.75 * g.px)
    bright = min(1.0, (0.0066 / spot) ** 2 * 1.4)
    cx, cy = e.x + (0.36 if lx > 0 else -0.36) * IRIS, e.y + (0.2 * ly - 0.32) * IRIS
    catch = bump((g.x - cx) * (1 / spot)) * bump((g.y - cy) * (1 / spot))
    over(view, np.minimum(1.6 * catch, 1.0) * bright * 0.92 * ball, (0.95, 0.95, 0.95))
    faint = bump((g.x - 2 * e.x + cx) * 90) * bump((g.y - e.y - 0.5 * IRIS) * 130)
    over(view, 0.16 * faint * ball, (0.9, 0.92, 0.95))


def _lid_skin(view: Array, g: Grid, e: Eye, u: Array, upper: Array) -> None:
    """Shade the fold above the eye and the lid below it."""
    wide = max(0.0055, 0.85 * g.px)
    fold = upper - e.fold * (1 - 0.25 * u * u) + 0.006 * np.maximum(np.abs(u) - 0.6, 0)
    window = smooth(1.12 - np.abs(u + 0.05), 0.5)
    dark = bump((g.y - fold) * (1 / wide)) * window * (0.0055 / wide)
    above = smooth(fold - g.y, 0.004) * bump((g.y - fold) * (1 / 0.022)) * window
    view *= 1 - (0.42 * dark + 0.13 * above)
    lid = band(g.y, fold, upper, max(0.006, 1.3 * g.px)) * window
    view *= 1 + lid * (0.12 * bump(u * 1.4) - 0.03)
    view[0] *= 1 + 0.03 * lid


def _lashes(
    view: Array, g: Grid, p: Subject, e: Eye, u: Array, upper: Array, lower: Array, within: Array
) -> None:
    thick = (0.0048 + 0.0036 * p.lashes) * (0.75 + 0.3 * u)
    wide = np.maximum(thick, 0.85 * g.px)
    line = bump((g.y - upper + 0.35 * thick) / wide) * (thick / wide)
    # lashes extend beyond the outer corner
    run = smooth(1.10 + 0.06 * p.lashes - u, 0.16) * smooth(u + 1.02, 0.3)
    over(view, 0.93 * np.minimum(line * 1.15, 1.0) * run, LASH)
    if p.lashes > 0.5 and g.px < 0.008:
        comb = noise1(p.strands, u * 26 + 300) * 0.5 + 0.6
        hair = bump((g.y - upper + 0.011) * (1 / 0.008)) * smooth(u + 0.35, 0.9) * run
        over(view, 0.55 * (p.lashes - 0.4) * hair * np.clip(comb, 0, 1), LASH)
    wide_low = max(0.0042, 0.85 * g.px)
    low = bump((g.y - lower - 0.003) * (1 / wide_low)) * (0.0042 / wide_low)
    over(view, (0.34 + 0.25 * p.lashes) * low * within, tuple(c * 0.30 for c in p.skin))
    if g.px < 0.006:
        wet = bump((g.y - lower + 0.001) * (1 / 0.0032)) * within
        over(view, 0.25 * wet, (0.62, 0.42, 0.38))


def draw_brow(surface: Surface, face: Grid, p: Subject, b: Brow) -> None:
    """Colour the skin with the hairs of a brow."""
    g = face.crop_side(b.side, 0.03, 0.33, -0.24, 0.02)
    (xi, yi), (xm, ym), (xo, yo) = b.inner, b.middle, b.outer
    t = (b.side * g.x - xi) * (1 / (xo - xi))
    q = (xm - xi) / (xo - xi)
    # a parabola through three points
    bend = (ym - yi - (yo - yi) * q) / (q * (q - 1))
    y = yi + (yo - yi) * t + bend * t * (t - 1)
    s = np.clip(t, 0, 1)
    thick = p.brow_thick * (0.80 + 0.75 * s - 1.25 * s * s * s) + 0.001
    wide = np.maximum(thick, 0.8 * g.px)
    d = (g.y - y) / wide
    ends = smooth(t + 0.02, 0.16) * smooth(1.02 - t, 0.18)
    body = bump(d * 0.95) * ends * (thick / wide)
    slant = t * 1.3 - d * (0.05 * (1 - s) + 0.015)
    hairs = noise1(p.strands, slant * 42 + 500) + 0.7 * noise1(p.strands, slant * 95 + 77)
    strong = 0.22 * fade(0.2 / 60, g.px)
    body *= np.clip(1 - strong + strong * hairs, 0.2, 1.3)
    tint = tuple(0.55 * h + 0.06 * s0 for h, s0 in zip(p.hair, p.skin, strict=True))
    cover = np.minimum(1.25 * p.brow_dark * body, 0.96)
    part = surface.part(g)
    over(part.albedo, cover, tint)
    part.gloss *= 1 - cover


def draw_glasses(image: Array, g: Grid, p: Subject, f: Face) -> None:
    """Paint rims, bridge, arms and a faint reflection of glasses."""
    if not p.glasses:
        return
    half, tall = p.glasses, p.glasses * (0.72 + 0.2 * p.lens_round)
    cy, rim = 0.016, max(0.0065, 0.9 * g.px)
    metal = tuple(0.02 + 0.12 * c for c in p.cloth)
    for side in (-1, 1):
        c = g.crop(side * 0.187 - half - 0.03, side * 0.187 + half + 0.03, -0.14, 0.17)
        view = c.of(image)
        corner = (0.35 + 0.6 * p.lens_round) * tall
        qx = np.maximum(np.abs(c.x - side * 0.187) - (half - corner), 0)
        qy = np.maximum(np.abs(c.y - cy) - (tall - corner), 0)
        d = np.sqrt(qx * qx + qy * qy) - corner
        lens = ramp(-d, 0.006)
        slash = bump((c.x - side * 0.187 + 0.7 * (c.y - cy) + 0.05) * 30)
        over(view, lens * (0.010 + 0.05 * slash), (0.9, 0.94, 1.0))
        shadow = bump((d + 0.002 - 0.35 * (c.y > cy) * 0.02) * (1 / (2.2 * rim)))
        view *= 1 - 0.22 * shadow * (c.y > cy)
        over(view, 0.94 * ramp(rim * 0.5 - np.abs(d), 1.4 * g.px), metal)
        c = g.crop_side(side, 0.187 + half, p.width + 0.01, -0.06, 0.04)
        arm = ramp(rim * 0.6 - np.abs(c.y + 0.012), 1.4 * g.px)
        over(c.of(image), 0.9 * arm, metal)
    c = g.crop(-0.1, 0.1, -0.06, 0.06)
    arch = c.y - (-0.012 + 2.2 * c.x * c.x)
    bridge = ramp(rim * 0.5 - np.abs(arch), 1.4 * g.px)
    bridge *= ramp(0.187 - half + 0.004 - np.abs(c.x), 0.008)
    over(c.of(image), 0.94 * bridge, metal)


def _roll(y: Array, top: Array, bottom: Array, peak: float) -> Array:
    """Return the height of a roll between two curves, with its top at the share ``peak``."""
    thick = np.maximum(bottom - top, 1e-4)
    v = np.clip((y - top) / thick, 0, 1)
    v = v + (0.5 - peak) * 4 * v * (1 - v) * 0.6
    return 4 * v * (1 - v) * thick


class Lips:
    """The curves of a mouth, which define its relief, colours and interior."""

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
