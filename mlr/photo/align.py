"""Aligned crops of the faces in photographs, as training data."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mlr.errors import DataError, ImageError, MlrError, OptionError
from mlr.io.files import check_free, replacing
from mlr.io.folders import as_text, spelt_in
from mlr.io.images import (
    PNG_LEVEL,
    QUALITY,
    Image,
    Pixels,
    is_image,
    read_header,
    read_image,
    write_image,
)
from mlr.io.names import PLAIN, Scheme, labels_of, read_names, recognised, scheme_of
from mlr.io.outputs import FilePlan, check_skipping, plan_outputs
from mlr.io.provenance import kept_exif, lost_metadata
from mlr.io.tables import read_table
from mlr.photo.eyes import CENTRE, COLUMNS, Eyes
from mlr.photo.faces import FaceFinder
from mlr.photo.similarity import warp
from mlr.utils.progress import SHOWN, Report, counted, reporting
from mlr.utils.threads import ordered_map, thread_count

Row = dict[str, str]

TABLE = "alignment.csv"
TABLE_COLUMNS = ("file", *COLUMNS, "crop", "confidence", "scale", "degrees", "shift_x", "shift_y")
SMALLEST = 16  # px
SOURCE = "neutral"  # the expression that subjects are expected to have


@dataclass(frozen=True)
class _Crop:
    """An aligned crop of a photograph; it existed before unless ``written``."""

    photo: Path
    path: Path
    eyes: Eyes
    written: bool


def align(
    photos: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    size: int = 128,
    eyes: str | Path | None = None,
    face: int | str = "largest",
    dataset: str | None = None,
    names: str | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    metadata: bool = True,
    threads: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    progress: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Write aligned crops of the faces in photographs, and ``alignment.csv`` in the same folder.

    Names and subfolders are kept; the second largest face in ``ann.jpg`` becomes ``ann-2.jpg``, and
    so on. But ``ann_neutral.jpg`` and ``ann_happy.jpg`` become ``neutral/ann.jpg`` and
    ``happy/ann.jpg``, and so do files of a known data set. The table has a row for each crop:

    - ``file``, the path of the photograph relative to its folder;
    - its eyes, as in `mlr.photo.eyes.EyeTable`;
    - ``crop``, the path of the crop relative to ``output``;
    - ``confidence``, the score of detected eyes;
    - the map from the photograph to the crop, u = scale (x cos - y sin) + shift_x, v = scale (x sin
      + y cos) + shift_y, of the angle ``degrees``. Whole numbers are the centres of pixels.

    Parameters
    ----------
    photos : path or sequence of path
        Image files and folders of them.
    output : path
        Folder to write to.
    size : int
        Side of the crops, in pixels, at least 16.
    eyes : path, optional
        CSV file of eyes, see `mlr.photo.eyes.EyeTable`. Eyes in photographs that it does not list
        are detected, which needs the extra ``align``.
    face : "all", "largest" or int
        Which of several faces: all, or one by its rank in size.
    dataset : str, optional
        Name of the data set whose names the files have, one of `mlr.io.names.SCHEMES`. Side views
        and the like are skipped, and so are pictures without a neutral one of the same subject.
    names : str, optional
        Pattern of the names of files instead, such as ``{subject}_{expression}.jpg``, in which
        ``*`` stands for anything; see `mlr.io.names.scheme_of`.
    quality : int
        Of JPEG and WebP files, from 1 to 100.
    png_level : int
        Compression level of PNG files, from 0 to 9.
    metadata : bool
        Keep dates, author, resolution and gamma of the photographs.
    threads : int, optional
        By default one for each processor.
    skip_existing : bool
        Keep existing crops and their rows, and process only photographs without a crop or a row.
    force : bool
        Overwrite existing files.
    progress : bool
        Show notes and progress bars on stderr.
    report : Report, optional
        Receives progress, notes and the photographs that fail.

    Returns
    -------
    list of Path
        The crops written, in the order of the photographs.

    Raises
    ------
    DataError
        If there is no image in ``photos``, no name is as ``dataset`` or ``names`` say, or a table
        is invalid.
    OutputExistsError
        If ``alignment.csv`` exists, and neither ``skip_existing`` nor ``force`` is set.
    OptionError
        If an option is invalid.
    MlrError
        If the table cannot be written.
    """
    if size < SMALLEST:
        raise OptionError(f"the size must be at least {SMALLEST} px, not {size}")
    folder = Path(output)
    if is_image(folder) and not folder.is_dir():
        raise OptionError(f"{folder}: expected a folder to write to, not an image")
    scheme = scheme_of(dataset, names)
    finder = FaceFinder(eyes, face)
    report = reporting(report, progress)
    check_skipping(skip_existing, force)
    check_free(folder / TABLE, force=force or skip_existing)
    paths = [Path(photo) for photo in ([photos] if isinstance(photos, str | Path) else photos)]
    plans = plan_outputs(paths, folder, ["aligned"], report)
    plans = _by_expression(_photographs(plans, paths, report), folder, scheme, paths, report)
    rows = _rows_of_existing(folder) if skip_existing else {}
    missing = [plan for plan in plans if _name(plan.outputs["aligned"], folder) not in rows]
    finder.check_table([plan.source for plan in plans], report)
    report.skipped += len(plans) - len(missing)
    planned = {plan.outputs["aligned"] for plan in plans}

    encoding = {"quality": quality, "png_level": png_level, "force": force}
    write = partial(
        _write_crop, size=size, skip_existing=skip_existing, metadata=metadata, encoding=encoding
    )
    reuse = force or skip_existing
    process = partial(_align_photo, finder=finder, planned=planned, write=write, reuse=reuse)
    process = partial(process, metadata=metadata)
    crops: list[_Crop] = []
    losses: list[tuple[Path, str]] = []
    results = ordered_map(process, missing, thread_count(threads))
    tracked = report.progress(results, len(missing), "aligning")
    for plan, (found, failures, loss, lost) in zip(missing, tracked, strict=True):
        crops += found
        losses.append((plan.source, loss))
        report.skipped += bool(found) and not any(crop.written for crop in found)
        for cause in failures:
            report.fail(plan.source, cause)
        report.lose(plan.source, lost if found else [])
    report.note_losses(losses)
    written = [crop for crop in crops if crop.written]
    enlarged = sum(crop.eyes.to_crop(size, size).scale > 1 for crop in written)
    if enlarged:
        what = counted(enlarged, "face is", "faces are")
        report.note(f"note: {what} smaller than {size} px, and enlarged")
    report.done += len(written)
    if crops:
        roots = [path for path in paths if path.is_dir()]
        for crop in sorted(crops, key=lambda crop: crop.written):
            rows[_name(crop.path, folder)] = _row(crop, folder, roots, size)
        _write_table(folder, rows.values(), force or skip_existing)
    return [crop.path for crop in written]


