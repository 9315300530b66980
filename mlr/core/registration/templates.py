"""Templates, and pairs warped into their frames.

Once `groupwise` has computed the templates, they do not change, and each pair is framed on its own:
statistics stay exact, and can be added, subtracted and split.
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
from mlr.core.regions import Region
from mlr.core.registration.features import Features
from mlr.core.registration.fields import (
    STEP,
    compose,
    enlarged,
    halved,
    look_up,
    resize_field,
    rounded,
    warp,
)
from mlr.core.registration.geometry import Geometry, weights_and_oval
from mlr.core.registration.register import Template
from mlr.core.registration.stored import (
    LARGEST,
    LEAST_LIGHT,
    MOST,
    stored_array,
    stored_eyes,
    stored_number,
)
from mlr.kernels.blur import blur

Floats = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]

GAIN = 1.05  # of the templates that targets are registered to a second time
MOST_STYLE = 1.7  # largest style of such a template, in standard deviations
UNITS = 256  # light and style are rounded to 1/256
PLAIN = -1.0  # style without teeth (or the like) where there are not two groups
LIGHTS = (0.2, 1.3)  # bounds of a face's brightness, relative to the training set's
DARKEST = 1 / 255  # lower bound of measured brightness

#: Light from one side: blur of the logarithm of the luminance, as a fraction of the side of the
#: canonical crop; a constant added to the luminance; bounds of the light, relative to its mean.
SIDE_BLUR, SIDE_FLOOR = 0.07, 0.02
SIDE_LIGHTS = (0.25, 2.0)

#: The whites of the eyes lie in boxes around (.32, .36) and (.68, .36) of the canonical crop: half
#: width and half height of a box, and which percentile of its brightness is used.
EYE_BOX = (0.06, 0.02)
BRIGHTEST = 95

_ARRAYS = ("template", "variation", "motion", "change", "component")
_NUMBERS = ("light", "explained", "groups")


@dataclass(frozen=True, eq=False)
class Frame:
    """The frame of an expression.

    Arrays are float32. "Half" is the size of fields.
    """

    template: Floats  #: (height, width, 2), mean features T_e of the targets
    variation: Floats  #: (height, width, 2), C_e: mean of the features times the scores
    #: (2, half height, half width), motion m_e of the mean face, in pixels of the half size and
    #: steps of 1/64
    motion: Floats
    light: float  #: mean brightness of the sources in the oval
    change: Floats  #: (half height, half width), mean change D of the first feature
    #: (half height, half width); the score of a pair is the sum of (its change - D) times this
    component: Floats
    explained: float  #: share of the variation of the change that the component explains
    groups: tuple[float, float] | None  #: centres of two groups of scores, more change last

    @property
    def styled(self) -> bool:
        """Whether there is a style."""
        return bool(self.component.any())

    @property
    def plain(self) -> float:
        """The style s_0 at which the face shows no teeth, or the like."""
        if not self.styled:
            return 0.0
        return PLAIN if self.groups is None else self.groups[0]

    def score_of(self, change: Floats) -> float:
        """Return the score of a change of the first feature, in standard deviations."""
        difference = change.astype(np.float64) - self.change
        return float((difference * self.component).sum())


@dataclass(frozen=True, eq=False)
class Templates:
    """Templates of a training set, never changed afterwards."""

    geometry: Geometry  #: where faces lie in the images
    source: Floats  #: float32, (half height, half width, 2), mean features T_source of the sources
    eye_white: float  #: mean brightness of the whites of the sources' eyes
    frames: dict[str, Frame]  #: of each expression

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to pickle: the fields and, of cached properties, the digest."""
        names = ("geometry", "source", "eye_white", "frames", "digest")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def source_template(self) -> Template:
        """The template that source images are registered to."""
        return Template(self.geometry, self.source)

    @cached_property
    def target_templates(self) -> dict[str, Template]:
        """The template that target images of each expression are first registered to."""
        return {
            name: Template(self.geometry, halved(frame.template), frame.template)
            for name, frame in self.frames.items()
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the templates, 64 hexadecimal digits."""
        digest = hashlib.sha256(repr(self.geometry).encode())
        arrays, numbers = self.to_arrays()
        for name, array in sorted(arrays.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        digest.update(json.dumps(numbers, sort_keys=True).encode())
        return digest.hexdigest()

    def to_arrays(self) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Return the arrays by name, and everything else ready for JSON."""
        arrays = {"source": self.source}
        frames: dict[str, Any] = {}
        for index, (name, frame) in enumerate(sorted(self.frames.items())):
            arrays |= {f"{key}{index}": getattr(frame, key) for key in _ARRAYS}
            frames[name] = {key: getattr(frame, key) for key in _NUMBERS}
        numbers = {"size": self.geometry.size, "eyes": self.geometry.eyes, "white": self.eye_white}
        return arrays, {**numbers, "frames": frames}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats], details: Mapping[str, Any]) -> Templates:
        """Return the templates that `to_arrays` was called on.

        Raises
        ------
        LookupError, TypeError, ValueError, AttributeError
            If something is missing or invalid.
        """
        height, width = map(int, details["size"])
        if min(height, width) < 1:
            raise ValueError(f"its templates are for images of {width}x{height} px")
        geometry = Geometry((height, width), stored_eyes(details["eyes"]))
        whole, half = (*geometry.features, 2), geometry.fields
        shapes = (whole, whole, (2, *half), half, half)
        bounds = (MOST, MOST, max(half), MOST, LARGEST)
        frames = {}
        for index, (name, numbers) in enumerate(sorted(details["frames"].items())):
            own = {
                key: np.array(stored_array(arrays, f"{key}{index}", shape, most))
                for key, shape, most in zip(_ARRAYS, shapes, bounds, strict=True)
            }
            groups = numbers["groups"]
            if groups is not None:
                low, high = groups
                of = f"the groups of {name}"
                groups = stored_number(of, low), stored_number(of, high)
            frames[name] = Frame(
                **own,
                light=stored_number(f"the light of {name}", numbers["light"], LEAST_LIGHT),
                explained=stored_number(f"the style of {name}", numbers["explained"], 0),
                groups=groups,
            )
        source = np.array(stored_array(arrays, "source", (*half, 2)))
        eye_white = stored_number("the white of its eyes", details["white"], LEAST_LIGHT)
        return cls(geometry, source, eye_white, frames)

    def source_field(self, features: Features) -> Floats:
        """Return the field of a training source, in steps of 1/64."""
        return rounded(self.source_template.register(features))


