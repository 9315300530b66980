"""Feed the program with damaged, hostile and absurd input, and see that it refuses it in a line.

    python benchmarks/fuzz.py [--seed 0] [--cases 22000] [--only KIND ...] [--keep FOLDER] [--write]

Cases are made from the seed and their number alone. They run in a child process, many in a row,
with a limit to its memory; the parent learns of each, so that it can tell which one crashed or
hung, and goes on with the next. What is wrong: any exception but the program's own errors, a
message of several lines, words of a library below, a crash, more than `PATIENCE` seconds, more
memory than `MEMORY`, and a file that appears, changes or vanishes outside of the output folder.

A kind of input is a function of a `Room` and a random generator that does one case and returns what
came of it; `kind` puts it on the list. ``--keep`` saves what crashed or hung. ``--write`` renews
the lines of these kinds in ``benchmarks/results/fuzz.md``. Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

RESULTS = Path(__file__).parent / "results" / "fuzz.md"
PATIENCE = 120  # seconds that a case may take on a busy machine
START = 300  # seconds that a child may take to import and compile everything
ADDRESSES = 6 << 30  # bytes of address space that a child may have, thread stacks included
MEMORY = 2 << 30  # bytes of memory that a child may have used: an image of 178 megapixels, twice
FOREIGN = re.compile(r"Traceback|Exception ignored|Fatal Python|Warning:")
#: libtiff says on stderr what is wrong with a file: true, and not ours to mend.
LIBTIFF = re.compile(r"((tempfile\.tif|\w+|): [^\n]*\n)*")
#: Numbers at the edges of what fields of a file can say.
EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


class WrongError(Exception):
    """Something that the program must not do."""


class Room:
    """Where cases run: ``in`` is made anew for each, ``out`` may be written to, the rest may not.

    Parameters
    ----------
    folder : Path
        Holds the rest: a folder of faces, a model of it and its statistics.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input, self.output = folder / "in", folder / "out"
        self.faces = folder / "faces"
        self.model, self.sums = folder / "model.npz", folder / "sums.npz"
        self.errors = folder / "errors"
        self.kept = folder / "kept"
        self._rest = self._names()

    def furnish(self) -> None:
        """Draw the faces and train the model."""
        from mlr.data.images import write_image
        from mlr.training import gather, train

        rng = np.random.default_rng(0)
        for name in ("neutral", "happy", "sad"):
            for person in range(4):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                write_image(self.faces / name / f"{person}.png", pixels)
        train(self.faces, self.model)
        gather(self.faces, self.sums)
        options: dict[str, Any] = {"recipe": "paper", "checkpoint": self.kept, "shard": 2}
        train(self.faces, self.folder / "paper.npz", **options)

    def clear(self) -> None:
        """Empty the folders of input and output."""
        for path in (self.input, self.output):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()

    @property
    def manifest(self) -> str:
        """The manifest of the checkpoint."""
        return (self.kept / "manifest.json").read_text()

    @property
    def expected(self) -> bytes:
        """The model that was made of the checkpoint."""
        return (self.folder / "paper.npz").read_bytes()

    def check(self) -> None:
        """Raise if anything but the input and the output is not as it was."""
        if self._names() != self._rest:
            raise WrongError(f"outside of its folder: {self._names() ^ self._rest}")
        text = self.errors.read_text(errors="replace")
        self.errors.write_text("")
        if not LIBTIFF.fullmatch(text):
            raise WrongError(f"something below speaks to stderr: {text[:200]!r}")

    def _names(self) -> set[tuple[str, int, int]]:
        """Return path, size and time of each file beside input and output, and above the room."""
        here = [p for p in self.folder.rglob("*") if p.is_file() and p != self.errors]
        return {
            (str(p), p.stat().st_size, p.stat().st_mtime_ns)
            for p in here
            if not (p.is_relative_to(self.input) or p.is_relative_to(self.output))
        } | {(str(p), 0, 0) for p in self.folder.parent.iterdir()}

    def mlr(self, *arguments: object) -> int:
        """Run the command line in this process; return the exit code."""
        from mlr.cli import main

        out, err, code = io.StringIO(), io.StringIO(), None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        if code not in (0, 1, 2):
            raise WrongError(f"exit code {code}")
        said = err.getvalue()
        if FOREIGN.search(said):
            raise WrongError(f"words that are not its own: {said[-300:]!r}")
        if code and not said.strip():
            raise WrongError(f"exit code {code} without a word")
        if code == 1 and not any(line.startswith("mlr: ") for line in said.splitlines()):
            raise WrongError(f"no line of its own: {said[-300:]!r}")
        return int(code)


