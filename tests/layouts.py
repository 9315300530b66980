"""Files of every sample layout of TIFF and PNG, written with NumPy and zlib alone.

The pixels that a file stands for follow from the samples by the definitions of the formats, so that
they depend neither on Pillow nor on libtiff, libpng or tifffile.
"""

import struct
import zlib
from dataclasses import dataclass, field, replace

import numpy as np

HEIGHT, WIDTH = 21, 19  # multiples neither of 8 nor of 16, for packed rows and cut tiles
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6  # photometric interpretations
COMPRESSIONS = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773, "zstd": 50000}


def drawn(bits, samples=1, seed=0, shape=(HEIGHT, WIDTH)):
    """Return random samples of so many bits; the first ones are the lowest and highest."""
    array = np.random.default_rng(seed).integers(0, 2**bits, (*shape, samples), np.uint64)
    array[0, 0], array[0, 1] = 0, 2**bits - 1
    return array


def packed(rows, bits, order=">"):
    """Return the bytes of rows (height, count), each of which begins at a byte."""
    if bits in (8, 16, 32, 64):
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    if bits == 24:
        return packed(
            rows[..., None] >> np.array([16, 8, 0], np.uint64)[:: 1 if order == ">" else -1]
            & np.uint64(255),
            8,
        )
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    return np.packbits(
        (rows[..., None] >> shifts & np.uint64(1)).astype(np.uint8).reshape(len(rows), -1), axis=1
    ).tobytes()


def lzw(data):
    """Return bytes as LZW codes; the table is cleared before codes grow beyond 9 bits."""
    codes = [code for at in range(0, len(data), 250) for code in (256, *data[at : at + 250])] + [
        257
    ]
    bits = (np.array(codes)[:, None] >> np.arange(8, -1, -1) & 1).astype(np.uint8)
    return np.packbits(bits.ravel()).tobytes()


