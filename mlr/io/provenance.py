"""What a synthesized file says of itself: a record in its metadata, written and read back.

The record is one JSON object in ASCII. It is the EXIF ImageDescription of PNG, JPEG, TIFF and WebP,
where every viewer shows it, beside EXIF Software; and the comment of GIF and of films. BMP
has no place for it. There is no time in it: the same pixels and settings give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image
from PIL.ExifTags import Base

from mlr._version import __version__
from mlr.io.images import opened, upright_size

KIND = "synthesized"

#: What is said of a file without a record.
NO_RECORD = {"record": "none: nothing says that mlr synthesized it"}

Record = Mapping[str, Any]


def new_record(
    expression: str, strength: float, model: str, style: object = None
) -> dict[str, Any]:
    """Return the record of an image synthesized now by this program.

    Parameters
    ----------
    expression : str
        Name of the expression, or of the mix.
    strength : float
        Strength of the change.
    model : str
        SHA-256 of the model file in hexadecimal digits, as ``sha256sum`` prints it; empty for a
        model that is in no file, and then left out.
    style : object, optional
        The style given, a number or one for each expression; left out if there is none.
    """
    record = {
        "kind": KIND,
        "software": f"mlr {__version__}",
        "expression": expression,
        "strength": float(strength),
    }
    chosen = {} if style is None else {"style": style}
    return record | chosen | ({"model": model} if model else {})


def to_json(record: Record) -> str:
    """Return a record as text: ASCII, on one line."""
    return json.dumps(record)


def to_exif(record: Record | None, exif: PIL.Image.Exif | None = None) -> PIL.Image.Exif:
    """Return EXIF metadata with a record in it; without a record, as it was.

    Parameters
    ----------
    record : mapping, optional
        As of `new_record`.
    exif : Exif, optional
        Metadata to add it to, which are changed; by default empty ones.
    """
    exif = PIL.Image.Exif() if exif is None else exif
    if record is not None:
        exif[Base.Software], exif[Base.ImageDescription] = str(record["software"]), to_json(record)
    return exif


def from_json(text: object) -> dict[str, Any] | None:
    """Return the record that a text is, or None if it is anything else."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == KIND else None


def describe_image(path: Path) -> dict[str, Any]:
    """Return what an image file is, ready for JSON: its size, and its record if it has one.

    Raises
    ------
    ImageError
        If it is no image, or is damaged.
    """
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