Kind = Callable[[Room, random.Random], str]
KINDS: dict[str, tuple[Kind, int]] = {}


def kind(share: int) -> Callable[[Kind], Kind]:
    """Put a function on the list of kinds; of all cases it gets so many of a hundred."""

    def put(function: Kind) -> Kind:
        KINDS[function.__name__] = function, share
        return function

    return put


def refused(function: Callable[[], Any], *errors: type[Exception]) -> tuple[Any, str]:
    """Call a function; return its result, or None and the one line that it refused with."""
    try:
        return function(), ""
    except errors as error:
        if "\n" in str(error) or not str(error).strip():
            raise WrongError(f"not a line: {str(error)[:300]!r}") from error
        return None, str(error)


# Bytes.


def damaged(data: bytes, rng: random.Random, begin: int = 0) -> bytes:
    """Return bytes with one to six faults, none of them before ``begin``."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if len(changed) <= begin + 8:
            break
        early = min(len(changed), begin + 200) if rng.random() < 0.6 else len(changed)
        at = rng.randrange(begin, early - 4)
        length = rng.randint(1, 64)
        match rng.randrange(7):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.randrange(256)
            case 2:
                number = rng.choice(EDGES)
                form = rng.choice("BHI") if number < 256 else "H" if number < 65536 else "I"
                struct.pack_into(rng.choice("<>") + form, changed, at, number)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                changed[at : at + length] = bytes([rng.choice((0, 255))]) * length
            case 6:
                del changed[rng.randrange(begin, len(changed)) :]
    return bytes(changed)


# Images.


def _seeds() -> list[tuple[str, bytes]]:
    """Return valid images of many kinds as (suffix, bytes)."""
    rng = np.random.default_rng(1)
    colour = PIL.Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8))
    grey = colour.convert("L")
    deep = PIL.Image.fromarray(rng.integers(0, 65536, (24, 20), np.uint16))
    clear = colour.copy()
    clear.putalpha(grey)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": [colour.rotate(90).resize((20, 24))]}
    kinds: list[tuple[str, PIL.Image.Image, dict[str, Any]]] = [
        *(("png", image, {}) for image in (colour, grey, deep, clear, grey.convert("1"))),
        ("png", colour.quantize(16), {"transparency": 3}),
        ("png", colour, {"exif": exif, "dpi": (72, 72)}),
        *(("jpg", image, {}) for image in (colour, grey, colour.convert("CMYK"))),
        ("jpg", colour, {"progressive": True, "exif": exif, "icc_profile": bytes(200)}),
        ("jpg", colour, {"subsampling": 2, "restart_marker_rows": 1}),
        *(("bmp", image, {}) for image in (colour, grey, clear, grey.convert("1"))),
        ("bmp", colour.quantize(16), {}),
        *(("tif", image, {}) for image in (colour, grey, deep, clear)),
        *(
            ("tif", colour, {"compression": name})
            for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        ),
        ("tif", grey.convert("1"), {"compression": "group4"}),
        ("tif", colour, several | {"compression": "tiff_lzw"}),
        *(("webp", image, {"lossless": n}) for n in (False, True) for image in (colour, clear)),
        ("webp", colour, several),
        ("webp", colour, {"exif": exif}),
        ("gif", colour.quantize(16), {}),
        ("gif", colour.quantize(16), {"transparency": 1, "interlace": True}),
        ("gif", colour, several),
    ]
    seeds = []
    for suffix, image, options in kinds:
        file = io.BytesIO()
        image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
        seeds.append((suffix, file.getvalue()))
    return seeds


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_with_right_checksums(data: bytes, rng: random.Random) -> bytes:
    """Return a PNG with damage inside of its chunks, which a reader would else refuse at once."""
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
    """Return a small file that says that it is a huge image, and may well be one."""
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
    """PNG, JPEG, BMP, TIFF, WebP and GIF files: bits, fields, lengths, checksums, bombs."""
    from mlr.data.images import read_header, read_image
    from mlr.errors import ImageError

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
    if header is None or channels not in (1, 3) or image.pixels.dtype not in (np.uint8, np.uint16):
        raise WrongError(f"{header} but {image.pixels.shape} {image.pixels.dtype}")
    if image.alpha is not None and image.alpha.shape != (height, width):
        raise WrongError(f"alpha is {image.alpha.shape} of {image.pixels.shape}")
    if rng.random() < 0.05:
        code = room.mlr("synthesize", room.model, path, "-o", room.output, "--resize", "-q")
        return f"read, synthesized with exit code {code}"
    return "read"


# Models and statistics.

_ODD = (
    None, True, -1, 0, 1, 3, 255.0, 1e308, float("nan"), float("inf"), 10**30, 2**63, "", "x",
    "../x", "/etc/x", "a/b", "\0", "\n", ".", "é" * 300, "\u202e", [], [[]], [0], [[0, 0]], {},
    {"x": 1},
    [[40000, 0]], [["a", "b"]], [1, 2, 3], [-1, 16, 16], [3, 10**9, 10**9], ["happy", "happy"],
)  # fmt: skip


def _changed_meta(meta: dict[str, Any], rng: random.Random) -> str:
    """Return metadata with something else in it, as JSON or nearly."""
    for _ in range(rng.randint(1, 2)):
        key = rng.choice([*meta, "new"])
        inside = meta.get(key)
        odd = copy.deepcopy(rng.choice(_ODD))
        match rng.randrange(4):
            case 0 if isinstance(inside, list) and inside:
                inside[rng.randrange(len(inside))] = odd
            case 1 if isinstance(inside, list):
                meta[key] = inside * rng.choice((0, 2, 2000))
            case 2:
                meta.pop(key, None)
            case _:
                meta[key] = odd
    if "offsets" in meta and rng.random() < 0.1:
        meta["offsets"] = [[y, x] for y in range(rng.choice((3, 200))) for x in range(200)]
    text = json.dumps(meta)
    if rng.random() < 0.1:
        text = rng.choice(("[" * 100_000, '{"a":' * 5000, "9" * 5000, text[:-1], "NaN", '"x"'))
    return text


def _changed_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return an array of another shape, type or content."""
    match rng.randrange(8):
        case 0:
            return array.astype(rng.choice(["f8", "f2", "i8", "u1", "c8", "U3", ">f4", "M8[s]"]))
        case 1:
            return array[..., : rng.randrange(array.shape[-1] + 1)] if array.ndim else array
        case 2:
            return array.ravel()
        case 3:
            return np.asfortranarray(array)
        case 4:
            return array[None].repeat(rng.choice((0, 2, 3)), 0)
        case 5:
            changed = array.copy()
            value = rng.choice((np.nan, np.inf, -1e38, 32767, -32768, 0))
            with np.errstate(all="ignore"), contextlib.suppress(ValueError, OverflowError):
                changed.flat[rng.randrange(max(1, changed.size))] = value
            return changed
        case 6:
            return np.zeros(rng.choice(((), (0,), (1, 1, 1, 1, 1), (1,) * 30)), array.dtype)
        case _:
            return np.array([{"x": 1}], dtype=object)


