"""Motion and change of a face, from its registration and the appearances of expressions.

With u the field that registers the face to the template of the sources, and for each expression m
its motion, d1 its shape by style, b and c its residuals, s the style and k the amount:

    W = m + u(p + m)                          from the frame to the face
    M = k mask (m - s d1)                     motion in the frame
    D = k mask (ridge(x~) - x~ + l h b + (s - s_0) (e h c - share x~)),     x~ = x(p + W)

where l is the light on the face and e the light on its teeth, both times the light from the sides,
and h is the colour of the light. The mask is the frame's, times the trust in the fit, see
`mlr.core.registration.search`, and the regions to change. With P = invert(W), the motions of all
expressions add up to N(y) = sum M(y + P(y)) on the face. With n the solution of n(q) = N(q + n(q)),

    output(q) = x(q + n) + sum D(q + n + P(q + n))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.registration.features import Features, features_of
from mlr.core.registration.fields import (
    INVERSIONS,
    compose,
    enlarged,
    invert,
    look_up,
    resize_field,
    warp,
)
from mlr.core.registration.geometry import Geometry, mask_of
from mlr.core.registration.register import Template
from mlr.core.registration.search import STYLES, Candidate, Fit, Search
from mlr.core.registration.templates import (
    LIGHTS,
    eye_whites_of,
    light_of,
    light_on_teeth,
    side_light,
)

Floats = npt.NDArray[np.float32]
Ridge = Callable[[str, Floats], Floats]  # an expression's regression of an image in its frame

HUES = (0.4, 1.5)  # bounds of each channel of the colour of the light
DARK = 0.4  # brightness that a face lacks for the whole of `Appearance.tint`
TEETH = (0.15, 0.35)  # bounds of the share of the face that is replaced: skin and teeth
LOST = 0.1  # loss of fit from one video frame to the next at which a face is searched again
OPENING = 0.4  # strength above which the style follows the strength


@dataclass(frozen=True, eq=False)
class Appearance:
    """The learnt appearance of an expression, in its frame.

    Arrays are float32 unless noted. "Half" is the size of fields.
    """

    template: Floats  #: (half height, half width, 2), mean features of the targets
    variation: Floats  #: (half height, half width, 2), their change with the style
    motion: Floats  #: (2, half height, half width), motion m of the mean face, in half-size pixels
    shape: Floats  #: (2, half height, half width), d1: the change of the shape with the style
    #: (channels, height, width), mean residual b of the ridge, for a face as bright as the mean
    mean: Floats
    spread: Floats  #: (channels, height, width), c: its change with the style
    share: Floats  #: (height, width), share of the face that is subtracted for each unit of style
    face: npt.NDArray[np.uint8]  #: uint8, (channels, height, width), mean face of the sources
    light: float  #: mean brightness of the sources, in [0, 1]
    style: float  #: default style
    other: float  #: style that weak strengths begin with
    plain: float  #: s_0, the style from which c counts
    explained: float  #: share of the variation that the style explains; 0 if there is no style

    @property
    def styled(self) -> bool:
        """Whether there is a style."""
        return self.explained > 0

    @property
    def groups(self) -> tuple[float, float] | None:
        """Centres of two groups of styles, that with more change last; None if there is one."""
        return (self.other, self.style) if self.styled and self.style != self.other else None

    def tint(self, image: Floats, spread: Floats, hue: Floats) -> Floats:
        """Return the change, for each unit of style, that removes the skin's colour from teeth.

        A part of the face shines through the teeth; very dark skin lacks red, so that they would
        look green. At the default style they get the colour of the mean face's teeth, halfway to
        grey, times the light's colour ``hue``, (channels, 1, 1); their brightness stays.
        ``image`` is the face in the frame at s_0, and ``spread`` its change for each unit of style.
        """
        units = np.float32(self.style - self.plain)
        if units <= 0:
            return np.zeros_like(spread)
        usual, teeth = self.teeth
        usual = hue * usual
        found = image + units * spread
        wanted = usual * (found.mean(axis=0) / np.maximum(usual.mean(axis=0), np.float32(0.1)))
        return np.asarray(teeth * (wanted - found) / units)

    @property
    def teeth(self) -> tuple[Floats, Floats]:
        """The mean face's colour at the default style, halfway to grey, and the share of teeth."""
        units = np.float32(self.style - self.plain)
        face = self.face * np.float32(1 / 255)
        usual = face + self.mean + units * (self.spread - self.share * face)
        teeth = np.clip((units * self.share - TEETH[0]) / (TEETH[1] - TEETH[0]), 0, 1)
        return usual + usual.mean(axis=0), teeth

    def summary(self) -> dict[str, Any] | None:
        """Return a description of the style, ready for JSON; None if there is none."""
        if not self.styled:
            return None
        groups = None if self.groups is None else list(self.groups)
        return {"explained": self.explained, "groups": groups, "default": self.style}

    def style_at(self, strength: float, style: float | None) -> float:
        """Return the style for a strength: the given one, or the default, which depends on it."""
        if style is not None:
            return style
        share = min(max((strength - OPENING) / (1 - OPENING), 0.0), 1.0)
        return self.other + (self.style - self.other) * share


