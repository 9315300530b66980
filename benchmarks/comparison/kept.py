"""What came of each rival, kept in a folder, so that an interrupted comparison can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison.data import Images
from mlr.data.files import replacing

Outcome = tuple[dict[str, Any], list[Images]]  # the figures, and the faces for the sheet


class Kept:
    """Outcomes of comparisons on the same data.

    Parameters
    ----------
    folder : Path or None
        Where they are; None keeps nothing.
    arrays : sequence of ndarray
        The data.
    protocol : str
        All that the outcomes depend on besides.
    """

    def __init__(self, folder: Path | None, arrays: Sequence[Images], protocol: str) -> None:
        self.folder = folder
        digest = hashlib.sha256(protocol.encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array))
        self.digest = digest.hexdigest()[:12]

    def read(self, key: str) -> Outcome | None:
        """Return the outcome of a rival if there is one."""
        if self.folder is None or not self._path(key).exists():
            return None
        with np.load(self._path(key)) as arrays:
            return json.loads(str(arrays["found"])), list(arrays["faces"])

    def write(self, key: str, outcome: Outcome) -> None:
        """Keep the outcome of a rival."""
        if self.folder is not None:
            found, faces = outcome
            with replacing(self._path(key), force=True) as file:
                np.savez(file, found=np.array(json.dumps(found)), faces=np.stack(faces))

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}-{self.digest}.npz"
