"""Image files: 8- or 16-bit pixels, grey or colour, with separate alpha.

imageio reads and writes them with its Pillow plug-in, which does not support 16-bit colour. With
the extra ``deep``, imagecodecs and tifffile read and write 16-bit colour in PNG and TIFF
files; without it, 16-bit colour is reduced to 8 bits.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile
from imageio.core.request import Request
from imageio.core.v3_plugin_api import PluginV3
from imageio.plugins.pillow import PillowPlugin
from PIL.ExifTags import Base
from PIL.PngImagePlugin import putchunk

from mlr._version import install
from mlr.errors import ImageError
from mlr.io.files import LARGEST, open_regular, replacing

QUALITY = 95  # of JPEG and WebP, from 1 to 100
PNG_LEVEL = 4  # from 0 to 9; takes half the time of 6, the common default, for 2 % larger files

#: Pillow's formats of the files that are written, by suffix.
ENCODINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
ENCODINGS |= {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
SUFFIXES = frozenset({*ENCODINGS, ".gif"})  # of image files in folders
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # formats that are read

EXTRA = install("deep")
REDUCED = "16-bit colour, which is reduced to 8 bits"
_EXTRA_MISSING = f"{REDUCED}; to keep 16 bits: {EXTRA}"
_CONVERTED = {
    name: f"{name} colours, which Pillow converts to RGB without their profile"
    for name in ("CMYK", "LAB", "HSV")
}
_GREY_16_BIT = frozenset({"I;16", "I;16B", "I;16L"})  # modes of Pillow
_GREY = frozenset({"1", "L", "LA", "La"}) | _GREY_16_BIT
_32_BIT = frozenset({"I", "F"})
# Pillow's decoder modes of 16-bit colour without premultiplied alpha.
_COLOUR_16_BIT = re.compile(r"\bRGBA?;16[BLN]")
_PNG_HEAD = 8 + 12 + 13  # bytes of the signature and the header chunk; metadata goes after them

Pixels = npt.NDArray[Any]

# These libraries raise errors and also log them to stderr.
for _name in ("PIL", "imagecodecs", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Format:
    """Height and width with the EXIF orientation applied, and 1 or 3 channels without alpha."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px"


@dataclass(frozen=True)
class Header(Format):
    """Properties of an image file that are known before its pixels are decoded."""

    bits: int  # 8 or 16 per channel
    loss: str = ""  # what is not decoded, for a note


@dataclass(frozen=True)
class Image:
    """A decoded image file."""

    pixels: Pixels  # uint8 or uint16, (height, width, 1 or 3), sRGB as stored
    alpha: Pixels | None  # of the same dtype, (height, width)
    digest: bytes  # SHA-256 of the file
    loss: str = ""  # as in `Header`
    icc: bytes | None = None  # colour profile of the pixels


def is_image(path: Path) -> bool:
    """Return whether the suffix of a file is that of an image."""
    return path.suffix.lower() in SUFFIXES


def has_16_bit_extra() -> bool:
    """Return whether the extra for 16-bit colour is installed."""
    return find_spec("imagecodecs") is not None and find_spec("tifffile") is not None


def read_header(path: Path) -> Header:
    """Read the header of an image file; errors are those of `read_image`."""
    with opened(path) as image:
        return _header(image)[0]


