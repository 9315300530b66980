"""Templates and what a pair becomes in their frames.

Once templates, motions and styles are frozen, what becomes of a pair depends on that pair alone, so
that statistics stay exact, additive and splittable. See `groupwise` for how they are made.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.core.registration.features import Features
from mlr.core.registration.fields import (
    STEP,
    composed,
    enlarged,
    halved,
    looked_up,
    moved,
    rounded,
)
from mlr.core.registration.geometry import Geometry, planes_of
from mlr.core.registration.register import Template

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]

GAIN = 1.05  # of the templates that targets are registered to a second time
MOST_STYLE = 1.7  # deviations that such a template shows at most
UNITS = 256  # light and style are rounded to parts of this number
PLAIN = -1.0  # style without teeth, or the like, where there are not two groups
LIGHTS = (0.2, 1.3)  # bounds of a face's brightness over that of the training set
#: Boxes of the whites of the eyes around (.32, .36) and (.68, .36) of the canonical crop: half
#: width and half height; and the percentile of brightness in them.
WHITES = (0.06, 0.02)
BRIGHTEST = 95


@dataclass(frozen=True, eq=False)
class Frame:
    """The common frame of an expression: all that is frozen of it.

    Arrays are float32; fields and planes have the half size, that of fields.

    Attributes
    ----------
    template : ndarray, shape (height, width, 2)
        Mean features of the targets, T_e, at full size.
    variation : ndarray, shape (height, width, 2)
        Mean of the features times the scores, C_e, at full size.
    motion : ndarray, shape (2, half height, half width)
        The mean face's motion m_e, in pixels of the half size and steps of 1/64.
    light : float
        Mean brightness of the sources in the oval.
    change : ndarray, shape (half height, half width)
        Mean change of the first feature, D.
    component : ndarray, shape (half height, half width)
        The score of a pair is the sum of (its change - D) times this.
    explained : float
        Share of the variation of the change that the component explains.
    groups : (float, float) or None
        Centres of the scores of two groups, that with more change last.
    """

    template: Floats
    variation: Floats
    motion: Floats
    light: float
    change: Floats
    component: Floats
    explained: float
    groups: tuple[float, float] | None

    @property
    def styled(self) -> bool:
        """Whether there is a style."""
        return bool(self.component.any())

    @property
    def plain(self) -> float:
        """The style s_0 at which the face shows no teeth, or the like: the lower group's centre."""
        if not self.styled:
            return 0.0
        return PLAIN if self.groups is None else self.groups[0]


_ARRAYS = ("template", "variation", "motion", "change", "component")
_NUMBERS = ("light", "explained", "groups")


