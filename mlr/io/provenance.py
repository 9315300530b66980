"""Provenance: a record in the metadata of synthesized files of how they were made.

The record is one JSON object in ASCII: the EXIF ImageDescription of PNG, JPEG, TIFF and WebP, where
every viewer shows it, next to EXIF Software; and the comment of GIF and of clips. BMP cannot hold
it. It has no time in it: the same pixels and settings give the same bytes.
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

#: Stands for the record of a file that has none.
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
        SHA-256 of the model file in hexadecimal digits, as ``sha256sum`` prints it; omitted if
        empty, for a model without a file.
    style : object, optional
        The style given, a number or one for each expression; omitted if None.
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
    """Return a record as one line of ASCII."""
    return json.dumps(record)


def to_exif(record: Record | None, exif: PIL.Image.Exif | None = None) -> PIL.Image.Exif:
    """Add a record, if there is one, to EXIF metadata, by default empty, and return these."""
    exif = PIL.Image.Exif() if exif is None else exif
    if record is not None:
        exif[Base.Software], exif[Base.ImageDescription] = str(record["software"]), to_json(record)
    return exif


def from_json(text: object) -> dict[str, Any] | None:
    """Return the record in a text, or None if it holds anything else."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == KIND else None


def describe_image(path: Path) -> dict[str, Any]:
    """Return size, format and record of an image file, ready for JSON.

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
