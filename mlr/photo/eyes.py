"""The eyes of faces in photographs, and tables of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.core.alignment import EYES
from mlr.errors import DataError, ImageError
from mlr.photo.similarity import Similarity

#: Columns of a table. Whole numbers are the centres of pixels, as in most programs that show them.
COLUMNS = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
CENTRE = 0.5 + 0.5j  # of the first pixel


@dataclass(frozen=True)
class Eyes:
    """The two eyes of a face.

    Attributes
    ----------
    left, right : complex
        Centres of the pupils as x + iy, in pixels of the upright photograph, from its corner: the
        centre of the first pixel is 0.5 + 0.5i. Left is the viewer's left where the face is
        upright.
    confidence : float, optional
        The detector's score: above 0, and about 2 for a clear frontal face.
    """

    left: complex
    right: complex
    confidence: float | None = None

    @property
    def distance(self) -> float:
        """Distance of the eyes, in pixels."""
        return abs(self.right - self.left)

    @property
    def middle(self) -> complex:
        """The point between them."""
        return (self.left + self.right) / 2

    def under(self, transform: Similarity) -> Eyes:
        """Return the eyes after a map."""
        return Eyes(transform(self.left), transform(self.right), self.confidence)

    def lie_within(self, height: int, width: int) -> bool:
        """Return whether these can be the eyes of a face in an image of this size, in pixels.

        Their middle lies within, and they are at least 2 px and at most the diagonal apart.
        """
        x, y = self.middle.real, self.middle.imag
        inside = 0 <= x <= width and 0 <= y <= height
        return inside and 2 <= self.distance <= math.hypot(width, height)

    def check_within(self, height: int, width: int) -> None:
        """Raise an ImageError unless the eyes `lie_within` an image of this size, in pixels."""
        if not self.lie_within(height, width):
            raise ImageError(
                f"has eyes at ({self.left.real:g}, {self.left.imag:g}) and ({self.right.real:g}, "
                f"{self.right.imag:g}), which cannot be in an image of {width}x{height} px"
            )

    def to_crop(
        self, height: int, width: int, positions: Sequence[Sequence[float]] = EYES
    ) -> Similarity:
        """Return the map from the photograph to an aligned crop.

        Parameters
        ----------
        height, width : int
            Size of the crop, in pixels.
        positions : two pairs of float
            Positions (x, y) of the eyes in the crop, in units of its sides.
        """
        left, right = (complex(x * width, y * height) for x, y in positions)
        return Similarity.of_two_points((self.left, self.right), (left, right))


class EyeTable:
    """A CSV file of eyes: ``file,left_eye_x,left_eye_y,right_eye_x,right_eye_y``.

    In pixels of the upright photograph; whole numbers are the centres of pixels. Other columns are
    ignored, so that ``alignment.csv`` serves too. A file with several rows has several faces.
    ``file`` is the end of a path: a name, or as much of the path as tells it from others.

    Raises
    ------
    DataError
        If the file cannot be read, or a row is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._eyes: dict[str, list[Eyes]] = {}
        for line, row in read_table(path, {"file", *COLUMNS}):
            try:
                x0, y0, x1, y1 = (float(row[column] or "nan") for column in COLUMNS)
            except ValueError as error:
                raise DataError(f"{path}, line {line}: {error}; expected numbers") from None
            if not math.isfinite(x0 + y0 + x1 + y1) or not row["file"]:
                raise DataError(f"{path}, line {line}: expected a file and four numbers")
            name = row["file"].replace("\\", "/").removeprefix("./")
            eyes = Eyes(complex(x0, y0) + CENTRE, complex(x1, y1) + CENTRE)
            self._eyes.setdefault(name, []).append(eyes)

    def of(self, photo: Path) -> list[Eyes] | None:
        """Return the eyes in a photograph, or None if the table does not list it."""
        whole = photo.resolve()
        ends = ["/".join(whole.parts[n:]) for n in range(1, len(whole.parts))]
        for name in (whole.as_posix(), *ends):  # the longest end of the path first
            if name in self._eyes:
                return self._eyes[name]
        return None


def read_table(path: Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file in UTF-8, with the numbers of their lines.

    Raises
    ------
    DataError
        If the file cannot be read, or lacks one of the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = set(columns) - set(table.fieldnames or ())
            if missing:
                raise DataError(f"{path}: lacks the columns {', '.join(sorted(missing))}")
            for row in table:
                yield table.line_num, row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8: {error}") from error
