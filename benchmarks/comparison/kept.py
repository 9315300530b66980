"""The outcome of each rival, stored in a folder, so that several runs share one table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.comparison.data import Images
from benchmarks.comparison.figures import Outcome
from mlr.io.files import replacing


class Kept:
    """The last outcome of each rival on the same data at the same size.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    arrays : sequence of ndarray
        The data.
    size : int
        Side of the images in pixels.
    """

    def __init__(self, folder: Path, arrays: Sequence[Images], size: int) -> None:
        self.folder = folder
        digest = hashlib.sha256(str(size).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array))
        self.ending = f".{digest.hexdigest()[:12]}.npz"

    def __iter__(self) -> Iterator[str]:
        """Return the keys of the rivals that have an outcome."""
        for path in sorted(self.folder.glob(f"*{self.ending}")):
            yield path.name.removesuffix(self.ending)

    def read(self, key: str) -> Outcome:
        """Return the outcome of a rival."""
        with np.load(self.folder / (key + self.ending)) as arrays:
            return json.loads(str(arrays["found"])), list(arrays["faces"])

    def write(self, key: str, outcome: Outcome) -> None:
        """Keep the outcome of a rival."""
        found, faces = outcome
        with replacing(self.folder / (key + self.ending), force=True) as file:
            np.savez(file, found=np.array(json.dumps(found)), faces=np.stack(faces))
