"""Traits that all images of a subject share."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

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


def _hair(rng: np.random.Generator, tone: float, age: float) -> Colour:
    if rng.random() < 0.9 * max(0.0, age - 0.55) * 2:
        return _mix(HAIRS["grey"], HAIRS["white"], float(rng.random()))
    light = max(0.0, 1 - 2.2 * tone)
    base = _pick(
        rng, black=0.25 + 1.6 * tone, espresso=0.6, brown=0.1 + 0.7 * light, chestnut=0.7 * light,
        fair=0.6 * light, blond=0.7 * light, red=0.3 * light,
    )  # fmt: skip
    return _mix(HAIRS[base], HAIRS["brown"], float(rng.uniform(0, 0.25)))


def _iris(rng: np.random.Generator, tone: float) -> Colour:
    light = max(0.0, 1 - 2.2 * tone)
    base = _pick(
        rng, dark=0.2 + 1.5 * tone, brown=0.5, hazel=0.4 * light, green=0.35 * light,
        blue=0.7 * light, grey=0.3 * light,
    )  # fmt: skip
    return _mix(IRISES[base], IRISES["brown"], float(rng.uniform(0, 0.2)))


def _style(rng: np.random.Generator, manly: float, age: float) -> str:
    if manly > 0.5:
        return _pick(
            rng, bald=0.10 + 0.25 * age, buzz=0.6, short=1.3, parted=0.9, fringe=0.35, bob=0.05,
            long=0.1, wavy=0.08, curly=0.35, tied=0.05,
        )  # fmt: skip
    return _pick(
        rng, bald=0.0, buzz=0.08, short=0.2, parted=0.3, fringe=0.4, bob=0.8, long=1.0, wavy=0.9,
        curly=0.6, tied=0.8,
    )  # fmt: skip


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
        self.hair = _hair(rng, tone, age)
        self.iris = _iris(rng, tone)
        self.style = _style(rng, manly, age)
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
