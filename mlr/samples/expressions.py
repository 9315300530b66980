"""Muscle actions of the seven expressions, and how a subject performs them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np

from mlr.samples.subjects import normal

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