def _damaged_npz(path: Path, rng: random.Random, *, forged: bool = True) -> bytes:
    """Return an ``.npz`` file with something wrong in it: not just other numbers, unless forged."""
    if rng.random() < 0.3:
        return damaged(path.read_bytes(), rng)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    names = [*arrays, "meta"]
    victim = rng.choice([*names, "meta", "meta"])
    text = _changed_meta(meta, rng) if victim == "meta" else json.dumps(meta)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            array = np.array(text) if name == "meta" else arrays[name]
            if name == victim and name != "meta":
                changed = _changed_array(array, rng)
                alike = (changed.shape, changed.dtype) == (array.shape, array.dtype)
                array = array if alike and not forged else changed
            member = io.BytesIO()
            np.save(member, array, allow_pickle=True)
            data = member.getvalue()
            if name == victim and rng.random() < 0.3:
                end = 10 + struct.unpack_from("<H", data, 8)[0]
                data = damaged(data[:end], rng) + data[end:]
            packing = zipfile.ZIP_DEFLATED if rng.random() < 0.02 else zipfile.ZIP_STORED
            if name == victim and rng.random() < 0.02:
                data, packing = bytes(300 << 20), zipfile.ZIP_DEFLATED
            if name == victim and rng.random() < 0.05:
                name = rng.choice(("../../evil", "/evil", "a\\b", "", "x" * 5000, *names))
            archive.writestr(f"{name}.npy", data, packing)
    found = file.getvalue()
    if rng.random() < 0.1:  # a member that says to be small, and is not
        at = found.rfind(b"PK\x01\x02")
        sizes = (rng.choice(EDGES[:9]), rng.choice(EDGES))
        found = found[: at + 20] + struct.pack("<II", *sizes) + found[at + 28 :]
    return found


