"""Which faces of a photograph are meant, and where their eyes are from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mlr.errors import ImageError, OptionError
from mlr.photo.detector import NEEDS, Detector, installed
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.track import Seen, follow

Pixels = npt.NDArray[Any]

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

    def find(self, photo: Path, pixels: Pixels) -> list[Eyes]:
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
        known = self._known(photo)
        faces = self._detector.find(pixels) if known is None else known
        for eyes in faces:
            eyes.check_within(*pixels.shape[:2])
        if not faces:
            raise ImageError("no face found; give its eyes with --eyes")
        chosen = self._chosen(faces)
        if not chosen:
            raise ImageError(f"has {len(faces)} faces, and number {self._wanted} is wanted")
        return chosen

    def follow(self, clip: Path, frames: Iterable[Pixels]) -> Iterator[tuple[Pixels, list[Seen]]]:
        """Yield the frames of a clip with the wanted faces in them, see `mlr.photo.track`.

        Eyes in the table are those of every frame. A face wanted by its rank is the one that has it
        where it is seen first.

        Parameters
        ----------
        clip : Path
            What the table may call it.
        frames : iterable of ndarray of uint8, shape (height, width, 1 or 3)
            Its frames.

        Raises
        ------
        ImageError
            If there is none in any frame.
        """
        known = self._known(clip)
        several = self._wanted == "all"
        found = False
        for frame, faces in (
            follow(frames, _Chosen(self._detector, self._chosen), several=several)
            if known is None
            else ((frame, [Seen(eyes) for eyes in self._chosen(known)]) for frame in frames)
        ):
            for face in faces:
                face.eyes.check_within(*frame.shape[:2])
            found = found or bool(faces)
            yield frame, faces
        if not found:
            what = "no face" if several else f"no face of rank {self._wanted}"
            raise ImageError(f"{what} found in any frame; give its eyes with --eyes")

    def _known(self, photo: Path) -> list[Eyes] | None:
        """Return the eyes that the table has; None where the detector shall look for them."""
        known = self._table.of(photo) if self._table is not None else None
        if known is None and not installed():
            raise ImageError(f"finding its faces {NEEDS}; or give the eyes with --eyes")
        return known

    def _chosen(self, faces: Sequence[Eyes]) -> list[Eyes]:
        """Return the wanted ones of some faces, the largest first."""
        ranked = sorted(faces, key=lambda eyes: eyes.distance, reverse=True)
        if self._wanted == "all":
            return ranked
        rank = int(self._wanted)
        return ranked[rank - 1 : rank]

    @cached_property
    def _detector(self) -> Detector:
        return Detector()


@dataclass(frozen=True)
class _Chosen:
    """A detector that finds only the faces that are wanted."""

    detector: Detector
    choose: Callable[[Sequence[Eyes]], list[Eyes]]

    def find(self, pixels: Pixels) -> list[Eyes]:
        return self.choose(self.detector.find(pixels))

    def again(self, pixels: Pixels, eyes: Eyes) -> Eyes | None:
        return self.detector.again(pixels, eyes)
