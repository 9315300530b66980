"""Where everything on a face lies, for one subject in one shot."""

from __future__ import annotations

from dataclasses import dataclass

from mlr.samples.canvas import EYE_X
from mlr.samples.expressions import Shot
from mlr.samples.subjects import Subject


@dataclass(frozen=True)
class Eye:
    """One eye; ``upper`` and ``lower`` are the heights of the opening above and below the axis."""

    side: int  # -1 at the left of the picture, 1 at the right
    x: float
    y: float
    half: float
    upper: float
    lower: float
    tilt: float
    fold: float
    bag: float  # strength of the fold under the eye
    feet: float  # strength of crow's feet
    closed: float  # how much more of the upper lid shows


@dataclass(frozen=True)
class Brow:
    """One brow as a quadratic curve through (x outward, y) of its inner, middle, outer point."""

    side: int
    inner: tuple[float, float]
    middle: tuple[float, float]
    outer: tuple[float, float]


@dataclass(frozen=True)
class Mouth:
    """Lips as functions of X = (x - x0) / half; heights at the middle of the mouth."""

    x: float
    y: float
    half: float
    corners: tuple[float, float]  # y of left and right corner relative to ``y``
    open_up: float
    open_down: float
    round: float  # 0: almond-shaped opening, 1: oval one
    lip_upper: float
    lip_lower: float
    sneer: float
    teeth_upper: float
    teeth_lower: float
    press: float


@dataclass(frozen=True)
class Face:
    """All places and creases of one picture."""

    eyes: tuple[Eye, Eye]
    brows: tuple[Brow, Brow]
    mouth: Mouth
    nose: tuple[float, float]  # tip
    ala: float  # half distance of the wings of the nose
    flare: float  # rise of the wings
    cheek: tuple[float, float]  # raise of left and right cheek
    folds: tuple[float, float]  # strength of the folds from nose to mouth
    middle: float  # x of the outline's middle
    chin: float
    chin_x: float
    drop: float  # how far the jaw hangs, 0 to 1
    forehead: float  # strengths of creases
    frown: float
    wrinkle: float
    pout: float


def _eye(p: Subject, s: Shot, side: int) -> Eye:
    a = s.action
    k = 1 + side * s.lean * 0.6
    upper = p.lid_upper * (1 + 0.36 * a.wide - 0.30 * a.tight - 0.42 * a.droop * k)
    upper *= 1 - 0.16 * a.cheek * k - 0.12 * a.nose - 0.10 * a.brow_low
    lower = p.lid_lower * (1 + 0.14 * a.wide - 0.38 * a.tight - 0.34 * a.cheek * k - 0.2 * a.nose)
    return Eye(
        side=side,
        x=side * EYE_X + s.gaze[0],
        y=s.gaze[1],
        half=p.eye_width,
        upper=max(0.012, upper),
        lower=max(0.008, lower),
        tilt=p.tilt - 0.005 * a.droop,
        fold=max(0.007, p.fold * (1 + 0.25 * a.droop - 0.45 * a.wide - 0.3 * a.brow_low)),
        bag=0.25 + 0.5 * p.age + 0.8 * a.cheek * k + 0.4 * a.tight + 0.4 * a.nose,
        feet=max(0.0, (0.25 + 0.9 * p.age) * a.cheek * k + 0.25 * p.age),
        closed=a.droop,
    )


def _brow(p: Subject, s: Shot, side: int) -> Brow:
    a = s.action
    k = 1 + side * s.lean
    up = -0.034 * a.inner_up * k
    out = -0.034 * a.outer_up * k
    down = 0.036 * a.brow_low * k
    y = p.brow_y
    return Brow(
        side=side,
        inner=(0.078 - 0.017 * a.knit, y + 0.006 + up + down * 1.1 + 0.004 * a.knit * (up == 0)),
        middle=(0.185 - 0.006 * a.knit, y - p.brow_arch + 0.55 * up + out + 0.75 * down),
        outer=(0.288, y + 0.017 + 0.75 * out + 0.25 * down - 0.12 * up),
    )


def _mouth(p: Subject, s: Shot) -> Mouth:
    a = s.action
    y = p.mouth_y + 0.05 * s.nod + 0.046 * a.jaw - 0.006 * a.smile - 0.008 * a.pout
    half = p.mouth_width * (1 + 0.30 * a.smile + 0.17 * a.stretch - 0.20 * a.jaw * (1 - a.stretch))
    half *= 1 - 0.05 * a.press - 0.04 * a.frown
    half = min(half, 0.182)
    corner = -0.048 * a.smile + 0.027 * a.frown + 0.010 * a.stretch - 0.004 * a.sneer
    parted = min(1.0, a.part)
    up = 0.007 * parted + 0.042 * a.jaw + 0.020 * a.sneer * min(1.0, 2 * a.part)
    down = 0.013 * parted + 0.056 * a.jaw
    down += 0.016 * a.smile * parted + 0.012 * a.stretch * parted
    thin = (1 - 0.22 * a.smile) * (1 - 0.42 * min(1.2, a.press)) * (1 - 0.18 * a.stretch)
    return Mouth(
        x=0.07 * s.yaw,
        y=y - 0.018 * a.sneer,
        half=half,
        corners=(corner * (1 - s.lean), corner * (1 + s.lean)),
        open_up=up,
        open_down=down,
        round=min(1.0, max(0.0, 1.5 * a.jaw - 0.2)),
        lip_upper=p.lip_upper * thin * (1 - 0.15 * a.sneer),
        lip_lower=p.lip_lower * thin * (1 + 0.15 * a.pout),
        sneer=a.sneer,
        teeth_upper=0.014 + 0.024 * a.smile + 0.014 * a.sneer + 0.012 * a.stretch,
        teeth_lower=0.016 * a.stretch + 0.012 * a.sneer + 0.008 * a.brow_low,
        press=a.press,
    )


def place(p: Subject, s: Shot) -> Face:
    """Lay out the face of subject ``p`` in shot ``s``."""
    a = s.action
    sides = (1 - s.lean, 1 + s.lean)
    raised = a.smile * 0.6 + a.cheek * 0.4
    old = 0.35 * p.age
    return Face(
        eyes=(_eye(p, s, -1), _eye(p, s, 1)),
        brows=(_brow(p, s, -1), _brow(p, s, 1)),
        mouth=_mouth(p, s),
        nose=(0.13 * s.yaw, p.nose_y + 0.07 * s.nod - 0.014 * a.nose - 0.003 * a.smile),
        ala=p.nose_width * (1 + 0.10 * a.smile + 0.13 * a.nose + 0.04 * a.wide),
        flare=0.010 * a.nose + 0.004 * a.sneer,
        cheek=(raised * sides[0], raised * sides[1]),
        folds=(
            old + (0.75 * a.smile + 0.9 * a.sneer + 0.25 * a.frown) * sides[0],
            old + (0.75 * a.smile + 0.9 * a.sneer + 0.25 * a.frown) * sides[1],
        ),
        middle=-0.03 * s.yaw,
        chin=p.chin + 0.03 * s.nod + 0.078 * a.jaw + 0.008 * a.smile - 0.008 * a.pout,
        chin_x=0.04 * s.yaw,
        drop=a.jaw,
        forehead=min(1.2, 0.22 * p.age + (0.25 + 0.5 * p.age) * (a.inner_up + a.outer_up)),
        frown=min(1.2, 0.15 * p.age + 0.65 * a.knit + 0.35 * a.brow_low),
        wrinkle=a.nose,
        pout=a.pout + 0.4 * a.press,
    )