def packbits(data):
    """Return bytes as literal runs, and their zeros as repeated ones."""
    parts = (data[at : at + 128] for at in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def compressed(data, how):
    if how == "zstd":
        import imagecodecs

        return imagecodecs.zstd_encode(data)
    return {"none": bytes, "lzw": lzw, "deflate": zlib.compress, "packbits": packbits}[how](data)


@dataclass(frozen=True)
class Tiff:
    """A TIFF file: how samples are stored, and what they mean."""

    photometric: int = BLACK
    bits: int = 8
    samples: int = 1
    planar: int = 1
    extra: tuple = ()  # 0: unspecified, 1: premultiplied alpha, 2: alpha
    compression: str = "none"
    order: str = "<"
    tile: int = 0  # side, or 0 for strips
    rows: int = HEIGHT  # of a strip
    predictor: int = 1
    fill: int = 1
    kind: int = 1  # unsigned, 2: signed, 3: floating-point
    big: bool = False
    tags: dict = field(default_factory=dict, hash=False)  # further ones

    def __str__(self):
        names = {
            WHITE: "white",
            BLACK: "black",
            RGB: "rgb",
            PALETTE: "palette",
            CMYK: "cmyk",
            YCBCR: "ycbcr",
        }
        text = f"{names.get(self.photometric, self.photometric)}{self.bits}x{self.samples}"
        for name, default in (
            ("planar", 1),
            ("extra", ()),
            ("compression", "none"),
            ("order", "<"),
            ("tile", 0),
            ("rows", HEIGHT),
            ("predictor", 1),
            ("fill", 1),
            ("kind", 1),
            ("big", False),
        ):
            value = getattr(self, name)
            if value != default:
                text += f" {name}={value}"
        return text

    def array(self, seed=0):
        """Return the samples (height, width, samples)."""
        array = drawn(self.bits, self.samples, seed)
        if 1 in self.extra:  # colours are no larger than the alpha
            alpha = self.samples - len(self.extra) + self.extra.index(1)
            array[..., :alpha] = np.minimum(array[..., :alpha], array[..., alpha : alpha + 1])
        return array

    def colours(self):
        """Return the palette, uint16 (2**bits, 3)."""
        return np.random.default_rng(9).integers(0, 256, (2**self.bits, 3)).astype(np.uint16) * 257

    def _encoded(self, array):
        """Return a strip or tile (height, width, samples)."""
        rows = array.reshape(len(array), -1)
        if self.predictor == 2:
            step = array.shape[2]
            rows = rows.copy()
            rows[:, step:] = (rows[:, step:] - rows[:, :-step]) & np.uint64(2**self.bits - 1)
        data = packed(rows, self.bits, self.order)
        data = compressed(data, self.compression)
        if self.fill == 2:
            data = np.packbits(
                np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            ).tobytes()
        return data

    def page(self, array=None, more=None):
        """Return the tags and the strips or tiles of a page."""
        array = self.array() if array is None else array
        height, width, samples = array.shape
        planes = np.split(array, samples, axis=2) if self.planar == 2 else [array]
        step = (self.tile, self.tile) if self.tile else (self.rows, width)
        chunks = []
        for plane in planes:
            if self.tile:
                plane = np.pad(plane, ((0, -height % self.tile), (0, -width % self.tile), (0, 0)))
            for y in range(0, plane.shape[0], step[0]):
                for x in range(0, plane.shape[1], step[1]):
                    chunks.append(self._encoded(plane[y : y + step[0], x : x + step[1]]))
        tags = {
            256: (3, [width]),
            257: (3, [height]),
            258: (3, [self.bits] * samples),
            259: (3, [COMPRESSIONS[self.compression]]),
            262: (3, [self.photometric]),
            277: (3, [samples]),
            284: (3, [self.planar]),
            266: (3, [self.fill]),
        }
        tags |= (
            {322: (3, [self.tile]), 323: (3, [self.tile])} if self.tile else {278: (3, [self.rows])}
        )
        if self.predictor != 1:
            tags[317] = (3, [self.predictor])
        if self.extra:
            tags[338] = (3, list(self.extra))
        if self.kind != 1:
            tags[339] = (3, [self.kind] * samples)
        if self.photometric == PALETTE:
            tags[320] = (3, list(self.colours().T.ravel()))
        return tags | self.tags | (more or {}), chunks

    def data(self, *pages):
        """Return the file of one page, or of several given as tags and chunks."""
        pages = pages or (self.page(),)
        big, order = self.big, self.order
        word, head = ("Q", 16) if big else ("I", 8)
        mark = b"II" if order == "<" else b"MM"
        if big:
            out = bytearray(mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 0))
        else:
            out = bytearray(mark + struct.pack(f"{order}HI", 42, 0))
        pointer = head - (8 if big else 4)
        for tags, chunks in pages:
            offsets = []
            for chunk in chunks:
                out += bytes(len(out) % 2)
                offsets.append(len(out))
                out += chunk
            tiled = 322 in tags
            counts = [len(chunk) for chunk in chunks]
            tags = tags | {
                324 if tiled else 273: (16 if big else 4, offsets),
                325 if tiled else 279: (4, counts),
            }
            entries = []
            for tag, (kind, values) in sorted(tags.items()):
                form = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 16: "Q", 7: "B"}[kind]
                if kind == 2:
                    body, count = bytes(values), len(values)
                else:
                    body = struct.pack(f"{order}{len(values)}{form}", *map(int, values))
                    count = len(values) // (2 if kind == 5 else 1)
                size = 8 if big else 4
                if len(body) > size:
                    out += bytes(len(out) % 2)
                    at = len(out)
                    out += body
                    body = struct.pack(f"{order}{word}", at)
                entries.append(
                    struct.pack(f"{order}HH{word}", tag, kind, count) + body.ljust(size, b"\0")
                )
            out += bytes(len(out) % 2)
            struct.pack_into(f"{order}{word}", out, pointer, len(out))
            out += struct.pack(f"{order}{'Q' if big else 'H'}", len(entries)) + b"".join(entries)
            pointer = len(out)
            out += bytes(8 if big else 4)
        return bytes(out)

    def expected(self, array=None):
        """Return pixels and alpha, or None, as they are to be read."""
        array = self.array() if array is None else array
        peak = 2**self.bits - 1
        top = 255 if self.bits <= 8 else 65535
        count = {RGB: 3, CMYK: 4}.get(self.photometric, 1)
        scaled = np.rint(array / peak * top)
        pixels, others = scaled[..., :count], scaled[..., count:]
        alpha = None
        if self.photometric == WHITE:
            pixels = top - pixels
        elif self.photometric == PALETTE:
            pixels, top = (self.colours()[array[..., 0].astype(int)] >> 8), 255
        for kind, plane in zip(self.extra, np.moveaxis(others, 2, 0), strict=True):
            if kind and alpha is None:
                alpha = plane
                if kind == 1:
                    pixels = np.where(
                        alpha[..., None] > 0,
                        np.minimum(
                            top, np.floor(pixels * top / np.maximum(alpha[..., None], 1) + 0.5)
                        ),
                        0,
                    )
        dtype = np.uint8 if top == 255 else np.uint16
        return pixels.astype(dtype), None if alpha is None else alpha.astype(dtype)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
