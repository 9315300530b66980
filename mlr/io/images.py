"""Image files: 8- or 16-bit pixels, grey or colour, with alpha apart.

imageio reads and writes them with its Pillow plug-in. Pillow has no 16-bit colour: PNG and TIFF
files of it are decoded by imagecodecs and encoded by imagecodecs and tifffile, which come with the
extra ``mlr[deep]``; without them it is read with 8 bits.
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

from mlr.errors import ImageError
from mlr.io.files import LARGEST, open_regular, replacing

QUALITY = 95  # of JPEG and WebP, up to 100
PNG_LEVEL = 4  # up to 9; faces get 2 % larger than with 6, the usual one, in half the time

#: What Pillow calls the kinds of file that are written.
ENCODINGS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
SUFFIXES = frozenset({*ENCODINGS, ".gif"})  # of the files that are read
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # that are read, whatever the suffix

EXTRA = "pip install 'mlr[deep]'"
REDUCED = "16-bit colour, which is read with 8 bits"
_EXTRA_WANTED = f"{REDUCED}; to keep all: {EXTRA}"
_CONVERTED = {
    name: f"{name} colours, which become RGB by Pillow's plain formula, without their profile"
    for name in ("CMYK", "LAB", "HSV")
}
_GREY_16_BIT = frozenset({"I;16", "I;16B", "I;16L"})  # modes of Pillow
_GREY = frozenset({"1", "L", "LA", "La"}) | _GREY_16_BIT
_32_BIT = frozenset({"I", "F"})
# Pillow's decoder modes of 16-bit colour, unless alpha is multiplied into it.
_COLOUR_16_BIT = re.compile(r"\bRGBA?;16[BLN]")
_PNG_HEAD = 8 + 12 + 13  # bytes of the signature and the header chunk, behind which others may go

Pixels = npt.NDArray[Any]

# These libraries raise their errors, and would write them to stderr as well.
for _name in ("PIL", "imagecodecs", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels are decoded.

    The size is upright (EXIF orientation applied); there are 1 or 3 channels, not counting alpha,
    which are decoded with 8 or 16 bits; and ``loss`` tells the user what is not decoded, if any.
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
    """Tell from the suffix whether a file is read as an image."""
    return path.suffix.lower() in SUFFIXES


def has_16_bit_extra() -> bool:
    """Tell whether 16-bit colour can be read and written."""
    return find_spec("imagecodecs") is not None and find_spec("tifffile") is not None


def read_header(path: Path) -> Header:
    """Read what an image file says of itself.

    Raises
    ------
    ImageError
        If it is no image, or of a kind that cannot be used.
    """
    with opened(path) as image:
        return _header(image)[0]


def read_image(path: Path) -> Image:
    """Decode an image file, upright; palettes, CMYK and the like become RGB, bits grey.

    Raises
    ------
    ImageError
        If it is no image, is damaged, or of a kind that cannot be used.
    """
    with decoding(path):
        with open_regular(path, LARGEST) as file:
            data = file.read()
        with _plugin(data) as plugin:
            image = plugin.image
            header, mode = _header(image)
            if header.bits == 16 and header.channels == 3:
                pixels = _decode_16_bit(data, image, len(mode))
            else:
                wanted = None if mode == image.mode else mode
                pixels = plugin.read(index=0, mode=wanted, writeable_output=False)
            orientation = image.getexif().get(Base.Orientation, 1)  # may be behind the pixels
            icc = image.info.get("icc_profile")
    pixels = _upright(pixels if pixels.ndim == 3 else pixels[..., None], orientation)
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    channels = header.channels
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    if not isinstance(icc, bytes) or icc[16:20] != {1: b"GRAY", 3: b"RGB "}[channels]:
        icc = None  # a profile of CMYK says nothing about the RGB made of it
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
            encode(encoded, pixels[..., 0] if pixels.shape[2] == 1 else pixels, kind, **options)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImageError) as error:
        raise ImageError(f"{path}: cannot be encoded: {error}") from error
    with replacing(path, force=force) as file:
        file.write(encoded.getbuffer())


def encode(file: IO[bytes], pixels: Pixels, kind: str, **options: Any) -> None:
    """Encode an image in a format of Pillow, with its options; grey has two dimensions."""
    iio.imwrite(file, pixels, plugin=_Plugin, is_batch=False, format=kind, **options)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 or uint16 pixels of shape (height, width, channels), without aliasing.

    They are Lanczos-filtered, rounded and clipped to the range of the dtype.
    """
    planes = [
        np.asarray(
            PIL.Image.fromarray(pixels[..., c].astype(np.float32)).resize(
                (width, height), PIL.Image.Resampling.LANCZOS
            )
        )
        for c in range(pixels.shape[2])
    ]
    data_range = np.iinfo(pixels.dtype).max
    result: Pixels = np.clip(np.rint(np.dstack(planes)), 0, data_range).astype(pixels.dtype)
    return result


