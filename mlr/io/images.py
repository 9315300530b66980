"""Image files: 8- or 16-bit pixels, grey or colour, with separate alpha.

imageio reads and writes them with its Pillow plug-in, which lacks 16-bit colour and rare layouts
of TIFF. With the extra ``deep``, imagecodecs and tifffile read and write these; without it,
16-bit colour is reduced to 8 bits, and rare layouts are refused.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo, putchunk

from mlr.errors import ImageError
from mlr.io import tiff
from mlr.io.files import LARGEST, open_regular, replacing
from mlr.io.sniff import HEIC, what_is
from mlr.io.tiff import EXTRA

QUALITY = 95  # of JPEG and WebP, from 1 to 100
PNG_LEVEL = 4  # from 0 to 9; takes half the time of 6, the common default, for 2 % larger files

#: Pillow's formats of the files that are written, by suffix.
ENCODINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
ENCODINGS |= {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
#: Suffixes of image files in folders.
SUFFIXES = frozenset({*ENCODINGS, ".gif", ".jfif", ".jpe", ".jif", ".apng", ".dib"})
SUFFIXES |= {".avif", ".avifs", ".heic", ".heif", ".mpo"}
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF")  # formats that are read
EXPECTED = "expected PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF"
_EIGHT_BITS = frozenset({"JPEG", "BMP", "WEBP"})  # formats without 16 bits

REDUCED = "16-bit colour, which is reduced to 8 bits"
_EXTRA_MISSING = f"{REDUCED}; to keep 16 bits: {EXTRA}"
_CONVERTED = {
    name: f"{name} colours, which Pillow converts to RGB without their profile"
    for name in ("CMYK", "LAB", "HSV")
}
_GREY_16_BIT = frozenset({"I;16", "I;16B", "I;16L"})  # modes of Pillow
_GREY = frozenset({"1", "L", "LA", "La"}) | _GREY_16_BIT
_KEYED = frozenset({"1", "L", "RGB"}) | _GREY_16_BIT  # modes that may have a transparent colour
_LEVELS = {"'L;2'": 85, "'L;4'": 17}  # steps of grey of few bits, by Pillow's words
# Text chunks of PNG files in which Pillow finds an orientation.
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_AVIF_BITS = re.compile(rb"pixi\0{4}.(.)", re.DOTALL)
GAMMA = 0xA500  # tag of EXIF
NARROWED = "16 bits per channel, of which the output stores 8"
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
    info: Mapping[str, Any] = field(default_factory=dict)  # dpi and gamma, as in Pillow
    exif: PIL.Image.Exif | None = None


@dataclass(slots=True)
class Opened:
    """An image file whose pixels are not decoded yet."""

    format: str  # Pillow's name
    frames: int
    stored: tuple[int, int]  # width and height
    orientation: int  # as in EXIF, from 1 to 8
    layout: str  # of the samples, in Pillow's words
    info: Mapping[Any, Any]  # Pillow's
    exif: PIL.Image.Exif
    image: Any = None  # Pillow's, unless tifffile decodes it
    page: tiff.Page | None = None  # of a TIFF file

    @property
    def size(self) -> tuple[int, int]:
        """Width and height with the orientation applied."""
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)


def is_image(path: Path) -> bool:
    """Return whether the suffix of a file is that of an image."""
    return path.suffix.lower() in SUFFIXES


def read_header(path: Path) -> Header:
    """Read the header of an image file; errors are those of `read_image`."""
    with opened(path) as file:
        return _header(file)[0]


def read_image(path: Path) -> Image:
    """Decode an image file and apply its EXIF orientation.

    Palettes and colour spaces such as CMYK are converted to RGB, 1-bit images to grey; other depths
    are scaled to 8 or 16 bits. `ImageError` is raised if the file is no image, is damaged, or has
    several frames, or samples that no decoder reads right.
    """
    with decoding(path):
        with open_regular(path, LARGEST) as file:
            data = file.read()
        source = _open(io.BytesIO(data))
        header, mode = _header(source)
        pixels = _decode(data, source, header, mode)
        if source.page is None or source.image is None:  # Pillow has applied it to TIFF
            pixels = _upright(pixels, source.orientation)
        if pixels.shape[:2] != header.size:
            raise ImageError(f"is damaged: it decodes to another size than {header}")
    if pixels.dtype != np.uint8:
        pixels = pixels.astype(np.uint16)
    channels = header.channels
    alpha = pixels[..., channels] if pixels.shape[2] > channels else None
    icc = source.info.get("icc_profile")
    if not isinstance(icc, bytes) or icc[16:20] != {1: b"GRAY", 3: b"RGB "}[channels]:
        icc = None  # such as a CMYK profile, which does not describe the converted pixels
    pixels = np.ascontiguousarray(pixels[..., :channels])
    info = {name: source.info[name] for name in ("dpi", "gamma") if name in source.info}
    digest = hashlib.sha256(data).digest()
    return Image(pixels, alpha, digest, header.loss, icc, info, source.exif)


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
    if exif is not None and exif.tobytes() != PIL.Image.Exif().tobytes():  # len() omits directories
        options |= {"exif": exif} | _resolution_and_gamma(exif, kind)
    if alpha is not None:
        if kind == "JPEG":
            raise ImageError(f"{path}: JPEG files cannot store alpha; use .png, .tif or .webp")
        if kind == "BMP" and pixels.shape[2] == 1:
            pixels = pixels.repeat(3, axis=2)
        pixels = np.dstack([pixels, alpha])
    if kind in _EIGHT_BITS:
        pixels = to_8_bits(pixels)
    encoded = io.BytesIO()
    try:
        if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
            _encode_16_bit(encoded, pixels, kind, options)
        else:
            pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
            iio.imwrite(encoded, pixels, plugin=_Plugin, is_batch=False, format=kind, **options)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImageError) as error:
        raise ImageError(f"{path}: cannot be encoded: {error}") from error
    clear = kind == "BMP" and alpha is not None
    with replacing(path, force=force) as file:
        file.write(_with_declared_alpha(encoded.getvalue()) if clear else encoded.getbuffer())


def _with_declared_alpha(bmp: bytes) -> bytes:
    """Return Pillow's BMP file of 32 bits with the header that tells that it has alpha, the 4th."""
    size, masks = len(bmp) + 108 - 40, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    start = struct.pack("<2sIIII", b"BM", size, 0, 14 + 108, 108) + bmp[18:30]
    more = struct.pack("<I", 3) + bmp[34:46] + struct.pack("<II4I4s", 0, 0, *masks, b"BGRs")
    return start + more + bytes(48) + bmp[54:]