ADAM7 += ((1, 0, 2, 1),)  # first row and column, and steps


@dataclass(frozen=True)
class Png:
    """A PNG file: how samples are stored."""

    colour: int = 0  # 0: grey, 2: RGB, 3: palette, 4: grey and alpha, 6: RGB and alpha
    bits: int = 8
    key: bool = False  # whether a colour, or each of a palette, has its alpha
    interlaced: bool = False

    def __str__(self):
        name = {0: "grey", 2: "rgb", 3: "palette", 4: "grey-alpha", 6: "rgb-alpha"}[self.colour]
        return f"{name}{self.bits}{' tRNS' * self.key}{' interlaced' * self.interlaced}"

    def array(self):
        """Return the samples (height, width, samples); the first colour occurs often."""
        array = drawn(self.bits, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[self.colour])
        array[::3, ::2] = array[2, 2]
        return array

    def palette(self):
        """Return the colours and the alpha of a palette."""
        rng = np.random.default_rng(7)
        colours = rng.integers(0, 256, (2**self.bits, 3), np.uint8)
        return colours, rng.integers(0, 256, 2**self.bits - 1, np.uint8)

    def data(self):
        """Return the file; its rows have all filters."""
        array = self.array()
        parts = [array[y::dy, x::dx] for y, x, dy, dx in ADAM7] if self.interlaced else [array]
        rows = b"".join(self._filtered(part) for part in parts if part.size)
        head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, self.bits, self.colour, 0, 0, self.interlaced)
        chunks = [chunk(b"IHDR", head)]
        if self.colour == 3:
            chunks.append(chunk(b"PLTE", self.palette()[0].tobytes()))
        if self.key:
            key = array[2, 2].astype(">u2").tobytes()
            chunks.append(chunk(b"tRNS", self.palette()[1].tobytes() if self.colour == 3 else key))
        chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    def _filtered(self, array):
        """Return the rows of an image or a pass, each with another filter."""
        rows = packed(array.reshape(len(array), -1), self.bits)
        rows = np.frombuffer(rows, np.uint8).reshape(len(array), -1).astype(int)
        step = max(1, self.bits * array.shape[2] // 8)
        left = np.pad(rows, ((0, 0), (step, 0)))[:, :-step]
        above, corner = (np.pad(each, ((1, 0), (0, 0)))[:-1] for each in (rows, left))
        distances = [np.abs(left + above - corner - each) for each in (left, above, corner)]
        paeth = np.choose(np.argmin(distances, axis=0), [left, above, corner])
        predicted = [np.zeros_like(rows), left, above, (left + above) // 2, paeth]
        out = b""
        for number, row in enumerate(rows):
            kind = number % 5
            out += (
                bytes([kind]) + ((row - predicted[kind][number]) % 256).astype(np.uint8).tobytes()
            )
        return out

    def expected(self):
        """Return pixels and alpha, or None, as they are to be read."""
        array, top = self.array(), 65535 if self.bits == 16 else 255
        dtype = np.uint16 if self.bits == 16 else np.uint8
        if self.colour == 3:
            colours, alphas = self.palette()
            indices = array[..., 0].astype(int)
            alpha = np.append(alphas, np.uint8(255))[indices] if self.key else None
            return colours[indices], alpha
        scaled = (array * top // (2**self.bits - 1)).astype(dtype)
        if self.colour in (4, 6):
            return scaled[..., :-1], scaled[..., -1]
        clear = (array == array[2, 2]).all(axis=2)
        return scaled, np.where(clear, 0, top).astype(dtype) if self.key else None


def chunk(name, body):
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def tiffs():
    """Return layouts of TIFF: each kind of samples, stored in each way in turn."""
    grey = [Tiff(p, bits) for p in (WHITE, BLACK) for bits in (1, 2, 3, 4, 5, 6, 7, 8)]
    grey += [Tiff(p, bits) for p in (WHITE, BLACK) for bits in (9, 10, 11, 12, 13, 14, 15, 16)]
    grey += [
        Tiff(p, bits, 2, extra=(e,))
        for p in (WHITE, BLACK)
        for bits in (4, 8, 12, 16)
        for e in (0, 2)
    ]
    grey += [Tiff(BLACK, bits, 2, extra=(1,)) for bits in (4, 8, 12, 16)]
    colour = [Tiff(RGB, bits, 3) for bits in (1, 2, 4, 5, 8, 10, 12, 14, 16)]
    colour += [Tiff(RGB, bits, 4, extra=(e,)) for bits in (4, 8, 12, 16) for e in (0, 1, 2)]
    colour += [Tiff(RGB, 8, 5, extra=e) for e in ((0, 0), (0, 2), (2, 0), (1, 0), (0, 1))]
    palette = [Tiff(PALETTE, bits) for bits in (1, 2, 3, 4, 5, 6, 7, 8)]
    palette += [Tiff(PALETTE, 8, 2, extra=(e,)) for e in (0, 2)]
    ways = [
        *({}, {"order": ">"}, {"rows": 4}, {"tile": 16}, {"planar": 2}, {"big": True}),
        {"big": True, "order": ">"},
        *({"tile": 16, "planar": 2}, {"planar": 2, "rows": 4}, {"fill": 2}),
        *({"compression": name} for name in ("lzw", "deflate", "packbits", "zstd")),
        {"compression": "deflate", "tile": 16, "planar": 2, "order": ">"},
        {"compression": "lzw", "fill": 2, "rows": 4},
    ]
    kinds = grey + colour + palette
    found = [replace(kind, **ways[number % len(ways)]) for number, kind in enumerate(kinds)]
    common = [*grey[:4:3], grey[7], grey[8], grey[15], grey[23], grey[31], colour[4], colour[8]]
    common += [Tiff(RGB, 8, 4, extra=(2,)), Tiff(RGB, 16, 4, extra=(2,)), Tiff(PALETTE, 8)]
    found += [replace(kind, **way) for kind in common for way in ways]
    deep = [kind for kind in common if kind.bits in (8, 16) and kind.photometric != PALETTE]
    found += [replace(kind, predictor=2, compression="deflate") for kind in deep]
    found += [replace(kind, predictor=2, compression="lzw", order=">", tile=16) for kind in deep]
    return sorted(set(found), key=str)


def pngs():
    """Return all layouts of PNG."""
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    return [
        Png(colour, bits, key, interlaced)
        for colour, several in depths.items()
        for bits in several
        for key in ((False, True) if colour < 4 else (False,))
        for interlaced in (False, True)
    ]
