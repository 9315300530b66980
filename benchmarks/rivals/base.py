"""The interface of a rival, which trains on pairs of images and changes other images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]  # (N, height, width, channels)
Outputs = npt.NDArray[np.float32]  # the same shape, in [0, 1], not clipped
Rows = npt.NDArray[Any]  # (N, D): one channel of each image as a row, in [0, 1]
State = dict[str, npt.NDArray[Any]]
Setting = dict[str, Any]

DATA_RANGE = np.float32(255)
SETTINGS = 12  # hyper-parameter settings that every method with any may try


class Rival(ABC):
    """One method with the hyper-parameter settings that it chooses from.

    Attributes
    ----------
    name : str
        Name in the tables.
    key : str
        Short name for ``--only``.
    family : str
        "baseline", "linear", "kernel", "registered", "masked" or "gan".
    largest : int
        Largest side of images in pixels that takes reasonable time and memory; 0 for any.
    """

    name: str
    key: str
    family: ClassVar[str]
    largest: int = 0

    def grid(self) -> list[Setting]:
        """Return the settings to choose from by cross-validation within the training subjects."""
        return [{}]

    @abstractmethod
    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Learn from pairs.

        Parameters
        ----------
        inputs, targets : ndarray of uint8, shape (N, height, width, channels)
            N aligned pairs.
        **setting
            One of `grid`.
        """

    @abstractmethod
    def predict(self, inputs: Images) -> Outputs:
        """Return the outputs for images of the size of the training.

        Parameters
        ----------
        inputs : ndarray of uint8, shape (N, height, width, channels)
            Aligned faces.

        Returns
        -------
        ndarray of float32, the same shape
            In [0, 1], not clipped.
        """

    @abstractmethod
    def state(self) -> State:
        """Return the arrays that `predict` needs."""

    def path(self, inputs: Images, targets: Images, held_out: Images) -> Iterator[Outputs]:
        """Yield the predictions for ``held_out`` under each setting of `grid`, in its order.

        Methods that can share computations between settings override this.
        """
        for setting in self.grid():
            self.fit(inputs, targets, **setting)
            yield self.predict(held_out)

    def parameters(self) -> int:
        """Return the number of coefficients kept."""
        return sum(array.size for array in self.state().values())

    def save(self, path: Path) -> None:
        """Write the state to a file, floating point as float32."""
        np.savez(path, **{name: _single(array) for name, array in self.state().items()})


class Channelwise(Rival):
    """A regression of rows on rows, each colour channel separately, as in the paper.

    Parameters
    ----------
    change : bool
        Regress the change, target minus input, instead of the target.
    """

    dtype: npt.DTypeLike = np.float64

    def __init__(self, *, change: bool = False) -> None:
        self.change = change
        self.solutions: list[State] = []
        if change:
            self.name, self.key = f"{self.name}, of the change", f"{self.key}-change"

    @abstractmethod
    def solve(self, X: Rows, T: Rows, **setting: Any) -> State:
        """Return what `apply` needs, for X and T of shape (N, D), intensities in [0, 1]."""

    @abstractmethod
    def apply(self, solution: State, X: Rows) -> Rows:
        """Return the targets expected for rows of X, shape (M, D)."""

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Yield the targets expected for ``held_out`` under each setting of `grid`."""
        for setting in self.grid():
            yield self.apply(self.solve(X, T, **setting), held_out)

    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Solve each channel."""
        self.solutions = [
            self.solve(X, self._wanted(X, T), **setting)
            for X, T in zip(self._rows(inputs), self._rows(targets), strict=True)
        ]

    def predict(self, inputs: Images) -> Outputs:
        """Apply the solution of each channel."""
        rows = self._rows(inputs)
        parts = [self.apply(s, X) for s, X in zip(self.solutions, rows, strict=True)]
        return self._images(parts, rows, inputs.shape)

    def path(self, inputs: Images, targets: Images, held_out: Images) -> Iterator[Outputs]:
        """Yield the predictions of each setting, from one path for each channel."""
        rows = self._rows(held_out)
        paths = [
            self.solve_path(X, self._wanted(X, T), held)
            for X, T, held in zip(self._rows(inputs), self._rows(targets), rows, strict=True)
        ]
        for parts in zip(*paths, strict=True):
            yield self._images(parts, rows, held_out.shape)

    def state(self) -> State:
        """Return the arrays of all channels."""
        return {
            f"{name}{channel}": array
            for channel, solution in enumerate(self.solutions)
            for name, array in solution.items()
        }

    def _rows(self, images: Images) -> list[Rows]:
        units = images.astype(self.dtype) / np.asarray(DATA_RANGE, self.dtype)
        return [np.ascontiguousarray(x).reshape(len(x), -1) for x in np.moveaxis(units, 3, 0)]

    def _wanted(self, X: Rows, T: Rows) -> Rows:
        return T - X if self.change else T

    def _images(
        self, parts: Sequence[Rows], inputs: Sequence[Rows], shape: tuple[int, ...]
    ) -> Outputs:
        if self.change:
            parts = [part + X for part, X in zip(parts, inputs, strict=True)]
        planes = [np.asarray(part, np.float32).reshape(shape[:3]) for part in parts]
        return np.stack(planes, axis=-1)


def centred(rows: Rows) -> tuple[Rows, Rows]:
    """Return rows less their mean, and the mean."""
    mean = rows.mean(axis=0)
    return rows - mean, mean


def _single(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float64 else array
