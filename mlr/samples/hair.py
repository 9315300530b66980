"""Hair and beards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlr.samples.canvas import Array, Grid, Surface, blob, bump, layer, over, smooth
from mlr.samples.subjects import Face, Subject
from mlr.samples.textures import fade, noise1, noise2


@dataclass(frozen=True)
class Cut:
    """The shape of a hair style."""

    wide: float  # thickness at the sides
    end: float  # y of the tips
    temple: float  # half the width of the visible face
    drop: float  # length below the hairline on the forehead
    slope: float  # slant of the fringe
    cover: float  # opacity
    curl: float  # 0 straight, 1 curls
    wave: float


_CUTS = {
    "bald": Cut(0.0, 0.05, 0.375, -0.2, 0.0, 0.0, 0.0, 0.0),
    "buzz": Cut(0.004, 0.04, 0.362, 0.0, 0.0, 0.72, 0.2, 0.0),
    "short": Cut(0.020, 0.05, 0.362, 0.01, 0.12, 0.97, 0.1, 0.2),
    "parted": Cut(0.030, 0.05, 0.358, 0.03, 0.35, 0.98, 0.0, 0.3),
    "fringe": Cut(0.035, 0.07, 0.352, 0.115, 0.10, 0.98, 0.0, 0.2),
    "bob": Cut(0.075, 0.47, 0.352, 0.06, 0.25, 1.0, 0.0, 0.2),
    "long": Cut(0.065, 1.5, 0.356, 0.0, 0.15, 1.0, 0.0, 0.3),
    "wavy": Cut(0.10, 1.5, 0.352, 0.03, 0.25, 1.0, 0.15, 1.0),
    "curly": Cut(0.13, 0.30, 0.352, 0.03, 0.0, 0.98, 1.0, 0.6),
    "tied": Cut(0.008, 0.02, 0.366, -0.01, 0.0, 0.98, 0.0, 0.0),
}


class Hair:
    """Masks and colour of a subject's hair, equal in all images of the subject."""

    def __init__(self, g: Grid, p: Subject, size: int) -> None:
        self.cut, self.p, self.size = _CUTS[p.style], p, size
        end, fuzz = self.cut.end, self.cut.curl * 0.5 + 0.1
        self.g = g = g.crop(-1.0, 1.0, -1.0, end + 0.12) if end < 0.2 else g
        rough = g.of(noise2(p.lattice, size, 23)) * fuzz
        rough += 0.35 * g.of(noise2(p.lattice[::-1], size, 61)) * fuzz
        # coordinate across the strands, which radiate from above the parting
        self.along = (g.x - p.part * 0.8) / (g.y + 1.0)
        self.back = self._outer(rough)
        self.e, self.front = self._opening(rough)
        self.colour = self._colour()

    def _outer(self, rough: Array) -> Array:
        """Return the mask of the whole head of hair, behind the face."""
        g, c, p = self.g, self.cut, self.p
        wide = p.width + c.wide * (0.6 + 0.8 * p.volume)
        v = np.minimum(g.y - 0.05, 0) * (1 / 0.68)
        half = wide * np.sqrt(np.maximum(1 - v * v, 0.02))
        if c.end > 0.2:
            half = half + 0.05 * np.clip(g.y - 0.05, 0, 0.5) * (1 + c.wave)
        half = half + 0.012 * c.wave * noise1(p.strands, g.y * 9 + 200)
        if c.end < 0.6 and c.end > 0.2:
            half = half * (1 - 0.9 * np.maximum(g.y - c.end + 0.1, 0) ** 2 * 8)
        d = half - np.abs(g.x) + 0.03 * rough
        soft = max(0.012 + 0.02 * c.curl, 1.5 * g.px)
        return smooth(d, soft) * smooth(c.end + 0.02 * rough - g.y, 0.06)

    def _opening(self, rough: Array) -> tuple[Array, Array]:
        """Return a distance measure that is 1 at the edge of the face, and the hair around it."""
        g, c, p, mid = self.g, self.cut, self.p, 0.02
        slant = (g.x - p.part) * c.slope
        line: Array = np.full_like(g.x, p.hairline + c.drop)
        if c.slope > 0.05:
            # hair falls to both sides of the parting
            line = line + np.minimum(np.sqrt(slant * slant + 0.0004), 0.09) - 0.03
        recede = 0.10 * p.manly * p.age * bump((np.abs(g.x) - 0.2) * 8)
        line = line - recede - 0.012 * bump(g.x * 9) * (c.drop <= 0)
        strands = 0.6 * noise1(p.strands, self.along * 30 + 900)
        strands += 0.35 * fade(1 / 110, g.px) * noise1(p.strands, self.along * 110 + 40)
        line = line + (0.008 + 0.05 * max(c.drop, 0)) * strands
        tall = np.maximum(mid - line, 0.05)
        up = np.minimum(g.y - mid, 0) / tall
        half = c.temple * (p.width / 0.395)
        if c.end > 0.2:
            spread = 0.10 * np.maximum(g.y - mid, 0)
        else:
            spread = 0.035 * smooth(g.y - c.end + 0.05, 0.14)
        wave = 0.008 * c.wave * noise1(p.strands, g.y * 7 + 55)
        across = g.x / (half + spread + wave)
        a2, u2 = across * across, up * up
        # squarer than an ellipse
        e = (a2 * a2 + u2 * u2 + 0.3 * a2 * u2) + 0.10 * rough * c.curl
        soft = max(0.2 if p.style == "buzz" else 0.13, 8 * g.px)
        front = smooth(e - 1.0, soft * 2) * self.back * c.cover
        if c.end < 0.2:
            front *= smooth(c.end + 0.02 * rough - g.y, 0.10)
        return e, front

    def _colour(self) -> Array:
        g, c, p, s = self.g, self.cut, self.p, self.along
        if c.wave:
            s = s + 0.012 * c.wave * noise1(p.strands, (g.y + 0.3 * np.abs(g.x)) * 11 + 420)
        lock = noise1(p.strands, s * 34 + 100)
        strand = fade(1 / 120, g.px) * noise1(p.strands, s * 120 + 600)
        if g.px < 1 / 260:
            strand += 0.7 * fade(1 / 260, g.px) * noise1(p.strands, s * 260)
        straight = 0.10 * lock + 0.07 * noise1(p.strands, s * 75 + 350) + 0.11 * strand
        if c.curl > 0.05:
            # the absolute value of noise has sharp dark valleys, like gaps between ringlets
            curls = 0.34 * np.minimum(np.abs(g.of(noise2(p.lattice[::-1], self.size, 26))), 1.4)
            curls += 0.16 * np.abs(g.of(noise2(p.lattice, self.size, 58))) - 0.30
            straight = straight * (1 - c.curl) + curls * c.curl
        # sheen where the hair faces the light, broken up by locks
        lx, ly, _ = p.light
        up = bump((g.y + 0.30 + 0.4 * g.x * g.x) * 8) + 0.55 * bump((g.y - 0.12) * 5)
        sheen = up * (1 + 0.9 * lx * np.sign(g.x) * np.minimum(np.abs(g.x) * 4, 1))
        level = (0.62 - 0.25 * ly) + straight + 0.55 * sheen * np.clip(0.5 + 0.6 * lock, 0, 1.4)
        level -= 0.25 * smooth(g.y - 0.30, 0.5)
        level = np.maximum(level, 0.12)
        return layer(p.hair) * level + 0.018 * np.maximum(level - 0.8, 0)

    def draw_back(self, image: Array) -> None:
        """Paint the hair behind the head, in its own shadow."""
        if self.cut.cover > 0.9:
            over(self.g.of(image), self.back, self.colour * 0.55)

    def shadow(self, open_: Array) -> None:
        """Darken the skin next to the hair."""
        if self.cut.cover > 0.9:
            open_[self.g.box] *= 1 - 0.34 * smooth(self.e - 0.78, 0.5) * self.back

    def draw_front(self, image: Array, head: Array) -> None:
        """Paint the hair in front of the head, given the mask of the head."""
        if self.cut.cover:
            # very short hair does not extend beyond the head
            mask = self.front if self.cut.cover > 0.9 else self.front * head[self.g.box]
            over(self.g.of(image), mask, self.colour)


