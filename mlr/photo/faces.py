"""Selecting faces of photographs and clips, from a table of eyes or detected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from mlr.errors import ImageError, OptionError
from mlr.io.folders import as_text
from mlr.io.images import Pixels
from mlr.photo.detect import NEEDS, Detector, installed
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.track import TrackedFace, follow
from mlr.utils.progress import SHOWN, Report, counted


class FaceFinder:
    """Finds faces in photographs and clips, and selects all or one by size.

    ``eyes`` is the path of an `mlr.photo.eyes.EyeTable`; faces in files that it does not list are
    detected. ``face`` is "all", "largest" or a rank: 2 selects the second largest face.
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

    def check_table(self, files: Sequence[Path], report: Report) -> None:
        """Note names in the table that are none of the files', if it lacks one of these."""
        table = self._table
        if table is None or all(table.of(file) for file in files):
            return
        unused = [as_text(name) for name in table.unused(files)]
        if unused:
            names = ", ".join(unused[:SHOWN])
            names += f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
            report.note(f"note: {table.path} has eyes for {names}, but no input has such a name")

    def find(self, photo: Path, pixels: Pixels) -> list[Eyes]:
        """Return the selected faces of a photograph, the largest first; ImageError if none."""
        listed = self._listed(photo)
        return self.select(self._detector.find(pixels) if listed is None else listed, pixels)

    def select(self, faces: Sequence[Eyes], pixels: Pixels) -> list[Eyes]:
        """Select from all faces of a photograph; ImageError if there are none."""
        for eyes in faces:
            eyes.check_within(*pixels.shape[:2])
        if not faces:
            raise ImageError("no face found; give its eyes with --eyes")
        selected = self._select(faces)
        if not selected:
            raise ImageError(
                f"has {counted(len(faces), 'face')}, but face {self._rank} was requested"
            )
        return selected

    def follow(
        self, clip: Path, frames: Iterable[Pixels]
    ) -> Iterator[tuple[Pixels, list[TrackedFace]]]:
        """Yield the video frames of a clip with the selected faces; ImageError if it has none.

        Eyes in the table apply to every video frame. The rank of a face is its rank in the video
        frame in which it is first detected.
        """
        listed = self._listed(clip)
        if listed is None:
            tracked = follow(frames, self._detector, self._select if self._rank else None)
        else:
            selected = self._select(listed)
            fixed = [TrackedFace(eyes, track=number) for number, eyes in enumerate(selected)]
            tracked = ((frame, fixed) for frame in frames)
        found = False
        for frame, faces in tracked:
            for face in faces:
                face.eyes.check_within(*frame.shape[:2])
            found = found or bool(faces)
            yield frame, faces
        if not found:
            what = "no face" if self._rank is None else f"no face of rank {self._rank}"
            raise ImageError(f"{what} found in any video frame; give its eyes with --eyes")

    def _listed(self, file: Path) -> list[Eyes] | None:
        """Return the eyes that the table lists, or None to detect them."""
        listed = self._table.of(file) if self._table is not None else None
        if listed is None and not installed():
            raise ImageError(f"finding its faces {NEEDS}; or give the eyes with --eyes")
        return listed

    def _select(self, faces: Sequence[Eyes]) -> list[Eyes]:
        ranked = sorted(faces, key=lambda eyes: eyes.distance, reverse=True)
        return ranked if self._rank is None else ranked[self._rank - 1 : self._rank]

    @cached_property
    def _detector(self) -> Detector:
        return Detector()
