"""Eyes, brows and glasses."""

from __future__ import annotations

import numpy as np

from mlr.samples.canvas import LIT, Array, Grid, Surface, band, bump, layer, over, ramp, smooth
from mlr.samples.expressions import Brow, Eye, Face
from mlr.samples.subjects import Subject
from mlr.samples.textures import fade, noise1

SCLERA = (0.66, 0.62, 0.59)
LASH = (0.018, 0.012, 0.010)
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
