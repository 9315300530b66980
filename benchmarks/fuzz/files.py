"""Damaged models, statistics files and checkpoints."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.room import EDGES, Room, WrongError, damaged, kind, refused

ODD = (
    None, True, -1, 0, 1, 3, 255.0, 1e308, float("nan"), float("inf"), 10**30, 2**63, "", "x",
    "../x", "/etc/x", "a/b", "\0", "\n", ".", "é" * 300, "\u202e", [], [[]], [0], [[0, 0]], {},
    {"x": 1},
    [[40000, 0]], [["a", "b"]], [1, 2, 3], [-1, 16, 16], [3, 10**9, 10**9], ["happy", "happy"],
)  # fmt: skip


def _changed_meta(meta: dict[str, Any], rng: random.Random) -> str:
    """Return metadata with random changes, as JSON or nearly."""
    for _ in range(rng.randint(1, 2)):
        key = rng.choice([*meta, "new"])
        inside = meta.get(key)
        odd = copy.deepcopy(rng.choice(ODD))
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
    """Return a damaged ``.npz`` file; only forged ones just hold other numbers."""
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
    if rng.random() < 0.1:  # a member that claims to be small
        at = found.rfind(b"PK\x01\x02")
        sizes = (rng.choice(EDGES[:9]), rng.choice(EDGES))
        found = found[: at + 20] + struct.pack("<II", *sizes) + found[at + 28 :]
    return found


@kind(16)
def models(room: Room, rng: random.Random) -> str:
    """Model files: ZIP and array headers, metadata, shapes, types, pickles, bombs."""
    from mlr import load
    from mlr.errors import ModelError

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
    from mlr.io.statistics_file import load_statistics

    path = room.input / "s.npz"
    path.write_bytes(_damaged_npz(room.statistics, rng))
    info = room.mlr("info", path, *rng.choice(((), ("--json",))))
    found, _ = refused(lambda: load_statistics(path), ModelError)
    if (info == 0) != (found is not None):
        raise WrongError(f"info ends with {info}, but the statistics are {found}")
    if found is None:
        return "refused"
    more = rng.choice(((), (room.statistics,), (room.faces,), ("--remove", room.faces)))
    code = room.mlr("train", path, *more, "-o", room.output / "m.npz")
    return f"read, trained with exit code {code}"


@kind(6)
def checkpoints(room: Room, rng: random.Random) -> str:
    """Manifests and shards of checkpoints, as models; odd files, links and names too."""
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
