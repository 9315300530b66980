"""16-bit colour in PNG and TIFF files, which Pillow reads with 8 bits and does not write.

With the extra ``mlr[deep]``: imagecodecs (libpng, libtiff), and tifffile, which writes TIFF.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile
from PIL.ExifTags import Base

from mlr.errors import ImageError

Pixels = npt.NDArray[np.uint16]

HINT = "pip install 'mlr[deep]'"
KINDS = frozenset({"PNG", "TIFF"})  # as Pillow calls them

# What Pillow calls such pixels, in either order of bytes: not if alpha is multiplied into them, nor
# of grey with alpha.
_STORED = re.compile(r"\bRGBA?;16[BLN]")
_BEFORE_PIXELS = 8 + 12 + 13  # bytes of a PNG: its signature and IHDR, after which chunks may go
_EXIF_PREFIX = b"Exif\0\0"  # which PNG leaves out

# Without a handler the logging module shows warnings of libpng and libtiff on stderr.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_available() -> bool:
    """Tell whether the extra is installed."""
    return find_spec("imagecodecs") is not None and find_spec("tifffile") is not None


def is_deep(image: PIL.ImageFile.ImageFile) -> bool:
    """Tell whether an opened file holds what `decode` decodes."""
    return image.format in KINDS and _STORED.search(str(image.tile)) is not None


def decode(data: bytes, kind: str, shape: tuple[int, int, int]) -> Pixels:
    """Decode a PNG or TIFF file with 16 bits for each channel.

    Parameters
    ----------
    data : bytes
        The file.
    kind : str
        One of `KINDS`.
    shape : tuple of int
        Height, width and 3 or 4 channels, alpha included, as its header says: no more is allocated.

    Returns
    -------
    ndarray of uint16, shape (height, width, channels)
        As stored, EXIF orientation not applied.

    Raises
    ------
    RuntimeError, ValueError
        If the file is damaged, or of another shape or depth.
    """
    import imagecodecs

    pixels = np.empty(shape, np.uint16)
    decoder = {"PNG": imagecodecs.png_decode, "TIFF": imagecodecs.tiff_decode}[kind]
    decoder(data, out=pixels)
    return pixels


def encode(
    pixels: Pixels,
    kind: str,
    *,
    png_level: int,
    icc: bytes | None = None,
    exif: PIL.Image.Exif | None = None,
) -> bytes:
    """Encode 16-bit colour.

    Parameters
    ----------
    pixels : ndarray of uint16, shape (height, width, 3 or 4)
        Alpha, if any, is the last channel.
    kind : str
        A format as Pillow calls it.
    png_level : int
        How hard to compress a PNG, from 0 to 9.
    icc : bytes, optional
        ICC colour profile.
    exif : Exif, optional
        Metadata; of these TIFF gets description and software alone.

    Raises
    ------
    ImageError
        If the format cannot hold it, or the extra is not installed.
    """
    if kind not in KINDS:
        raise ImageError(f"{kind} files cannot hold 16-bit colour; use .png or .tif")
    if not is_available():
        raise ImageError(f"16-bit colour needs {HINT}")
    if kind == "PNG":
        return _encode_png(pixels, png_level, icc, exif)
    return _encode_tiff(pixels, icc, exif)


def _encode_png(
    pixels: Pixels, level: int, icc: bytes | None, exif: PIL.Image.Exif | None
) -> bytes:
    import imagecodecs

    encoded = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=level))
    chunks = b""  # which imagecodecs cannot write
    if icc:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.tobytes().removeprefix(_EXIF_PREFIX))
    return encoded[:_BEFORE_PIXELS] + chunks + encoded[_BEFORE_PIXELS:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file: length, kind, data and checksum."""
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _encode_tiff(pixels: Pixels, icc: bytes | None, exif: PIL.Image.Exif | None) -> bytes:
    import tifffile

    said: dict[str, Any] = {}
    if exif:
        said = {
            "description": exif.get(Base.ImageDescription),
            "software": exif.get(Base.Software, False),
        }
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb",
        planarconfig="contig",
        extrasamples=("unassalpha",) if pixels.shape[2] == 4 else None,
        compression="adobe_deflate",
        iccprofile=icc,
        metadata=None,
        **({"software": False} | said),
    )
    return file.getvalue()
