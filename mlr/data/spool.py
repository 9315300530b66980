"""Images and planes on the disk, of which some rows at a time are read."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlr.data.mapped import no_room, reserved_file, temporary_file
from mlr.errors import MlrError

Pixels = npt.NDArray[Any]

_PREADV = hasattr(os, "preadv")


class _Temporary:
    """A temporary file that is closed with whoever has it.

    Parameters
    ----------
    file : file
        Open for reading and writing.
    what : str
        What lies in it, for errors.
    """

    def __init__(self, file: IO[bytes], what: str) -> None:
        self._file, self._what = file, what
        weakref.finalize(self, file.close)

    def _fill(self, room: memoryview, place: int) -> None:
        """Read the bytes from a place on, as many as there is room for."""
        if _PREADV:
            count = os.preadv(self._file.fileno(), (room,), place)
        else:
            self._file.seek(place)
            count = self._file.readinto(room)  # type: ignore[attr-defined]
        if count != room.nbytes:
            raise MlrError(f"the temporary file of {self._what} has been cut off")


class Spool(_Temporary):
    """A temporary file of images of one size.

    Parameters
    ----------
    shape : tuple of int
        (height, width, channels).
    folder : Path, optional
        Where the file takes up room.

    Raises
    ------
    MlrError
        If it cannot be made.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None = None) -> None:
        super().__init__(temporary_file(folder), "decoded images")
        self._shape, self._folder = shape, folder
        self._end = 0

    def add(self, pixels: Pixels) -> int:
        """Write an image; return where it is.

        Raises
        ------
        MlrError
            If there is no room for it.
        """
        place = self._end
        try:
            self._file.seek(place)
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        except OSError as error:
            raise no_room(self._folder, place + pixels.nbytes, error) from error
        self._end += pixels.nbytes
        return place

    def read(self, places: list[int], dtype: npt.DTypeLike, first: int, end: int) -> Pixels:
        """Return some rows of images.

        Parameters
        ----------
        places : list of int
            Where the images are.
        dtype : numpy dtype
            Of their pixels.
        first, end : int
            The rows first, ..., end - 1.

        Returns
        -------
        ndarray, shape (images, end - first, width, channels)

        Raises
        ------
        MlrError
            If they are not there any more.
        """
        _, width, channels = self._shape
        rows = np.empty((len(places), end - first, width, channels), dtype)
        skip = first * width * channels * rows.itemsize
        for image, place in zip(rows, places, strict=True):
            self._fill(image.data.cast("B"), place + skip)
        return rows


class RowFile(_Temporary):
    """A temporary file of planes, of which some rows at a time are written and read.

    In a mapped file a fault for each page of what is read takes longer than reading it.

    Parameters
    ----------
    shape : tuple of int
        (planes, height, width).
    folder : Path, optional
        Where the file takes up room.

    Raises
    ------
    MlrError
        If there is no room for it.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None = None) -> None:
        super().__init__(reserved_file(8 * math.prod(shape), folder), "moments")
        self._planes, self._height, self._width = shape

    def write(self, first: int, planes: Iterable[npt.NDArray[np.float64]]) -> None:
        """Write rows from the first on, (rows, width) of each plane."""
        for plane, rows in enumerate(planes):
            self._file.seek(self._place(plane, first))
            self._file.write(np.ascontiguousarray(rows).data)
        self._file.flush()

    def read(self, first: int, end: int) -> npt.NDArray[np.float64]:
        """Return the rows first, ..., end - 1, one at least: (planes, rows, width).

        Raises
        ------
        MlrError
            If they are not there any more.
        """
        rows = np.empty((self._planes, end - first, self._width))
        view, size = memoryview(rows).cast("B"), rows[0].nbytes
        place, step = self._place(0, first), self._place(1, 0)
        for k in range(self._planes):  # in threads, which wait for each other, it takes longer
            self._fill(view[k * size : (k + 1) * size], place + k * step)
        return rows

    def _place(self, plane: int, row: int) -> int:
        return 8 * (plane * self._height + row) * self._width


class RowMemory:
    """What `RowFile` does, in memory.

    Parameters
    ----------
    shape : tuple of int
        (planes, height, width).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._all = np.empty(shape)

    def write(self, first: int, planes: Iterable[npt.NDArray[np.float64]]) -> None:
        """Write rows from the first on, (rows, width) of each plane."""
        for whole, rows in zip(self._all, planes, strict=True):
            whole[first : first + len(rows)] = rows

    def read(self, first: int, end: int) -> npt.NDArray[np.float64]:
        """Return the rows first, ..., end - 1: (planes, rows, width)."""
        return self._all[:, first:end].copy()