def to_8_bits(pixels: Pixels) -> Pixels:
    """Return uint8 or uint16 pixels with 8 bits, rounded."""
    if pixels.dtype == np.uint8:
        return pixels
    result: Pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return result


def stores_8_bits(path: Path) -> bool:
    """Return whether a file of this suffix stores at most 8 bits per channel."""
    suffix = path.suffix.lower()
    return suffix == ".gif" or ENCODINGS.get(suffix) in _EIGHT_BITS


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize uint8 or uint16 pixels of shape (height, width, channels) with a Lanczos filter."""
    images = [PIL.Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, 2, 0)]
    size, lanczos = (width, height), PIL.Image.Resampling.LANCZOS
    planes = [np.asarray(image.resize(size, lanczos)) for image in images]
    data_range = np.iinfo(pixels.dtype).max
    result: Pixels = np.clip(np.rint(np.dstack(planes)), 0, data_range).astype(pixels.dtype)
    return result


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open an image file to read its metadata; errors are those of `read_image`."""
    with decoding(path), open_regular(path, LARGEST) as file:
        yield _open(file)


class _Plugin(PillowPlugin):
    """imageio's Pillow plug-in, for an image that is open already if it is read.

    The original searches for HEIF and AVIF plug-ins, which takes longer than decoding a small JPEG.
    """

    def __init__(self, request: Request, image: Any = None) -> None:
        PluginV3.__init__(self, request)
        self._image = image
        self.images_to_write: list[PIL.Image.Image] = []
        self.save_args: dict[str, Any] = {}

    def metadata(self, index: int | None = None, exclude_applied: bool = True) -> dict[str, Any]:
        """Return nothing, since a damaged EXIF tag would make `read` fail."""
        return {}


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Convert the errors of decoders to `ImageError` with the path."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{path}: {_named(path)}; {EXPECTED}") from None
    except PIL.Image.DecompressionBombError:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise ImageError(f"{path}: is larger than {limit} megapixels; make it smaller") from None
    except MemoryError:
        raise ImageError(f"{path}: needs more memory than available") from None
    except Exception as error:  # decoders raise all kinds for damaged files
        if isinstance(error, OSError) and error.strerror:  # from the file system
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
        if (what := _named(path)).startswith("is a JPEG"):  # of an unusual kind
            raise ImageError(f"{path}: {what}; {EXPECTED}") from None
        raise ImageError(f"{path}: is damaged or truncated: {error}") from error