@contextmanager
def opened(path: Path) -> Iterator[PIL.ImageFile.ImageFile]:
    """Open an image file for its header and metadata; errors are those of `read_image`."""
    with (
        decoding(path),
        open_regular(path, LARGEST) as file,
        PIL.Image.open(file, formats=FORMATS) as image,
    ):
        yield image


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image with its EXIF orientation applied."""
    width, height = image.size
    # Pillow turns the size of a TIFF itself. In a PNG it would look for EXIF behind the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return width, height
    sideways = image.getexif().get(Base.Orientation, 1) >= 5
    return (height, width) if sideways else (width, height)


class _Plugin(PillowPlugin):
    """imageio's Pillow plug-in for `FORMATS` alone.

    It does not look for plug-ins for HEIF and AVIF, which takes longer than a small JPEG file.
    """

    def __init__(self, request: Request) -> None:
        PluginV3.__init__(self, request)
        self._image: Any = None
        self.images_to_write: list[PIL.Image.Image] = []
        self.save_args: dict[str, Any] = {}
        if request.mode.io_mode == "r":
            self._image = PIL.Image.open(request.get_file(), formats=FORMATS)

    @property
    def image(self) -> PIL.ImageFile.ImageFile:
        """The opened file."""
        return self._image

    def metadata(self, index: int | None = None, exclude_applied: bool = True) -> dict[str, Any]:
        """Return nothing: `read` asks for it, and a damaged EXIF tag would make it fail."""
        return {}


def _plugin(data: bytes) -> Any:
    """Open an image with imageio; errors are Pillow's own."""
    try:
        return iio.imopen(data, "r", plugin=_Plugin)
    except OSError as error:
        raise error.__cause__ or error from None


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises in the block into an `ImageError` that names the file."""
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
    except Exception as error:  # whatever decoders raise for damaged files
        if isinstance(error, OSError) and error.strerror:  # of the file system, not of the decoder
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
        raise ImageError(f"{path}: is damaged or truncated: {error}") from error


def _header(image: PIL.ImageFile.ImageFile) -> tuple[Header, str]:
    """Return the header of a file, and the mode of Pillow that its pixels are decoded to."""
    mode = image.mode
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # phones write previews as further frames of an MPO
        raise ImageError(f"has {frames} frames; expected a still image: save one frame by itself")
    if mode in _32_BIT:
        raise ImageError(f"has 32 bits a pixel ({mode}); expected 8 or 16: convert it first")
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
            loss = _EXTRA_WANTED
    alpha = mode.endswith(("A", "a")) or "transparency" in image.info
    wanted = ("L" if channels == 1 else "RGB") + ("A" if alpha else "")
    return Header(height, width, channels, bits, loss), wanted


def _decode_16_bit(data: bytes, image: PIL.ImageFile.ImageFile, channels: int) -> Pixels:
    """Decode 16-bit colour as stored, into no more memory than the header says."""
    import imagecodecs

    width, height = image.size
    if image.format == "TIFF" and image.getexif().get(Base.Orientation, 1) >= 5:
        width, height = height, width  # Pillow says the upright size
    pixels = np.empty((height, width, channels), np.uint16)
    decode = imagecodecs.png_decode if image.format == "PNG" else imagecodecs.tiff_decode
    decode(data, out=pixels)
    return pixels


def _encode_16_bit(file: IO[bytes], pixels: Pixels, kind: str, options: Mapping[str, Any]) -> None:
    """Encode 16-bit colour; of EXIF metadata TIFF gets description and software alone."""
    if kind not in ("PNG", "TIFF"):
        raise ImageError(f"{kind} files cannot hold 16-bit colour; use .png or .tif")
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
    """Return a view of an image, turned and mirrored as its EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
