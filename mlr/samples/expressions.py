"""What a face does: muscle actions of seven expressions, and how a subject performs them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from mlr.samples.subjects import normal


@dataclass(frozen=True)
class Action:
    """Strengths of muscle actions, 0 (at rest) to about 1 (strong)."""

    inner_up: float = 0.0  # inner ends of the brows raised
    outer_up: float = 0.0  # outer ends of the brows raised
    brow_low: float = 0.0  # brows lowered
    knit: float = 0.0  # brows drawn together
    wide: float = 0.0  # upper lids raised
    tight: float = 0.0  # lids narrowed
    droop: float = 0.0  # upper lids sunk
    cheek: float = 0.0  # cheeks raised
    nose: float = 0.0  # nose wrinkled
    sneer: float = 0.0  # upper lip raised
    smile: float = 0.0  # corners of the mouth pulled up and out
    frown: float = 0.0  # corners of the mouth pulled down
    pout: float = 0.0  # chin pushed up under the lower lip
    stretch: float = 0.0  # mouth stretched sideways
    press: float = 0.0  # lips pressed together
    part: float = 0.0  # lips parted
    jaw: float = 0.0  # jaw dropped


# Two manners for each expression; a subject has one of them, or something between.
MANNERS: dict[str, tuple[Action, Action]] = {
    "neutral": (Action(), Action()),
    "happy": (
        Action(cheek=0.85, smile=1.0, tight=0.15, part=0.95, jaw=0.12),
        Action(cheek=0.75, smile=0.95, tight=0.1, part=0.0, press=0.1, outer_up=0.1),
    ),
    "sad": (
        Action(inner_up=1.0, knit=0.55, droop=0.55, frown=0.95, pout=0.6),
        Action(inner_up=0.85, knit=0.7, droop=0.35, frown=1.1, pout=1.0, tight=0.25),
    ),
    "surprised": (
        Action(inner_up=0.9, outer_up=0.95, wide=0.95, jaw=1.0, part=0.35),
        Action(inner_up=1.0, outer_up=1.0, wide=0.85, jaw=0.75, part=0.3),
    ),
    "angry": (
        Action(brow_low=1.0, knit=1.0, tight=0.4, wide=0.15, press=1.0, frown=0.4, nose=0.25),
        Action(brow_low=1.0, knit=1.0, tight=0.3, wide=0.2, part=0.7, sneer=0.45, stretch=0.3,
               frown=0.45, nose=0.5, jaw=0.1),
    ),
    "afraid": (
        Action(inner_up=1.0, outer_up=0.35, knit=0.9, wide=0.95, stretch=0.95, part=0.75,
               frown=0.35, jaw=0.22),
        Action(inner_up=0.9, outer_up=0.5, knit=0.8, wide=0.9, stretch=0.7, part=0.55, frown=0.3,
               jaw=0.45),
    ),
    "disgusted": (
        Action(nose=1.0, sneer=1.1, brow_low=0.7, knit=0.5, cheek=0.55, tight=0.6, frown=0.35,
               part=0.3, pout=0.5),
        Action(nose=0.9, sneer=0.9, brow_low=0.6, knit=0.5, cheek=0.5, tight=0.5, frown=0.3,
               part=0.75, jaw=0.12),
    ),
}  # fmt: skip

EXPRESSIONS: tuple[str, ...] = tuple(MANNERS)
"""Names of the expressions that can be drawn; the first is the face at rest."""


class Shot:
    """One picture: how a subject shows an expression, and what differs from picture to picture."""

    def __init__(self, seed: int, subject: int, expression: str) -> None:
        rng = np.random.default_rng((seed, subject, 202, EXPRESSIONS.index(expression)))
        n = partial(normal, rng, 0.0)
        first, second = MANNERS[expression]
        # most subjects clearly have one manner: t is near 0 or near 1
        t = float(rng.random())
        t = min(1.0, max(0.0, (t - 0.62) * 5 + 0.5))
        strength = float(rng.uniform(0.84, 1.2))
        values = {}
        for f in fields(Action):
            a, b = getattr(first, f.name), getattr(second, f.name)
            values[f.name] = (a + (b - a) * t) * strength * float(rng.uniform(0.82, 1.15))
        # a resting face is never quite at rest
        for name in ("smile", "frown", "inner_up", "brow_low", "tight", "press"):
            values[name] += max(0.0, n(0.06))
        self.action = Action(**values)
        self.lean = n(0.1)  # how much stronger the right-hand side of the picture acts
        self.yaw = n(0.09)  # turn of the head, in radians or so
        self.nod = n(0.09)
        self.shift = n(0.0018), n(0.0018)  # error of the alignment
        # error of the size, which the turned head also changes
        self.scale = 1.0 + n(0.010), 1.0 + n(0.013)
        self.hair = n(0.004), n(0.005)  # how the hair has moved
        self.light = n(0.07), n(0.06)  # change of the light's direction
        self.exposure = 1.0 + n(0.045)
        self.warmth = n(0.012)
        self.gaze = n(0.0012), n(0.0008)  # shift of the irises
