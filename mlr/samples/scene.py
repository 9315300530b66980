"""Backdrop, neck, clothes, ears, and the camera."""

from __future__ import annotations

import numpy as np

from mlr.samples.canvas import Array, Grid, blob, bump, layer, over, ramp, smooth
from mlr.samples.expressions import Face, Shot
from mlr.samples.subjects import Subject
from mlr.samples.textures import noise1


def draw_backdrop(g: Grid, p: Subject, shot: Shot) -> Array:
    """Return a softly lit wall."""
    level = 0.86 + 0.10 * p.light[0] * g.x - 0.10 * g.y + 0.14 * blob(g, 0.0, 0.0, 0.5, 0.6)
    wall: Array = layer(p.backdrop) * level
    warm = p.warmth + shot.warmth
    wall[0] *= 1 + warm
    wall[2] *= 1 - warm
    return wall


def draw_body(image: Array, g: Grid, p: Subject, f: Face) -> None:
    """Paint neck and shoulders, in the shadow of the chin."""
    g = g.crop(-1.0, 1.0, 0.3, 1.0)
    view = g.of(image)
    neck = 0.250 + 0.050 * p.manly
    d = neck + 1.4 * np.maximum(g.y - 0.60, 0) ** 2 - np.abs(g.x - f.middle)
    round_ = np.clip(d * (1 / neck), 0, 1)
    level = 0.30 + 0.45 * round_ * (2 - round_) + 0.22 * p.light[0] * g.x / neck
    level = level * (smooth(g.y - f.chin - 0.01, 0.12) * 0.35 + 0.50)
    level = level * (1 + 0.08 * bump((np.abs(g.x) - 0.09 - 0.2 * (0.64 - g.y)) * 30))  # tendons
    skin = layer(p.skin) * level
    skin[1:] *= 0.94
    over(view, ramp(d, max(0.006, 1.5 * g.px)), skin)
    top = 0.60 + 0.03 * p.collar - 0.30 * (np.abs(g.x) - 0.30)
    fabric = ramp(g.y - np.where(np.abs(g.x) < 0.18, 9.0, top), 0.012)
    weave = 0.55 + 0.12 * noise1(p.strands, g.x * 8 + g.y * 5 + 70)
    over(view, fabric, layer(p.cloth) * weave)


def draw_ears(image: Array, g: Grid, p: Subject, f: Face) -> None:
    """Paint the ears."""
    for side in (-1, 1):
        x, y = f.middle + side * (p.width + 0.014), 0.055
        c = g.crop(x - 0.08, x + 0.08, y - 0.14, y + 0.15)
        u = side * (c.x - x) - 0.10 * (y - c.y)
        v = c.y - y
        e = (u / (0.036 - 0.05 * v)) ** 2 + (v / 0.105) ** 2
        lit = 0.62 + 0.28 * side * p.light[0] + 0.10 * bump((e - 0.75) * 4)
        lit = lit * (1 - 0.42 * bump((e - 0.12) * 2.2))
        tone = layer(p.skin) * (0.95 * lit)
        tone[1:] *= 0.86
        over(c.of(image), ramp((1 - e) * 0.02, 1.4 * g.px), tone)


def develop(light: Array, p: Subject, shot: Shot, size: int, rng: np.random.Generator) -> Array:
    """Turn linear intensities (3, n, n) into an 8-bit image (size, size, 3) with noise."""
    k = light.shape[1] // size
    if k > 1:
        light = light.reshape(3, size, k, size, k).mean(axis=(2, 4))
    light = light * (p.exposure * shot.exposure * 1.02)
    # highlights saturate smoothly
    light *= 1.12 / (1 + 0.12 * light)
    shown = np.sqrt(np.maximum(light, 0.0))
    grain = rng.standard_normal((3, size, size), np.float32)
    shown += (0.4 * p.grain) * grain
    shown += (0.8 * p.grain) * grain[1]
    shown *= 255
    shown += 0.5
    return np.ascontiguousarray(np.moveaxis(np.clip(shown, 0, 255).astype(np.uint8), 0, -1))
