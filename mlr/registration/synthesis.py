"""Motion and change of a face, out of its registration and what was learnt in the frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlr.registration.features import features_of
from mlr.registration.fields import composed, enlarged, inverse, looked_up, moved
from mlr.registration.geometry import Geometry
from mlr.registration.register import STARTS, Template
from mlr.registration.templates import light_of

Floats = npt.NDArray[np.float32]

LIGHTS = (0.2, 1.3)  # bounds of a face's brightness over that of the training set
UNFIT, FIT = 0.33, 0.45  # correlations at which a face gets nothing, and all
OPENING = 0.4  # strength from which the style follows


@dataclass(frozen=True, eq=False)
class Look:
    """What was learnt of an expression in its frame.

    Attributes
    ----------
    motion : ndarray of float32, shape (2, half height, half width)
        m, the mean face's motion, in pixels of the half size.
    shape : ndarray of float32, of the same shape
        d1, how the shape varies with the style.
    mean, variation : ndarray of float32, shape (channels, height, width)
        b and c: what is added to the ridge's output, for a face as bright as the training set's.
    light : float
        Mean brightness of the training set's sources.
    style, other : float
        Default style; and the one that weak strengths begin with.
    """

    motion: Floats
    shape: Floats
    mean: Floats
    variation: Floats
    light: float
    style: float
    other: float

    def style_at(self, strength: float, style: float | None) -> float:
        """Return the style for a strength: the one given, or the default led along by it."""
        if style is not None:
            return style
        share = min(max((strength - OPENING) / (1 - OPENING), 0.0), 1.0)
        return self.other + (self.style - self.other) * share


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
    looks : dict of str to Look
        For each expression.
    """

    geometry: Geometry
    source: Floats
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

    def change(
        self,
        image: Floats,
        ridge: Callable[[str, Floats], Floats],
        shares: Mapping[str, float],
        strength: float,
        styles: Mapping[str, float | None],
        starts: tuple[float, ...] = STARTS,
    ) -> Change:
        """Return what becomes of a face.

        Parameters
        ----------
        image : ndarray of float32, shape (channels, height, width)
            In [0, 1].
        ridge : function of (str, ndarray)
            Returns the output of an expression's ridge regression for a framed image.
        shares : mapping of str to float
            Share of each expression.
        strength : float
            Of the whole.
        styles : mapping of str to (float or None)
            Of each expression; None is the default.
        starts : tuple of float
            Of registration.
        """
        size, half = self.geometry.size, self.geometry.fields
        interleaved = np.ascontiguousarray(image.transpose(1, 2, 0))
        features = features_of(interleaved)
        field, fit = self.template.best(features, starts)
        confidence = np.float32(min(max((fit - UNFIT) / (FIT - UNFIT), 0.0), 1.0))
        mask, whole_mask = self._masks
        parts: list[tuple[Floats, Floats, Floats]] = []
        for name, share in shares.items():
            look = self.looks[name]
            amount = np.float32(strength * share) * confidence
            style = np.float32(look.style_at(strength * share, styles.get(name)))
            whole = composed(field, look.motion)  # W
            motion = amount * mask * (look.motion - style * look.shape)  # M
            framed = moved(image, enlarged(whole, *size))
            light = light_of(self.geometry, features, whole) / look.light
            light = np.float32(np.clip(light, *LIGHTS))
            added = ridge(name, framed) - framed + light * (look.mean + style * look.variation)
            if features.grey:
                added = np.repeat(added.mean(axis=0, keepdims=True), len(added), axis=0)
            parts.append((inverse(whole), motion, amount * whole_mask * added))
        total = np.zeros((2, *half), np.float32)  # N(y)
        for back, motion, _ in parts:
            total += looked_up(motion, back)
        field = np.zeros_like(total)  # n(q) = N(q + n(q))
        for _ in range(12):
            field = looked_up(total, field)
        added = np.zeros_like(image)
        for back, _, change in parts:
            added += looked_up(change, enlarged(composed(back, field), *size))
        return Change(enlarged(field, *size), added, fit)