def _named(path: Path) -> str:
    """Return what a file is that cannot be read as an image."""
    try:
        with open_regular(path) as file:
            data = file.read(1 << 16)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return f"is {what_is(data) or 'not an image file'}" if data else "is empty"


def _open(file: IO[bytes]) -> Opened:
    """Open an image file. Nothing else interprets its metadata, so that all agree on its size."""
    start = file.read(64)
    file.seek(0)
    if tiff.is_tiff(start):
        return _open_tiff(file)
    formats: tuple[str, ...] = FORMATS
    if start[4:8] == b"ftyp" and what_is(start) == HEIC and find_spec("pi_heif"):
        import pi_heif

        pi_heif.register_heif_opener()
        formats = ("HEIF",)
    image = PIL.Image.open(file, formats=formats)
    layout = ""
    if image.format == "AVIF":
        layout = _avif_bits(file)
    elif image.format == "HEIF":
        layout = str(image.info.get("bit_depth"))
    elif image.format == "PNG":
        layout = str(image.tile)
        if "exif" not in image.info and _has_late_metadata(file, image.tile[0].offset - 8):
            image.load()  # which reads them
    try:
        exif = PIL.Image.Image.getexif(image)  # that of PNG files would decode the pixels
        orientation = exif.get(Base.Orientation, 1)
    except Exception:  # damaged metadata, of many kinds
        exif, orientation = PIL.Image.Exif(), 1
    # Phones store previews as frames of an MPO.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    kind, size = str(image.format), image.size
    return Opened(kind, frames, size, _valid(orientation), layout, image.info, exif, image)


def _open_tiff(file: IO[bytes]) -> Opened:
    """Open a TIFF file, with Pillow if it decodes its samples right."""
    page = tiff.read_page(file)
    width, height = page.size
    if width * height > 2 * (PIL.Image.MAX_IMAGE_PIXELS or width * height):
        raise PIL.Image.DecompressionBombError
    image, layout, exif = None, "", tiff.read_exif(file, page)
    info: Mapping[Any, Any] = {"icc_profile": exif.get(Base.InterColorProfile)}
    if page.by_pillow:
        file.seek(0)
        tiff.silence_libtiff()
        image = PIL.Image.open(file, formats=("TIFF",))
        image.seek(page.index)
        image.info.pop("xmp", None)  # whose orientation Pillow would apply
        layout, info = str(image.tile), image.info
    orientation = _valid(page.orientation)
    return Opened("TIFF", page.frames, page.size, orientation, layout, info, exif, image, page)


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _avif_bits(file: IO[bytes]) -> str:
    """Return the bits per channel of an AVIF file, of which Pillow decodes 8."""
    position = file.tell()
    file.seek(0)
    found = _AVIF_BITS.search(file.read(1 << 12))
    file.seek(position)
    return str(found[1][0]) if found else ""


def _has_late_metadata(file: IO[bytes], offset: int) -> bool:
    """Return whether an orientation may follow the pixels of a PNG file, which begin there."""
    position, found = file.tell(), False
    file.seek(offset)
    while not found and len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        found = name == b"eXIf"
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            start = file.read(min(length, 32))
            found, length = start.startswith(_ORIENTED), length - len(start)
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(position)
    return found


def _header(source: Opened) -> tuple[Header, str]:
    """Return the header of an image, and how its pixels are decoded: Pillow's mode, or 16 bits."""
    (width, height), page = source.size, source.page
    if source.frames > 1:
        what = f"has {source.frames} frames; expected a still image: save a single frame"
        raise ImageError(what)
    if page is not None:
        page.check()
        if source.image is None:
            return Header(height, width, page.channels, page.depth, page.loss), ""
    mode, layout = source.image.mode, source.layout
    keyed = mode in _KEYED and "transparency" in source.info
    alpha = mode.endswith(("A", "a")) or (mode == "P" and "transparency" in source.info)
    channels = 1 if mode in _GREY or "LA;16" in layout else 3
    decoded = ("L" if channels == 1 else "RGB") + ("A" if alpha else "")
    bits, loss = 8, _CONVERTED.get(mode, "") or (page.loss if page else "")
    if mode in _GREY_16_BIT:
        bits, decoded = 16, mode
    elif source.format in ("PNG", "TIFF") and ";16" in layout:
        if source.format == "PNG" and tiff.has_extra():
            bits, decoded = 16, decoded + ("A" if keyed else "") + ";16"
        elif keyed:
            raise ImageError(f"has 16-bit colours, one of them transparent, which needs {EXTRA}")
        else:
            loss = REDUCED if tiff.has_extra() else _EXTRA_MISSING
    elif source.format in ("AVIF", "HEIF") and layout in ("10", "12"):
        loss = f"{layout} bits per channel, which are reduced to 8"
    return Header(height, width, channels, bits, loss), decoded


