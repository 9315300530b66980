"""Aligned crops of the faces in photographs: training data out of what subjects have."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.errors import DataError, ImageError, MlrError, OptionError
from mlr.io.files import check_free, replacing
from mlr.io.images import PNG_LEVEL, QUALITY, is_image, read_header, read_image, write_image
from mlr.io.outputs import Job, check_skipping, plan
from mlr.photo.eyes import CENTRE, COLUMNS, Eyes, EyeTable, open_table
from mlr.photo.faces import Face, FaceFinder
from mlr.photo.warp import warp
from mlr.utils.progress import Report, counted
from mlr.utils.threads import ordered_map, thread_count

Pixels = npt.NDArray[Any]
Row = dict[str, str]

TABLE = "alignment.csv"
TABLE_COLUMNS = ("file", *COLUMNS, "crop", "confidence", "scale", "degrees", "shift_x", "shift_y")
SMALLEST = 16  # px; a face is hardly one below


@dataclass(frozen=True)
class Crop:
    """An aligned crop that was written.

    Attributes
    ----------
    photo : Path
        The photograph, as it was found.
    path : Path
        The crop.
    eyes : Eyes
        Where they are in the photograph.
    """

    photo: Path
    path: Path
    eyes: Eyes


@dataclass(frozen=True)
class _Work:
    """What is to be done with every photograph.

    Attributes
    ----------
    finder : FaceFinder
        Finds its faces.
    size : int
        Side of the crops, in pixels.
    planned : set of Path
        The first crop of each photograph.
    write : function
        Writes a crop.
    skip_existing, force : bool
        What becomes of crops that are there already.
    """

    finder: FaceFinder
    size: int
    planned: set[Path]
    write: Callable[..., None]
    skip_existing: bool
    force: bool


@dataclass
class _Outcome:
    """What became of a photograph."""

    crops: list[Crop] = field(default_factory=list)
    existing: list[Crop] = field(default_factory=list)  # left alone, and in no table
    failures: list[tuple[Path, str]] = field(default_factory=list)
    loss: str = ""


def align_files(
    photos: Sequence[str | Path],
    output: str | Path,
    *,
    size: int = 128,
    eyes: str | Path | None = None,
    face: Face = "largest",
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    threads: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> list[Crop]:
    """Write aligned crops of the faces in photographs, and ``alignment.csv`` beside them.

    Names and subfolders are kept; of several faces in a photograph ``ann.jpg`` the second largest
    becomes ``ann-2.jpg``, and so on. The table has a row for each crop: ``file``, the photograph
    below its folder; its eyes, as `EyeTable` reads them; ``crop``, the crop below ``output``;
    ``confidence``, the detector's score, if it found them; and the map from the photograph to the
    crop, u = scale (x cos - y sin) + shift_x, v = scale (x sin + y cos) + shift_y, of the angle
    ``degrees``, where whole numbers are the centres of pixels in both.

    Parameters
    ----------
    photos : sequence of path
        Image files and folders of them.
    output : path
        Folder to write to.
    size : int
        Side of the crops, in pixels.
    eyes : path, optional
        Table of eyes, see `EyeTable`. Photographs that it does not name, or all without it, need
        ``mlr[align]``.
    face : "all", "largest" or int
        Which of several faces: all, or one by its rank in size.
    quality, png_level : int
        As for `mlr.io.images.write_image`.
    threads : int, optional
        By default one for each processor.
    skip_existing : bool
        Leave crops alone that are there already, and look for faces only in photographs whose crop
        is missing in the folder or in the table. Rows of earlier runs stay in it.
    force : bool
        Overwrite existing files.
    report : Report, optional
        Told about progress and about photographs that cannot be used.

    Returns
    -------
    list of Crop
        What was written, in the order of the photographs.

    Raises
    ------
    DataError
        If there is no image in ``photos``, or a table makes no sense.
    OutputExistsError
        If there is an ``alignment.csv`` already, and neither ``skip_existing`` nor ``force``.
    MlrError
        If an option makes no sense.
    """
    if size < SMALLEST:
        raise OptionError(f"the size must be at least {SMALLEST} px, not {size}")
    folder = Path(output)
    if is_image(folder) and not folder.is_dir():
        raise OptionError(f"{folder}: expected a folder to write to, not an image")
    finder = FaceFinder(None if eyes is None else EyeTable(Path(eyes)), face)
    report = report or Report()
    check_skipping(skip_existing, force)
    check_free(folder / TABLE, force=force or skip_existing)  # before the work, not after
    jobs = plan([Path(photo) for photo in photos], folder, ["aligned"], report)
    rows = _rows_of_existing(folder) if skip_existing else {}
    write = partial(write_image, quality=quality, png_level=png_level, force=force)
    planned = {path for job in jobs for path in job.outputs.values()}
    missing = [job for job in jobs if _name(job.outputs["aligned"], folder) not in rows]
    work = _Work(finder, size, planned, write, skip_existing, force)
    report.skipped += len(jobs) - len(missing)
    crops: list[Crop] = []
    existing: list[Crop] = []
    losses: list[str] = []
    outcomes = ordered_map(partial(_run, work=work), missing, thread_count(threads))
    for outcome in report.progress(outcomes, len(missing), "aligning"):
        crops += outcome.crops
        existing += outcome.existing
        report.skipped += bool(outcome.existing and not outcome.crops)
        losses.append(outcome.loss)
        for path, cause in outcome.failures:
            report.fail(path, cause)
    report.note_losses(losses)
    enlarged = sum(crop.eyes.to_crop(size, size).scale > 1 for crop in crops)
    if enlarged:
        what = counted(enlarged, "face is", "faces are")
        report.note(f"note: {what} smaller than {size} px, and enlarged")
    report.done += len(crops)
    if crops or existing:
        roots = [Path(photo) for photo in photos if Path(photo).is_dir()]
        new = [_row(crop, folder, roots, size) for crop in (*existing, *crops)]
        rows |= {row["crop"]: row for row in new}
        _write_table(folder, rows.values(), force or skip_existing)
    return crops


def align(pixels: Pixels, eyes: Eyes, size: int = 128) -> Pixels:
    """Return the aligned crop of a face.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width, channels)
        The photograph.
    eyes : Eyes
        Where they are.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    ndarray of the same dtype, shape (size, size, channels)
        With the eyes at `mlr.core.alignment.EYES`. What lies beyond the photograph has the colours
        of its edge.

    Raises
    ------
    ImageError
        If the eyes lie outside of the photograph.
    """
    eyes.check_within(*pixels.shape[:2])
    crop = warp(pixels, eyes.to_crop(size, size), size, size)
    white = np.iinfo(pixels.dtype).max
    rounded: Pixels = np.clip(np.rint(crop), 0, white).astype(pixels.dtype)
    return rounded


def _run(job: Job, work: _Work) -> _Outcome:
    """Write the crops of one photograph."""
    first, size, skip_existing = job.outputs["aligned"], work.size, work.skip_existing
    outcome = _Outcome()
    try:
        check_free(first, force=work.force or skip_existing)  # before the work, not after
        image = read_image(job.face)
        outcome.loss = image.loss
        faces = work.finder.find(job.face, image.pixels)
    except MlrError as error:
        outcome.failures.append((job.face, str(error)))
        return outcome
    for number, eyes in enumerate(faces, 1):
        path = first if number == 1 else first.with_stem(f"{first.stem}-{number}")
        try:
            if number > 1 and path in work.planned:
                raise MlrError(
                    f"face {number} would be written to {path}, as another photograph is"
                )
            if skip_existing and path.exists():
                _check_size(path, size)
                outcome.existing.append(Crop(job.face, path, eyes))
                continue
            crop = align(image.pixels, eyes, size)
            alpha = image.alpha
            if alpha is not None:
                alpha = align(alpha[..., None], eyes, size)[..., 0]
            work.write(path, crop, alpha, icc=image.icc)
            outcome.crops.append(Crop(job.face, path, eyes))
        except MlrError as error:
            outcome.failures.append((job.face, str(error)))
    return outcome


def _check_size(path: Path, size: int) -> None:
    """Raise unless a crop of an earlier run has the size that is wanted now."""
    header = read_header(path)
    if (header.height, header.width) != (size, size):
        raise ImageError(f"{path}: exists already and is {header}, not {size}x{size} px")


def _name(path: Path, folder: Path) -> str:
    """Return what the table calls a crop."""
    return path.relative_to(folder).as_posix()


def _row(crop: Crop, folder: Path, roots: Sequence[Path], size: int) -> Row:
    """Return the row of a crop in ``alignment.csv``; the roots are the folders of photographs."""
    root = next((root for root in roots if crop.photo.is_relative_to(root)), crop.photo.parent)
    eyes, to_crop = crop.eyes, crop.eyes.to_crop(size, size)
    left, right, shift = eyes.left - CENTRE, eyes.right - CENTRE, to_crop(CENTRE) - CENTRE
    values = (
        crop.photo.relative_to(root).as_posix(),
        *(f"{number:.2f}" for eye in (left, right) for number in (eye.real, eye.imag)),
        _name(crop.path, folder),
        "" if eyes.confidence is None else f"{eyes.confidence:.2f}",
        f"{to_crop.scale:.6g}",
        f"{to_crop.degrees:.3f}",
        f"{shift.real:.3f}",
        f"{shift.imag:.3f}",
    )
    return dict(zip(TABLE_COLUMNS, values, strict=True))


def _rows_of_existing(folder: Path) -> dict[str, Row]:
    """Return the rows of an earlier ``alignment.csv`` by the name of a crop that is still there."""
    path = folder / TABLE
    if not path.exists():
        return {}
    with open_table(path, TABLE_COLUMNS) as table:
        rows = list(table)
    if any(set(row) != set(TABLE_COLUMNS) or None in row.values() for row in rows):
        raise DataError(f"{path}: is not as mlr align wrote it; give --force to overwrite it")
    return {row["crop"]: row for row in rows if (folder / row["crop"]).is_file()}


def _write_table(folder: Path, rows: Iterable[Row], force: bool) -> None:
    """Write ``alignment.csv``."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with replacing(folder / TABLE, force=force) as file:
        file.write(text.getvalue().encode())
