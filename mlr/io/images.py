"""Reading and writing image files: 8- or 16-bit pixels, grey or colour, alpha set aside.

Files are read and written with Pillow itself. Going through imageio, which calls Pillow, takes
0.3 ms more for each file, as long as a JPEG file of 128 pixels takes altogether, most of it holding
up the other threads: at each file it looks for other plug-ins to import.

No help for JPEG files: Pillow's draft mode, which saves work only where an image is to be halved at
least, and letting Pillow keep its memory from one image to the next.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile
from PIL.ExifTags import Base

from mlr.errors import ImageError
from mlr.io import deep
from mlr.io.files import LARGEST, open_regular, replacing

QUALITY = 95  # of JPEG and WebP, up to 100
PNG_LEVEL = 4  # up to 9; faces get 2 % larger than with 6, the usual one, in half the time

#: What Pillow calls each kind of file that we read and write, and how it is encoded.
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": PNG_LEVEL}),
    ".jpg": ("JPEG", {"quality": QUALITY, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": QUALITY, "subsampling": 0}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"quality": QUALITY}),
}
#: Kinds of file that are looked at in a folder: a GIF is read, but never written.
SUFFIXES = frozenset({*ENCODINGS, ".gif"})

_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L"})
_GREY = frozenset({"1", "L", "LA", "La"}) | _DEEP_GREY
DEEP_COLOUR = "16-bit colour, which is read with 8 bits"
DEEP_HINT = f"{DEEP_COLOUR}; to keep all: {deep.HINT}"
_OTHER_SPACES = {
    name: f"{name} colours, which become RGB by Pillow's plain formula, without their profile"
    for name in ("CMYK", "LAB", "HSV")
}
_UNSUPPORTED = frozenset({"I", "F"})
#: What files are opened as, whatever their suffix: not the dozens of other formats of Pillow.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")

#: What the decoders raise for files that are not what they say.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    RuntimeError,  # those of imagecodecs, and NotImplementedError, are such
    PIL.Image.DecompressionBombError,
)

Pixels = npt.NDArray[Any]

# Without a handler the logging module shows Pillow's errors on stderr; they are raised as well.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels are decoded.

    Attributes
    ----------
    height, width : int
        Pixels, upright (EXIF orientation applied).
    channels : int
        1 for grey, 3 for colour; alpha is not counted.
    bits : int
        8 or 16 for each channel, as far as they are decoded.
    loss : str
        What the file holds that is not decoded, to be told to the user; mostly empty.
    """

    height: int
    width: int
    channels: int
    bits: int
    loss: str = ""

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px"


@dataclass(frozen=True)
class Image:
    """A decoded image file.

    Attributes
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width, channels)
        1 or 3 channels, sRGB as stored.
    alpha : ndarray of the same dtype, shape (height, width), or None
        Opacity, where the file has any.
    digest : bytes
        SHA-256 of the file.
    loss : str
        As in `Header`.
    icc : bytes or None
        ICC colour profile of the pixels, where the file has one.
    """

    pixels: Pixels
    alpha: Pixels | None
    digest: bytes
    loss: str = ""
    icc: bytes | None = None


def is_image(path: Path) -> bool:
    """Tell from its suffix whether a path is one of an image that we read."""
    return path.suffix.lower() in SUFFIXES


def read_header(path: Path) -> Header:
    """Read what an image file says of itself.

    Raises
    ------
    ImageError
        If it is no image, or of a kind that cannot be used.
    """
    with (
        decoding(path),
        open_regular(path, LARGEST) as file,
        PIL.Image.open(file, formats=FORMATS) as image,
    ):
        return _header(image)[0]


def read_image(path: Path) -> Image:
    """Decode an image file, upright.

    Palettes are looked up, CMYK and other colour spaces converted to RGB, bits to grey.

    Raises
    ------
    ImageError
        If it is no image, is damaged, or of a kind that cannot be used.
    """
    with decoding(path):
        with open_regular(path, LARGEST) as file:
            data = file.read()
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            header, mode = _header(image)
            array = _decoded(image, data, header, mode)
            orientation = image.getexif().get(Base.Orientation, 1)  # it may lie behind the pixels
            icc = _profile(image, header.channels)
    array = _upright(array, orientation)
    pixels = array if array.ndim == 3 else array[..., None]
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    alpha = pixels[..., header.channels] if pixels.shape[2] > header.channels else None
    pixels = np.ascontiguousarray(pixels[..., : header.channels])
    return Image(pixels, alpha, hashlib.sha256(data).digest(), header.loss, icc)


