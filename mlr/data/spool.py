"""Decoded images on the disk, of which some rows at a time are read."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.mapped import no_room, temporary_file
from mlr.errors import MlrError

Pixels = npt.NDArray[Any]


class Spool:
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
        self._shape, self._folder = shape, folder
        self._file = temporary_file(folder)
        weakref.finalize(self, self._file.close)
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
        """
        _, width, channels = self._shape
        rows = np.empty((len(places), end - first, width, channels), dtype)
        skip = first * width * channels * rows.itemsize
        for image, place in zip(rows, places, strict=True):
            self._file.seek(place + skip)
            if self._file.readinto(image.data.cast("B")) != image.nbytes:  # type: ignore[attr-defined]
                raise MlrError("the temporary file of decoded images has been cut off")
        return rows
