"""Damaged templates in files whose checksums are right."""

from __future__ import annotations

import copy
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.files import ODD
from benchmarks.fuzz.room import Room, WrongError, kind

#: Values that no array may have; `_changed` has other faults.
_NOT_NUMBERS = (np.nan, np.inf, -np.inf, 1e31, -1e38)
_NUMBERS = (*ODD, 1e-300, -1e308, 10**400, "9" * 400, [0.3, 0.4], [[0.3, 0.4], [0.3, 0.4]])


def _changed(array: np.ndarray, rng: random.Random) -> tuple[np.ndarray, bool]:
    """Return a changed array, and whether no file may have it."""
    chosen = slice(None) if rng.random() < 0.3 else rng.randrange(array.size)
    changed = array.copy()
    match rng.randrange(6 if array.dtype == np.float32 else 3):
        case 0:
            return array.astype(rng.choice(["f8", "i4", "c8", "U3", ">f4", "M8[s]"])), True
        case 1:
            return array[..., : rng.randrange(array.shape[-1])].copy(), True
        case 2:
            shapes = (array[None], array.ravel(), array[:0], array.reshape(-1)[0])
            return np.array(rng.choice(shapes)), True
        case 3:
            changed.reshape(-1)[chosen] = rng.choice(_NOT_NUMBERS)
            return changed, True
        case 4:
            changed.reshape(-1)[chosen] = rng.choice((0, 1, -30, 900, 1e-30))
        case _:
            generator = np.random.default_rng(rng.randrange(1000))
            changed[:] = generator.normal(0, rng.choice((0.1, 1, 100)), array.shape)
    return changed, False


def _places(inside: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of nested metadata with each of its keys."""
    for key in list(inside) if isinstance(inside, dict) else range(len(inside)):
        yield inside, key
        if isinstance(inside[key], dict | list):
            yield from _places(inside[key])


def _damage(path: Path, rng: random.Random) -> bool:
    """Damage the templates in a file; return whether it must be refused."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    key = "registered" if meta["kind"] == "model" else "templates"
    invalid, draw = True, rng.random()
    if draw < 0.45:
        name = rng.choice([name for name in arrays if not name.startswith("fold")])
        arrays[name], invalid = _changed(arrays[name], rng)
    elif draw < 0.5:
        arrays.pop(rng.choice([name for name in arrays if name[-1] in "01"]))
    elif draw < 0.55:
        meta["format"] = rng.choice((4, 10**30, None, "3"))
    elif draw < 0.6 and key == "templates":
        meta[key]["size"] = rng.choice(([64, 64], [0, 0], [32, 10**9], [1, 128], [2**70, 1]))
    elif draw < 0.65:
        several = meta[key]["looks" if key == "registered" else "frames"]
        several |= {f"expression {n}": several["happy"] for n in range(rng.choice((1, 10**5)))}
    else:
        inside, place = rng.choice(list(_places(meta[key])))
        inside[place], invalid = copy.deepcopy(rng.choice(_NUMBERS)), False
    with path.open("wb") as file:
        np.savez(file, **arrays, meta=np.array(json.dumps(meta)))
    return invalid


@kind(10)
def templates(room: Room, rng: random.Random) -> str:
    """Templates of models, statistics and checkpoints: shapes, types, NaN, huge and odd numbers."""
    shutil.copytree(room.registered, room.input, dirs_exist_ok=True)
    drawn, output = room.registered / "faces", room.output
    what, name = rng.choice(
        (("model", "m.npz"), ("statistics", "s.npz"), ("checkpoint", "kept/templates.npz"))
    )
    path = room.input / name
    invalid = _damage(path, rng)
    commands: dict[str, list[list[object]]] = {
        "model": [
            ["synthesize", path, drawn / "neutral" / "000.png", "-o", output / "faces"],
            ["evaluate", path, drawn],
            ["export", path, "-o", output / "page.html"],
        ],
        "statistics": [
            ["train", path, "-o", output / "m.npz"],
            ["train", path, drawn, "-o", output / "m.npz"],
            ["statistics", drawn, "--like", path, "-o", output / "s.npz"],
        ],
        "checkpoint": [["train", drawn, "-o", output / "m.npz", "--checkpoint", path.parent]],
    }
    command = rng.choice(commands[what])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numbers overflow, or a mean is of nothing
        code = room.mlr(*command)
    if code == 0:
        if invalid:
            raise WrongError(f"{command[0]} takes a {what} that no run writes")
        if what == "checkpoint" and (output / "m.npz").read_bytes() != room.registered_model:
            raise WrongError("a run that continues gives another model")
        return f"{what} is used"
    if code != 1 or f"{path}: " not in room.said or len(room.said) > 1000:
        raise WrongError(f"exit code {code} of a {what}: {room.said[:300]!r}")
    return f"{what} is refused"