def _decode(data: bytes, source: Opened, header: Header, mode: str) -> Pixels:
    """Decode pixels (height, width, channels, then alpha) as they are stored."""
    if source.image is None and source.page is not None:
        return tiff.decode(data, source.page)
    if mode.endswith("A;16") or mode == "RGB;16":
        return _decode_16_bit(data, source.stored, len(mode) - 3)
    converted = None if mode == source.image.mode else mode
    index = 0 if source.page is None else source.page.index
    keyed, key = source.image.mode in _KEYED, source.info.get("transparency")
    plugin: Any = iio.imopen(data, "r", plugin=_Plugin, image=source.image)
    pixels: Pixels = plugin.read(index=index, mode=converted, writeable_output=False)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if not keyed or key is None:
        return pixels
    # Pillow forgets the transparent colour, or compares it with pixels of another scale.
    levels = next((step for name, step in _LEVELS.items() if name in source.layout), 1)
    opaque = (pixels != np.multiply(key, levels)).any(axis=2, keepdims=True)
    return np.dstack([pixels, opaque * pixels.dtype.type(np.iinfo(pixels.dtype).max)])


def _decode_16_bit(data: bytes, size: tuple[int, int], channels: int) -> Pixels:
    """Decode a PNG file into an array of the header's size, which bounds the memory."""
    import imagecodecs

    pixels = np.empty((size[1], size[0], channels), np.uint16)
    imagecodecs.png_decode(data, out=pixels)
    return pixels


def _resolution_and_gamma(exif: PIL.Image.Exif, kind: str) -> dict[str, Any]:
    """Return Pillow's options for what formats store outside of the EXIF metadata as well."""
    options: dict[str, Any] = {}
    if Base.XResolution in exif:
        options["dpi"] = float(exif[Base.XResolution]), float(exif[Base.YResolution])
    copy = PIL.Image.Exif()  # since `get_ifd` adds an empty directory
    copy.load(exif.tobytes())
    if kind == "PNG" and (gamma := copy.get_ifd(IFD.Exif).get(GAMMA)):
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add(b"gAMA", struct.pack(">I", round(float(gamma) * 100_000)))
    return options


def _encode_16_bit(file: IO[bytes], pixels: Pixels, kind: str, options: Mapping[str, Any]) -> None:
    """Encode 16-bit colour or alpha as PNG, or as TIFF with a part of the EXIF metadata."""
    if not tiff.has_extra():
        raise ImageError(f"16-bit colour or alpha needs {EXTRA}")
    icc, exif = options.get("icc_profile"), options.get("exif", PIL.Image.Exif())
    dpi, chunks = options.get("dpi"), options.get("pnginfo")
    if kind == "TIFF":
        iio.imwrite(
            file,
            pixels,
            plugin="tifffile",
            photometric="rgb" if pixels.shape[2] > 2 else "minisblack",
            planarconfig="contig",
            extrasamples=("unassalpha",) if pixels.shape[2] % 2 == 0 else None,
            compression="adobe_deflate",
            iccprofile=icc,
            description=exif.get(Base.ImageDescription),
            software=exif.get(Base.Software, False),
            datetime=exif.get(Base.DateTime),
            resolution=dpi,
            resolutionunit="inch" if dpi else None,
            metadata=None,
            extratags=[
                (tag, "s", 0, exif[tag], True)
                for tag in (Base.Artist, Base.Copyright)
                if tag in exif
            ],
        )
        return
    import imagecodecs

    encoded = imagecodecs.png_encode(np.ascontiguousarray(pixels), level=options["compress_level"])
    file.write(encoded[:_PNG_HEAD])
    for name, body, *_ in chunks.chunks if chunks else ():
        putchunk(file, name, body)
    if dpi:
        metres = (round(each / 0.0254) for each in dpi)
        putchunk(file, b"pHYs", struct.pack(">IIB", *metres, 1))
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