@kind(16)
def models(room: Room, rng: random.Random) -> str:
    """Model files: ZIP and array headers, metadata, shapes, types, pickles, bombs."""
    from mlr.errors import ModelError
    from mlr.model import load

    path = room.input / "m.npz"
    path.write_bytes(_damaged_npz(room.model, rng))
    info = room.mlr("info", path, *rng.choice(((), ("--json",))))
    model, _ = refused(lambda: load(path), ModelError)
    if (info == 0) != (model is not None):
        raise WrongError(f"info ends with {info}, but the model is {model}")
    if model is None:
        return "refused"
    code = room.mlr("synthesize", path, room.faces / "neutral", "-o", room.output / "faces")
    return f"read, synthesized with exit code {code}"


@kind(14)
def statistics(room: Room, rng: random.Random) -> str:
    """Statistics files, as models."""
    from mlr.errors import ModelError
    from mlr.folds import Folds

    path = room.input / "s.npz"
    path.write_bytes(_damaged_npz(room.sums, rng))
    info = room.mlr("info", path, *rng.choice(((), ("--json",))))
    found, _ = refused(lambda: Folds.load(path), ModelError)
    if (info == 0) != (found is not None):
        raise WrongError(f"info ends with {info}, but the statistics are {found}")
    if found is None:
        return "refused"
    more = rng.choice(((), (room.sums,), (room.faces,), ("--remove", room.faces)))
    code = room.mlr("train", path, *more, "-o", room.output / "m.npz")
    return f"read, trained with exit code {code}"


@kind(6)
def checkpoints(room: Room, rng: random.Random) -> str:
    """Manifests and shards of checkpoints, as models; odd files, links and names among them."""
    kept = room.input / "kept"
    shutil.copytree(room.kept, kept)
    files = sorted(kept.iterdir())
    for _ in range(rng.randint(1, 3)):
        victim = rng.choice(files)
        draw = rng.random()
        if victim.is_dir():
            continue
        if draw < 0.1:
            victim.unlink(missing_ok=True)
            odd = rng.choice((room.model, room.faces, "/dev/null", "loop", room.kept / "none"))
            victim.symlink_to(odd)
        elif draw < 0.15:
            victim.unlink(missing_ok=True)
            victim.mkdir(exist_ok=True)
        elif draw < 0.2:
            shutil.copy(
                rng.choice([f for f in files if f.is_file()] or [room.model]),
                kept / f"shard-{rng.random()}.npz",
                follow_symlinks=False,
            )
        elif victim.is_symlink() or not victim.is_file():
            continue
        elif victim.suffix == ".json":
            text = _changed_meta(json.loads(room.manifest), rng)
            victim.write_text(text) if draw < 0.7 else victim.write_bytes(
                damaged(victim.read_bytes(), rng)
            )
        else:
            victim.write_bytes(_damaged_npz(room.kept / victim.name, rng, forged=False))
    model = room.output / "m.npz"
    options = ["--recipe", "paper", "--checkpoint", kept, "--shard", rng.choice((1, 2, 3))]
    code = room.mlr("train", room.faces, "-o", model, *options, "-q")
    if code == 0 and model.read_bytes() != room.expected:
        raise WrongError("exit code 0, and another model")
    if not model.exists():
        return f"refused with exit code {code}"
    return "trained with the same model"


