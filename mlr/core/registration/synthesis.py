"""Motion and change of a face, out of its registration and what was learnt in the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.registration.features import Features, features_of
from mlr.core.registration.fields import (
    INVERSIONS,
    composed,
    enlarged,
    inverse,
    looked_up,
    moved,
)
from mlr.core.registration.geometry import Geometry
from mlr.core.registration.register import STARTS, Template
from mlr.core.registration.templates import LIGHTS, light_of, light_on_teeth, white_of

Floats = npt.NDArray[np.float32]
Ridge = Callable[[str, Floats], Floats]  # output of an expression's regression for a framed image

UNFIT, FIT = 0.33, 0.45  # correlations at which a face gets nothing, and all
OPENING = 0.4  # strength from which the style follows


@dataclass(frozen=True, eq=False)
class Look:
    """What was learnt of an expression in its frame.

    Attributes
    ----------
    template, variation : ndarray of float32, shape (half height, half width, 2)
        T_e and C_e.
    motion : ndarray of float32, shape (2, half height, half width)
        m, the mean face's motion, in pixels of the half size.
    shape : ndarray of float32, of the same shape
        d1, how the shape varies with the style.
    mean, spread : ndarray of float32, shape (channels, height, width)
        b and c: what is added to the ridge's output, for a face as bright as the training set's.
    share : ndarray of float32, shape (height, width)
        Share of the face that is subtracted for each unit of style.
    face : ndarray of uint8, shape (channels, height, width)
        The mean face in the frame.
    light : float
        Mean brightness of the training set's sources.
    style, other : float
        Default style; and the one that weak strengths begin with.
    plain : float
        s_0, the style from which c counts.
    explained : float
        Share of the variation that the style explains; 0 if there is none.
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
        """Centres of the two groups of styles, that with more change last, if there are two."""
        return (self.other, self.style) if self.styled and self.style != self.other else None

    def summary(self) -> dict[str, Any] | None:
        """Return what the style is, ready for JSON; None if there is none."""
        if not self.styled:
            return None
        groups = None if self.groups is None else list(self.groups)
        return {"explained": self.explained, "groups": groups, "default": self.style}

    def style_at(self, strength: float, style: float | None) -> float:
        """Return the style for a strength: the one given, or the default led along by it."""
        if style is not None:
            return style
        share = min(max((strength - OPENING) / (1 - OPENING), 0.0), 1.0)
        return self.other + (self.style - self.other) * share


@dataclass(frozen=True, eq=False)
class Face:
    """A face that was registered.

    Attributes
    ----------
    image : ndarray of float32, shape (channels, height, width)
        In [0, 1].
    features : Features
        Of the image.
    field : ndarray of float32, shape (2, half height, half width)
        u, to the template of the sources.
    fit : float
        Correlation with that template.
    """

    image: Floats
    features: Features
    field: Floats
    fit: float


@dataclass(frozen=True, eq=False)
class Part:
    """What an expression makes of a face in its frame.

    Attributes
    ----------
    look : Look
        Of the expression.
    back : ndarray of float32, shape (2, half height, half width)
        P, the inverse of W: from the face to the frame.
    added, spread : ndarray of float32, shape (channels, height, width)
        What is added in the frame for style 0, and for each unit of style.
    """

    look: Look
    back: Floats
    added: Floats
    spread: Floats


@dataclass(frozen=True, eq=False)
class Change:
    """What becomes of an image: out(q) = x(q + motion(q)) + added(q).

    Attributes
    ----------
    motion : ndarray of float32, shape (2, height, width)
        (dy, dx) in pixels of the image; exactly 0 where nothing moves.
    added : ndarray of float32, shape (channels, height, width)
    fit : float
        Correlation of the registered face with the template.
    """

    motion: Floats
    added: Floats
    fit: float

    def faded(self, share: Floats) -> Change:
        """Return the change by a share (height, width) at each pixel."""
        return Change(self.motion * share, self.added * share, self.fit)

    def applied(self, image: Floats) -> Floats:
        """Return the changed image (channels, height, width); where nothing moves, x + added."""
        still = ~(self.motion[0].astype(bool) | self.motion[1].astype(bool))
        output = moved(image, self.motion) if not still.all() else image.copy()
        output[:, still] = image[:, still]
        output += self.added
        return output


