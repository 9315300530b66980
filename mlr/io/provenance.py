"""Provenance: a record of the synthesis in the metadata of output files.

The record is a JSON object in ASCII: EXIF ImageDescription (together with EXIF Software) in PNG,
JPEG, TIFF and WebP files, the comment in GIF files and clips. BMP cannot store it. It contains no
time, so that the same pixels and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
from PIL.ExifTags import Base

from mlr._version import __version__
from mlr.errors import ImageError
from mlr.io.images import opened, upright_size

KIND = "synthesized"

#: Describes a file without a record.
NO_RECORD = {"record": "none: not known to be synthesized by mlr"}

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
        text = image.getexif().get(Base.ImageDescription) or image.info.get("comment")
        width, height = upright_size(image)
        found = {
            "kind": "image",
            "format": str(image.format),
            "size": f"{width}x{height}",
            "frames": int(getattr(image, "n_frames", 1)),
        }
    record = from_json(text)
    return found | (record or NO_RECORD)