def read_image(path: Path) -> Image:
    """Decode an image file and apply its EXIF orientation.

    Palettes and colour spaces such as CMYK are converted to RGB, 1-bit images to grey. `ImageError`
    is raised if the file is no image, is damaged, or has several frames or 32 bits per channel.
    """
    with decoding(path):
        with open_regular(path, LARGEST) as file:
            data = file.read()
        with _plugin(data) as plugin:
            image = plugin._image
            header, mode = _header(image)
            if header.bits == 16 and header.channels == 3:
                pixels = _decode_16_bit(data, image, len(mode))
            else:
                converted = None if mode == image.mode else mode
                pixels = plugin.read(index=0, mode=converted, writeable_output=False)
            orientation = image.getexif().get(Base.Orientation, 1)  # may follow the pixels
            icc = image.info.get("icc_profile")
    pixels = _upright(pixels if pixels.ndim == 3 else pixels[..., None], orientation)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    channels = header.channels
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    if not isinstance(icc, bytes) or icc[16:20] != {1: b"GRAY", 3: b"RGB "}[channels]:
        icc = None  # such as a CMYK profile, which does not describe the converted pixels
    pixels = np.ascontiguousarray(pixels[..., :channels])
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
    """Write an image, as in `Image`, in the format of the suffix of ``path``, one of `ENCODINGS`.

    BMP cannot store metadata. WebP of quality 100 is lossless. `ImageError` is raised if the format
    is unknown or cannot store the image, `OutputExistsError` if the file exists without ``force``.
    """
    suffix = path.suffix.lower()
    if suffix not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}; use {known}")
    kind = ENCODINGS[suffix]
    by_format: dict[str, dict[str, Any]] = {
        "PNG": {"compress_level": png_level},
        "JPEG": {"quality": quality, "subsampling": 0},
        "TIFF": {"compression": "tiff_deflate"},
        "WEBP": {"quality": quality, "lossless": quality == 100, "exact": quality == 100},
    }
    options = by_format.get(kind, {})
    options |= {"icc_profile": icc} if icc else {}
    options |= {"exif": exif} if exif else {}
    if alpha is not None:
        pixels = np.dstack([pixels, alpha])
    encoded = io.BytesIO()
    try:
        if pixels.dtype == np.uint16 and pixels.shape[2] >= 3:
            _encode_16_bit(encoded, pixels, kind, options)
        else:
            pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            iio.imwrite(encoded, pixels, plugin=_Plugin, is_batch=False, format=kind, **options)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImageError) as error:
        raise ImageError(f"{path}: cannot be encoded: {error}") from error
    with replacing(path, force=force) as file:
        file.write(encoded.getbuffer())


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 or uint16 pixels of shape (height, width, channels) with a Lanczos filter."""
    images = [PIL.Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, 2, 0)]
    size, lanczos = (width, height), PIL.Image.Resampling.LANCZOS
    planes = [np.asarray(image.resize(size, lanczos)) for image in images]
    data_range = np.iinfo(pixels.dtype).max
    result: Pixels = np.clip(np.rint(np.dstack(planes)), 0, data_range).astype(pixels.dtype)
    return result


@contextmanager
def opened(path: Path) -> Iterator[PIL.ImageFile.ImageFile]:
    """Open an image file to read its metadata; errors are those of `read_image`."""
    with (
        decoding(path),
        open_regular(path, LARGEST) as file,
        PIL.Image.open(file, formats=FORMATS) as image,
    ):
        yield image


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image with its EXIF orientation applied."""
    width, height = image.size
    # Pillow applies it to TIFF already. In PNG it would decode all pixels in search of EXIF.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return width, height
    sideways = image.getexif().get(Base.Orientation, 1) >= 5
    return (height, width) if sideways else (width, height)


class _Plugin(PillowPlugin):
    """imageio's Pillow plug-in, restricted to `FORMATS`.

    The original searches for HEIF and AVIF plug-ins, which takes longer than decoding a small JPEG.
    """

    def __init__(self, request: Request) -> None:
        PluginV3.__init__(self, request)
        self._image: Any = None
        self.images_to_write: list[PIL.Image.Image] = []
        self.save_args: dict[str, Any] = {}
        if request.mode.io_mode == "r":
            self._image = PIL.Image.open(request.get_file(), formats=FORMATS)

    def metadata(self, index: int | None = None, exclude_applied: bool = True) -> dict[str, Any]:
        """Return nothing, since a damaged EXIF tag would make `read` fail."""
        return {}


