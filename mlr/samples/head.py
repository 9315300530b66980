"""The head: outline, height field, skin, creases and lighting."""

from __future__ import annotations

import numpy as np

from mlr.samples.canvas import EYE_X, Array, Grid, Surface, blob, bump, over, power_8, smooth
from mlr.samples.features import Lips
from mlr.samples.subjects import Eye, Face, Shot, Subject
from mlr.samples.textures import blur, noise1, noise2


def outline(g: Grid, p: Subject, f: Face) -> Array:
    """Return a distance measure from the middle of the head that is 1 on its outline."""
    mid_y = 0.06
    v = g.y - mid_y
    low = np.maximum(v, 0) * (1 / (f.chin - mid_y))
    high = np.minimum(v, 0) * (1 / 0.66)
    up2 = high * high
    taper = 1 - (1 - p.jaw) * smooth(np.clip(low, 0, 1.2) - 0.60, 0.80) - 0.03 * up2 * 4
    half = p.width * taper + 0.012 * (f.cheek[0] + f.cheek[1]) * bump((g.y - 0.24) * 6)
    middle = f.middle + (f.chin_x - f.middle) * np.clip(low, 0, 1)
    across = (g.x - middle) / half
    low2, firm = low * low, 0.32 + 0.30 * p.square
    down = low2 * ((1 - firm) + firm * low2)
    return across * across + (down + up2 * (0.55 + 0.45 * up2))


def relief(g: Grid, p: Subject, f: Face, e: Array) -> Array:
    """Return the height field of the skin, without the lips."""
    # flat in front and steep at the outline, as seen from some distance
    inside = np.maximum(1.0 - 0.45 * e - 0.55 * e * e, 0.0)
    h: Array = 0.30 * np.sqrt(inside + 0.004)
    k, (nx, ny), my = p.relief, f.nose, f.mouth.y
    bony = 0.6 + 0.4 * p.manly
    hollow = 1 + 0.9 * p.age + 0.7 * f.drop
    wing = ny + 0.022 - f.flare
    # height, x, y and radii of each bump
    for side, up in zip((-1, 1), f.cheek, strict=True):
        ex, cheek = side * EYE_X, (0.020 * p.cheekbone + 0.022 * up) * k
        cheek_x, cheek_y = side * (0.235 + 0.004 * up), 0.165 - 0.020 * up
        _raise(
            h,
            g,
            (-0.026 * k, ex * 0.93, -0.004, 0.085, 0.052),  # socket of the eye
            (0.020 * k, ex, 0.004, 0.056, 0.044),  # ball of the eye
            (0.018 * k * bony, ex, -0.105, 0.12, 0.035),  # ridge of the brow
            (cheek, cheek_x, cheek_y, 0.085, 0.062 - 0.008 * up),
            (-0.016 * k * hollow, side * 0.245, 0.335 + 0.03 * f.drop, 0.07, 0.10),
            (0.026 * k, nx * 0.8 + side * f.ala * 0.92, wing, 0.024, 0.024),
            (-0.010 * k, nx * 0.5 + side * f.ala * 1.55, wing + 0.006, 0.020, 0.03),
            (-0.012 * k, side * 0.355, -0.12, 0.06, 0.09),  # temple
        )
    _raise(h, g, (0.010 * k, 0.0, -0.24, 0.16, 0.09))  # forehead
    h += _nose(g, p, f)
    chin_y, groove = f.chin - 0.072, my + f.mouth.open_down + f.mouth.lip_lower + 0.030
    _raise(
        h,
        g,
        (0.022 * k, f.mouth.x, my - 0.005, 0.12, 0.085),
        (-0.006 * k, f.mouth.x, (ny + my) / 2 + 0.016, 0.013, 0.035),  # below the nose
        ((0.026 + 0.008 * f.pout) * k, f.chin_x, chin_y, 0.078, 0.050),
        (-(0.010 + 0.006 * f.pout) * k, f.chin_x, groove, 0.075, 0.022),
    )
    if p.square > 0.55:  # a dimple of the chin
        _raise(h, g, (-0.005 * (p.square - 0.55) * 2, f.chin_x, chin_y + 0.01, 0.01, 0.03))
    return h


