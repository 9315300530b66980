"""Images and planes on the disk, of which some rows at a time are read."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError
from mlr.utils.mapped import no_room, temporary_file

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
