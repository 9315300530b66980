"""Train the model that comes with the program, neutral to happy, and check its half precision.

    python -m benchmarks.bundle DATA [-o FILE] [--threads N]

DATA is a folder of the 81 aligned pairs of the Face Research Lab London Set. The arrays are stored
in half precision, without compression, as wheels are compressed. The same DATA give the same file,
bit for bit, with any number of threads. No output for a face in DATA may differ from that of single
precision by more than one level of 255, at the default style nor with twice the change.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path

import numpy as np

import mlr
from mlr.errors import MlrError
from mlr.io.images import read_image
from mlr.io.model_file import BUNDLED, FORMAT
from mlr.io.npz import read_npz, save_npz
from mlr.io.pairs import find_pairs

SUBJECTS = 81
CREDIT = {
    "data": "Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0, "
    "doi 10.6084/m9.figshare.5047666.v5), cropped and aligned",
    "licence": "CC BY 4.0",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=BUNDLED / "smile.npz")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    subjects = find_pairs(options.data).subjects
    if len(subjects) != SUBJECTS:
        raise MlrError(f"{options.data}: has {len(subjects)} pairs, expected {SUBJECTS}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "single.npz"
        mlr.train(options.data, path, target=["happy"], threads=options.threads)
        arrays, meta = read_npz(path, kind="model", newest=FORMAT)
        single = mlr.load(path)
    floats = [name for name, array in arrays.items() if array.dtype == np.float32]
    arrays |= {name: arrays[name].astype(np.float16) for name in floats}
    save_npz(options.output, arrays, meta | CREDIT, force=True)
    half, largest = mlr.load(options.output), 0
    for face in (read_image(subject.source).pixels for subject in subjects):
        for change in ({}, {"strength": 2, "style": 2}):
            one, other = (model.synthesize(face, **change).astype(int) for model in (single, half))
            largest = max(largest, np.abs(one - other).max())
    if largest > 1:
        raise MlrError(f"half precision changes outputs by {largest} levels")
    digest = hashlib.sha256(options.output.read_bytes()).hexdigest()
    print(f"{options.output}: {options.output.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