def _raise(h: Array, g: Grid, *bumps: tuple[float, float, float, float, float]) -> None:
    """Add bumps to a relief: height, x, y, and radii in x and y."""
    for height, *at in bumps:
        h += height * blob(g, *at)


def _nose(g: Grid, p: Subject, f: Face) -> Array:
    """Return the height of the nose: a ridge that rises to the tip and falls off below it."""
    nx, ny = f.nose
    t = (g.y + 0.055) * (1 / (ny + 0.055))
    rise = np.clip(t, 0, 1)
    rise = rise * rise * (1.9 - 0.9 * rise)
    fall = smooth(ny + 0.036 - g.y, 0.062)
    profile = (0.014 * smooth(g.y + 0.09, 0.12) + 0.048 * rise) * fall
    ridge = bump((g.x - nx * rise) / (0.040 + 0.009 * rise)) * profile
    ball = 0.024 * blob(g, nx, ny + 0.004, 0.036, 0.033)
    return (ridge + ball) * (p.relief * p.nose_high)


def _groove(s: Surface, g: Grid, at: Array, window: Array, width: float, depth: float) -> None:
    """Cut a groove where ``at`` is 0; grooves narrower than a pixel become shallower."""
    wide, s = max(width, 0.9 * g.px), s.part(g)
    cut = bump(at * (1 / wide)) * window
    cut *= depth * (width / wide)
    s.height -= cut * width
    s.open *= 1 - np.minimum(0.42 * cut, 0.6)


def creases(s: Surface, g: Grid, p: Subject, f: Face) -> None:
    """Add the creases of expression and age to the skin."""
    for i, side in enumerate((-1, 1)):
        _fold(s, g, f, side, f.folds[i])
        _around_eye(s, g, f.eyes[i])
    if f.forehead > 0.05:
        c = g.crop(-0.24, 0.24, -0.32, -0.12)
        upper_end = smooth(c.y + 0.27, 0.06)  # hair or the top of the skull
        lift = min(b.inner[1] for b in f.brows) - 0.055
        for k in range(3):
            bend = 0.010 * bump(c.x * 7) + 0.004 * noise1(p.strands, c.x * 9 + 31 * k)
            at = c.y - (lift - 0.036 * k) - bend + 0.010
            _groove(s, c, at, bump(c.x * (5.2 + k)) * upper_end, 0.010, 0.55 * f.forehead)
    if f.frown > 0.05:
        c = g.crop(-0.08, 0.08, -0.2, 0.0)
        for side in (-1, 1):
            x = side * (0.027 - 0.004 * f.frown) + side * (c.y + 0.1) * -0.12
            _groove(s, c, c.x - x, bump((c.y + 0.084) * 26), 0.010, 0.5 * f.frown)
    if f.wrinkle > 0.05:
        c = g.crop(-0.09, 0.09, -0.06, 0.16)
        for k in range(3):
            at = c.y - (-0.012 + 0.030 * k) + 3.0 * c.x * c.x
            _groove(s, c, at, bump(c.x * 22), 0.009, 0.75 * f.wrinkle)
        for side in (-1, 1):
            at = side * c.x - 0.046 - (c.y - 0.06) * 0.45
            _groove(s, c, at, bump((c.y - 0.06) * 24), 0.010, 0.35 * f.wrinkle)