def draw_beard(s: Surface, g: Grid, p: Subject, f: Face, size: int) -> None:
    """Colour the skin with stubble or a beard."""
    if max(p.beard, p.moustache) == 0.0:
        return
    m = f.mouth
    rough = noise2(p.lattice, size, 30)
    mask = np.zeros_like(s.height)
    if p.beard:
        ax, ay = g.x * (1 / 0.345), (g.y - 0.06) * (1 / (m.y - 0.06 + 0.05))
        d = ax * ax * (0.75 + 0.25 * ax * ax) + ay * ay - 1.0 + 0.05 * rough
        mask = p.beard * smooth(d, 0.42) * smooth(g.y - 0.04, 0.12)
    lip, base = m.y - m.open_up - m.lip_upper, f.nose[1] + 0.042
    # as wide as the mouth, lower at its corners, thin under the nose
    out = np.abs(g.x - m.x)
    middle = (lip + base) / 2
    bow = 0.012 + 1.5 * out * out
    stache = bump((g.y - middle - bow) * (1 / max(0.013, (lip - base) * 0.52)))
    stache = stache * smooth(m.half * 1.02 - out, 0.07)
    stache *= 1 - 0.55 * bump(out * 36)
    chin = blob(g, f.chin_x, f.chin - 0.055, 0.105, 0.062)
    chin = np.maximum(chin, 0.8 * blob(g, m.x, m.y + m.open_down + m.lip_lower + 0.03, 0.03, 0.03))
    for side in (-1, 1):
        x = side * (m.half + 0.030)
        chin = np.maximum(chin, 0.85 * blob(g, x, m.y + 0.05, 0.035, 0.09))
    mask = np.maximum(mask, p.moustache * np.minimum(1.2 * stache, 1.0))
    mask = np.maximum(mask, p.moustache * np.minimum(1.25 * chin, 1.0))
    long = p.moustache > 0.6
    grain = noise2(p.lattice[:, ::-1], size, 42 if long else 120, 130)
    grain += 0.6 * noise2(p.lattice[::-1], size, 70 if long else 150, 156)
    mask *= np.clip(0.95 + 0.085 * grain, 0.3, 1.05)
    tint = layer(p.hair) * (0.85 + 0.12 * grain) + 0.05 * layer(p.skin)
    over(s.albedo, np.minimum(mask, 0.97), tint)
    s.gloss *= 1 - 0.85 * np.minimum(mask, 1.0)
    if long:
        s.height += 0.006 * mask + 0.0004 * mask * grain
