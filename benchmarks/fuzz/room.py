"""The folder of a case, the list of kinds, and damage to bytes."""

from __future__ import annotations

import contextlib
import io
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOREIGN = re.compile(r"Traceback|Exception ignored|Fatal Python|Warning:")
#: Numbers at the limits of fields in files.
EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


class WrongError(Exception):
    """The program did what it must not do."""


class Room:
    """The folder of a case: ``in`` is its input, ``out`` for output; the rest must not change.

    Parameters
    ----------
    folder : Path
        Folder of these, and of faces, a model of them and their statistics; ``registered`` has
        drawn faces, and their model, statistics and checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input, self.output = folder / "in", folder / "out"
        self.faces = folder / "faces"
        self.model, self.statistics = folder / "model.npz", folder / "statistics.npz"
        self.errors = folder / "errors"
        self.kept, self.registered = folder / "kept", folder / "registered"
        self.said = ""  # stderr of the last command
        self._rest = self._names()

    def furnish(self, *, registered: bool = False) -> None:
        """Draw the faces and train the model; ``registered`` also fills that folder."""
        from mlr.io.images import write_image
        from mlr.samples import sample
        from mlr.training.train import statistics, train

        rng = np.random.default_rng(0)
        for name in ("neutral", "happy", "sad"):
            for subject in range(4):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                write_image(self.faces / name / f"{subject}.png", pixels)
        train(self.faces, self.model)
        statistics(self.faces, self.statistics)
        options: dict[str, Any] = {"recipe": "paper", "checkpoint": self.kept, "shard": 2}
        train(self.faces, self.folder / "paper.npz", **options)
        if not registered:
            return
        drawn = self.registered / "faces"
        sample(drawn, pairs=8, size=32, target=("happy", "sad"))
        train(drawn, self.registered / "m.npz", checkpoint=self.registered / "kept", shard=4)
        statistics(drawn, self.registered / "s.npz")

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
        """The model of the checkpoint."""
        return (self.folder / "paper.npz").read_bytes()

    @property
    def registered_model(self) -> bytes:
        """The model of the drawn faces."""
        return (self.registered / "m.npz").read_bytes()

    def check(self) -> None:
        """Raise if anything but the input and the output has changed."""
        if self._names() != self._rest:
            raise WrongError(f"outside the output folder: {self._names() ^ self._rest}")
        text = self.errors.read_text(errors="replace")
        self.errors.write_text("")
        if text:
            raise WrongError(f"a library writes to stderr: {text[:200]!r}")

    def _names(self) -> set[tuple[str, int, int]]:
        """Return path, size and time of each file but input and output, and above the folder."""
        here = [p for p in self.folder.rglob("*") if p.is_file() and p != self.errors]
        return {
            (str(p), p.stat().st_size, p.stat().st_mtime_ns)
            for p in here
            if not (p.is_relative_to(self.input) or p.is_relative_to(self.output))
        } | {(str(p), 0, 0) for p in self.folder.parent.iterdir()}

    def mlr(self, *arguments: object) -> int:
        """Run the command line in this process; return the exit code."""
        return self.spoken(*arguments)[0]

    def spoken(self, *arguments: object) -> tuple[int, str]:
        """Run the command line in this process; return the exit code and stdout."""
        from mlr.cli import main

        out, err, code = io.StringIO(), io.StringIO(), None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        if code not in (0, 1, 2):
            raise WrongError(f"exit code {code}")
        said = self.said = err.getvalue()
        if FOREIGN.search(said):
            raise WrongError(f"message of a library: {said[-300:]!r}")
        if code and not said.strip():
            raise WrongError(f"exit code {code} without a message")
        if code == 1 and not any(line.startswith("mlr: ") for line in said.splitlines()):
            raise WrongError(f"no message of the program: {said[-300:]!r}")
        return int(code), out.getvalue()


Kind = Callable[[Room, random.Random], str]
KINDS: dict[str, tuple[Kind, int]] = {}


def kind(share: int) -> Callable[[Kind], Kind]:
    """Register a kind, with its percentage of all cases."""

    def put(function: Kind) -> Kind:
        KINDS[function.__name__] = function, share
        return function

    return put


def refused(function: Callable[[], Any], *errors: type[Exception]) -> tuple[Any, str]:
    """Call a function; return its result, or None and its one-line error."""
    try:
        return function(), ""
    except errors as error:
        if "\n" in str(error) or not str(error).strip():
            raise WrongError(f"not one line: {str(error)[:300]!r}") from error
        return None, str(error)


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
