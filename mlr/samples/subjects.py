"""Traits of subjects, expressions as muscle actions, and the parts of the face that these move.

Lengths are in face units, see `mlr.samples.canvas`.
"""

from __future__ import annotations

from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np

from mlr.samples.canvas import EYE_X

Colour = tuple[float, float, float]  # linear reflectance of red, green and blue


def _linear(code: str) -> Colour:
    """Return the linear colour of a hexadecimal one with a gamma of 2."""
    r, g, b = bytes.fromhex(code)
    return ((r / 255) ** 2, (g / 255) ** 2, (b / 255) ** 2)


def _palette(**codes: str) -> dict[str, Colour]:
    return {name: _linear(code) for name, code in codes.items()}


SKINS = [*map(_linear, ("f6d3c1", "eec1a6", "e0ac8c", "cb936e", "ac7350", "84543a", "5e3b2b"))]
HAIRS = _palette(
    black="241e1e", espresso="3a2820", brown="5c3e2a", chestnut="7c4c2e", fair="a0784e",
    blond="cea870", red="9e4e28", grey="767270", white="b2aeaa",
)  # fmt: skip
IRISES = _palette(
    dark="3e2418", brown="623c22", hazel="7a6036", green="627652", blue="6084a6", grey="7c8a94"
)
#: Odds of hair styles for women and for men.
STYLES = {
    "bald": (0.0, 0.10), "buzz": (0.08, 0.6), "short": (0.2, 1.3), "parted": (0.3, 0.9),
    "fringe": (0.4, 0.35), "bob": (0.8, 0.05), "long": (1.0, 0.1), "wavy": (0.9, 0.08),
    "curly": (0.6, 0.35), "tied": (0.8, 0.05),
}  # fmt: skip
BACKDROPS = [*map(_linear, ("d6d9dc", "c4ccd4", "e0dcd4", "aab6be", "bcc6ba", "cec0b8", "8c96a4"))]
CLOTHES = [*map(_linear, ("282c38", "465c80", "963c3a", "e2e0dc"))]
CLOTHES += map(_linear, ("426254", "70547c", "c49a4e", "606268"))


def normal(rng: np.random.Generator, mean: float, spread: float) -> float:
    """Draw from a normal distribution, clipped at two standard deviations."""
    return mean + spread * min(2.0, max(-2.0, float(rng.normal())))


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _pick(rng: np.random.Generator, **odds: float) -> str:
    """Draw a name, with probability proportional to its odds."""
    names, values = list(odds), list(odds.values())
    cut = np.cumsum(values) / np.sum(values)
    return names[min(int(np.searchsorted(cut, rng.random(), side="right")), len(names) - 1)]


def _blend(
    rng: np.random.Generator, colours: dict[str, Colour], most: float, **odds: float
) -> Colour:
    """Draw a colour and mix it with up to ``most`` of brown."""
    return _mix(colours[_pick(rng, **odds)], colours["brown"], float(rng.uniform(0, most)))