@dataclass(frozen=True, eq=False)
class FramedPair:
    """A pair warped into the frame of an expression."""

    source: Floats  #: float32, (channels, height, width), in [0, 1], not clipped
    target: Floats  #: the same
    light: int  #: brightness of the source over the templates' mean, in parts of 1/256
    style: int  #: score s of the pair, in parts of 1/256
    teeth: int  #: the light on the teeth times (s - s_0), in parts of 1/256
    #: (2, half height, half width), field of the target minus the shape of the subject, in parts of
    #: 1/64
    shape: npt.NDArray[np.int32]


def framed(
    frame: Frame,
    template: Template,
    source: Floats,
    source_features: Features,
    source_field: Floats,
    eye_white: float,
    target: Floats,
    target_features: Features,
) -> FramedPair:
    """Warp a pair of images (channels, height, width) in [0, 1] into the frame of an expression.

    ``template`` is the one that targets are first registered to, ``source_field`` is from
    `Templates.source_field`, and ``eye_white`` is the brightness of the whites of the source's
    eyes, relative to the templates'.
    """
    geometry = template.geometry
    to_source = compose(source_field, frame.motion)
    before = first_feature(source_features, to_source)
    to_target = rounded(template.register(target_features))
    score = 0.0
    if frame.styled:
        score = frame.score_of(first_feature(target_features, to_target) - before)
        to_target = rounded(styled_field(geometry, frame, target_features, to_target, score))
        score = frame.score_of(first_feature(target_features, to_target) - before)
    shape = to_target - rounded(to_source - frame.motion)
    light = light_of(geometry, source_features, to_source) / frame.light
    teeth = light_on_teeth(light, eye_white) * (score - frame.plain) if frame.styled else 0.0
    return FramedPair(
        warp(source, resize_field(to_source, *geometry.size)),
        warp(target, resize_field(to_target, *geometry.size)),
        _in_units(light),
        _in_units(score),
        _in_units(teeth),
        np.rint(shape * np.float32(STEP)).astype(np.int32),
    )