@dataclass(frozen=True, eq=False)
class Templates:
    """All that is frozen of a training set.

    Attributes
    ----------
    geometry : Geometry
        Where faces lie in the images.
    source : ndarray of float32, shape (half height, half width, 2)
        Mean features of the sources, T_source, at the half size.
    white : float
        Mean brightness of the whites of the sources' eyes.
    frames : dict of str to Frame
        The frame of each expression.
    """

    geometry: Geometry
    source: Floats
    white: float
    frames: dict[str, Frame]

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: without what can be made of it, but for the digest."""
        return {
            key: getattr(self, key) for key in ("geometry", "source", "white", "frames", "digest")
        }

    @cached_property
    def source_template(self) -> Template:
        """What source images are registered to."""
        return Template(self.geometry, self.source)

    @cached_property
    def target_templates(self) -> dict[str, Template]:
        """What target images of each expression are registered to first."""
        return {
            name: Template(self.geometry, halved(frame.template), frame.template)
            for name, frame in self.frames.items()
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is frozen, 64 hexadecimal digits."""
        found = hashlib.sha256(repr(self.geometry).encode())
        arrays, numbers = self.to_arrays()
        for name, array in sorted(arrays.items()):
            found.update(name.encode() + np.ascontiguousarray(array).tobytes())
        found.update(json.dumps(numbers, sort_keys=True).encode())
        return found.hexdigest()

    def to_arrays(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Return the arrays by name, and all else ready for JSON."""
        arrays = {"source": self.source}
        frames: dict[str, Any] = {}
        for index, (name, frame) in enumerate(sorted(self.frames.items())):
            arrays |= {f"{key}{index}": getattr(frame, key) for key in _ARRAYS}
            frames[name] = {key: getattr(frame, key) for key in _NUMBERS}
        numbers = {"size": self.geometry.size, "eyes": self.geometry.eyes, "white": self.white}
        return arrays, {**numbers, "frames": frames}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats], details: Mapping[str, Any]) -> Templates:
        """Return the templates that `to_arrays` took apart.

        Raises
        ------
        LookupError, TypeError, ValueError
            If something is missing or not what it should be.
        """
        height, width = (int(side) for side in details["size"])
        (x0, y0), (x1, y1) = details["eyes"]
        eyes = ((float(x0), float(y0)), (float(x1), float(y1)))
        if not all(math.isfinite(value) for eye in eyes for value in eye) or x0 == x1:
            raise ValueError(f"its eyes are {eyes}")
        geometry = Geometry((height, width), eyes)
        whole, half = (*geometry.features, 2), geometry.fields
        shapes = dict(zip(_ARRAYS, (whole, whole, (2, *half), half, half), strict=True))

        def checked(name: str, shape: tuple[int, ...]) -> Floats:
            array = np.array(arrays[name])
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"template {name} is {array.dtype} {array.shape}, not {shape}")
            return array

        frames = {}
        for index, (name, numbers) in enumerate(sorted(details["frames"].items())):
            groups = numbers["groups"]
            frames[str(name)] = Frame(
                **{key: checked(f"{key}{index}", shape) for key, shape in shapes.items()},
                light=float(numbers["light"]),
                explained=float(numbers["explained"]),
                groups=None if groups is None else (float(groups[0]), float(groups[1])),
            )
            if not frames[name].light > 0:
                raise ValueError(f"the light of {name} is {numbers['light']}")
        white = float(details["white"])
        if not white > 0:
            raise ValueError(f"the white of its eyes is {white}")
        return cls(geometry, checked("source", (*half, 2)), white, frames)

    def source_field(self, features: Features) -> Floats:
        """Return the field of a training source, in steps of 1/64."""
        return rounded(self.source_template.register(features))


@dataclass(frozen=True, eq=False)
class FramedPair:
    """A pair moved into the frame of an expression.

    Attributes
    ----------
    source, target : ndarray of float32, shape (channels, height, width)
        In [0, 1], not clipped.
    light : int
        Brightness of the source over the templates' mean, in parts of 1/256.
    style : int
        Score s of the pair, in parts of 1/256.
    teeth : int
        What teeth, or the like, count with: the light on them times s - s_0, in parts of 1/256.
    shape : ndarray of int32, shape (2, half height, half width)
        Field of the target less the shape of the subject, in parts of 1/64.
    """

    source: Floats
    target: Floats
    light: int
    style: int
    teeth: int
    shape: npt.NDArray[np.int32]


def framed(
    frame: Frame,
    template: Template,
    source: Floats,
    source_features: Features,
    source_field: Floats,
    white: float,
    target: Floats,
    target_features: Features,
) -> FramedPair:
    """Return a pair moved into the frame of an expression.

    Parameters
    ----------
    frame : Frame
        Of the expression.
    template : Template
        Of its targets.
    source, target : ndarray of float32, shape (channels, height, width)
        In [0, 1].
    source_features, target_features : Features
        Theirs.
    source_field : ndarray of float32, shape (2, half height, half width)
        As `Templates.source_field` returns it.
    white : float
        Brightness of the whites of the source's eyes over the templates'.
    """
    geometry = template.geometry
    size = geometry.size
    whole = composed(source_field, frame.motion)
    before = luminance_in(source_features, whole)
    field = rounded(template.register(target_features))
    score = 0.0
    if frame.styled:
        score = score_of(frame, luminance_in(target_features, field) - before)
        field = rounded(styled_field(geometry, frame, target_features, field, score))
        score = score_of(frame, luminance_in(target_features, field) - before)
    shape = field - rounded(whole - frame.motion)
    light = light_of(geometry, source_features, whole) / frame.light
    teeth = light_on_teeth(light, white) * (score - frame.plain) if frame.styled else 0.0
    return FramedPair(
        moved(source, enlarged(whole, *size)),
        moved(target, enlarged(field, *size)),
        round(UNITS * light),
        round(UNITS * score),
        round(UNITS * teeth),
        np.rint(shape * np.float32(STEP)).astype(np.int32),
    )


def styled_field(
    geometry: Geometry, frame: Frame, features: Features, start: Floats, score: float
) -> Floats:
    """Return the field of a target registered to the template of its style, from a field."""
    clipped = np.float32(min(max(score, -MOST_STYLE), MOST_STYLE))
    whole = np.float32(GAIN) * (frame.template + clipped * frame.variation)
    template = Template(geometry, halved(whole), whole)
    return template.refined(features, template.register(features, start))


def light_of(geometry: Geometry, features: Features, field: Floats) -> float:
    """Return the mean brightness in the oval of an image moved by a field, in [0, 1]."""
    _, oval = planes_of(geometry)
    framed = looked_up(features.light[None], field)[0]
    return max(float(framed[oval].mean(dtype=np.float64)), 1 / 255)


def white_of(geometry: Geometry, features: Features, field: Floats) -> float:
    """Return the brightness of the whites of the eyes of a source with a field, in [0, 1]."""
    luminance = features.luminance
    y, x = geometry.canonical(*luminance.shape)
    (left, level), (right, _) = EYES
    across = np.minimum(np.abs(x - left), np.abs(x - right)) < WHITES[0]
    box = (np.abs(y - level) < WHITES[1]) & across
    if not box.any():
        return 1 / 255
    framed = looked_up(luminance[None], enlarged(field, *luminance.shape))[0]
    return max(float(np.percentile(framed[box], BRIGHTEST)), 1 / 255)


def light_on_teeth(light: float, white: float) -> float:
    """Return the light on the teeth of a face.

    Teeth do not darken with skin, but do in dim light. A dark face whose eyes are bright has dark
    skin: the light is what the eyes say, and more. It is at most that of the training set.

    Parameters
    ----------
    light, white : float
        Brightness of the face and of the whites of its eyes, over those of the training set.
    """
    return max(min(1.0, max(light, 2 * white - light)), LIGHTS[0])


def luminance_in(features: Features, field: Floats) -> Floats:
    """Return the first feature moved by a field, (half height, half width)."""
    return looked_up(np.ascontiguousarray(features.half[None, ..., 0]), field)[0]


def score_of(frame: Frame, change: Floats) -> float:
    """Return the score of a change of the first feature, in standard deviations."""
    difference = change.astype(np.float64) - frame.change
    return float((difference * frame.component).sum())
