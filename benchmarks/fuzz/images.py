"""Damaged image files."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.fuzz.room import EDGES, Room, WrongError, damaged, kind, refused
from tests.layouts import pngs, tiffs


def _seeds() -> list[tuple[str, bytes]]:
    """Return valid images of many kinds as (suffix, bytes)."""
    rng = np.random.default_rng(1)
    colour = PIL.Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8))
    grey = colour.convert("L")
    grey16 = PIL.Image.fromarray(rng.integers(0, 65536, (24, 20), np.uint16))
    clear = colour.copy()
    clear.putalpha(grey)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": [colour.rotate(90).resize((20, 24))]}
    kinds: list[tuple[str, PIL.Image.Image, dict[str, Any]]] = [
        *(("png", image, {}) for image in (colour, grey, grey16, clear, grey.convert("1"))),
        ("png", colour.quantize(16), {"transparency": 3}),
        ("png", colour, {"exif": exif, "dpi": (72, 72)}),
        *(("jpg", image, {}) for image in (colour, grey, colour.convert("CMYK"))),
        ("jpg", colour, {"progressive": True, "exif": exif, "icc_profile": bytes(200)}),
        ("jpg", colour, {"subsampling": 2, "restart_marker_rows": 1}),
        *(("bmp", image, {}) for image in (colour, grey, clear, grey.convert("1"))),
        ("bmp", colour.quantize(16), {}),
        *(("tif", image, {}) for image in (colour, grey, grey16, clear)),
        *(
            ("tif", colour, {"compression": name})
            for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        ),
        ("tif", grey.convert("1"), {"compression": "group4"}),
        ("tif", colour, several | {"compression": "tiff_lzw"}),
        *(("webp", image, {"lossless": n}) for n in (False, True) for image in (colour, clear)),
        ("webp", colour, several),
        ("webp", colour, {"exif": exif}),
        *(("avif", image, {}) for image in (colour, clear)),
        ("gif", colour.quantize(16), {}),
        ("gif", colour.quantize(16), {"transparency": 1, "interlace": True}),
        ("gif", colour, several),
    ]
    seeds = []
    for suffix, image, options in kinds:
        file = io.BytesIO()
        image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
        seeds.append((suffix, file.getvalue()))
    seeds += [("tif", each.data()) for each in tiffs()[::5] if each.compression != "zstd"]
    return seeds + [("png", layout.data()) for layout in pngs()[::3]]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_with_right_checksums(data: bytes, rng: random.Random) -> bytes:
    """Return a PNG with damage within its chunks; wrong checksums would be refused at once."""
    result, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length
        if rng.random() < 0.5:
            if name == b"IHDR" and rng.random() < 0.5:
                body = struct.pack(">II", rng.choice(EDGES), rng.choice(EDGES)) + body[8:]
            elif name == b"IDAT" and rng.random() < 0.5:
                body = zlib.compress(damaged(zlib.decompress(body), rng))
            else:
                body = damaged(body, rng)
        result += _chunk(name, body) * rng.choice((1, 1, 1, 2))
    return result


def _bomb(rng: random.Random) -> tuple[str, bytes]:
    """Return a small file that claims to be a huge image, or is one."""
    side = rng.choice((3000, 9000, 13000, 20000, 60000, 2**31 - 1))
    match rng.randrange(4):
        case 0:
            packer = zlib.compressobj(1)
            rows = bytes(1 + side) * 1000 if side < 15_000 else b""
            body = b"".join(packer.compress(rows) for _ in range(side // 1000 if rows else 0))
            head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
            return "png", b"\x89PNG\r\n\x1a\n" + b"".join(
                _chunk(*chunk)
                for chunk in ((b"IHDR", head), (b"IDAT", body + packer.flush()), (b"IEND", b""))
            )
        case 1:
            head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
            return "bmp", b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + head + bytes(6)
        case 2:
            size = min(side, 65535)
            screen = struct.pack("<HHBBB", size, size, 0x80, 0, 0) + bytes(6)
            frame = struct.pack("<BHHHHB", 44, 0, 0, size, size, 0)
            return "gif", b"GIF89a" + screen + frame + b"\x02\x02\x4c\x01\x00;"
        case _:
            text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))
            data = _SEEDS[0][1]
            return "png", data[:33] + text * rng.choice((1, 3)) + data[33:]


_SEEDS: list[tuple[str, bytes]] = []


@kind(50)
def images(room: Room, rng: random.Random) -> str:
    """Images of all kinds and layouts: bits, fields, lengths, checksums, bombs."""
    from mlr.errors import ImageError
    from mlr.io.images import read_header, read_image

    if not _SEEDS:
        _SEEDS.extend(_seeds())
    suffix, data = rng.choice(_SEEDS)
    draw = rng.random()
    if draw < 0.005:
        suffix, data = _bomb(rng)
    elif suffix == "png" and draw < 0.7:
        data = _png_with_right_checksums(data, rng)
    elif draw < 0.05:
        data = data[: rng.randrange(len(data))] + damaged(rng.choice(_SEEDS)[1], rng)
    else:
        data = damaged(data, rng, rng.choice((0, 8)))
    path = room.input / f"x.{suffix}"
    path.write_bytes(data)
    header, _ = refused(lambda: read_header(path), ImageError)
    image, _ = refused(lambda: read_image(path), ImageError)
    if image is None:
        return "refused"
    height, width, channels = image.pixels.shape
    if header is None or (*header.size, header.channels) != image.pixels.shape:
        raise WrongError(f"{header} but {image.pixels.shape}")
    if channels not in (1, 3) or header.bits != 8 * image.pixels.itemsize:
        raise WrongError(f"{header.bits} bits but {image.pixels.shape} {image.pixels.dtype}")
    if image.alpha is not None and image.alpha.shape != (height, width):
        raise WrongError(f"alpha is {image.alpha.shape} of {image.pixels.shape}")
    if rng.random() < 0.05:
        code = room.mlr("synthesize", room.model, path, "-o", room.output, "--resize", "-q")
        return f"read, synthesized with exit code {code}"
    return "read"
