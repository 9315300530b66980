"""The faces of photographs and clips that are wanted: from a table of eyes, or detected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from mlr.errors import ImageError, OptionError
from mlr.io.images import Pixels
from mlr.photo.detect import NEEDS, Detector, installed
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.track import TrackedFace, follow


class FaceFinder:
    """Finds the wanted faces of photographs and clips.

    Parameters
    ----------
    eyes : path, optional
        Table of eyes, see `mlr.photo.eyes.EyeTable`. The eyes in files that it does not list are
        detected.
    face : "all", "largest" or int
        Which faces are wanted: 2 is the second largest.

    Raises
    ------
    DataError
        If the table cannot be read.
    OptionError
        If ``face`` is something else.
    """

    def __init__(self, eyes: str | Path | None = None, face: int | str = "all") -> None:
        rank = {"all": None, "largest": 1}.get(face, face) if isinstance(face, str) else face
        if rank is not None and not (isinstance(rank, int) and rank >= 1):
            raise OptionError(f"the face must be all, largest or a number from 1, not {face!r}")
        self._rank = rank
        self._table = None if eyes is None else EyeTable(Path(eyes))

    def knows(self, file: Path) -> bool:
        """Return whether the table lists a file."""
        return self._table is not None and self._table.of(file) is not None

    def find(self, photo: Path, pixels: Pixels) -> list[Eyes]:
        """Return the wanted faces of a photograph, the largest first.

        Parameters
        ----------
        photo : Path
            The file, to look it up in the table.
        pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
            The photograph, upright.

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
        wanted = self._wanted(faces)
        if not wanted:
            raise ImageError(f"has {len(faces)} faces, and number {self._rank} is wanted")
        return wanted

    def follow(
        self, clip: Path, frames: Iterable[Pixels]
    ) -> Iterator[tuple[Pixels, list[TrackedFace]]]:
        """Yield the frames of a clip with the wanted faces in them, see `mlr.photo.track`.

        Eyes in the table are those of every frame. A face wanted by its rank is the one that has
        this rank in the frame where it is detected first.

        Parameters
        ----------
        clip : Path
            The file, to look it up in the table.
        frames : iterable of ndarray of uint8, shape (height, width, 1 or 3)
            Its frames.

        Raises
        ------
        ImageError
            If there is none in any frame.
        """
        known = self._known(clip)
        if known is None:
            tracked = follow(frames, self._detector, self._wanted if self._rank else None)
        else:
            fixed = [TrackedFace(eyes) for eyes in self._wanted(known)]
            tracked = ((frame, fixed) for frame in frames)
        found = False
        for frame, faces in tracked:
            for face in faces:
                face.eyes.check_within(*frame.shape[:2])
            found = found or bool(faces)
            yield frame, faces
        if not found:
            what = "no face" if self._rank is None else f"no face of rank {self._rank}"
            raise ImageError(f"{what} found in any frame; give its eyes with --eyes")

    def _known(self, file: Path) -> list[Eyes] | None:
        """Return the eyes listed in the table, or None if they have to be detected."""
        known = self._table.of(file) if self._table is not None else None
        if known is None and not installed():
            raise ImageError(f"finding its faces {NEEDS}; or give the eyes with --eyes")
        return known

    def _wanted(self, faces: Sequence[Eyes]) -> list[Eyes]:
        """Return the wanted ones of some faces, the largest first."""
        ranked = sorted(faces, key=lambda eyes: eyes.distance, reverse=True)
        return ranked if self._rank is None else ranked[self._rank - 1 : self._rank]

    @cached_property
    def _detector(self) -> Detector:
        return Detector()