def _plugin(data: bytes) -> Any:
    """Open an image with imageio, but raise Pillow's errors."""
    try:
        return iio.imopen(data, "r", plugin=_Plugin)
    except OSError as error:
        raise error.__cause__ or error from None


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Convert the errors of decoders to `ImageError` with the path."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except PIL.UnidentifiedImageError:
        what = "is not an image file" if path.stat().st_size else "is empty"
        raise ImageError(f"{path}: {what}; expected PNG, JPEG, BMP, TIFF or WebP") from None
    except PIL.Image.DecompressionBombError:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(f"{path}: is larger than {limit} megapixels; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: needs more memory than available") from None
    except Exception as error:  # decoders raise all kinds for damaged files
        if isinstance(error, OSError) and error.strerror:  # from the file system
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
        raise ImageError(f"{path}: is damaged or truncated: {error}") from error


def _header(image: PIL.ImageFile.ImageFile) -> tuple[Header, str]:
    """Return the header of an image, and Pillow's mode for decoding it."""
    mode = image.mode
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones store previews as frames of an MPO
        raise ImageError(f"has {frames} frames; expected a still image: save a single frame")
    if mode in _32_BIT:
        raise ImageError(f"has 32 bits per channel ({mode}); expected 8 or 16: convert it first")
    width, height = upright_size(image)
    channels = 1 if mode in _GREY else 3
    if mode in _GREY_16_BIT:
        return Header(height, width, channels, 16), mode
    bits, loss = 8, _CONVERTED.get(mode, "")
    if image.format in ("PNG", "TIFF") and ";16" in (stored := str(image.tile)):
        if not _COLOUR_16_BIT.search(stored):
            loss = REDUCED
        elif has_16_bit_extra():
            bits = 16
        else:
            loss = _EXTRA_MISSING
    alpha = mode.endswith(("A", "a")) or "transparency" in image.info
    decoded = ("L" if channels == 1 else "RGB") + ("A" if alpha else "")
    return Header(height, width, channels, bits, loss), decoded


def _decode_16_bit(data: bytes, image: PIL.ImageFile.ImageFile, channels: int) -> Pixels:
    """Decode 16-bit colour into an array of the header's size, which bounds the memory."""
    import imagecodecs

    width, height = image.size
    if image.format == "TIFF" and image.getexif().get(Base.Orientation, 1) >= 5:
        width, height = height, width  # Pillow has applied it to the size
    pixels = np.empty((height, width, channels), np.uint16)
    decode = imagecodecs.png_decode if image.format == "PNG" else imagecodecs.tiff_decode
    decode(data, out=pixels)
    return pixels


def _encode_16_bit(file: IO[bytes], pixels: Pixels, kind: str, options: Mapping[str, Any]) -> None:
    """Encode 16-bit colour; TIFF stores only description and software of the EXIF metadata."""
    if kind not in ("PNG", "TIFF"):
        raise ImageError(f"{kind} files cannot store 16-bit colour; use .png or .tif")
    if not has_16_bit_extra():
        raise ImageError(f"16-bit colour needs {EXTRA}")
    icc, exif = options.get("icc_profile"), options.get("exif", PIL.Image.Exif())
    if kind == "TIFF":
        iio.imwrite(
            file,
            pixels,
            plugin="tifffile",
            photometric="rgb",
            planarconfig="contig",
            extrasamples=("unassalpha",) if pixels.shape[2] == 4 else None,
            compression="adobe_deflate",
            iccprofile=icc,
            description=exif.get(Base.ImageDescription),
            software=exif.get(Base.Software, False),
            metadata=None,
        )
        return
    import imagecodecs

    encoded = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=options["compress_level"])
    file.write(encoded[:_PNG_HEAD])
    if icc:
        putchunk(file, b"iCCP", b"ICC Profile\0\0", zlib.compress(icc))
    if exif:
        putchunk(file, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    file.write(encoded[_PNG_HEAD:])


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return a view of an image, rotated and flipped according to its EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    up, left = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if up else 1, :: -1 if left else 1]