@dataclass(frozen=True, eq=False)
class Registration:
    """A registered face."""

    image: Floats  #: float32, (channels, height, width), in [0, 1]
    features: Features  #: of the image
    fit: Fit  #: its field is u
    #: float32, (half height, half width), light from the sides, in the sources' frame, of mean 1
    light: Floats


@dataclass(frozen=True, eq=False)
class Part:
    """The change of a face by one expression, in its frame; arrays are float32."""

    appearance: Appearance  #: of the expression
    share: float  #: of the expression in the mix
    style: float | None  #: None for the default
    back: Floats  #: (2, half height, half width), P, from the face to the frame
    mask: Floats  #: (half height, half width), share of the motion for each pixel of the frame
    added: Floats  #: (channels, height, width), what is added in the frame for style 0
    spread: Floats  #: (channels, height, width), what is added for each unit of style

    def style_at(self, strength: float) -> np.float32:
        """Return the style for a strength of the mix."""
        return np.float32(self.appearance.style_at(strength * self.share, self.style))


@dataclass(frozen=True, eq=False)
class Change:
    """The change of an image: output(q) = x(q + motion(q)) + added(q)."""

    motion: Floats  #: float32, (2, height, width), (dy, dx) in pixels; 0 where nothing moves
    added: Floats  #: float32, (channels, height, width), in intensities

    def faded(self, share: Floats) -> Change:
        """Return the change times a share (height, width)."""
        return Change(self.motion * share, self.added * share)

    def applied(self, image: Floats) -> Floats:
        """Return the changed image (channels, height, width); where nothing moves, x + added."""
        still = ~(self.motion[0].astype(bool) | self.motion[1].astype(bool))
        output = warp(image, self.motion) if not still.all() else image.copy()
        output[:, still] = image[:, still]
        output += self.added
        return output


