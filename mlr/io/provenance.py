"""Provenance: a record of the synthesis in the metadata of output files.

Outputs keep date, author, resolution and gamma of their input. The record is a JSON object in
ASCII: EXIF ImageDescription (together with EXIF Software) in PNG, JPEG, TIFF and WebP files, the
comment in GIF files, clips, and PNG files saved by a page of `mlr export`. BMP cannot store it. It
contains no time, so that the same pixels and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
from PIL.ExifTags import IFD, Base

from mlr._version import __version__
from mlr.errors import ImageError
from mlr.io.images import ENCODINGS, GAMMA, Image, opened

KIND = "synthesized"

#: Describes a file without a record.
NO_RECORD = {"record": "none: not known to be synthesized by mlr"}

#: Tags that outputs keep if they are text, of the first and of the EXIF directory.
_KEPT = {
    None: (Base.DateTime, Base.Artist, Base.Copyright),
    IFD.Exif: (
        *(Base.DateTimeOriginal, Base.DateTimeDigitized),
        *(Base.OffsetTime, Base.OffsetTimeOriginal, Base.OffsetTimeDigitized),
        *(Base.SubsecTime, Base.SubsecTimeOriginal, Base.SubsecTimeDigitized),
    ),
}

Record = Mapping[str, Any]


def new_record(
    expression: str, strength: float, model: str, style: object = None
) -> dict[str, Any]:
    """Return the record of an output; ``model`` is the SHA-256 of its file, or empty if unknown."""
    record = {
        "kind": KIND,
        "software": f"mlr {__version__}",
        "expression": expression,
        "strength": float(strength),
        "style": style,
        "model": model or None,
    }
    return {name: value for name, value in record.items() if value is not None}


def to_json(record: Record) -> str:
    """Return a record as one line of ASCII."""
    return json.dumps(record)


def to_exif(record: Record | None, exif: PIL.Image.Exif | None = None) -> PIL.Image.Exif:
    """Return EXIF metadata, by default empty, with the record added unless it is None."""
    exif = PIL.Image.Exif() if exif is None else exif
    if record is not None:
        exif[Base.Software], exif[Base.ImageDescription] = str(record["software"]), to_json(record)
    return exif


def kept_exif(image: Image) -> PIL.Image.Exif:
    """Return the metadata that outputs keep: dates, author, dots per inch and gamma."""
    kept, found = PIL.Image.Exif(), image.exif or PIL.Image.Exif()
    with suppress(Exception):  # damaged metadata raise all kinds
        for directory, tags in _KEPT.items():
            source = found.get_ifd(directory) if directory else found
            texts: dict[int, str | bytes] = {
                tag: source[tag] if source[tag].isascii() else source[tag].encode("latin-1")
                for tag in tags
                if isinstance(source.get(tag), str)
            }  # Pillow reads other texts as Latin-1, and would write question marks
            if texts:
                (kept.get_ifd(directory) if directory else kept).update(texts)
            if taken := texts.get(Base.DateTimeOriginal):  # TIFF files have no other date
                kept.setdefault(Base.DateTime, taken)
    with suppress(TypeError, ValueError, ZeroDivisionError):
        unit = {2: 1, 3: 2.54}.get(found.get(Base.ResolutionUnit, 2), 0)
        stored = (found.get(tag, 0) for tag in (Base.XResolution, Base.YResolution))
        dpi = [float(x) for x in image.info.get("dpi") or [float(x) * unit for x in stored]]
        if all(1 < x < 1 << 16 for x in dpi):  # 1 stands for an unknown resolution
            kept[Base.XResolution], kept[Base.YResolution], kept[Base.ResolutionUnit] = *dpi, 2
        gamma = float(image.info.get("gamma") or found.get_ifd(IFD.Exif).get(GAMMA, 0))
        if 0 < gamma < 100:
            kept.get_ifd(IFD.Exif)[GAMMA] = gamma
    return kept


def lost_metadata(path: Path, image: Image) -> list[str]:
    """Return which of the metadata in `kept_exif` the format of an output cannot store."""
    kept, kind = kept_exif(image), ENCODINGS.get(path.suffix.lower())
    if path.suffix.lower() == ".gif":
        return ["date, author, resolution and gamma"] if kept or kept.get_ifd(IFD.Exif) else []
    lost = []
    if kind == "BMP" and set(kept) & set(_KEPT[None]):
        lost.append("date and author")
    if kind in ("BMP", "TIFF") and (more := kept.get_ifd(IFD.Exif)):
        lost += ["gamma"] if GAMMA in more else []
        lost += ["the time of taking in detail"] if set(more) - {GAMMA} else []
    return lost


def from_json(text: object) -> dict[str, Any] | None:
    """Return the record in a text, or None if it contains something else."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == KIND else None


def is_output(path: Path) -> bool:
    """Return whether the record of an image says that ``mlr synthesize`` wrote it."""
    try:
        return describe_image(path).get("kind") == KIND
    except ImageError:  # shown when it is read
        return False


def describe_image(path: Path) -> dict[str, Any]:
    """Return size, format and record of an image file for JSON, or raise `ImageError`."""
    with opened(path) as image:
        comments = (image.info.get(name) for name in ("comment", "Comment"))
        text = image.exif.get(Base.ImageDescription) or next(filter(None, comments), None)
        width, height = image.size
        found = {
            "kind": "image",
            "format": image.format,
            "size": f"{width}x{height}",
            "frames": image.frames,
        }
    record = from_json(text)
    return found | (record or NO_RECORD)