def _photographs(
    plans: Sequence[FilePlan], paths: Sequence[Path], report: Report
) -> Sequence[FilePlan]:
    """Return plans without crops of earlier runs, which are in subfolders with a table."""
    roots = {path for path in paths if path.is_dir()}

    @cache
    def has_crops(folder: Path) -> bool:
        inside = folder not in roots and not roots.isdisjoint(folder.parents)
        return inside and ((folder / TABLE).is_file() or has_crops(folder.parent))

    photographs = [plan for plan in plans if not has_crops(plan.source.parent)]
    if photographs:
        crops = [plan.source for plan in plans if has_crops(plan.source.parent)]
        report.skip(crops, "crop", " of mlr align")
    return photographs or plans


def _by_expression(
    plans: Sequence[FilePlan],
    folder: Path,
    scheme: Scheme | None,
    paths: Sequence[Path],
    report: Report,
) -> list[FilePlan]:
    """Return plans with a folder for each expression that the names of files tell."""
    by_name = {_name(plan.outputs["aligned"], folder): plan for plan in plans}
    if scheme is None:
        if (known := recognised(list(by_name), SOURCE)) is None:
            return list(plans)
        scheme, reading = known
    else:
        labels = labels_of(filter(Path.is_dir, paths)) if scheme.apex is not None else {}
        reading = read_names(by_name, scheme, labels)
        if not reading.found:
            what = f"no name is like {scheme.example}"
            if reading.skipped:
                what = f"all are skipped ({scheme.skips})"
            shown = ", ".join([*by_name][:SHOWN])
            raise DataError(f"{what}, of {counted(len(by_name), 'file')}: {shown}")
        alone = reading.drop_unpaired(SOURCE)
        if alone:
            what = counted(alone, "picture")
            report.note(f"note: skipped {what} without a {SOURCE} one of the same subject")
    if reading.skipped:
        why = f": {scheme.skips}" if scheme.skips else ""
        report.note(f"note: skipped {counted(reading.skipped, 'file')}{why}")
    kept = []
    for name in reading.unmatched:
        if scheme is PLAIN:
            kept.append(by_name[name])
        else:
            report.fail(by_name[name].source, f"has no name like {scheme.example}")
    counts = Counter(expression for expression, _ in reading.found.values())
    found = ", ".join(f"{count} {expression}" for expression, count in sorted(counts.items()))
    report.note(f"note: read names of files as {scheme.example}: {found}")
    for name, (expression, subject) in reading.found.items():
        suffix = by_name[name].outputs["aligned"].suffix
        path = folder / expression / f"{subject}{suffix}"
        kept.append(FilePlan(by_name[name].source, {"aligned": path}))
    return sorted(kept, key=lambda plan: plan.source)