# Manifests.


@kind(7)
def manifests(room: Room, rng: random.Random) -> str:
    """pairs.csv: paths up, absolute and linked, odd expressions, quotes, encodings, NULs."""
    faces = [f"../faces/{name}/{n}.png" for name in ("neutral", "happy") for n in range(4)]
    odd = [
        "", ".", "..", "../../../etc/passwd", "/etc/passwd", "/dev/null", "link.png", "loop.png",
        "a\0b", "a\nb.png", "x" * 300, "y/" * 3000, "é.png", "\ud800", "~", "a,b", 'a"b', "\t",
        str(room.model), str(room.faces), "x" * 200_000, "../faces/neutral/0.png/x",
    ]  # fmt: skip
    expressions = [
        "happy", "sad", "", "../evil", "/evil", "a/b", "..", ".hidden", "x" * 300, "é", "\u202e",
        "a\\b", "a\0", "con", "a=1", "happy-0.5", "-o", "overview", " ",
    ]  # fmt: skip
    (room.input / "link.png").symlink_to(room.faces / "happy" / "1.png")
    (room.input / "loop.png").symlink_to("loop.png")

    def cell(usual: list[str], unusual: list[str]) -> str:
        return rng.choice(unusual) if rng.random() < 0.15 else rng.choice(usual)

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if rng.random() < 0.9 else text

    head = rng.choice(["source,target,expression"] * 8 + ["source,target", "a,b", "", "source"])
    rows = [
        ",".join(
            quoted(text)
            for text in (
                cell(faces[:4], odd),
                cell(faces[4:], odd),
                cell(["happy", "sad"], expressions),
            )[: rng.choice((3, 3, 3, 3, 2, 1))]
        )
        for _ in range(rng.randint(0, 6))
    ]
    data = "\n".join([head, *rows]).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        data = damaged(data, rng)
    if rng.random() < 0.05:
        encoding = rng.choice(["utf-16", "latin-1", "utf-7"])
        data = data.decode("utf-8", "replace").encode(encoding, "replace")
    (room.input / "pairs.csv").write_bytes(data)
    model = room.output / "m.npz"
    code = room.mlr("train", room.input, "-o", model, "-q")
    if not model.exists():
        return f"no model, exit code {code}"
    room.mlr("synthesize", model, room.faces / "neutral", "-o", room.output / "faces", "-q")
    room.mlr("evaluate", model, room.input, "--report", room.output / "report", "-q")
    return f"trained with exit code {code}"


# Command lines.

_NUMBERS = (
    "0", "1", "3", "-1", "2", "5", "17", "1e400", "nan", "inf", "-0.0", "0.4", "", " ", "x",
    "1e-320", "9" * 30, "9" * 5000, "0x10", "٣", "1_000", "true", "None", "1000000", "201", "1e9",
)  # fmt: skip
_NAMES = (
    "happy", "sad", "neutral", "", ".", "..", "/", "../x", "x" * 300, "é", "\udcff", "\u202e",
    "-", "--", "happy=1", "happy=nan", "happy=1,sad=0.5", "=", ",", "happy=1,happy=2",
    "happy=1e400", "happy=-1", "a\nb", "%s", "{}", "*",
)  # fmt: skip


