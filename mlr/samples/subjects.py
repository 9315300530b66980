"""Who is drawn: the traits that all pictures of one subject share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlr.samples.canvas import Array

Colour = tuple[float, float, float]
"""Linear-light red, green, blue; 1 is a white sheet in full light."""


def _paint(r: float, g: float, b: float) -> Colour:
    """Return the linear colour of 8-bit display values (display gamma taken as 2)."""
    return ((r / 255) ** 2, (g / 255) ** 2, (b / 255) ** 2)


SKINS = (
    _paint(246, 211, 193), _paint(238, 193, 166), _paint(224, 172, 140), _paint(203, 147, 110),
    _paint(172, 115, 80), _paint(132, 84, 58), _paint(94, 59, 43),
)  # fmt: skip
HAIRS = {
    "black": _paint(36, 30, 30),
    "espresso": _paint(58, 40, 32),
    "brown": _paint(92, 62, 42),
    "chestnut": _paint(124, 76, 46),
    "fair": _paint(160, 120, 78),
    "blond": _paint(206, 168, 112),
    "red": _paint(158, 78, 40),
    "grey": _paint(118, 114, 112),
    "white": _paint(178, 174, 170),
}
IRISES = {
    "dark": _paint(62, 36, 24),
    "brown": _paint(98, 60, 34),
    "hazel": _paint(122, 96, 54),
    "green": _paint(98, 118, 82),
    "blue": _paint(96, 132, 166),
    "grey": _paint(124, 138, 148),
}
BACKDROPS = (
    _paint(214, 217, 220), _paint(196, 204, 212), _paint(224, 220, 212), _paint(170, 182, 190),
    _paint(188, 198, 186), _paint(206, 192, 184), _paint(140, 150, 164),
)  # fmt: skip
CLOTHES = (
    _paint(40, 44, 56), _paint(70, 92, 128), _paint(150, 60, 58), _paint(226, 224, 220),
    _paint(66, 98, 84), _paint(112, 84, 124), _paint(196, 154, 78), _paint(96, 98, 104),
)  # fmt: skip
STYLES = ("bald", "buzz", "short", "parted", "fringe", "bob", "long", "wavy", "curly", "tied")


@dataclass(frozen=True)
class Subject:
    """Traits of one subject; lengths in face units, strengths from 0 to 1 unless said otherwise."""

    # colours
    skin: Colour
    lips: Colour
    hair: Colour
    iris: Colour
    cloth: Colour
    backdrop: Colour
    # build
    manly: float
    age: float
    width: float  # half width of the head at the cheekbones
    jaw: float  # how much of it is left at the corners of the jaw
    square: float  # squareness of the chin
    chin: float  # y of the chin's tip
    cheekbone: float
    relief: float  # depth of all forms, around 1
    # eyes and brows
    eye_width: float
    lid_upper: float
    lid_lower: float
    tilt: float  # rise of the outer corner
    fold: float  # distance of the lid's fold from the lashes
    lashes: float
    pupil: float
    brow_y: float
    brow_arch: float
    brow_thick: float
    brow_dark: float
    # nose and mouth
    nose_y: float  # y of the nose's tip
    nose_width: float
    nose_high: float
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    bow: float
    # hair, beard, skin, things worn
    style: str
    hairline: float
    part: float
    volume: float
    beard: float
    moustache: float  # also the hair of the chin
    freckles: float
    blush: float
    gloss: float
    glasses: float  # 0 for none, else the half width of a lens
    lens_round: float
    collar: float
    # light of the studio
    light: tuple[float, float, float]
    warmth: float
    fill: float
    exposure: float
    grain: float
    # tables of random numbers from which textures are made
    lattice: Array
    strands: Array
    spots: Array


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _pick(rng: np.random.Generator, names: tuple[str, ...], odds: tuple[float, ...]) -> str:
    cut = np.cumsum(odds) / np.sum(odds)
    return names[min(int(np.searchsorted(cut, rng.random(), side="right")), len(names) - 1)]


def _skin(tone: float) -> Colour:
    """Return the skin colour at ``tone``, 0 (lightest) to 1 (darkest)."""
    at = tone * (len(SKINS) - 1)
    k = min(int(at), len(SKINS) - 2)
    return _mix(SKINS[k], SKINS[k + 1], at - k)


def _hair(rng: np.random.Generator, tone: float, age: float) -> Colour:
    if rng.random() < 0.9 * max(0.0, age - 0.55) * 2:
        return _mix(HAIRS["grey"], HAIRS["white"], float(rng.random()))
    light = max(0.0, 1 - 2.2 * tone)
    names = ("black", "espresso", "brown", "chestnut", "fair", "blond", "red")
    odds = (0.25 + 1.6 * tone, 0.6, 0.1 + 0.7 * light, 0.7 * light, 0.6 * light, 0.7 * light,
            0.3 * light)  # fmt: skip
    base = HAIRS[_pick(rng, names, odds)]
    return _mix(base, HAIRS["brown"], float(rng.uniform(0, 0.25)))


def _iris(rng: np.random.Generator, tone: float) -> Colour:
    light = max(0.0, 1 - 2.2 * tone)
    names = ("dark", "brown", "hazel", "green", "blue", "grey")
    odds = (0.2 + 1.5 * tone, 0.5, 0.4 * light, 0.35 * light, 0.7 * light, 0.3 * light)
    return _mix(IRISES[_pick(rng, names, odds)], IRISES["brown"], float(rng.uniform(0, 0.2)))


def _style(rng: np.random.Generator, manly: float, age: float) -> str:
    if manly > 0.5:
        return _pick(
            rng, STYLES, (0.10 + 0.25 * age, 0.6, 1.3, 0.9, 0.35, 0.05, 0.1, 0.08, 0.35, 0.05)
        )
    return _pick(rng, STYLES, (0.0, 0.08, 0.2, 0.3, 0.4, 0.8, 1.0, 0.9, 0.6, 0.8))


@lru_cache(maxsize=512)
def meet(seed: int, subject: int) -> Subject:
    """Draw the traits of number ``subject`` from the population numbered ``seed``."""
    rng = np.random.default_rng((seed, subject, 106))
    u = rng.uniform

    def n(mean: float, spread: float) -> float:
        # cut at two deviations: nobody may fall apart
        return mean + spread * min(2.0, max(-2.0, float(rng.normal())))

    woman = rng.random() < 0.5
    manly = float(u(0.0, 0.3) if woman else u(0.65, 1.0))
    age = float(u(0, 1) ** 1.4)
    tone = float(rng.random() ** 1.25)
    skin = _skin(tone)
    warm = n(0, 0.04)
    skin = (skin[0] * (1 + 0.4 * warm), skin[1], skin[2] * (1 - warm))
    made_up = float(u(0.3, 1.0)) if woman and rng.random() < 0.45 else 0.0
    lips = _mix(skin, (skin[0] * 0.86, skin[1] * 0.42, skin[2] * 0.44), float(u(0.6, 0.95)))
    lips = _mix(lips, _paint(168, 52, 62), 0.45 * made_up)
    hair = _hair(rng, tone, age)
    iris = _iris(rng, tone)
    style = _style(rng, manly, age)
    bearded = manly > 0.5 and rng.random() < 0.45
    full = float(rng.random())
    beard = float(u(0.18, 0.42)) if full < 0.5 else float(u(0.75, 0.97))
    light_side = float(u(-0.55, 0.55))
    light = np.array([light_side, -float(u(0.35, 0.62)), float(u(0.75, 1.0))])
    light = light / np.sqrt((light * light).sum())
    return Subject(
        skin=skin,
        lips=lips,
        hair=hair,
        iris=iris,
        cloth=CLOTHES[int(rng.integers(len(CLOTHES)))],
        backdrop=_mix(BACKDROPS[int(rng.integers(len(BACKDROPS)))], BACKDROPS[0], float(u(0, 0.5))),
        manly=manly,
        age=age,
        width=n(0.376 + 0.014 * manly, 0.012),
        jaw=n(0.71 + 0.10 * manly, 0.04),
        square=min(1.0, max(0.0, n(0.25 + 0.4 * manly, 0.15))),
        chin=n(0.585 + 0.015 * manly, 0.014),
        cheekbone=n(1.0 - 0.15 * manly, 0.2),
        relief=n(1.0, 0.1),
        eye_width=n(0.0795, 0.0035),
        lid_upper=n(0.0325 - 0.003 * manly, 0.0028),
        lid_lower=n(0.0265, 0.002),
        tilt=n(0.006 - 0.003 * manly, 0.005),
        fold=n(0.017, 0.005),
        lashes=min(1.0, 0.25 + 0.35 * (1 - manly) + 0.4 * made_up),
        pupil=n(0.0125, 0.0016),
        brow_y=n(-0.098 + 0.012 * manly, 0.006),
        brow_arch=n(0.017 - 0.010 * manly, 0.0075),
        brow_thick=n(0.0125 + 0.0055 * manly, 0.0028),
        brow_dark=min(1.0, n(0.72 + 0.13 * manly, 0.1)),
        nose_y=n(0.222, 0.012),
        nose_width=n(0.062 + 0.006 * manly + 0.010 * tone, 0.006),
        nose_high=n(1.0 + 0.08 * manly - 0.12 * tone, 0.1),
        mouth_y=n(0.384, 0.008),
        mouth_width=n(0.132 + 0.006 * manly, 0.007),
        lip_upper=n(0.0265 - 0.005 * manly + 0.006 * tone, 0.003),
        lip_lower=n(0.0365 - 0.005 * manly + 0.006 * tone, 0.0035),
        bow=float(u(0.2, 1.0)),
        style=style,
        hairline=n(-0.292 - 0.022 * manly * age, 0.012),
        part=float(u(-0.2, 0.2)),
        volume=float(u(0, 1)),
        beard=beard if bearded and rng.random() < 0.8 else 0.0,
        moustache=beard if bearded else 0.0,
        freckles=float(u(0.4, 1)) if tone < 0.4 and rng.random() < 0.22 else 0.0,
        blush=float(u(0.3, 1.0)),
        gloss=float(u(0.5, 1.2)),
        glasses=n(0.118, 0.006) if rng.random() < 0.12 else 0.0,
        lens_round=float(u(0, 1)),
        collar=float(u(0, 1)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        warmth=n(0.0, 0.035),
        fill=float(u(0.75, 1.25)),
        exposure=n(1.0, 0.05),
        grain=float(u(0.004, 0.009)),
        lattice=rng.normal(size=(160, 160)).astype(np.float32),
        strands=rng.normal(size=1024).astype(np.float32),
        spots=rng.random((60, 4)).astype(np.float32),
    )
