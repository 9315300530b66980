"""Draw the pictures of the method, docs/figures/*.webp, from sample faces: ``make figures``.

    python docs/figures.py [MODEL] [FACES]

The model is one of the faces in the folder, both by default those of ``make demo``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from mlr import inspect, load
from mlr.core.model import Model
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import compose, resize_field, warp
from mlr.core.registration.register import Template
from mlr.io.images import read_image, write_image
from mlr.io.sheet import draw_sheet
from mlr.samples import draw_face

Pixels = npt.NDArray[np.uint8]

FOLDER = Path(__file__).parent / "figures"
SEED, SUBJECT = 1, 6  # a held-out subject: `make demo` trains on those of seed 0
AVERAGED = 60  # faces in a mean
GRID = 8  # px between the lines of a moved grid


def main(model: str = "demo/model.npz", faces: str = "demo/train") -> None:
    """Draw all pictures."""
    drawn = load(Path(model))
    face = draw_face(SEED, SUBJECT, size=drawn.shape[1])
    styles, parts = (-1.0, 0.0, 1.0, 2.0), ("mouth", "eyes", "brows")
    by_style = {f"style {s:g}": drawn.synthesize(face, "happy", style=s) for s in styles}
    by_part = {part: drawn.synthesize(face, "surprised", region=part) for part in parts}
    save("styles", {"input": face, **by_style})
    save("regions", {"input": face, "surprised": drawn.synthesize(face, "surprised"), **by_part})
    save("steps", steps(drawn, face))
    paths = sorted(Path(faces, "happy").iterdir())[:AVERAGED]
    save("frame", frame(drawn, [read_image(path).pixels for path in paths]))
    with TemporaryDirectory() as name:
        inspect(drawn, name, target=["happy"])
        for inspected, figure in (("taps", "taps"), ("styles", "mean")):
            picture = PIL.Image.open(Path(name) / f"happy-{inspected}.png").convert("RGB")
            picture.thumbnail((1100, 1100))
            write(figure, np.asarray(picture))


def steps(model: Model, face: Pixels) -> dict[str, Pixels]:
    """Return an input, its frame, the change in it, the motion, and the output."""
    registered, size = model.registered, model.shape[1:]
    assert registered is not None
    image = np.ascontiguousarray(face.transpose(2, 0, 1) / np.float32(255))
    found = model.face_change(image, model.change_of("happy", style=1.0))
    appearance = registered.appearances["happy"]
    to_face = resize_field(compose(found.fit.field, appearance.motion), *size)
    change = found(1.0)
    return {
        "input": face,
        "in the frame": as_pixels(warp(image, to_face)),
        "change": as_pixels(0.5 + warp(change.added, to_face)),
        "motion": moved_grid(face, change.motion),
        "output": as_pixels(change.applied(image)),
    }


def moved_grid(face: Pixels, motion: npt.NDArray[np.float32]) -> Pixels:
    """Return a pale face below a grid that the motion has moved."""
    positions = np.indices(motion.shape[1:]) + motion
    lines = (np.abs((positions + GRID / 2) % GRID - GRID / 2) < 0.75).any(axis=0)
    pale = (face / 2 + 127).astype(np.uint8)
    return np.where(lines[..., None], np.array([20, 60, 140], np.uint8), pale)


def frame(model: Model, faces: Sequence[Pixels]) -> dict[str, Pixels]:
    """Return the mean of faces as they are and in the frame, and the template of these."""
    assert model.registered is not None
    happy = model.registered.appearances["happy"]
    template = Template(model.registered.geometry, happy.template)
    framed = []
    for face in faces:
        field = template.register(features_of(face / np.float32(255)))
        planes = np.ascontiguousarray(face.transpose(2, 0, 1) / np.float32(255))
        framed.append(warp(planes, resize_field(field, *face.shape[:2])))
    half = np.repeat(happy.template.transpose(2, 0, 1)[:, None], 3, axis=1)  # grey as colour
    luminance, redness = half * (0.3 / np.abs(half).mean(axis=(1, 2, 3), keepdims=True)) * 0.5 + 0.5
    return {
        "by the eyes": np.mean(faces, axis=0).astype(np.uint8),
        "registered": as_pixels(np.mean(framed, axis=0)),
        "luminance": as_pixels(luminance.repeat(2, 1).repeat(2, 2)),
        "redness": as_pixels(redness.repeat(2, 1).repeat(2, 2)),
    }


def as_pixels(planes: npt.NDArray[Any]) -> Pixels:
    """Return an image (3, height, width) in [0, 1] as 8-bit pixels."""
    return np.rint(np.clip(planes, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def save(name: str, pictures: dict[str, Pixels]) -> None:
    """Write a row of pictures with their titles."""
    write(name, draw_sheet(list(pictures), [("", list(pictures.values()))]))


def write(name: str, pixels: Pixels) -> None:
    """Write a picture of the documentation."""
    write_image(FOLDER / f"{name}.webp", pixels, quality=85, force=True)
    print(f"wrote {FOLDER / name}.webp")


if __name__ == "__main__":
    main(*sys.argv[1:])