@dataclass(frozen=True, eq=False)
class Registered:
    """The part of a model that registers faces and adds to the ridge."""

    geometry: Geometry  #: of the images
    source: Floats  #: float32, (half height, half width, 2), template of the sources
    eye_white: float  #: mean brightness of the whites of the sources' eyes, in [0, 1]
    appearances: dict[str, Appearance]  #: of each expression

    @cached_property
    def search(self) -> Search:
        """The search for faces, neutral or with an expression."""
        candidates = [Candidate(Template(self.geometry, self.source))]
        for name, each in self.appearances.items():
            back = invert(each.motion)
            for style in STYLES if each.styled else (0.0,):
                template = each.template + np.float32(style) * each.variation
                candidates.append(Candidate(Template(self.geometry, template), name, back))
        return Search(candidates)

    def register(self, image: Floats, last: Fit | None = None) -> Registration:
        """Find the face in an image (channels, height, width) in [0, 1].

        ``last`` is its fit in the video frame before, from which it is followed.
        """
        features = features_of(np.ascontiguousarray(image.transpose(1, 2, 0)))
        fit = None if last is None else self.search.follow(features, last)
        lost = fit is None or last is None or fit.value < last.value - LOST
        if fit is None or lost:
            fit = self.search.find(features)
        light = side_light(self.geometry, features, fit.field)
        whites = [
            eye_whites_of(self.geometry, planes, fit.field, light)
            for planes in (features.luminance[None], image)
        ]
        fit = replace(fit, whites=np.concatenate(whites))
        fit = fit if last is None or lost else fit.after(last)
        return Registration(image, features, fit, light)

    def part(
        self,
        face: Registration,
        expression: str,
        ridge: Ridge,
        share: float = 1.0,
        style: float | None = None,
        regions: tuple[str, ...] = (),
    ) -> Part:
        """Return the change of a face by an expression, in its frame, for any strength."""
        appearance, fit, size = self.appearances[expression], face.fit, self.geometry.size
        trust = look_up(fit.trust[None], appearance.motion)
        if fit.expression == expression:
            trust *= np.float32(1 - fit.shown)
        mask = mask_of(self.geometry, size, regions) * enlarged(trust, *size)[0]
        half_mask = mask_of(self.geometry, self.geometry.fields, regions) * trust[0]
        to_face = compose(fit.field, appearance.motion)  # W
        framed = warp(face.image, resize_field(to_face, *self.geometry.size))
        sides = enlarged(look_up(face.light[None], appearance.motion), *size)
        brightness = light_of(self.geometry, face.features, to_face) / appearance.light
        light = sides * np.float32(min(max(brightness, LIGHTS[0]), LIGHTS[1]))
        eye_white = float(fit.whites[0]) / self.eye_white
        bright = light_on_teeth(brightness, eye_white)
        on_teeth = sides * np.float32(bright)
        hue = self.hue(face)
        spread = on_teeth * hue * appearance.spread - appearance.share * framed
        added = ridge(expression, framed) - framed + light * hue * appearance.mean
        dark = np.float32(min(max((bright - brightness) / DARK, 0.0), 1.0))
        spread += dark * appearance.tint(framed + added, spread, hue)
        spread, added = mask * spread, mask * added
        added -= np.float32(appearance.plain) * spread
        if face.features.grey:
            added, spread = _grey(added), _grey(spread)
        return Part(appearance, share, style, invert(to_face), half_mask, added, spread)

    @cached_property
    def usual_whites(self) -> npt.NDArray[np.float64]:
        """The whites of the eyes of the mean face of the sources, in each channel."""
        appearance = next(iter(self.appearances.values()))
        mean = appearance.face.astype(np.float32) / np.float32(255)
        return eye_whites_of(self.geometry, mean, invert(appearance.motion))

    def hue(self, face: Registration) -> Floats:
        """Return the colour of the light on a face, (channels, 1, 1), relative to the training set.

        It is measured in the whites of the eyes, because skin has a colour of its own; its mean
        is 1.
        """
        ratio = face.fit.whites[1:] / self.usual_whites
        return np.clip(ratio / ratio.mean(), *HUES).astype(np.float32)[:, None, None]

    def change(self, face: Registration, parts: Sequence[Part], strength: float) -> Change:
        """Return the change of a face by all expressions together, for a strength."""
        size = self.geometry.size
        amounts = [np.float32(strength * part.share) for part in parts]
        styles = [part.style_at(strength) for part in parts]
        total = np.zeros((2, *self.geometry.fields), np.float32)  # N
        for part, amount, style in zip(parts, amounts, styles, strict=True):
            motion = part.appearance.motion - style * part.appearance.shape
            total += look_up(amount * part.mask * motion, part.back)
        field = np.zeros_like(total)  # n
        for _ in range(INVERSIONS):
            field = look_up(total, field)
        added = np.zeros_like(face.image)
        for part, amount, style in zip(parts, amounts, styles, strict=True):
            change = amount * (part.added + style * part.spread)
            added += look_up(change, resize_field(compose(part.back, field), *size))
        return Change(resize_field(field, *size), added)


def _grey(planes: Floats) -> Floats:
    """Return planes whose channels are all their mean."""
    return np.repeat(planes.mean(axis=0, keepdims=True), len(planes), axis=0)
