"""Which faces of a photograph are meant, and where their eyes are from."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mlr.errors import ImageError, OptionError
from mlr.photo.detector import NEEDS, Detector, installed
from mlr.photo.eyes import Eyes, EyeTable

#: A face by its rank in size (1 is the largest), or all of them.
Face = int | str


class FaceFinder:
    """Finds the faces of photographs: in a table, or else with the detector.

    Parameters
    ----------
    table : EyeTable, optional
        Eyes that are known. Photographs that it does not name are left to the detector.
    face : "all", "largest" or int
        Which faces are wanted: the second largest is 2.

    Raises
    ------
    OptionError
        If ``face`` is something else.
    """

    def __init__(self, table: EyeTable | None = None, face: Face = "all") -> None:
        wanted = 1 if face == "largest" else face
        if wanted != "all" and not (isinstance(wanted, int) and wanted >= 1):
            raise OptionError(f"the face must be all, largest or a number from 1, not {face!r}")
        self._table = table
        self._wanted = wanted

    def knows(self, photo: Path) -> bool:
        """Tell whether the eyes in a photograph are known without looking at it."""
        return self._table is not None and self._table.of(photo) is not None

    def find(self, photo: Path, pixels: npt.NDArray[Any]) -> list[Eyes]:
        """Return the wanted faces of a photograph, the largest first.

        Parameters
        ----------
        photo : Path
            What the table may call it.
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            Upright.

        Raises
        ------
        ImageError
            If there is none.
        """
        known = self._table.of(photo) if self._table is not None else None
        if known is None and not installed():
            raise ImageError(f"finding its faces {NEEDS}; or give the eyes with --eyes")
        faces = self._detector.find(pixels) if known is None else list(known)
        for eyes in faces:
            eyes.check_within(*pixels.shape[:2])
        faces.sort(key=lambda eyes: eyes.distance, reverse=True)
        if not faces:
            raise ImageError("no face found; give its eyes with --eyes")
        if self._wanted == "all":
            return faces
        rank = int(self._wanted)
        if rank > len(faces):
            raise ImageError(f"has {len(faces)} faces, and number {rank} is wanted")
        return [faces[rank - 1]]

    @cached_property
    def _detector(self) -> Detector:
        return Detector()