def write_image(
    path: Path,
    pixels: Pixels,
    alpha: Pixels | None = None,
    *,
    icc: bytes | None = None,
    exif: PIL.Image.Exif | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    force: bool = False,
) -> None:
    """Encode an image in the format that the suffix of ``path`` names.

    Parameters
    ----------
    path : Path
        One of `ENCODINGS`.
    pixels : ndarray of uint8 or uint16, shape (height, width, 1 or 3)
        What to write.
    alpha : ndarray of the same dtype, shape (height, width), optional
        Opacity.
    icc : bytes, optional
        ICC colour profile.
    exif : Exif, optional
        Metadata; BMP cannot hold any.
    quality : int
        Of JPEG and WebP, from 1 to 100; with 100 WebP keeps every pixel.
    png_level : int
        How hard to compress a PNG, from 0 to 9; the pixels are the same.
    force : bool
        Replace an existing file.

    Raises
    ------
    ImageError
        If the format is unknown or cannot hold such an image.
    OutputExistsError
        If the file exists and ``force`` is false.
    """
    suffix = path.suffix.lower()
    if suffix not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}; use {known}")
    kind, options = ENCODINGS[suffix]
    wanted = {"quality": quality, "compress_level": png_level}
    options = options | {name: wanted[name] for name in wanted.keys() & options.keys()}
    if kind == "WEBP" and quality == 100:
        options |= {"lossless": True, "exact": True}
    if icc:
        options["icc_profile"] = icc
    if exif:
        options["exif"] = exif
    if alpha is not None:
        pixels = np.dstack([pixels, alpha])
    encoded = io.BytesIO()
    try:
        if pixels.dtype == np.uint16 and pixels.shape[2] >= 3:
            encoded.write(deep.encode(pixels, kind, png_level=png_level, icc=icc, exif=exif))
        else:
            array = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            PIL.Image.fromarray(array).save(encoded, kind, **options)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImageError) as error:
        raise ImageError(f"{path}: cannot be encoded: {error}") from error
    with replacing(path, force=force) as file:
        file.write(encoded.getbuffer())


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return an image in another size, filtered so that shrinking does not alias.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width, channels)
        What to resize.
    height, width : int
        The size wanted, in pixels.

    Returns
    -------
    ndarray of the same dtype, shape (height, width, channels)
        Lanczos-filtered, rounded and clipped to the range of the dtype.
    """
    planes = [
        np.asarray(
            PIL.Image.fromarray(pixels[..., c].astype(np.float32)).resize(
                (width, height), PIL.Image.Resampling.LANCZOS
            )
        )
        for c in range(pixels.shape[2])
    ]
    white = np.iinfo(pixels.dtype).max
    result: Pixels = np.clip(np.rint(np.dstack(planes)), 0, white).astype(pixels.dtype)
    return result


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image as it is seen: EXIF orientation applied."""
    width, height = image.size
    turned = _orientation(image) >= 5  # on its side
    return (height, width) if turned else (width, height)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into an `ImageError` that names the file.

    Raises
    ------
    ImageError
        If the file cannot be opened or decoded.
    """
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except PIL.UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise ImageError(
            f"{path}: {'is empty' if empty else 'is not an image file'}; "
            "expected PNG, JPEG, BMP, TIFF or WebP"
        ) from None
    except PIL.Image.DecompressionBombError:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(f"{path}: is larger than {limit} megapixels; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: needs more memory than there is") from None
    except _DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.strerror:  # of the file system, not of the decoder
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
        raise ImageError(f"{path}: is damaged or truncated: {error}") from error


def _header(image: PIL.ImageFile.ImageFile) -> tuple[Header, str | None]:
    """Return what the file says, and the mode to convert it to (None: none needed)."""
    mode = image.mode
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones write previews as further frames of an MPO
        raise ImageError(f"has {frames} frames; expected a still image: save one frame by itself")
    if mode in _UNSUPPORTED:
        raise ImageError(f"has 32 bits a pixel ({mode}); expected 8 or 16: convert it first")
    width, height = upright_size(image)
    channels = 1 if mode in _GREY else 3
    whole = mode in _DEEP_GREY
    loss = _OTHER_SPACES.get(mode, "")
    if not whole and image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
        whole = deep.is_deep(image) and deep.is_available()
        if not whole:
            loss = DEEP_HINT if deep.is_deep(image) else DEEP_COLOUR
    alpha = mode.endswith(("A", "a")) or "transparency" in image.info
    wanted = None if mode in _DEEP_GREY else {1: "L", 3: "RGB"}[channels] + ("A" if alpha else "")
    return Header(height, width, channels, 16 if whole else 8, loss), wanted


def _decoded(
    image: PIL.ImageFile.ImageFile, data: bytes, header: Header, mode: str | None
) -> Pixels:
    """Return the pixels as they are stored, in a mode of Pillow's, with 16 bits where it has 8."""
    if header.bits == 16 and mode is not None:
        width, height = image.size
        if image.format == "TIFF" and image.getexif().get(Base.Orientation, 1) >= 5:
            width, height = height, width  # Pillow says the upright size
        return deep.decode(data, str(image.format), (height, width, len(mode)))
    return np.asarray(image if mode in (None, image.mode) else image.convert(mode))


def _profile(image: PIL.Image.Image, channels: int) -> bytes | None:
    """Return the ICC profile of an image, unless it is of another colour space than the pixels.

    One of CMYK says nothing about the RGB made of it.
    """
    profile = image.info.get("icc_profile")
    space = {1: b"GRAY", 3: b"RGB "}[channels]
    return profile if isinstance(profile, bytes) and profile[16:20] == space else None


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return a view of an image, turned and mirrored as its EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]


def _orientation(image: PIL.Image.Image) -> int:
    """Return the EXIF orientation that the size leaves out, without decoding any pixel."""
    # Pillow says the upright size of a TIFF by itself. In a PNG it would look past the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return int(image.getexif().get(Base.Orientation, 1))
