"""Expressions as muscle actions, and the parts of a face that they move; in face units."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np

from mlr.samples.canvas import EYE_X
from mlr.samples.subjects import Subject, normal

#: Muscle actions; their strengths go from 0 (at rest) to about 1 (strong).
ACTIONS = (
    *("inner_up", "outer_up"),  # inner and outer ends of the brows raised
    *("brow_low", "knit"),  # brows lowered, drawn together
    *("wide", "tight", "droop"),  # upper lids raised, lids narrowed, upper lids lowered
    *("cheek", "nose", "sneer"),  # cheeks raised, nose wrinkled, upper lip raised
    *("smile", "frown"),  # corners of the mouth pulled up and out, pulled down
    *("pout", "stretch"),  # chin pushed up under the lower lip, mouth stretched sideways
    *("press", "part", "jaw"),  # lips pressed together, lips parted, jaw dropped
)

#: Strengths of actions in two manners of each expression. Most subjects clearly have one of them.
MANNERS: dict[str, dict[str, tuple[float, float]]] = {
    "neutral": {},
    "happy": {
        "outer_up": (0, 0.1), "tight": (0.15, 0.1), "cheek": (0.85, 0.75), "smile": (1, 0.95),
        "press": (0, 0.1), "part": (0.95, 0), "jaw": (0.12, 0),
    },
    "sad": {
        "inner_up": (1, 0.85), "knit": (0.55, 0.7), "tight": (0, 0.25), "droop": (0.55, 0.35),
        "frown": (0.95, 1.1), "pout": (0.6, 1),
    },
    "surprised": {
        "inner_up": (0.9, 1), "outer_up": (0.95, 1), "wide": (0.95, 0.85), "part": (0.35, 0.3),
        "jaw": (1, 0.75),
    },
    "angry": {
        "brow_low": (1, 1), "knit": (1, 1), "wide": (0.15, 0.2), "tight": (0.4, 0.3),
        "nose": (0.25, 0.5), "sneer": (0, 0.45), "frown": (0.4, 0.45), "stretch": (0, 0.3),
        "press": (1, 0), "part": (0, 0.7), "jaw": (0, 0.1),
    },
    "afraid": {
        "inner_up": (1, 0.9), "outer_up": (0.35, 0.5), "knit": (0.9, 0.8), "wide": (0.95, 0.9),
        "frown": (0.35, 0.3), "stretch": (0.95, 0.7), "part": (0.75, 0.55), "jaw": (0.22, 0.45),
    },
    "disgusted": {
        "brow_low": (0.7, 0.6), "knit": (0.5, 0.5), "tight": (0.6, 0.5), "cheek": (0.55, 0.5),
        "nose": (1, 0.9), "sneer": (1.1, 0.9), "frown": (0.35, 0.3), "pout": (0.5, 0),
        "part": (0.3, 0.75), "jaw": (0, 0.12),
    },
}  # fmt: skip

EXPRESSIONS: tuple[str, ...] = tuple(MANNERS)


class Shot:
    """How a subject performs an expression, and random differences between images."""

    def __init__(self, seed: int, subject: int, expression: str) -> None:
        rng = np.random.default_rng((seed, subject, 202, EXPRESSIONS.index(expression)))
        n = partial(normal, rng, 0.0)
        t = min(1.0, max(0.0, (float(rng.random()) - 0.62) * 5 + 0.5))  # mostly 0 or 1
        strength = float(rng.uniform(0.84, 1.2))
        values = {}
        for name in ACTIONS:
            a, b = MANNERS[expression].get(name, (0.0, 0.0))
            values[name] = (a + (b - a) * t) * strength * float(rng.uniform(0.82, 1.15))
        # no face is completely relaxed
        for name in ("smile", "frown", "inner_up", "brow_low", "tight", "press"):
            values[name] += max(0.0, n(0.06))
        self.action = SimpleNamespace(**values)
        self.lean = n(0.1)  # how much stronger the actions of the right side are
        self.yaw = n(0.09)  # rotation of the head, roughly in radians
        self.nod = n(0.09)
        self.shift = n(0.0018), n(0.0018)  # error of the alignment
        self.scale = 1.0 + n(0.010), 1.0 + n(0.013)  # error of the alignment, and rotation
        self.hair = n(0.004), n(0.005)  # shift of the hair
        self.light = n(0.07), n(0.06)  # change of the direction of the light
        self.exposure = 1.0 + n(0.045)
        self.warmth = n(0.012)
        self.gaze = n(0.0012), n(0.0008)  # shift of the irises


class Eye:
    """An eye on the left (-1) or right (1) side of the image."""

    def __init__(self, p: Subject, s: Shot, side: int) -> None:
        a = s.action
        k = 1 + side * s.lean * 0.6
        self.side = side
        self.x, self.y = side * EYE_X + s.gaze[0], s.gaze[1]
        self.half = p.eye_width
        # heights of the opening above and below the axis
        upper = p.lid_upper * (1 + 0.36 * a.wide - 0.30 * a.tight - 0.42 * a.droop * k)
        upper *= 1 - 0.16 * a.cheek * k - 0.12 * a.nose - 0.10 * a.brow_low
        self.upper = max(0.012, upper)
        lower = p.lid_lower * (
            1 + 0.14 * a.wide - 0.38 * a.tight - 0.34 * a.cheek * k - 0.2 * a.nose
        )
        self.lower = max(0.008, lower)
        self.tilt = p.tilt - 0.005 * a.droop
        self.fold = max(0.007, p.fold * (1 + 0.25 * a.droop - 0.45 * a.wide - 0.3 * a.brow_low))
        # strengths of the bag under the eye and of crow's feet
        self.bag = 0.25 + 0.5 * p.age + 0.8 * a.cheek * k + 0.4 * a.tight + 0.4 * a.nose
        self.feet = max(0.0, (0.25 + 0.9 * p.age) * a.cheek * k + 0.25 * p.age)


class Brow:
    """A brow: a parabola through three points, as (distance from the axis, y)."""

    def __init__(self, p: Subject, s: Shot, side: int) -> None:
        a, y = s.action, p.brow_y
        k = 1 + side * s.lean
        up = -0.034 * a.inner_up * k
        out = -0.034 * a.outer_up * k
        down = 0.036 * a.brow_low * k
        knit = 0.004 * a.knit * (up == 0)
        self.side = side
        self.inner = 0.078 - 0.017 * a.knit, y + 0.006 + up + down * 1.1 + knit
        self.middle = 0.185 - 0.006 * a.knit, y - p.brow_arch + 0.55 * up + out + 0.75 * down
        self.outer = 0.288, y + 0.017 + 0.75 * out + 0.25 * down - 0.12 * up


class Mouth:
    """Position and shape of the lips; heights are those at the middle of the mouth."""

    def __init__(self, p: Subject, s: Shot) -> None:
        a = s.action
        y = p.mouth_y + 0.05 * s.nod + 0.046 * a.jaw - 0.006 * a.smile - 0.008 * a.pout
        self.x, self.y = 0.07 * s.yaw, y - 0.018 * a.sneer
        wide = 1 + 0.30 * a.smile + 0.17 * a.stretch - 0.20 * a.jaw * (1 - a.stretch)
        self.half = min(p.mouth_width * wide * (1 - 0.05 * a.press - 0.04 * a.frown), 0.182)
        corner = -0.048 * a.smile + 0.027 * a.frown + 0.010 * a.stretch - 0.004 * a.sneer
        # y of the left and right corner, relative to the middle
        self.corners = corner * (1 - s.lean), corner * (1 + s.lean)
        parted = min(1.0, a.part)
        self.open_up = 0.007 * parted + 0.042 * a.jaw + 0.020 * a.sneer * min(1.0, 2 * a.part)
        self.open_down = 0.013 * parted + 0.056 * a.jaw
        self.open_down += 0.016 * a.smile * parted + 0.012 * a.stretch * parted
        self.round = min(1.0, max(0.0, 1.5 * a.jaw - 0.2))  # opening: 0 almond-shaped, 1 oval
        thin = (1 - 0.22 * a.smile) * (1 - 0.42 * min(1.2, a.press)) * (1 - 0.18 * a.stretch)
        self.lip_upper = p.lip_upper * thin * (1 - 0.15 * a.sneer)
        self.lip_lower = p.lip_lower * thin * (1 + 0.15 * a.pout)
        self.sneer, self.press = a.sneer, a.press
        self.teeth_upper = 0.014 + 0.024 * a.smile + 0.014 * a.sneer + 0.012 * a.stretch
        self.teeth_lower = 0.016 * a.stretch + 0.012 * a.sneer + 0.008 * a.brow_low


class Face:
    """The parts of a face; pairs are those of the left and the right side."""

    def __init__(self, p: Subject, s: Shot) -> None:
        a = s.action
        left, right = 1 - s.lean, 1 + s.lean
        self.eyes = Eye(p, s, -1), Eye(p, s, 1)
        self.brows = Brow(p, s, -1), Brow(p, s, 1)
        self.mouth = Mouth(p, s)
        # tip of the nose, half the distance of its wings, and how far they are raised
        self.nose = 0.13 * s.yaw, p.nose_y + 0.07 * s.nod - 0.014 * a.nose - 0.003 * a.smile
        self.ala = p.nose_width * (1 + 0.10 * a.smile + 0.13 * a.nose + 0.04 * a.wide)
        self.flare = 0.010 * a.nose + 0.004 * a.sneer
        raised = a.smile * 0.6 + a.cheek * 0.4
        self.cheek = raised * left, raised * right
        # strength of the folds from nose to mouth
        fold, old = 0.75 * a.smile + 0.9 * a.sneer + 0.25 * a.frown, 0.35 * p.age
        self.folds = old + fold * left, old + fold * right
        self.middle = -0.03 * s.yaw  # x of the outline's middle
        self.chin = p.chin + 0.03 * s.nod + 0.078 * a.jaw + 0.008 * a.smile - 0.008 * a.pout
        self.chin_x = 0.04 * s.yaw
        self.drop = a.jaw
        # strengths of creases
        self.forehead = min(1.2, 0.22 * p.age + (0.25 + 0.5 * p.age) * (a.inner_up + a.outer_up))
        self.frown = min(1.2, 0.15 * p.age + 0.65 * a.knit + 0.35 * a.brow_low)
        self.wrinkle = a.nose
        self.pout = a.pout + 0.4 * a.press