def _fold(s: Surface, g: Grid, f: Face, side: int, strength: float) -> None:
    """Add the fold from a wing of the nose around a corner of the mouth."""
    m = f.mouth
    y0, y1 = f.nose[1] - 0.006 - f.flare, m.y + m.corners[side > 0] * 0.6 + 0.055
    x0 = side * f.nose[0] * 0.7 + f.ala * 1.30
    x1 = side * m.x + m.half + 0.036
    c = g.crop(-0.34, 0.34, y0 - 0.03, y1 + 0.05)
    t = (c.y - y0) * (1 / (y1 - y0))
    at = side * c.x - (x0 + (x1 - x0) * t * (1.8 - 0.8 * t))
    ends = smooth(t - 0.16, 0.40) * smooth(0.86 - t, 0.50)
    _groove(s, c, at, ends, 0.020, 0.66 * min(1.2, strength))
    # the cheek bulges above the fold
    s.height[c.box] += 0.014 * min(1.2, strength) * bump((at - 0.042) * 24) * ends


def _around_eye(s: Surface, g: Grid, e: Eye) -> None:
    """Add the bag under an eye and crow's feet."""
    c = g.crop(e.x - 0.14, e.x + 0.14, -0.06, 0.13)
    u = (c.x - e.x) * (1 / e.half)
    low, bow = e.y + e.lower, 0.018 * (1 - 0.8 * u * u)
    _groove(s, c, c.y - (low + 0.008 + bow), bump(u * 1.15), 0.010, 0.40 * e.bag)
    s.height[c.box] += 0.005 * e.bag * bump((c.y - (low + 0.007 + 0.4 * bow)) * 90) * bump(u * 1.3)
    if e.feet > 0.05:
        q = g.crop_side(e.side, 0.255, 0.36, -0.06, 0.09)
        out = e.side * q.x - 0.268
        for k in range(3):
            at = q.y - (0.004 + 0.022 * (k - 0.6) + out * (k - 0.8) * 0.55)
            window = smooth(out - 0.004, 0.02) * smooth(0.062 - out, 0.05)
            _groove(s, q, at, window, 0.008, 0.38 * e.feet)


def skin(g: Grid, p: Subject, f: Face, size: int) -> Array:
    """Return the reflectance of the skin: blush, dark eye sockets, mottling and freckles."""
    red = 0.5 * blob(g, f.nose[0], f.nose[1], 0.05, 0.045)
    red += 0.28 * blob(g, f.chin_x, f.chin - 0.06, 0.08, 0.05)
    for i, side in enumerate((-1, 1)):
        glow = p.blush * (0.62 + 0.2 * f.cheek[i])
        red += glow * blob(g, side * 0.245, 0.165 - 0.015 * f.cheek[i], 0.095, 0.075)
        red += 0.35 * blob(g, side * EYE_X, 0.0, 0.11, 0.06)
    red *= 0.30 * (1.0 - 0.62 * (p.skin[1] < 0.12))
    left, right = (blob(g, x, 0.012, 0.095, 0.055) for x in (-EYE_X, EYE_X))
    mottle = 0.020 * noise2(p.lattice, size, 11) + 0.016 * noise2(p.lattice, size, 47)
    mottle += 0.018 * noise2(p.lattice, size, 140)
    shade = 1.0 + mottle - 0.16 * (left + right)
    a = np.empty((3, size, size), np.float32)
    for c, loss in enumerate((0.10, 0.52, 0.46)):
        a[c] = (shade - loss * red) * p.skin[c]
    if p.freckles:
        _freckles(a, g, p)
    return a


def _freckles(a: Array, g: Grid, p: Subject) -> None:
    brown = tuple(c * k for c, k in zip(p.skin, (0.62, 0.42, 0.32), strict=True))
    for u, v, w, r in p.spots.tolist():
        x = (0.04 + 0.26 * u) * (1 if r > 0.5 else -1)
        y = 0.09 + 0.13 * v - 0.04 * u + 0.03 * w
        size = max(0.004 + 0.003 * w, 0.7 * g.px)
        c = g.crop(x - 3 * size, x + 3 * size, y - 3 * size, y + 3 * size)
        weight = p.freckles * 0.42 * ((0.004 + 0.003 * w) / size) ** 2
        over(c.of(a), weight * blob(c, x, y, size, size), brown)


