"""Pages of TIFF files: what their samples are, and which decoder reads them right.

Pillow decodes the common layouts. Others it refuses or even decodes wrongly, such as 16-bit planes;
these are decoded by tifffile and imagecodecs, with the extra ``deep``.
"""

from __future__ import annotations

import ctypes
import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import IO, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import PIL._imaging
import PIL.ExifTags
import PIL.Image
from PIL.TiffImagePlugin import COMPRESSION_INFO

from mlr._version import install
from mlr.errors import ImageError

EXTRA = install("deep")
_CONVERT = "convert it to 8 or 16 bits per channel, grey or RGB"
_MOST_PAGES = 1000  # that are counted
_MOST_BYTES = 1 << 24  # of the values of a tag
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # types of tags as in `struct`
_TAGS = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 274, 277, 279, 284, 317, 320, 325, 338, 339, 50706)
)
_WHITE, _BLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {_WHITE: "grey (0 is white)", _BLACK: "grey", _RGB: "RGB", _PALETTE: "palette"}
_COLOURS |= {_CMYK: "CMYK", _YCBCR: "YCbCr", _LAB: "Lab", 9: "Lab", 32803: "camera raw"}
_KINDS = {1: "", 2: " signed", 3: " floating-point"}  # of samples
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # compressions of all layouts
_FAX, _JPEG = frozenset({2, 3, 4}), frozenset({6, 7})
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra samples
#: Photometric interpretations and bits that Pillow decodes; colours of 16 bits are reduced to 8.
_BY_PILLOW = {(colours, bits) for colours in (_WHITE, _BLACK, _PALETTE) for bits in (1, 2, 4, 8)}
_BY_PILLOW |= {(colours, 8) for colours in (_RGB, _CMYK, _LAB)}
_BY_PILLOW |= {(colours, 16) for colours in (_BLACK, _RGB, _CMYK)}

Pixels = npt.NDArray[Any]


def is_tiff(start: bytes) -> bool:
    """Return whether a file starts like a TIFF file."""
    return start.startswith(_STARTS)


@cache
def has_extra() -> bool:
    """Return whether the extra is installed, for 16-bit colour and rare layouts."""
    return find_spec("imagecodecs") is not None and find_spec("tifffile") is not None


@cache
def silence_libtiff() -> None:
    """Stop the libtiff of Pillow from writing to stderr; Pillow raises the errors as well."""
    with suppress(OSError, AttributeError):  # where it is linked otherwise
        ctypes.CDLL(PIL._imaging.__file__).TIFFSetErrorHandler(None)


def _tag(number: int, default: int) -> Any:
    """Return a property: the first value of a tag."""
    return property(lambda page: page.tags.get(number, (default,))[0])


