"""Every rival on registered images, to tell what comes from registration and what from the mask.

The program registers the training pairs and warps them into the frame of the expression, the rival
learns from the framed pairs, and what it changes in a face's frame is moved back, with the motion
of the mean face, as the program does at style 0. Only the regression in the frame is the rival's.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import mlr
from benchmarks.rivals.base import DATA_RANGE, Images, Outputs, Rival, Setting, State
from mlr.core.model import Model
from mlr.core.registration.synthesis import Registered, Registration
from mlr.kernels.parallel import parallel_map
from mlr.recipes.fit import fit, recipe
from mlr.training.decode import as_pixels, framed_arrays, statistics_of_framed

MODULES = ("mean_change", "lasso", "lsrf", "omp", "pcr", "ridge", "rrr", "kernel_ridge", "masked")
ONLY = "target"  # the name of the expression
KEPT = 40  # registrations of data sets, while settings are chosen


class Framed:
    """Training pairs in the frame of their expression, and faces moved into it and back.

    Parameters
    ----------
    inputs, targets : ndarray of uint8, shape (N, height, width, channels)
        The training pairs.
    """

    def __init__(self, inputs: Images, targets: Images) -> None:
        templates, pairs = framed_arrays(inputs, {ONLY: targets})
        self.inputs = np.stack([as_pixels(pair.source, np.uint8) for pair in pairs])
        self.targets = np.stack([as_pixels(pair.target, np.uint8) for pair in pairs])
        best = recipe("best", {})
        statistics = statistics_of_framed(templates, pairs, np.uint8, best.layout())
        self.model: Model = fit(best, statistics)
        self.registered = _motion_alone(self.model)

    def faces(self, images: Images) -> tuple[list[Registration], Images]:
        """Return registered images, and the images in the frame."""

        def face_of(n: int) -> tuple[Registration, Images]:
            image = np.ascontiguousarray(images[n].transpose(2, 0, 1) / DATA_RANGE)
            face, framed = self.registered.register(image), []

            def ridge(_: str, image: Any) -> Any:
                framed.append(as_pixels(image, np.uint8))
                return image

            self.registered.part(face, ONLY, ridge)
            return face, framed[0]

        found = parallel_map(face_of, len(images))
        return [face for face, _ in found], np.stack([framed for _, framed in found])

    def outputs(self, faces: list[Registration], framed: Images, changed: Outputs) -> Outputs:
        """Return faces with the change from the framed to the changed images."""
        change = (changed - framed / DATA_RANGE).transpose(0, 3, 1, 2)

        def output_of(n: int) -> Any:
            face = faces[n]
            part = self.registered.part(face, ONLY, lambda _, image: image + change[n])
            output = self.registered.change(face, [part], 1.0).applied(face.image)
            return output.transpose(1, 2, 0)

        return np.stack(parallel_map(output_of, len(faces))).astype(np.float32)


class OnRegistered(Rival):
    """A rival on registered images.

    Parameters
    ----------
    factory : callable
        Returns the rival.
    """

    family = "registered"

    def __init__(self, factory: Any) -> None:
        self.rival: Rival = factory()
        self.name = f"{self.rival.name}, registered"
        self.key = f"{self.rival.key}-registered"
        self.largest = self.rival.largest

    def grid(self) -> list[Setting]:
        """Return the rival's settings."""
        return self.rival.grid()

    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Register the pairs, and learn from them in the frame."""
        self.framed = Framed(inputs, targets)
        self.rival.fit(self.framed.inputs, self.framed.targets, **setting)

    def predict(self, inputs: Images) -> Outputs:
        """Register the images, and move the rival's change back."""
        faces, framed = self.framed.faces(inputs)
        return self.framed.outputs(faces, framed, self.rival.predict(framed))

    def path(self, inputs: Images, targets: Images, held_out: Images) -> Iterator[Outputs]:
        """Yield the predictions of the rival's settings; faces are registered once."""
        pairs, faces, held = _registered_once(_Data(inputs, targets, held_out))
        for changed in self.rival.path(pairs.inputs, pairs.targets, held):
            yield pairs.outputs(faces, held, changed)

    def state(self) -> State:
        """Return the rival's arrays."""
        return self.rival.state()

    def save(self, path: Path) -> None:
        """Write the rival's arrays, and beside them the program's model for the registration."""
        self.rival.save(path)
        mlr.save(self.framed.model, path.with_name("registration.npz"), force=True)


class _Data:
    """Arrays, equal if their contents are."""

    def __init__(self, *arrays: Images) -> None:
        self.arrays = arrays
        self._bytes = tuple((array.shape, array.tobytes()) for array in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Data) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@lru_cache(maxsize=KEPT)
def _registered_once(data: _Data) -> tuple[Framed, list[Registration], Images]:
    """Return framed pairs and held-out faces; several rivals share them while settings are chosen.

    The time of a training is measured on its own, registration included.
    """
    inputs, targets, held_out = data.arrays
    pairs = Framed(inputs, targets)
    return pairs, *pairs.faces(held_out)


def _motion_alone(model: Model) -> Registered:
    """Return the registration of a model of one expression, whose appearance adds nothing."""
    registered = model.registered
    assert registered is not None
    (name,) = registered.appearances
    appearance = registered.appearances[name]
    bare = replace(
        appearance,
        mean=np.zeros_like(appearance.mean),
        spread=np.zeros_like(appearance.spread),
        share=np.zeros_like(appearance.share),
        style=0.0,
        other=0.0,
        plain=0.0,
    )
    return replace(registered, appearances={name: bare})


def _found() -> Iterator[Any]:
    """Yield a factory for every regression of the other files but the program's own recipes."""
    for module in MODULES:
        for factory in importlib.import_module(f"benchmarks.rivals.{module}").RIVALS:
            if not factory().key.startswith("mlr-best"):
                yield partial(OnRegistered, factory)


RIVALS: list[Any] = list(_found())