def _in_units(value: float) -> int:
    """Return a number in parts of 1/256; damaged templates can give any number, or none."""
    return round(UNITS * min(max(value, -MOST), MOST)) if math.isfinite(value) else 0


def styled_field(
    geometry: Geometry, frame: Frame, features: Features, start: Floats, score: float
) -> Floats:
    """Return the field from a target to the template of its style, refined from a start."""
    style = np.float32(min(max(score, -MOST_STYLE), MOST_STYLE))
    whole = np.float32(GAIN) * (frame.template + style * frame.variation)
    template = Template(geometry, halved(whole), whole)
    return template.refined(features, template.register(features, start))


def first_feature(features: Features, field: Floats) -> Floats:
    """Return the first feature warped by a field, (half height, half width)."""
    return look_up(np.ascontiguousarray(features.half[None, ..., 0]), field)[0]


def light_of(geometry: Geometry, features: Features, field: Floats) -> float:
    """Return the mean brightness in the oval of an image warped by a field, in [0, 1]."""
    _, oval = weights_and_oval(geometry)
    framed = look_up(features.half_luminance[None], field)[0]
    return max(float(framed[oval].mean(dtype=np.float64)), DARKEST)


def eye_white_of(geometry: Geometry, features: Features, field: Floats) -> float:
    """Return the brightness of the whites of the eyes of a source with a field, in [0, 1]."""
    return float(eye_whites_of(geometry, features.luminance[None], field)[0])


def eye_whites_of(
    geometry: Geometry, planes: Floats, field: Floats, light: Floats | None = None
) -> Float:
    """Return the brightness of the whites of the eyes in each plane of a source, in [0, 1].

    It is divided by the `side_light`, if given.
    """
    size = planes.shape[1:]
    box = eye_box(geometry, (size[0], size[1]))
    if not box.any():
        return np.full(len(planes), DARKEST)
    framed = look_up(planes, resize_field(field, *size))[:, box]
    if light is not None:
        framed /= np.maximum(enlarged(light[None], *size)[:, box], 1)
    return np.maximum(np.percentile(framed, BRIGHTEST, axis=1).astype(np.float64), DARKEST)


def eye_box(geometry: Geometry, size: tuple[int, int]) -> Region:
    """Return the pixels in which the whites of the eyes are looked for, (height, width)."""
    y, x = geometry.canonical(*size)
    (left, level), (right, _) = EYES
    across = np.minimum(np.abs(x - left), np.abs(x - right)) < EYE_BOX[0]
    return np.asarray((np.abs(y - level) < EYE_BOX[1]) & across)


def side_light(geometry: Geometry, features: Features, field: Floats) -> Floats:
    """Return the light from the sides on a face in the frame, (half height, half width).

    Faces are symmetric, light may not be. With B the blurred logarithm of the luminance and B' its
    mirror image, the light is exp((B - B') / 2), of mean 1 in the face; it is 1 everywhere if the
    face is not in the middle of the images. ``field`` is from the frame to the image.
    """
    framed = look_up(features.half_luminance[None], field)
    if not geometry.symmetric:
        return np.ones_like(framed[0])
    _, oval = weights_and_oval(geometry)
    inside = (oval & oval[:, ::-1]).astype(np.float32)
    logarithm = np.log(np.maximum(framed[0], 0) + np.float32(SIDE_FLOOR))
    sigma = SIDE_BLUR * geometry.side(framed.shape[2])
    total, weight = blur(np.stack([inside * logarithm, inside]), sigma, threads=False)
    blurred = total / np.maximum(weight, np.float32(1e-6))
    light = np.exp((blurred - blurred[:, ::-1]) * np.float32(0.5))
    light /= light[inside > 0].mean(dtype=np.float64)
    return np.clip(light, *SIDE_LIGHTS).astype(np.float32)


def light_on_teeth(light: float, eye_white: float) -> float:
    """Return the light on the teeth of a face, at most the training set's.

    Takes the brightness of the face and of the whites of its eyes, relative to the training set.
    Teeth are dark in dim light, but not in a dark face whose eyes are bright: its skin is dark, and
    the light is at least as bright as the eyes.
    """
    return max(min(1.0, max(light, 2 * eye_white - light)), LIGHTS[0])