@dataclass(frozen=True, eq=False)
class Registered:
    """What synthesis needs of the templates, and of all expressions' frames.

    Attributes
    ----------
    geometry : Geometry
        Of the images.
    source : ndarray of float32, shape (half height, half width, 2)
        T_source.
    white : float
        Mean brightness of the whites of the sources' eyes.
    looks : dict of str to Look
        For each expression.
    """

    geometry: Geometry
    source: Floats
    white: float
    looks: dict[str, Look]

    @cached_property
    def template(self) -> Template:
        """What faces are registered to."""
        return Template(self.geometry, self.source)

    @cached_property
    def _masks(self) -> tuple[Floats, Floats]:
        """The soft mask at the half size and whole."""
        half, whole = self.geometry.fields, self.geometry.size
        return self.geometry.mask(*half), self.geometry.mask(*whole)

    def register(self, image: Floats, starts: tuple[float, ...] = STARTS) -> Face:
        """Return a face registered to the template of the sources.

        Parameters
        ----------
        image : ndarray of float32, shape (channels, height, width)
            In [0, 1].
        starts : tuple of float
            How far the lower face is moved to begin with; the best fit wins.
        """
        features = features_of(np.ascontiguousarray(image.transpose(1, 2, 0)))
        field, fit = self.template.best(features, starts)
        return Face(image, features, field, fit)

    def part(self, face: Face, name: str, ridge: Ridge) -> Part:
        """Return what an expression makes of a face in its frame, at full strength."""
        look, (_, mask) = self.looks[name], self._masks
        whole = composed(face.field, look.motion)  # W
        framed = moved(face.image, enlarged(whole, *self.geometry.size))
        brightness = light_of(self.geometry, face.features, whole) / look.light
        light = np.float32(min(max(brightness, LIGHTS[0]), LIGHTS[1]))
        white = white_of(self.geometry, face.features, face.field) / self.white
        on_teeth = np.float32(light_on_teeth(brightness, white))
        spread = mask * (on_teeth * look.spread - look.share * framed)
        added = mask * (ridge(name, framed) - framed + light * look.mean)
        added -= np.float32(look.plain) * spread
        if face.features.grey:
            added, spread = (
                np.repeat(plane.mean(axis=0, keepdims=True), len(plane), axis=0)
                for plane in (added, spread)
            )
        return Part(look, inverse(whole), added, spread)

    def change(
        self,
        face: Face,
        parts: Sequence[tuple[Part, float, float | None]],
        strength: float,
    ) -> Change:
        """Return what becomes of a face.

        Parameters
        ----------
        face : Face
            From `register`.
        parts : sequence of (Part, float, float or None)
            What each expression makes of it, with its share and its style, None for the default.
        strength : float
            Of the whole.
        """
        size, (mask, _) = self.geometry.size, self._masks
        confidence = min(max((face.fit - UNFIT) / (FIT - UNFIT), 0.0), 1.0)
        amounts = [np.float32(strength * share * confidence) for _, share, _ in parts]
        styles = [
            np.float32(part.look.style_at(strength * share, style)) for part, share, style in parts
        ]
        total = np.zeros((2, *self.geometry.fields), np.float32)  # N(y)
        for (part, _, _), amount, style in zip(parts, amounts, styles, strict=True):
            motion = amount * mask * (part.look.motion - style * part.look.shape)  # M
            total += looked_up(motion, part.back)
        field = np.zeros_like(total)  # n(q) = N(q + n(q))
        for _ in range(INVERSIONS):
            field = looked_up(total, field)
        added = np.zeros_like(face.image)
        for (part, _, _), amount, style in zip(parts, amounts, styles, strict=True):
            change = amount * (part.added + style * part.spread)
            added += looked_up(change, enlarged(composed(part.back, field), *size))
        return Change(enlarged(field, *size), added, face.fit)
