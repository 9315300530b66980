"""What users bring: tables of eyes, trees of folders, clips, and arrays for the estimator."""

from __future__ import annotations

import json
import random
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.fuzz.room import Room, WrongError, damaged, kind, refused

_HEAD = ("file", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
_ENCODINGS = ("utf-8",) * 4 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")


@kind(20)
def tables(room: Room, rng: random.Random) -> str:
    """Tables of eyes: separators, encodings, line ends, odd columns and numbers, damaged bytes."""
    from mlr.errors import DataError
    from mlr.photo.eyes import EyeTable

    names = ["0.png", "happy/1.png", "é.png", "a, b.png", " a.png", 'a"b.png', "x\\y.png", "\ud800"]
    numbers = [
        "5",
        "5,5",
        "5.5",
        " 7 ",
        "-1",
        "1e3",
        "1e400",
        "nan",
        "inf",
        "x",
        "",
        "٣",
        "9" * 400,
    ]
    head = [rng.choice((str.upper, str.title, str.lower))(name) for name in _HEAD]
    separator = rng.choice(",,,,,,;;;;\t\t|:")
    columns = list(range(5))
    if rng.random() < 0.2:
        rng.shuffle(columns)
    if rng.random() < 0.1:
        columns.remove(rng.choice(columns))
    rows = [head]
    for _ in range(rng.randint(0, 5)):
        cells = [str(rng.randint(0, 15)) for _ in range(4)]
        if rng.random() < 0.2:
            cells[rng.randrange(4)] = rng.choice(numbers)
        rows.append([rng.choice(names), *cells])
    if rng.random() < 0.3:
        rows.insert(rng.randint(0, len(rows)), [""] * rng.randint(1, 8))

    def cell(text: str) -> str:
        quotes = separator in text or '"' in text or rng.random() < 0.1
        return '"' + text.replace('"', '""') + '"' if quotes and rng.random() < 0.9 else text

    between = separator + rng.choice(("", "", "", " "))
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(
        between.join(cell(row[n]) for n in columns if n < len(row)) for row in rows
    )
    if rng.random() < 0.1:
        text = f"sep={separator}\n{text}"
    encoding = rng.choice(_ENCODINGS)
    data = text.encode(encoding, "surrogatepass" if encoding.startswith("utf-") else "replace")
    path = room.input / "eyes.csv"
    path.write_bytes(damaged(data, rng) if rng.random() < 0.3 else data)
    table, cause = refused(lambda: EyeTable(path), DataError)
    if rng.random() < 0.02:
        room.mlr("align", room.faces, "--eyes", path, "-o", room.output / "faces", "--size", "16")
    if table is None:
        if str(path) not in cause:
            raise WrongError(f"does not name the table: {cause!r}")
        return "refused"
    table.of(room.faces / "happy" / "1.png")
    table.unused([room.faces / "neutral" / "0.png"])
    return "read"


_BYTES = (
    b"a", b"b", b"\xe9", "é".encode(), "é".encode(), b"a b", b" ", b"%s", b"-o", b"a,b", b'"',
    b"\n", b"\r", b"a\\b", "😀".encode(), b"x" * 200, b".hidden", b"a;b", b"con", b"..a",
)  # fmt: skip
_SUFFIXES = (
    b".png", b".png", b".png", b".PNG", b".jfif", b".avif", b".heic", b".MTS", b".psd", b".cr2",
    b".txt", b".xmp", b"", b".csv", b".npz", b".svg",
)  # fmt: skip


@kind(6)
def folders(room: Room, rng: random.Random) -> str:
    """Trees of faces, damaged and other files, with odd names, links and loops: none is lost."""
    face = (room.faces / "neutral" / "0.png").read_bytes()
    places = [room.input]
    for _ in range(rng.randint(1, 8)):
        parent = rng.choice(places)
        path = parent / Path(*map(_text, [rng.choice(_BYTES) + rng.choice(_SUFFIXES)]))
        if path.exists() or path.is_symlink():
            continue
        match rng.randrange(8):
            case 0 | 1:
                path.mkdir()
                places.append(path)
            case 2:
                path.symlink_to(rng.choice([*places, room.faces / "happy", Path("nowhere"), path]))
            case 3:
                path.write_bytes(damaged(face, rng))
            case 4:
                path.write_bytes(b"")
            case _:
                path.write_bytes(face)
    wanted = {p for p in _files(room.input) if p.suffix.lower() in (".png", ".psd", ".cr2", ".svg")}
    out, said = room.output / "faces", room.output / "said.json"
    code, text = room.spoken("synthesize", room.model, room.input, "-o", out, "--json", "--target",
                             "happy")  # fmt: skip
    said.write_text(text, errors="surrogateescape")
    if not text.strip():
        return f"exit code {code}"
    told = json.loads(text)
    told = json.dumps(told, ensure_ascii=True)
    for path in wanted:
        name = json.dumps(path.name, ensure_ascii=True)[1:-1]
        raw = path.name.encode("utf-8", "backslashreplace").decode()
        known = (name, json.dumps(raw)[1:-1], path.stem)
        written = any(each.stem == path.stem for each in out.rglob("*"))
        if not written and not any(spelt in told for spelt in known):
            raise WrongError(f"{path.name!r} is neither written nor named")
    return f"exit code {code}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder itself that are no links and not hidden."""
    return [
        path
        for path in folder.rglob("*")
        if not path.is_symlink()
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


@cache
def _clips(folder: Path) -> tuple[bytes, ...]:
    """Return small clips: H.264 with sound, VP9 with alpha, and MJPEG."""
    import imageio_ffmpeg

    found = []
    for name, *options in (
        ("a.mp4", "-f", "lavfi", "-i", "sine=d=0.3", "-pix_fmt", "yuv420p"),
        ("b.webm", "-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9"),
        ("c.avi", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    ):
        path = folder / name
        source = ["-f", "lavfi", "-i", "testsrc=s=16x16:d=0.3:r=10"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, *options, path]
        subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL)
        found.append(path.read_bytes())
        path.unlink()
    return tuple(found)


@kind(4)
def clips(room: Room, rng: random.Random) -> str:
    """Clips with bytes changed, cut off, added, or of another suffix, and with odd names."""
    if find_spec("imageio_ffmpeg") is None:
        return "skipped: needs the extra video"
    data = rng.choice(_clips(room.input))
    names = ["12:30", "concat:a", "pipe:0", "-i", "a b", "é", "%03d", "a'b", "\udce9", "x" * 200]
    suffix = rng.choice([".mp4", ".mp4", ".mov", ".mkv", ".webm", ".avi", ".mts", ".gif", ".png"])
    path = room.input / (rng.choice(names) + suffix)
    path.write_bytes(damaged(data, rng) if rng.random() < 0.8 else data)
    code = room.mlr("synthesize", room.model, room.input, "-o", room.output / "faces", "--target",
                    "happy", "--resize")  # fmt: skip
    written = any(room.output.rglob("*.*"))
    if code == 0 and not written:
        raise WrongError("exit code 0, but nothing is written")
    return f"exit code {code}"


@kind(10)
def estimators(room: Room, rng: random.Random) -> str:
    """Arrays for the estimator: shapes, dtypes, ranges, lists, NaN, other shapes at predict."""
    from mlr import MaskedRegression

    generator = np.random.default_rng(rng.randrange(2**32))
    shapes = [(4, 5, 6, 1), (4, 5, 6, 3), (5, 6), (0, 5, 6), (1, 5, 6), (4, 5, 7), ()]
    kinds = ["u2", "f4", "f8", "i8", "i2", "?", "O", "c8", "f2", "U3", ">f4", ">u2"]
    usual = rng.choice(["u1", "u1", "u2", "f4", "f8"])

    def array() -> object:
        values = generator.random(rng.choice(shapes) if rng.random() < 0.1 else (4, 5, 6))
        dtype = rng.choice(kinds) if rng.random() < 0.1 else usual
        if rng.random() < 0.1:
            values = values * rng.choice((255, -1, 1e300, 1e-300, 65535))
        if rng.random() < 0.1 and values.size:
            values.flat[0] = rng.choice((np.nan, np.inf, -np.inf, 1.0000001, -1e-9))
        with np.errstate(all="ignore"):
            if np.dtype(dtype).kind in "iu":
                values = np.nan_to_num(values * 255)
            result = values.astype(dtype)
        return result.tolist() if rng.random() < 0.1 else np.asfortranarray(result)

    def odd(usual: object, *others: object) -> object:
        return rng.choice(others) if rng.random() < 0.1 else usual

    taps = (None, 1, 5, 2, -1, "x", [(0, 0), (1, 2)], [(99, 99)])
    model = MaskedRegression(
        receptive_field=odd(3, *taps),
        penalty=odd(0.4, None, 0, -1, "x", float("nan"), 1e300),
        recipe=odd("paper", "nothing", None),
    )
    inputs, targets = array(), array()
    if rng.random() < 0.6:
        targets = inputs
    fitted, _ = refused(lambda: model.fit(inputs, targets), ValueError, TypeError)
    if fitted is None:
        return "refused"
    others = inputs if rng.random() < 0.5 else array()
    outputs, _ = refused(lambda: model.predict(others), ValueError, TypeError)
    if outputs is not None and not np.isfinite(outputs.astype(np.float64)).all():
        raise WrongError("an output is not finite")
    refused(lambda: model.score(others, targets), ValueError, TypeError)
    return "fitted" if outputs is None else "fitted, predicted"
