"""Motion and change of a face, from its registration and what was learnt in the frames.

With u the field that registers the face to the template of the sources, and for each expression m
its motion, d1 its shape by style, b and c its residuals, s the style and k the amount:

    W = m + u(p + m)                          from the frame to the face
    M = k mask (m - s d1)                     motion in the frame
    D = k mask (ridge(x~) - x~ + l h b + (s - s_0) (e h c - share x~)),     x~ = x(p + W)

where l is the light on the face, e that on its teeth, both times that from the sides, and h its
colour. The mask is that of the
frame, times the trust in the fit, see `mlr.core.registration.search`, and the regions to change.
With P = invert(W), the motions of all expressions are N(y) = sum M(y + P(y)) on the face;
n(q) = N(q + n(q)) follows them back, and

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

HUES = (0.4, 1.5)  # bounds of the colour of the light
DARK = 0.4  # of the light that a face lacks: its skin's colour is taken out of its teeth
TEETH = (0.15, 0.35)  # share of the face that is replaced: no teeth below, nothing else above
LOST = 0.1  # of the fit: a face that loses as much from one video frame to the next is searched
OPENING = 0.4  # strength above which the style follows the strength


@dataclass(frozen=True, eq=False)
class Appearance:
    """What was learnt of an expression in its frame.

    Attributes
    ----------
    template, variation : ndarray of float32, shape (half height, half width, 2)
        Mean features of the targets, and their change with the style.
    motion : ndarray of float32, shape (2, half height, half width)
        m, the motion of the mean face, in pixels of the half size.
    shape : ndarray of float32, shape (2, half height, half width)
        d1, the change of the shape with the style.
    mean, spread : ndarray of float32, shape (channels, height, width)
        b and c: mean residual of the ridge, and its change with the style, for a face as bright as
        those of the training set.
    share : ndarray of float32, shape (height, width)
        Share of the face that is subtracted for each unit of style.
    face : ndarray of uint8, shape (channels, height, width)
        The mean face of the sources.
    light : float
        Mean brightness of the sources, in [0, 1].
    style, other : float
        Default style, and the one that weak strengths begin with.
    plain : float
        s_0, the style from which c counts.
    explained : float
        Share of the variation that the style explains; 0 if there is no style.
    """

    template: Floats
    variation: Floats
    motion: Floats
    shape: Floats
    mean: Floats
    spread: Floats
    share: Floats
    face: npt.NDArray[np.uint8]
    light: float
    style: float
    other: float
    plain: float
    explained: float

    @property
    def styled(self) -> bool:
        """Whether there is a style."""
        return self.explained > 0

    @property
    def groups(self) -> tuple[float, float] | None:
        """Centres of two groups of styles, that with more change last; None if there is one."""
        return (self.other, self.style) if self.styled and self.style != self.other else None

    def tint(self, image: Floats, spread: Floats, hue: Floats) -> Floats:
        """Return the change, for each unit of style, that takes the skin's colour out of teeth.

        A part of the face remains in them. That of skin darker than most lacks red, and teeth would
        look green. At the default style they get the colour of the mean face's teeth, halfway to
        grey, in the light's colour; their brightness stays.

        Parameters
        ----------
        image, spread : ndarray of float32, shape (channels, height, width)
            The face in the frame at s_0, and its change for each unit of style.
        hue : ndarray of float32, shape (channels, 1, 1)
            Colour of the light.
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
        """Return the style for a strength: the one given, or the default that follows it."""
        if style is not None:
            return style
        share = min(max((strength - OPENING) / (1 - OPENING), 0.0), 1.0)
        return self.other + (self.style - self.other) * share


@dataclass(frozen=True, eq=False)
class Registration:
    """A face and how it fits the faces learnt from.

    Attributes
    ----------
    image : ndarray of float32, shape (channels, height, width)
        In [0, 1].
    features : Features
        Of the image.
    fit : Fit
        Its field is u.
    light : ndarray of float32, shape (half height, half width)
        That from the sides in the frame of the sources, of mean 1.
    """

    image: Floats
    features: Features
    fit: Fit
    light: Floats


@dataclass(frozen=True, eq=False)
class Part:
    """What an expression makes of a face in its frame.

    Attributes
    ----------
    appearance : Appearance
        Of the expression.
    share : float
        Of the expression in the mix.
    style : float, optional
        None for the default.
    back : ndarray of float32, shape (2, half height, half width)
        P, from the face to the frame.
    mask : ndarray of float32, shape (half height, half width)
        Share of the motion that each pixel of the frame gets.
    added, spread : ndarray of float32, shape (channels, height, width)
        What is added in the frame for style 0, and for each unit of style.
    """

    appearance: Appearance
    share: float
    style: float | None
    back: Floats
    mask: Floats
    added: Floats
    spread: Floats

    def style_at(self, strength: float) -> np.float32:
        """Return the style for a strength of the mix."""
        return np.float32(self.appearance.style_at(strength * self.share, self.style))


@dataclass(frozen=True, eq=False)
class Change:
    """The change of an image: output(q) = x(q + motion(q)) + added(q).

    Attributes
    ----------
    motion : ndarray of float32, shape (2, height, width)
        (dy, dx) in pixels of the image; exactly 0 where nothing moves.
    added : ndarray of float32, shape (channels, height, width)
        In intensities.
    """

    motion: Floats
    added: Floats

    def faded(self, share: Floats) -> Change:
        """Return a share (height, width) of the change."""
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
    """What a model knows of registered faces.

    Attributes
    ----------
    geometry : Geometry
        Of the images.
    source : ndarray of float32, shape (half height, half width, 2)
        Template of the sources.
    eye_white : float
        Mean brightness of the whites of the sources' eyes, in [0, 1].
    appearances : dict of str to Appearance
        Of each expression.
    """

    geometry: Geometry
    source: Floats
    eye_white: float
    appearances: dict[str, Appearance]

    @cached_property
    def search(self) -> Search:
        """Finds faces: neutral ones, and those that show an expression."""
        candidates = [Candidate(Template(self.geometry, self.source))]
        for name, each in self.appearances.items():
            back = invert(each.motion)
            for style in STYLES if each.styled else (0.0,):
                template = each.template + np.float32(style) * each.variation
                candidates.append(Candidate(Template(self.geometry, template), name, back))
        return Search(candidates)

    def register(self, image: Floats, last: Fit | None = None) -> Registration:
        """Find the face in an image.

        Parameters
        ----------
        image : ndarray of float32, shape (channels, height, width)
            In [0, 1].
        last : Fit, optional
            Of the same face in the video frame before, which is followed.
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
        """Return what an expression makes of a face in its frame, before the strength."""
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
        """Return the colour of the light on a face over that of the training set, (channels, 1, 1).

        Of the whites of the eyes, since skin has a colour of its own; of mean 1.
        """
        ratio = face.fit.whites[1:] / self.usual_whites
        return np.clip(ratio / ratio.mean(), *HUES).astype(np.float32)[:, None, None]

    def change(self, face: Registration, parts: Sequence[Part], strength: float) -> Change:
        """Return the change of a face by the parts of all expressions, for a strength."""
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
    """Return the mean over the channels as each of them."""
    return np.repeat(planes.mean(axis=0, keepdims=True), len(planes), axis=0)
