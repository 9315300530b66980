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
import struct
import zlib
from collections.abc import Iterator
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

#: What Pillow calls each kind of file that is written, and how it is encoded.
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": PNG_LEVEL}),
    ".jpg": ("JPEG", {"quality": QUALITY, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": QUALITY, "subsampling": 0}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"quality": QUALITY}),
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

#: What the decoders raise for damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)

Pixels = npt.NDArray[Any]

# These libraries raise their errors, and would write them to stderr as well.
for _name in ("PIL", "imagecodecs", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


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
    """Tell from its suffix whether a path is one of an image that is read."""
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
            _encode_16_bit(encoded, pixels, kind, png_level, icc, exif)
        else:
            encode(encoded, pixels[..., 0] if pixels.shape[2] == 1 else pixels, kind, **options)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImageError) as error:
        raise ImageError(f"{path}: cannot be encoded: {error}") from error
    with replacing(path, force=force) as file:
        file.write(encoded.getbuffer())


def encode(file: IO[bytes], pixels: Pixels, kind: str, **options: Any) -> None:
    """Encode an image with Pillow.

    Parameters
    ----------
    file : file
        Where to write it.
    pixels : ndarray, shape (height, width) or (height, width, channels)
        An image that Pillow has a mode for.
    kind : str
        The format, as Pillow calls it.
    **options
        Pillow's options for the format.
    """
    iio.imwrite(file, pixels, plugin=_Plugin, is_batch=False, format=kind, **options)


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
    data_range = np.iinfo(pixels.dtype).max
    result: Pixels = np.clip(np.rint(np.dstack(planes)), 0, data_range).astype(pixels.dtype)
    return result


@contextmanager
def opened(path: Path) -> Iterator[PIL.ImageFile.ImageFile]:
    """Open an image file for its header and its metadata.

    Raises
    ------
    ImageError
        If it cannot be read, is no image or is damaged; errors in the block count as damage.
    """
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
        image: PIL.ImageFile.ImageFile = self._image
        return image

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
    except _DECODE_ERRORS as error:
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


def _encode_16_bit(
    file: IO[bytes],
    pixels: Pixels,
    kind: str,
    png_level: int,
    icc: bytes | None,
    exif: PIL.Image.Exif | None,
) -> None:
    """Encode 16-bit colour; of EXIF metadata TIFF gets description and software alone."""
    if kind not in ("PNG", "TIFF"):
        raise ImageError(f"{kind} files cannot hold 16-bit colour; use .png or .tif")
    if not has_16_bit_extra():
        raise ImageError(f"16-bit colour needs {EXTRA}")
    if kind == "PNG":
        import imagecodecs

        encoded = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=png_level)
        file.write(encoded[:_PNG_HEAD])
        if icc:
            putchunk(file, b"iCCP", b"ICC Profile\0\0", zlib.compress(icc))
        if exif:
            putchunk(file, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        file.write(encoded[_PNG_HEAD:])
        return
    exif = PIL.Image.Exif() if exif is None else exif
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


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return a view of an image, turned and mirrored as its EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]
