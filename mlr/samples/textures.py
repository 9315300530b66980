"""Smooth noise and wide blurs, interpolated from coarse lattices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlr.samples.canvas import Array, bump

LATTICE, REACH = 48, 0.042  # of `blur`: points along a side, and the radius


def fade(cell: float, px: float) -> float:
    """Return the contrast at which a texture with this cell size does not alias."""
    return min(1.0, max(0.0, cell / px / 2 - 0.5))


def noise1(table: Array, s: Array) -> Array:
    """Return smooth noise from a periodic table, whose length is a power of two, at ``s``."""
    whole_part = np.floor(s)
    f = s - whole_part
    f *= f * (3.0 - 2.0 * f)
    i = whole_part.astype(np.int32)
    last = table.size - 1
    a = table.take(i & last)
    return a + f * (table.take((i + 1) & last) - a)


@lru_cache(maxsize=64)
def _cells(size: int, cells: int) -> tuple[npt.NDArray[np.intp], Array]:
    """Return the lattice cell of each pixel along a side, and its position in the cell."""
    s = (np.arange(size) + 0.5) / size * cells
    i = np.floor(s).astype(np.intp)
    return i, (s - i).astype(np.float32)


def stretch(lattice: Array, size: int, rounded: bool = False) -> Array:
    """Interpolate a lattice that spans the image to (size, size) pixels."""
    i, f = _cells(size, lattice.shape[0] - 1)
    j, t = _cells(size, lattice.shape[1] - 1)
    if rounded:
        f, t = f * f * (3 - 2 * f), t * t * (3 - 2 * t)
    upper = lattice[i]
    rows = upper + f[:, None] * (lattice[i + 1] - upper)
    left = rows.take(j, axis=1)
    field: Array = rows.take(j + 1, axis=1)
    field -= left
    field *= t
    field += left
    return field


def noise2(table: Array, size: int, cells: int, across: int = 0) -> Array:
    """Return smooth noise (size, size) with this number of cells in y, and ``across`` in x."""
    nx = across or cells
    kept = fade(1 / max(cells, nx), 1 / size)
    if kept == 0.0:
        return np.zeros((size, size), np.float32)
    return stretch(table[: cells + 1, : nx + 1] * kept, size, rounded=True)


def blur(a: Array) -> Array:
    """Smooth an image with a bell curve of radius `REACH`, on a coarse lattice."""
    at = np.linspace(0, 1, LATTICE)
    bells = bump((at - at[:, None]) / REACH)
    bells = (bells / bells.sum(axis=1, keepdims=True)).astype(np.float32)
    near = np.linspace(0, len(a) - 1, LATTICE).round().astype(np.intp)
    return stretch(bells @ a[np.ix_(near, near)] @ bells.T, len(a))