def aligned_crop(pixels: Pixels, eyes: Eyes, size: int = 128) -> Pixels:
    """Return the crop of a face, in the dtype of the photograph and with its eyes at `EYES`.

    Beyond the edges of the photograph its edge pixels are repeated. Eyes outside the photograph
    raise an ImageError.
    """
    eyes.check_within(*pixels.shape[:2])
    crop = warp(pixels, eyes.to_crop(size, size), size, size)
    data_range = np.iinfo(pixels.dtype).max
    rounded: Pixels = np.clip(np.rint(crop), 0, data_range).astype(pixels.dtype)
    return rounded


def _align_photo(
    plan: FilePlan,
    finder: FaceFinder,
    planned: Collection[Path],
    write: Callable[[Path, Image, Eyes], bool],
    reuse: bool,
    metadata: bool,
) -> tuple[list[_Crop], list[str], str, list[str]]:
    """Return the crops of a photograph, why others failed, and what decoding and crops lost."""
    first, loss = plan.outputs["aligned"], ""
    lost: list[str] = []
    crops: list[_Crop] = []
    failures: list[str] = []
    try:
        check_free(first, force=reuse)
        image = read_image(plan.source)
        loss = image.loss
        lost = lost_metadata(first, image) if metadata else []
        for number, eyes in enumerate(finder.find(plan.source, image.pixels), 1):
            path = first if number == 1 else first.with_stem(f"{first.stem}-{number}")
            try:
                if number > 1 and path in planned:
                    raise MlrError(f"face {number} and another photograph would both be {path}")
                crops.append(_Crop(plan.source, path, eyes, write(path, image, eyes)))
            except MlrError as error:
                failures.append(str(error))
    except MlrError as error:
        failures.append(str(error))
    return crops, failures, loss, lost


def _write_crop(
    path: Path,
    image: Image,
    eyes: Eyes,
    size: int,
    skip_existing: bool,
    metadata: bool,
    encoding: dict[str, Any],
) -> bool:
    """Write a crop, or return False if it exists and is skipped."""
    if skip_existing and path.exists():
        header = read_header(path)
        if (header.height, header.width) != (size, size):
            raise ImageError(f"{path}: exists already and is {header}, not {size}x{size} px")
        return False
    alpha = image.alpha
    if alpha is not None:
        alpha = aligned_crop(alpha[..., None], eyes, size)[..., 0]
    crop = aligned_crop(image.pixels, eyes, size)
    exif = kept_exif(image) if metadata else None
    write_image(path, crop, alpha, icc=image.icc, exif=exif, **encoding)
    return True


def _name(path: Path, folder: Path) -> str:
    """Return the name of a crop in the table."""
    return path.relative_to(folder).as_posix()


def _row(crop: _Crop, folder: Path, roots: Sequence[Path], size: int) -> Row:
    """Return the row of a crop in the table; the roots are the folders of photographs."""
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
    """Return the rows of an earlier table whose crops still exist, by the names of the crops."""
    path = folder / TABLE
    if not path.exists():
        return {}
    rows = [row for _, row in read_table(path, TABLE_COLUMNS)]
    if any(set(row) != set(TABLE_COLUMNS) or not row[TABLE_COLUMNS[-1]] for row in rows):
        raise DataError(f"{path}: not written by mlr align; give --force to overwrite it")
    by_crop = {spelt_in(folder, row["crop"]): row for row in rows}
    return {crop: row for crop, row in by_crop.items() if (folder / crop).is_file()}


def _write_table(folder: Path, rows: Collection[Row], force: bool) -> None:
    text = io.StringIO(newline="")
    odd = any("\r" in row["file"] + row["crop"] for row in rows)  # which csv does not quote
    table = csv.DictWriter(
        text,
        TABLE_COLUMNS,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL,
    )
    table.writeheader()
    table.writerows(rows)
    with replacing(folder / TABLE, force=force) as file:
        file.write(as_text(text.getvalue()).encode())
