"""Time the paper's algorithm, as the paper describes it, against the program's training.

    python benchmarks/reference.py [--sizes 32 64 128] [--pairs 200]

The algorithm of Khan et al. 2020 (arXiv 2011.09104), in our own words: images become rows of a
design matrix of D = height x width columns and one of ones; a dense D x D matrix of zeros and ones
says which input pixels lie in each output pixel's receptive field, here 3x3, clipped at the border;
and for one output pixel after the other, the columns that its row of the mask picks make a ridge
regression of their own, solved by inverting Z'Z + penalty I. The bias is penalised like the rest.

Each runs in a process of its own, from 8-bit images in memory to weights; the program's kernels are
compiled and loaded before. Times are medians where a run takes less than half a second. Memory is
the most that the whole process has held, Python and its libraries included. The weights have to
agree.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import mlr

SIDE, PENALTY, WHITE = 3, 0.4, 255.0
TOLERANCE = 1e-6
ENOUGH = 0.5  # seconds of measuring


def receptive_fields(height, width, side=SIDE):
    """Return the mask: 1 where an output pixel (row) looks at an input pixel (column)."""
    y, x = (index.ravel() for index in np.indices((height, width)))
    mask = np.zeros((y.size, y.size))
    for p in range(y.size):
        mask[p] = np.maximum(abs(y - y[p]), abs(x - x[p])) <= side // 2
    return mask


def masked_regression(sources, targets, penalty=PENALTY):
    """Return the weights of the paper's algorithm.

    Parameters
    ----------
    sources, targets : ndarray of uint8, shape (pairs, height, width)
        Training images.
    penalty : float
        For intensities in [0, 1].

    Returns
    -------
    ndarray of float64, shape (D, D + 1)
        A row for each output pixel; 0 for the input pixels outside its receptive field, bias last.
    """
    pairs, height, width = sources.shape
    mask = receptive_fields(height, width)
    X = np.hstack([sources.reshape(pairs, -1) / WHITE, np.ones((pairs, 1))])
    T = targets.reshape(pairs, -1) / WHITE
    weights = np.zeros((len(mask), len(mask) + 1))
    for p, row in enumerate(mask):
        chosen = np.append(np.flatnonzero(row), -1)
        Z = X[:, chosen]
        inverse = np.linalg.inv(Z.T @ Z + penalty * np.eye(chosen.size))
        weights[p, chosen] = inverse @ (Z.T @ T[:, p])
    return weights


def by_taps(weights, height, width):
    """Return the weights in the order of the program, shape (taps + 1, height, width)."""
    y, x = np.indices((height, width))
    reach = range(-(SIDE // 2), SIDE // 2 + 1)
    result = np.zeros((SIDE * SIDE + 1, height, width))
    for k, (dy, dx) in enumerate((dy, dx) for dy in reach for dx in reach):
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        p = (y * width + x)[inside]
        result[k][inside] = weights[p, p + dy * width + dx]
    result[-1] = weights[:, -1].reshape(height, width)
    return result


def train_mlr(sources, targets):
    regression = mlr.MaskedRegression(receptive_field=SIDE, penalty=PENALTY)
    return regression.fit(sources, targets).model_.weights[0, 0]


def run(name, folder):
    """Train on the images in a folder, keep the weights there; print seconds and bytes."""
    sources, targets = np.load(folder / "sources.npy"), np.load(folder / "targets.npy")
    train = {"reference": masked_regression, "mlr": train_mlr}[name]
    train(sources[:1, :8, :8], targets[:1, :8, :8])  # compiles or loads code
    times: list[float] = []
    while sum(times) < ENOUGH:
        start = time.perf_counter()
        weights = train(sources, targets)
        times.append(time.perf_counter() - start)
    seconds, memory = statistics.median(times), peak_memory()
    if name == "reference":
        weights = by_taps(weights, *sources.shape[1:])
    np.save(folder / f"{name}.npy", weights)
    print(json.dumps({"seconds": seconds, "bytes": memory}))


def peak_memory():
    """Return the most memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name, folder):
    """Return what `run` prints in a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(size, pairs):
    """Print the lines of one size."""
    from mlr.bench.work import generated  # here, for it loads what the reference does without

    data = generated(size, pairs, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "sources.npy", data.sources[..., 0])
        np.save(folder / "targets.npy", data.targets[..., 0])
        theirs, ours = measure("reference", folder), measure("mlr", folder)
        weights = [np.load(folder / f"{name}.npy") for name in ("reference", "mlr")]
    difference = np.abs(weights[0] - weights[1]).max()
    for label, result in (("paper's algorithm", theirs), ("mlr", ours)):
        print(
            f"{size:4} px  {label:18} {result['seconds']:9.4f} s {result['bytes'] / 1e6:7.0f} MB",
            flush=True,
        )
    longer, larger = (theirs[key] / ours[key] for key in ("seconds", "bytes"))
    print(
        f"{'':8} {longer:.0f} times as long, {larger:.1f} times the memory; "
        f"weights differ by {difference:.1e} at most",
        flush=True,
    )
    if not difference < TOLERANCE:
        sys.exit(f"the weights differ by more than {TOLERANCE}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run[0], Path(options.run[1]))
        return
    print(f"{options.pairs} grey pairs, {SIDE}x{SIDE} window, penalty {PENALTY}")
    for size in options.sizes:
        compare(size, options.pairs)


if __name__ == "__main__":
    main()
