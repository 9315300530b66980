"""Small images, models trained on them, and ways to run the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mlr.cli import main
from mlr.io.images import resized, write_image
from mlr.training.train import train

SIZE = 16
PEOPLE = 5

# Shells ignore it in background jobs, and subprocesses of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Result(NamedTuple):
    """Exit code and output of a run of the program."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stderr."""
        return [line for line in self.err.splitlines() if line]


Run = Callable[..., Result]


def draw(seed: int, size: int = SIZE, channels: int = 3, dtype=np.uint8):
    """Return a smooth random image."""
    largest = np.iinfo(dtype).max
    shape = (4, 4, channels)
    coarse = np.random.default_rng(seed).integers(0, largest, shape, dtype, endpoint=True)
    return resized(coarse, size, size)


def draw_pairs(folder: Path, subjects=range(PEOPLE), targets=("happy",), **kind) -> Path:
    """Write expression folders of random subjects."""
    for subject in subjects:
        face = draw(subject, **kind)
        write_image(folder / "neutral" / f"{subject}.png", face)
        for shift, expression in enumerate(targets, 1):
            write_image(folder / expression / f"{subject}.png", np.roll(face, shift, axis=0))
    return folder


def names(folder: Path) -> list[str]:
    """Return the sorted names of the entries of a folder."""
    return sorted(path.name for path in folder.iterdir())


def run_process(*args: object, timeout: float = 300, **options) -> Result:
    """Run the program in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "mlr", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
    assert "Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run(capsys) -> Run:
    """Run the program in this process."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return Result(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Expression folders of colour images; read-only."""
    return draw_pairs(tmp_path_factory.mktemp("faces"), targets=("happy", "sad"))


@pytest.fixture(scope="session")
def model(faces, tmp_path_factory) -> Path:
    """A model of one expression for colour images, of the recipe paper: it changes any image."""
    path = tmp_path_factory.mktemp("models") / "colour.npz"
    train(faces, path, target=["happy"], recipe="paper")
    return path


@pytest.fixture(scope="session")
def best_model(faces, tmp_path_factory) -> Path:
    """A model of the recipe best; images that are not faces stay as they are."""
    path = tmp_path_factory.mktemp("models") / "best.npz"
    train(faces, path, target=["happy"])
    return path


@pytest.fixture(scope="session")
def model_of_two(faces, tmp_path_factory) -> Path:
    """A model of two expressions for colour images."""
    path = tmp_path_factory.mktemp("models") / "two.npz"
    train(faces, path, recipe="paper")
    return path


@pytest.fixture(scope="session")
def grey_model(tmp_path_factory) -> Path:
    """A model of one expression for grey images."""
    folder = tmp_path_factory.mktemp("grey")
    train(draw_pairs(folder / "faces", channels=1), folder / "grey.npz", recipe="paper")
    return folder / "grey.npz"
