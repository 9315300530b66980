"""The data: pairs of faces of one expression, and faces outside of this data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter

from mlr.core.alignment import EYES
from mlr.errors import DataError
from mlr.io.folders import list_files
from mlr.io.images import is_image, read_image, resized
from mlr.io.pairs import find_pairs
from mlr.io.sheet import as_rgb8
from mlr.samples import draw_face
from mlr.utils.threads import ordered_map

Images = npt.NDArray[np.uint8]  # (N, height, width, 3)

EXPRESSION = "happy"  # of the drawn subjects
STRANGERS = 1000  # seed of the drawn faces outside the data set
EACH = 4  # drawn faces of each kind


@dataclass(frozen=True)
class Pairs:
    """Aligned pairs, one of each subject.

    Attributes
    ----------
    name : str
        Description for the report.
    expression : str
        Name of the targets' expression.
    inputs, targets : ndarray of uint8, shape (N, height, width, 3)
        Neutral faces, and the same subjects with the expression.
    """

    name: str
    expression: str
    inputs: Images
    targets: Images
    _sizes: dict[int, Pairs] = field(default_factory=dict, repr=False)

    def at(self, size: int) -> Pairs:
        """Return them as squares of another size."""
        if size not in self._sizes:
            sides = at_size(self.inputs, size), at_size(self.targets, size)
            self._sizes[size] = Pairs(self.name, self.expression, *sides)
        return self._sizes[size]


def drawn_pairs(subjects: int, size: int) -> Pairs:
    """Draw the subjects of `mlr sample`."""
    inputs, targets = (
        _drawn(0, subjects, expression, size) for expression in ("neutral", EXPRESSION)
    )
    name = f"{subjects} drawn subjects, neutral to {EXPRESSION}"
    return Pairs(name, EXPRESSION, inputs, targets)


def read_pairs(folder: Path, target: str | None) -> Pairs:
    """Read pairs of one expression, by default the first.

    Raises
    ------
    DataError
        If there are none, or they are not all of one size.
    """
    found = find_pairs(folder, target=[target] if target else ())
    target = target or found.expressions[0]
    subjects = [subject for subject in found.subjects if target in subject.targets]
    inputs = [_read(subject.source) for subject in subjects]
    targets = [_read(subject.targets[target]) for subject in subjects]
    shapes = {image.shape for image in (*inputs, *targets)}
    if len(shapes) != 1:
        raise DataError(f"{folder}: the images are not all of one size")
    name = f"{len(subjects)} subjects, neutral to {target}"
    return Pairs(name, target, np.stack(inputs), np.stack(targets))


def read_outside(folder: Path) -> dict[str, list[Images]]:
    """Return the aligned faces in each subfolder, for `at_size`.

    Raises
    ------
    DataError
        If there are none.
    """
    found = {
        sub.name: [_read(path) for path in list_files(sub, is_image).files]
        for sub in sorted(folder.iterdir())
        if sub.is_dir()
    }
    if not any(found.values()):
        raise DataError(f"{folder}: has no subfolders with images, one for each kind of face")
    return {name: images for name, images in found.items() if images}


def drawn_outside(size: int) -> dict[str, list[Images]]:
    """Draw other subjects as another camera, a pencil and a brush would show them, and a cat."""
    faces = _drawn(STRANGERS, EACH, "neutral", size)
    kinds: dict[str, Callable[[Images], Images]] = {
        "other light": _in_other_light,
        "sketch": _as_sketch,
        "painting": _as_painting,
    }
    return {name: [change(face) for face in faces] for name, change in kinds.items()} | {
        "cat": [_cat(size)]
    }


def at_size(images: Images | list[Images], size: int) -> Images:
    """Return images as squares of one size."""
    return np.stack([x if x.shape[:2] == (size, size) else resized(x, size, size) for x in images])


def _drawn(seed: int, subjects: int, expression: str, size: int) -> Images:
    def draw(subject: int) -> Images:
        return draw_face(seed, subject, expression, size)

    return np.stack(list(ordered_map(draw, range(subjects))))


def _read(path: Path) -> Images:
    return as_rgb8(read_image(path).pixels)


def _in_other_light(face: Images) -> Images:
    """Darker, warmer, and softer."""
    soft = PIL.Image.fromarray(face).filter(PIL.ImageFilter.GaussianBlur(face.shape[0] / 128))
    light = (np.asarray(soft) / 255) ** 1.5 * (1.0, 0.86, 0.66)
    return np.rint(255 * light).astype(np.uint8)


def _as_sketch(face: Images) -> Images:
    """Grey divided by its own blur: lines on white paper."""
    grey = PIL.Image.fromarray(face).convert("L")
    blur = np.asarray(grey.filter(PIL.ImageFilter.GaussianBlur(face.shape[0] / 24)), float)
    lines = np.clip(255 * np.asarray(grey, float) / np.maximum(blur, 1), 0, 255)
    return as_rgb8(np.rint(lines).astype(np.uint8)[..., None])


def _as_painting(face: Images) -> Images:
    """Few colours in large strokes."""
    stroke = 2 * (face.shape[0] // 64) + 1
    picture = PIL.Image.fromarray(face).filter(PIL.ImageFilter.ModeFilter(stroke))
    return np.asarray(picture.quantize(10, dither=PIL.Image.Dither.NONE).convert("RGB"))


def _cat(size: int) -> Images:
    """Return a cat whose eyes are at `EYES`."""
    scale = 4  # drawn larger and shrunk, for smooth edges
    side = size * scale
    picture = PIL.Image.new("RGB", (side, side), (122, 148, 128))
    draw = PIL.ImageDraw.Draw(picture)

    def box(x: float, y: float, dx: float, dy: float) -> list[float]:
        return [side * (x - dx), side * (y - dy), side * (x + dx), side * (y + dy)]

    fur, inner, dark = (186, 142, 98), (224, 178, 160), (48, 36, 30)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(side * x, side * y) for x, y in points]

    for eye, _ in EYES:
        outwards = 0.35 * (eye - 0.5)
        ear = eye + outwards
        for width, colour in ((0.15, fur), (0.08, inner)):
            tip = (ear + outwards, 0.3 - 2 * width)
            draw.polygon(at((ear - width, 0.3), tip, (ear + width, 0.3)), fill=colour)
    draw.ellipse(box(0.5, 0.53, 0.4, 0.37), fill=fur)
    draw.ellipse(box(0.5, 0.7, 0.2, 0.15), fill=(226, 206, 180))
    for x, y in EYES:
        draw.ellipse(box(x, y, 0.085, 0.07), fill=(176, 190, 70))
        draw.ellipse(box(x, y, 0.022, 0.065), fill=dark)
    draw.polygon(at((0.45, 0.6), (0.55, 0.6), (0.5, 0.66)), fill=dark)
    for turn in (-1, 1):
        draw.arc(box(0.5 + turn * 0.06, 0.69, 0.06, 0.06), 0, 180, fill=dark, width=side // 80)
        for rise in (-0.04, 0, 0.04):
            whisker = at((0.5 + turn * 0.14, 0.68 + rise / 2), (0.5 + turn * 0.42, 0.66 + 2 * rise))
            draw.line(whisker, fill=(240, 236, 228), width=side // 120)
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.LANCZOS))