class Subject:
    """Traits of one subject; lengths in face units, strengths from 0 to 1."""

    def __init__(self, seed: int, number: int) -> None:
        rng = np.random.default_rng((seed, number, 106))
        n = partial(normal, rng)

        def u(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        woman = rng.random() < 0.5
        self.manly = manly = u(0.0, 0.3) if woman else u(0.65, 1.0)
        self.age = age = float(rng.uniform(0, 1) ** 1.4)
        tone = float(rng.random() ** 1.25)  # of the skin: 0 lightest, 1 darkest
        at = tone * (len(SKINS) - 1)
        k = min(int(at), len(SKINS) - 2)
        skin = _mix(SKINS[k], SKINS[k + 1], at - k)
        warm = n(0, 0.04)
        # colours
        self.skin = skin = skin[0] * (1 + 0.4 * warm), skin[1], skin[2] * (1 - warm)
        makeup = u(0.3, 1.0) if woman and rng.random() < 0.45 else 0.0
        lips = _mix(skin, (skin[0] * 0.86, skin[1] * 0.42, skin[2] * 0.44), u(0.6, 0.95))
        self.lips = _mix(lips, _linear("a8343e"), 0.45 * makeup)
        fair = max(0.0, 1 - 2.2 * tone)
        if rng.random() < 0.9 * max(0.0, age - 0.55) * 2:
            self.hair = _mix(HAIRS["grey"], HAIRS["white"], float(rng.random()))
        else:
            self.hair = _blend(
                rng, HAIRS, 0.25, black=0.25 + 1.6 * tone, espresso=0.6, brown=0.1 + 0.7 * fair,
                chestnut=0.7 * fair, fair=0.6 * fair, blond=0.7 * fair, red=0.3 * fair,
            )  # fmt: skip
        self.iris = _blend(
            rng, IRISES, 0.2, dark=0.2 + 1.5 * tone, brown=0.5, hazel=0.4 * fair,
            green=0.35 * fair, blue=0.7 * fair, grey=0.3 * fair,
        )  # fmt: skip
        styles = {name: odds[manly > 0.5] for name, odds in STYLES.items()}
        styles["bald"] += 0.25 * age * (manly > 0.5)
        self.style = _pick(rng, **styles)
        bearded = manly > 0.5 and rng.random() < 0.45
        full = float(rng.random())
        beard = u(0.18, 0.42) if full < 0.5 else u(0.75, 0.97)
        light = np.array([u(-0.55, 0.55), -u(0.35, 0.62), u(0.75, 1.0)])
        x, y, z = (light / np.sqrt((light * light).sum())).tolist()
        self.light = x, y, z  # direction of the key light
        self.cloth = CLOTHES[int(rng.integers(len(CLOTHES)))]
        backdrop = BACKDROPS[int(rng.integers(len(BACKDROPS)))]
        self.backdrop = _mix(backdrop, BACKDROPS[0], u(0, 0.5))
        # build
        self.width = n(0.376 + 0.014 * manly, 0.012)  # half width of the head at the cheekbones
        self.jaw = n(0.71 + 0.10 * manly, 0.04)  # width at the corners of the jaw, as a share
        self.square = min(1.0, max(0.0, n(0.25 + 0.4 * manly, 0.15)))  # of the chin
        self.chin = n(0.585 + 0.015 * manly, 0.014)  # y of its tip
        self.cheekbone = n(1.0 - 0.15 * manly, 0.2)
        self.relief = n(1.0, 0.1)  # scale of depths
        # eyes and brows
        self.eye_width = n(0.0795, 0.0035)
        self.lid_upper = n(0.0325 - 0.003 * manly, 0.0028)
        self.lid_lower = n(0.0265, 0.002)
        self.tilt = n(0.006 - 0.003 * manly, 0.005)  # rise of the outer corner
        self.fold = n(0.017, 0.005)  # distance between lashes and the fold of the lid
        self.lashes = min(1.0, 0.25 + 0.35 * (1 - manly) + 0.4 * makeup)
        self.pupil = n(0.0125, 0.0016)
        self.brow_y = n(-0.098 + 0.012 * manly, 0.006)
        self.brow_arch = n(0.017 - 0.010 * manly, 0.0075)
        self.brow_thick = n(0.0125 + 0.0055 * manly, 0.0028)
        self.brow_dark = min(1.0, n(0.72 + 0.13 * manly, 0.1))
        # nose and mouth
        self.nose_y = n(0.222, 0.012)  # of its tip
        self.nose_width = n(0.062 + 0.006 * manly + 0.010 * tone, 0.006)
        self.nose_high = n(1.0 + 0.08 * manly - 0.12 * tone, 0.1)
        self.mouth_y = n(0.384, 0.008)
        self.mouth_width = n(0.132 + 0.006 * manly, 0.007)
        self.lip_upper = n(0.0265 - 0.005 * manly + 0.006 * tone, 0.003)
        self.lip_lower = n(0.0365 - 0.005 * manly + 0.006 * tone, 0.0035)
        self.bow = u(0.2, 1.0)
        # hair, beard, skin, glasses, clothes
        self.hairline = n(-0.292 - 0.022 * manly * age, 0.012)
        self.part = u(-0.2, 0.2)
        self.volume = u(0, 1)
        self.beard = beard if bearded and rng.random() < 0.8 else 0.0
        self.moustache = beard if bearded else 0.0  # and goatee
        self.freckles = u(0.4, 1) if tone < 0.4 and rng.random() < 0.22 else 0.0
        self.blush = u(0.3, 1.0)
        self.gloss = u(0.5, 1.2)
        self.glasses = n(0.118, 0.006) if rng.random() < 0.12 else 0.0  # half width of a lens
        self.lens_round = u(0, 1)
        self.collar = u(0, 1)
        # studio and camera
        self.warmth = n(0.0, 0.035)
        self.fill = u(0.75, 1.25)
        self.exposure = n(1.0, 0.05)
        self.grain = u(0.004, 0.009)
        # random numbers for textures
        self.lattice = rng.normal(size=(160, 160)).astype(np.float32)
        self.strands = rng.normal(size=1024).astype(np.float32)
        self.spots = rng.random((60, 4)).astype(np.float32)


@lru_cache(maxsize=512)
def subject_of(seed: int, number: int) -> Subject:
    """Return a subject by its number in the population of a seed."""
    return Subject(seed, number)


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
    """Muscle actions of a subject in an image, and random differences between images."""

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
    """Position and shape of the lips; heights are at the middle of the mouth."""

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
    """The parts of a face; pairs are (left, right)."""

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