@dataclass(frozen=True)
class Page:
    """The page of a TIFF file that is the image."""

    tags: dict[int, tuple[int, ...]]
    order: str  # of bytes, as in `struct`
    big: bool  # whether it is a BigTIFF
    offset: int
    index: int
    frames: int  # number of pages of full resolution
    masked: bool  # whether another page is a transparency mask

    orientation = _tag(274, 1)  # as in EXIF
    _compression = _tag(259, 1)
    _fill_order = _tag(266, 1)
    _planar = _tag(284, 1)
    _predictor = _tag(317, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.tags[256][0], self.tags[257][0]

    @property
    def bits(self) -> int:
        """Bits of each sample, or 0 if they differ."""
        bits = set(self.tags.get(258, (1,))[: self._samples])
        return bits.pop() if len(bits) == 1 else 0

    @property
    def reversed_big(self) -> bool:
        """Whether it is a BigTIFF with the upper bytes first, of which Pillow knows nothing."""
        return self.big and self.order == ">"

    @property
    def depth(self) -> int:
        """Bits of the decoded samples, 8 or 16."""
        return 8 if self.bits <= 8 else 16

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self._colours in (_WHITE, _BLACK) else 3

    @property
    def alpha(self) -> bool:
        """Whether there is alpha."""
        return any(self._extra)

    @property
    def loss(self) -> str:
        """What is not read, for a note."""
        if self.masked:
            return "a transparency mask, which is not read"
        others = len(self._extra) > self.alpha
        return "samples that are neither colour nor alpha, which are not read" if others else ""

    @property
    def _samples(self) -> int:
        return self.tags.get(277, (3 if self._compression == 6 else 1,))[0]

    @property
    def _colours(self) -> int:
        return _YCBCR if self._compression == 6 else self.tags.get(262, (_WHITE,))[0]

    @property
    def _unpredicted(self) -> bool:
        """Whether decoders know how samples are predicted from their neighbours."""
        return self._predictor == 1 or (self._predictor == 2 and self.bits in (8, 16))

    @property
    def _plain(self) -> bool:
        """Whether decoders return the samples, and these are unsigned numbers."""
        unsigned = {*self.tags.get(339, (1,))} == {1} and self._samples >= self._stored
        return unsigned and self._unpredicted and self._compression in _LOSSLESS

    @property
    def _stored(self) -> int:
        """Number of samples of the colour."""
        return {_WHITE: 1, _BLACK: 1, _PALETTE: 1, _CMYK: 4}.get(self._colours, 3)

    @property
    def _extra(self) -> tuple[int, ...]:
        """The kinds of the samples that follow the colour."""
        count = max(0, self._samples - self._stored)
        found = self.tags.get(338, (_ALPHA,) if self._colours == _RGB and count == 1 else ())
        return found[:count] + (0,) * (count - len(found))

    @property
    def by_pillow(self) -> bool:
        """Whether Pillow decodes the samples right."""
        colours, bits, extra = self._colours, self.bits, self._extra
        if self._compression in _JPEG:
            return (bits, self._planar, extra) == (8, 1, ()) and colours != _PALETTE
        if self._compression in _FAX:
            return (bits, self._samples) == (1, 1) and colours in (_WHITE, _BLACK)
        if not self._plain or self.reversed_big or (colours, bits) not in _BY_PILLOW:
            return False
        if self._fill_order != 1:  # the bits of each byte are reversed
            return bits == 1 and colours != _PALETTE and self._planar == 1
        if colours == _PALETTE and max(self.tags[320]) < 256:  # black for Pillow
            return False
        if colours == _RGB and bits == 16:
            return not has_extra() and self._planar == 1 and extra in ((), (_ALPHA,))
        if self._planar == 2:
            return bits == 8 and colours in (_RGB, _CMYK) and extra in ((), (_ALPHA,))
        if not extra:
            return True
        kinds = {_BLACK: 2, _RGB: 2, _PALETTE: 2, _CMYK: 0}.get(colours, -1)
        premultiplied = colours == _PALETTE and extra[0] == _PREMULTIPLIED
        return bits == 8 and extra[0] <= kinds and not premultiplied and not any(extra[1:])

    def check(self) -> None:
        """Raise `ImageError` unless a decoder reads the samples right."""
        if self.by_pillow:
            return
        grey_or_rgb = self._colours in (_WHITE, _BLACK, _RGB)
        rare = self._plain and (grey_or_rgb or self._colours == _PALETTE)
        rare = rare and 1 <= self.bits <= (16 if grey_or_rgb else 8)
        if _PREMULTIPLIED in self._extra and self._colours not in (_BLACK, _RGB):
            rare = False
        if not rare:
            raise ImageError(f"is {self}, which is not supported; {_CONVERT}")
        if not has_extra():
            raise ImageError(f"is {self}, which needs {EXTRA}; or {_CONVERT}")
        if 0 in self.tags.get(279, ()) + self.tags.get(325, ()):
            raise ImageError("is damaged: strips or tiles are missing")

    def __str__(self) -> str:
        bits = "+".join(map(str, [self.bits] if self.bits else self.tags.get(258, ())))
        what = _COLOURS.get(self._colours, f"photometric {self._colours}")
        kind = _KINDS.get(self.tags.get(339, (1,))[0], " undefined")
        name = COMPRESSION_INFO.get(self._compression, f"compression {self._compression}")
        more = ["uncompressed" if name == "raw" else name.removeprefix("tiff_")]
        more += ["big-endian BigTIFF"] * self.reversed_big
        more += ["packed"] * (self.bits > 8 and self.bits % 8 > 0)
        more += ["in planes"] * (self._planar == 2)
        more += [f"predictor {self._predictor}"] * (not self._unpredicted)
        more += ["premultiplied alpha"] * (_PREMULTIPLIED in self._extra)
        article = "an" if bits.startswith("8") else "a"
        return f"{article} {bits}-bit{kind} {what} TIFF ({', '.join(more)})"


def read_page(file: IO[bytes]) -> Page:
    """Return the page of full resolution, or the first of several."""
    head = file.read(16)
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    (offset,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    pages: dict[int, dict[int, tuple[int, ...]]] = {}
    while offset and offset not in pages and len(pages) < _MOST_PAGES:
        here = offset
        pages[here], offset = _read_tags(file, here, order, big)
    kinds = [tags.get(254, (0,))[0] | (tags.get(255) == (2,)) for tags in pages.values()]
    full = [number for number, kind in enumerate(kinds) if not kind & 5]
    raw = head[8:10] == b"CR" or any(50706 in tags for tags in pages.values())
    if not full or raw:
        raise ImageError("is a TIFF of a preview alone, such as camera raw; convert it first")
    offset = list(pages)[full[0]]
    masked = any(kind & 4 for kind in kinds)
    return Page(pages[offset], order, big, offset, full[0], len(full), masked)


def read_exif(file: IO[bytes], page: Page) -> PIL.Image.Exif:
    """Return the metadata of a page, empty if they are damaged."""
    exif = PIL.Image.Exif()
    exif.endian, exif.bigtiff = page.order, page.big
    if page.reversed_big:
        return exif
    with suppress(Exception):  # of many kinds
        exif.load_from_fp(file, page.offset)
        exif.get_ifd(PIL.ExifTags.IFD.Exif)  # now, while the file is open
        exif.fp = io.BytesIO()  # of which nothing is kept
    return exif


def _read_tags(
    file: IO[bytes], offset: int, order: str, big: bool
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the numbers of the known tags of a page, and the offset of the next page."""
    file.seek(offset)
    entry, word, short = ("HHQ8s", "Q", "Q") if big else ("HHI4s", "I", "H")
    (count,) = struct.unpack(order + short, file.read(struct.calcsize("=" + short)))
    size = struct.calcsize("=" + entry)
    entries = file.read(min(count, 1 << 16) * size)
    following = file.read(struct.calcsize("=" + word)).ljust(8, b"\0")
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, number, value in struct.iter_unpack(order + entry, entries):
        form = f"{order}{number}{_NUMBERS.get(kind, 'x')}"
        length = number * struct.calcsize("=" + _NUMBERS.get(kind, "x"))
        if tag not in _TAGS or kind not in _NUMBERS or not 0 < length < _MOST_BYTES:
            continue
        if length > len(value):
            file.seek(struct.unpack(order + word, value)[0])
            value = file.read(length)
        if len(value) >= length:
            tags.setdefault(tag, struct.unpack_from(form, value))
    return tags, struct.unpack_from(order + word, following)[0]


def decode(data: bytes, page: Page) -> Pixels:
    """Decode samples with tifffile: uint8 or uint16 (height, width, channels, then alpha)."""
    with iio.imopen(data, "r", plugin="tifffile") as file:
        samples = np.asarray(file.read(index=..., page=page.index))
    if samples.ndim == 3 and page._planar == 2:
        samples = np.moveaxis(samples, 0, 2)
    samples = samples.reshape((*samples.shape[:2], -1))
    if samples.shape != (*page.size[::-1], page._samples):
        raise ImageError("is damaged: it decodes to another size")
    colours, extra = samples[..., : page._stored], page._extra
    if page._colours == _PALETTE:
        palette = np.array(page.tags[320]).reshape(3, -1).T
        colours = palette[colours[..., 0].astype(np.uint8)] >> (8 if palette.max() > 255 else 0)
    else:
        colours = _scaled(colours, page.bits)
    top = (1 << page.depth) - 1
    if page._colours == _WHITE:
        colours = top - colours
    planes = [colours]
    if page.alpha:
        first = next(number for number, kind in enumerate(extra) if kind)
        alpha = _scaled(samples[..., page._stored + first, None], page.bits)
        if extra[first] == _PREMULTIPLIED:
            divisor = np.maximum(alpha, 1).astype(np.uint32)
            colours = np.minimum(top, (colours * np.uint32(top) + divisor // 2) // divisor)
            planes = [np.where(alpha > 0, colours, 0)]
        planes.append(alpha)
    return np.dstack(planes).astype(f"u{page.depth // 8}")


def _scaled(samples: Pixels, bits: int) -> Pixels:
    """Return samples of up to 16 bits in the range of 8 or 16 bits."""
    if bits in (8, 16):
        return samples
    top, peak = np.uint32(255 if bits < 8 else 65535), np.uint32((1 << bits) - 1)
    return (samples.astype(np.uint32) * top + peak // 2) // peak