@kind(7)
def command_lines(room: Room, rng: random.Random) -> str:
    """Commands with options, values and arguments of all sorts, in any order."""
    options = {
        "train": "-o --remove --recipe --receptive-field --source --target --penalty --threads "
        "--checkpoint --shard --cluster",
        "statistics": "-o --remove --receptive-field --source --target --threads --checkpoint",
        "synthesize": "-o --target --strength --resize --threads --cluster",
        "evaluate": "--source --target --report --threads --cluster",
        "sample": "--pairs --size --seed --target --threads",
        "info": "--json",
        "bench": "--receptive-field --threads",
    }
    out = room.output
    paths = [
        room.faces, room.model, room.sums, room.faces / "neutral", room.faces / "happy/0.png", out,
        room.input, "/", "/dev/null", "/nowhere", out / "new", out / "x.npz", out / "x.png", "",
        out / ("x" * 300), f"{out}/é\udcff.png", out / "a/../b.npz", f"{room.faces}/../faces",
    ]  # fmt: skip
    command = rng.choice([*options, *list(options)[:5], "nothing"])
    arguments: list[object] = [command]
    usual: dict[str, list[object]] = {
        "train": [room.faces],
        "statistics": [rng.choice([room.faces, room.sums])],
        "synthesize": [room.model, room.faces / "neutral"],
        "evaluate": [room.model, room.faces],
        "sample": [out / "drawn"],
        "info": [rng.choice([room.model, room.sums])],
        "bench": ["--repeat", "0"],
    }
    arguments += usual.get(command, []) if rng.random() < 0.8 else [rng.choice(paths)]
    if command in ("train", "statistics", "synthesize"):
        arguments += ["-o", out / "result" if command == "synthesize" else out / "result.npz"]
    if command == "sample":
        arguments += ["--pairs", 1, "--size", 16]
    for _ in range(rng.randint(0, 3)):
        option = rng.choice([*options.get(command, "").split(), "--json", "-q", "-v", "--force"])
        arguments.append(option)
        if option in ("-o", "--remove", "--report"):
            # Inside of the folder for output: elsewhere it would rightly be written to.
            arguments.append(rng.choice([p for p in paths if str(p).startswith(str(out))]))
        elif option in ("--source", "--target", "--recipe"):
            arguments.append(rng.choice(_NAMES))
        elif option == "--pairs":
            arguments.append(rng.choice(["0", "-1", "x", "2", "9" * 5000]))
        elif option not in ("--json", "-q", "-v", "--force", "--resize"):
            arguments.append(rng.choice(_NUMBERS))
    if rng.random() < 0.1:
        arguments.insert(rng.randrange(len(arguments) + 1), rng.choice([*_NAMES, "--help", "--x"]))
    # No argument can hold a NUL, and none of these may write beside the folder for output.
    if command == "synthesize" and "-o" not in arguments:
        return "left out"
    os.chdir(out)
    try:
        return f"exit code {room.mlr(*arguments)}"
    except WrongError as error:
        raise WrongError(f"{[str(a)[:60] for a in arguments]}: {error}") from error
    except Exception as error:
        raise WrongError(
            f"{[str(a)[:60] for a in arguments]}: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    finally:
        os.chdir("/")


# The child, which does cases, and the parent, which watches it.


def child(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    """Do cases in this process, and print a line of JSON for each."""
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    room = Room(folder)
    errors = os.open(room.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(errors, 2)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    warnings.simplefilter("ignore")
    import mlr.cli
    import mlr.evaluation.evaluate
    import mlr.synthesis.files  # noqa: F401 (imported before the first case, not by it)
    from mlr.running.warmup import warm_up

    warm_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + count):
        lines.write(json.dumps({"begun": number}) + "\n")
        rng = random.Random(f"{seed} {name} {number}")
        room.clear()
        wrong = ""
        try:
            outcome = KINDS[name][0](room, rng)
            room.check()
        except WrongError as error:
            outcome, wrong = "wrong", str(error)
        except Exception as error:
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            outcome, wrong = "wrong", f"{type(error).__name__} in {where}: {str(error)[:200]}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if memory << 10 > MEMORY and memory > before:
            outcome, wrong = "wrong", wrong or f"used {memory >> 10} MiB"
        before = max(before, memory)
        line = {"number": number, "outcome": outcome, "wrong": wrong, "memory": memory >> 10}
        lines.write(json.dumps(line) + "\n")


def campaign(name: str, seed: int, count: int, folder: Path, keep: Path | None) -> dict[str, Any]:
    """Do all cases of a kind in children; return the figures."""
    outcomes, wrong, memory, done = Counter[str](), [], 0, 0
    start, slowest = time.perf_counter(), 0.0
    while done < count:
        numbers = map(str, (seed, done, count - done))
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", name, *numbers, str(folder)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert process.stdout is not None
        begun, since, end = None, time.perf_counter(), ""
        while True:
            watchdog = threading.Timer(START if begun is None else PATIENCE, process.kill)
            watchdog.start()
            text = process.stdout.readline()
            late = watchdog.finished.is_set()
            watchdog.cancel()
            if not text:
                code = process.wait()
                end = f"hung for {PATIENCE} s" if late else f"crashed with {code}" if code else ""
                break
            line = json.loads(text)
            if "begun" in line:
                begun, since = line["begun"], time.perf_counter()
                continue
            slowest = max(slowest, time.perf_counter() - since)
            memory = max(memory, line["memory"])
            outcomes[line["outcome"]] += 1
            done = line["number"] + 1
            if line["wrong"]:
                wrong.append(f"{name} {line['number']}: {line['wrong']}")
        if end:
            said = Path(folder / "errors").read_text(errors="replace")[:600]
            outcomes["wrong"] += 1
            wrong.append(f"{name} {begun}: {end}: {said!r}")
            done = (done if begun is None else begun) + 1
            if keep is not None:
                shutil.copytree(folder / "in", keep / f"{name}-{begun}", dirs_exist_ok=True)
    return {
        "kind": name,
        "cases": sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "wrong": wrong,
        "memory": memory,
        "slowest": slowest,
        "seconds": time.perf_counter() - start,
    }


def row(result: dict[str, Any]) -> str:
    """Return a line of the table."""
    what = "; ".join(f"{text}: {count}" for text, count in result["outcomes"].items())
    return (
        f"| {result['kind']} | {result['cases']} | {what} | {result['memory']} MiB | "
        f"{result['slowest']:.1f} s | {len(result['wrong'])} |"
    )


def report(rows: dict[str, str], seed: int) -> str:
    """Return the figures as Markdown."""
    titles = [title for title in KINDS if title in rows]
    cells = [rows[title].split(" | ") for title in titles]
    cases = sum(int(cell[1]) for cell in cells)
    wrong = sum(int(cell[-1].rstrip(" |")) for cell in cells)
    lines = [
        "# Fuzzing",
        "",
        "Made by `make fuzz`. Wrong is any exception but the program's own one-line errors, a",
        f"crash, words of a library below, more than {PATIENCE} s or {MEMORY >> 20} MiB, and any",
        "change outside of the output folder.",
        "",
        f"Seed {seed}: {cases} cases, {wrong} of them wrong.",
        "",
        "| input | cases | what came of them | most memory | slowest | wrong |",
        "|---|---|---|---|---|---|",
        *(rows[title] for title in titles),
        "",
        "What the cases are:",
        "",
        *(f"- `{title}`: {KINDS[title][0].__doc__}" for title in titles),
    ]
    return "\n".join(lines) + "\n"


def rows_there() -> dict[str, str]:
    """Return the lines of the table in the file, by kind."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {line.split(" | ")[0][2:]: line for line in lines if line.split(" | ")[0][2:] in KINDS}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, seed, first, count, folder = sys.argv[2:]
        child(name, int(seed), int(first), int(count), Path(folder))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=22_000)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="kinds at a time")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    shares = sum(KINDS[name][1] for name in options.only)
    with (
        tempfile.TemporaryDirectory(prefix="mlr-fuzz-") as folder,
        ThreadPoolExecutor(options.jobs) as pool,
    ):

        def run(name: str) -> dict[str, Any]:
            room = Path(folder) / name / "room"
            room.mkdir(parents=True)
            Room(room).furnish()
            count = -(-options.cases * KINDS[name][1] // shares)
            result = campaign(name, options.seed, count, room, options.keep)
            for line in result["wrong"]:
                print(f"WRONG {line}", flush=True)
            return result

        results = list(pool.map(run, options.only))
    rows = {result["kind"]: row(result) for result in results}
    print(report(rows, options.seed))
    if options.write:
        RESULTS.write_text(report(rows_there() | rows, options.seed))
    sys.exit(any(result["wrong"] for result in results))


if __name__ == "__main__":
    main()