def light_up(s: Surface, px: float, p: Subject, shot: Shot) -> Array:
    """Return the linear intensities of a surface under key light, ambient light and gloss."""
    h, scale = s.height, 0.5 / px
    gx = scale * np.pad(h[:, 2:] - h[:, :-2], ((0, 0), (1, 1)), "edge")
    gy = scale * np.pad(h[2:] - h[:-2], ((1, 1), (0, 0)), "edge")
    nz = 1 / np.sqrt(gx * gx + gy * gy + 1)
    lx, ly, lz = p.light[0] + shot.light[0], p.light[1] + shot.light[1], p.light[2]
    facing = (lz - gx * lx - gy * ly) * nz
    # hollows receive less ambient light
    ambient = np.clip(1.0 - 9.0 * (blur(h) - h), 0.35, 1.25) * s.open
    ambient *= (0.30 * p.fill) * (0.72 + 0.28 * (gy * nz + nz))
    direct = 0.5 + 0.5 * s.open
    out = np.empty_like(s.albedo)
    # subsurface scattering, strongest in red, makes edges of shadows soft and warm
    warm = p.warmth + shot.warmth
    for c, (wrap, tint) in enumerate(((0.42, 1 + warm), (0.27, 1.0), (0.22, 1 - warm))):
        d = np.maximum((facing + wrap) * (1 / (1 + wrap)), 0.0)
        d *= direct
        out[c] = s.albedo[c] * (d * (0.78 * tint) + ambient)
    # the normal's component halfway between light and viewer
    hz = float(np.sqrt(lx * lx + ly * ly + (lz + 1) ** 2))
    shine = np.maximum((lz + 1 - gx * lx - gy * ly) * nz * (1 / hz), 0.0)
    broad = power_8(shine)
    out += (0.035 * broad + 0.06 * power_8(broad)) * s.gloss * s.open
    return out


def face_layer(g: Grid, p: Subject, f: Face, lips: Lips, e: Array) -> Surface:
    """Return the surface of the face with its lips."""
    gloss = np.full_like(e, 0.55 * p.gloss)
    s = Surface(relief(g, p, f, e), skin(g, p, f, len(e)), np.ones_like(e), gloss)
    tip = 0.6 * blob(g, f.nose[0], f.nose[1] - 0.01, 0.04, 0.05)
    s.gloss += 0.5 * p.gloss * (tip + blob(g, 0.0, -0.2, 0.16, 0.07))  # and forehead
    creases(s, g, p, f)
    lips.model(s, p)
    _cast_shadows(s, g, p, f)
    return s


def _cast_shadows(s: Surface, g: Grid, p: Subject, f: Face) -> None:
    """Darken the shadows of nose, brows and lower lip."""
    (nx, ny), m = f.nose, f.mouth
    s.open *= 1 - 0.34 * blob(g, nx - 0.05 * p.light[0], ny + 0.056, 0.055, 0.020)
    s.open *= 1 - 0.28 * blob(g, m.x, m.y + m.open_down + m.lip_lower + 0.016, 0.075, 0.016)
    for side, eye in zip((-1, 1), f.eyes, strict=True):
        s.open *= 1 - 0.25 * blob(g, side * 0.135, -0.035, 0.06, 0.030)
        s.open *= 1 - 0.10 * blob(g, eye.x, -0.040, 0.09, 0.022)
    nostril_y = ny + 0.038 - 0.5 * f.flare
    c = g.crop(nx - 0.12, nx + 0.12, ny - 0.02, ny + 0.09)
    s = s.part(c)
    for side in (-1, 1):
        x = nx + side * f.ala * 0.52
        hole = blob(c, x, nostril_y, max(0.0155, 0.8 * g.px), max(0.0080, 0.7 * g.px))
        s.open *= 1 - 0.85 * hole
        s.albedo *= 1 - 0.65 * hole
        # crease of the wing of the nose
        bowed = side * (c.x - nx * 0.8) - f.ala * 1.28 + 9.0 * (c.y - ny - 0.018 + f.flare) ** 2
        wing = bump((c.y - ny - 0.020 + f.flare) * 34)
        s.open *= 1 - 0.38 * bump(bowed * 90) * wing
