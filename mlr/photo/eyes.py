"""Eyes of faces in photographs, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlr.core.alignment import EYES
from mlr.errors import DataError, ImageError
from mlr.io.folders import real, same
from mlr.io.tables import read_number, read_table
from mlr.photo.similarity import Similarity

#: Columns of a table. As in most image viewers, whole numbers are the centres of pixels.
COLUMNS = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
CENTRE = 0.5 + 0.5j  # of the first pixel


@dataclass(frozen=True)
class Eyes:
    """The pupils of a face as x + iy, in pixels of the upright photograph from its corner.

    The centre of the first pixel is 0.5 + 0.5i. Left is the viewer's left if the face is upright.
    """

    left: complex
    right: complex
    confidence: float | None = None  # above 0, about 2 for a clear frontal face

    @property
    def distance(self) -> float:
        """Distance of the eyes, in pixels."""
        return abs(self.right - self.left)

    @property
    def middle(self) -> complex:
        """The point between the eyes."""
        return (self.left + self.right) / 2

    def under(self, transform: Similarity) -> Eyes:
        """Return the transformed eyes."""
        return Eyes(transform(self.left), transform(self.right), self.confidence)

    def lie_within(self, height: int, width: int) -> bool:
        """Return whether an image of this size can show a face with these eyes."""
        x, y = self.middle.real, self.middle.imag
        inside = 0 <= x <= width and 0 <= y <= height
        return inside and 2 <= self.distance <= math.hypot(width, height)

    def check_within(self, height: int, width: int) -> None:
        """Raise an ImageError unless the eyes `lie_within` an image of this size."""
        if not self.lie_within(height, width):
            raise ImageError(
                f"has eyes at ({self.left.real:g}, {self.left.imag:g}) and ({self.right.real:g}, "
                f"{self.right.imag:g}), which cannot be in an image of {width}x{height} px"
            )

    def to_crop(
        self, height: int, width: int, positions: Sequence[Sequence[float]] = EYES
    ) -> Similarity:
        """Return the map to a crop of this size with its eyes at (x, y) in units of the sides."""
        left, right = (complex(x * width, y * height) for x, y in positions)
        return Similarity.of_two_points((self.left, self.right), (left, right))


class EyeTable:
    """A CSV file of eyes: ``file,left_eye_x,left_eye_y,right_eye_x,right_eye_y``.

    Coordinates are pixels of the upright photograph; whole numbers are the centres of pixels. Other
    columns are ignored, so ``alignment.csv`` can be used. A file with several faces has several
    rows. ``file`` is a file name, or the end of a path if files in several folders have this name.
    A file that cannot be read, an invalid row, and left and right exchanged raise a DataError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._eyes: dict[str, list[tuple[str, Eyes]]] = {}  # with the name in the table, by `same`
        rows = exchanged = 0
        for line, row in read_table(path, ("file", *COLUMNS)):
            try:
                x0, y0, x1, y1 = (read_number(row[column] or "nan") for column in COLUMNS)
            except ValueError as error:
                raise DataError(f"{path}, line {line}: {error}; expected numbers") from None
            if not math.isfinite(x0 + y0 + x1 + y1) or not row["file"]:
                raise DataError(f"{path}, line {line}: expected a file and four numbers")
            eyes = Eyes(complex(x0, y0) + CENTRE, complex(x1, y1) + CENTRE)
            known = self._eyes.setdefault(same(row["file"]).removeprefix("./"), [])
            known.append((row["file"], eyes))
            rows += 1
            exchanged += x0 > x1 and "degrees" not in row  # mlr align finds faces upside down, too
        if 2 * exchanged > rows:
            raise DataError(
                f"{path}: the left eye is right of the right one in {exchanged} of {rows} rows; "
                "left is the viewer's left, so exchange the columns"
            )

    def of(self, photo: Path) -> list[Eyes] | None:
        """Return the eyes in a photograph, or None if the table does not list it."""
        return [eyes for _, eyes in self._rows_of(photo)] or None

    def unused(self, photos: Iterable[Path]) -> list[str]:
        """Return the names that the table lists and that none of the photographs has."""
        used = {name for photo in photos for name, _ in self._rows_of(photo)}
        return [name for rows in self._eyes.values() for name, _ in rows if name not in used]

    def _rows_of(self, photo: Path) -> list[tuple[str, Eyes]]:
        """Return the names and the eyes of the rows of a photograph."""
        path = real(photo)
        for n in range(len(path.parts)):  # the longest comes first
            name = "/".join(path.parts[n:]) if n else path.as_posix()
            root = path.parents[max(0, len(path.parts) - n - 1)] if n else Path()
            found = [
                (spelt, eyes)
                for spelt, eyes in self._eyes.get(same(name), ())
                if spelt == name or not _is_another(path, root / spelt)
            ]
            if found:
                return found
        return []


def _is_another(photo: Path, other: Path) -> bool:
    """Return whether a file whose name is only spelt like that of the photograph exists."""
    with suppress(OSError, ValueError):
        return not other.samefile(photo)
    return False
