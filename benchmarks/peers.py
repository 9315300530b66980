"""Compare the program with other implementations and with the machine's limits.

    python -m benchmarks.peers [--size N ...] [--pairs 200] [--repeat 5] [--write]

First runs `mlr bench`. Then times the program in turn with plain NumPy, NumPy tuned by hand,
scikit-learn and SciPy, from images in memory to weights and from weights to images; their results
must agree. The limits are matrix products and copies of memory. ``--write`` renews the table of
speeds in docs/measurements.md.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from timeit import timeit
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import sparse
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from benchmarks.tables import machine, renew_page, table
from mlr.bench import bench, number, seconds, stages
from mlr.bench import table as bench_table
from mlr.bench.stages import PENALTY, Problem, as_planes, compare
from mlr.core.receptive_field import ReceptiveField
from mlr.core.solve import solve
from mlr.kernels.apply import apply
from mlr.utils.threads import limited, thread_count

WHOLE_BYTES = 512 << 20  # most that plain NumPy's matrices may take for a whole image
BAND_BYTES = 2 << 20  # matrices of a band of rows, to stay in the cache
RIDGES = 32  # pixels that scikit-learn fits
MATRIX = 1024  # rows and columns of the matrices multiplied
COPIED = 128 << 20  # bytes, more than caches hold
DATA_RANGE = 255.0
PLAIN = "plain NumPy"
#: Sides of images and windows, as in `mlr bench`.
CASES = ((64, 3), (128, 3), (256, 3), (128, 5))

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]


class Peer(NamedTuple):
    """Another way to the same result.

    Attributes
    ----------
    name : str
        Its title.
    run : function
        Returns its result, to be compared with the program's.
    factor : float
        Multiplies its time if it computes a part of the result alone.
    part : tuple of slice
        That part.
    """

    name: str
    run: Callable[[], Floats]
    factor: float = 1.0
    part: tuple[slice, ...] = ()


def compared(
    what: str, problem: Problem, ours: Callable[[], Floats], peers: Sequence[Peer], repeat: int
) -> dict[str, tuple[float, float]]:
    """Check the results of all peers, then time them in turn.

    Returns
    -------
    dict of str to (float, float)
        Median seconds, and the ratio to those of the program, which is ``mlr``.

    Raises
    ------
    MlrError
        If results differ.
    """
    result = ours()
    for peer in peers:
        compare(what, problem, result[peer.part], peer.run())
    functions = {"mlr": ours, **{peer.name: peer.run for peer in peers}}
    calls = {
        name: max(1, math.ceil(stages.SHORTEST / max(timeit(function, number=1), 1e-9)))
        for name, function in functions.items()
    }
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeat):  # in turn, so that a busy spell of the machine affects them all
        for name, function in functions.items():
            time.sleep(stages.PAUSE)
            runs[name].append(timeit(function, number=calls[name]) / calls[name])
    factors = {"mlr": 1.0, **{peer.name: peer.factor for peer in peers}}
    medians = {name: factors[name] * statistics.median(runs[name]) for name in functions}
    return {name: (median, median / medians["mlr"]) for name, median in medians.items()}


def compare_training(problem: Problem, threads: int, repeat: int) -> dict[str, Any]:
    """Compare from images in memory to weights, in the same number of threads."""
    peers = [
        Peer(f"NumPy, tuned, {threads} threads", lambda: weights_in_bands(problem, threads)),
        scikit_learn(problem),
    ]
    if 2 * design_bytes(problem) * problem.size <= WHOLE_BYTES:  # float64
        peers.insert(0, Peer(PLAIN, lambda: textbook_weights(problem)))
    with limited(threads), threadpool_limits(1, "blas"):  # faster for many small products
        return compared("the weights", problem, lambda: weights_of(problem)[0], peers, repeat)


def compare_applying(problem: Problem, images: Pixels, repeat: int) -> dict[str, Any]:
    """Compare the application of a model to images, in one thread."""
    weights, planes, field = weights_of(problem), as_planes(images), problem.field
    peers = [Peer("SciPy's sparse matrix", sparse_matrix(problem, weights[0], planes[:, 0]))]
    if len(images) == 1:
        peers.append(Peer(PLAIN, lambda: applied(weights[0], field, planes[0, 0])[None]))

    def ours() -> Floats:
        return apply(weights, field.offsets, planes)[:, 0]

    with limited(1):
        return compared("the pixels", problem, ours, peers, repeat)


def weights_of(problem: Problem) -> npt.NDArray[np.float32]:
    """Return the program's weights, shape (1, taps + 1, height, width)."""
    return solve(problem.statistics(), PENALTY)[0]


def textbook_weights(problem: Problem) -> Floats:
    """Solve the ridge regressions as one writes them down: windows, Z'Z + penalty I, solve."""
    taps = windows_of(problem.sources[..., 0] / DATA_RANGE, problem.field)
    z = np.concatenate([taps, np.ones((*taps.shape[:3], 1))], axis=3).transpose(1, 2, 0, 3)
    t = (problem.targets / DATA_RANGE).transpose(1, 2, 0, 3)
    gram = z.swapaxes(2, 3) @ z + PENALTY * np.eye(z.shape[3])
    return np.linalg.solve(gram, z.swapaxes(2, 3) @ t)[..., 0].transpose(2, 0, 1)


def windows_of(images: Floats, field: ReceptiveField) -> Floats:
    """Return the taps of each pixel of images (N, height, width), 0 outside, on a last axis."""
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    padded = np.pad(images, ((0, 0), (reach_y, reach_y), (reach_x, reach_x)))
    windows = sliding_window_view(padded, (2 * reach_y + 1, 2 * reach_x + 1), axis=(1, 2))
    return windows[..., reach_y + field.taps[:, 0], reach_x + field.taps[:, 1]]


def weights_in_bands(problem: Problem, threads: int) -> Floats:
    """Solve the ridge regressions as fast as NumPy does: bands that stay in the cache, threads."""
    rows = max(1, min(BAND_BYTES // design_bytes(problem), problem.size // threads))
    with ThreadPoolExecutor(threads) as pool:
        tops = range(0, problem.size, rows)
        bands = pool.map(lambda top: band_weights(problem, top, top + rows), tops)
        return np.concatenate(list(bands), axis=1)


def band_weights(problem: Problem, top: int, bottom: int) -> Floats:
    """Solve the ridge regressions of some rows of pixels.

    Products of 8-bit pixels and their sums are integers, which float32 holds exactly up to 258
    pairs, at twice the speed of float64; the equations are solved in float64.
    """
    z = design(problem, top, bottom)
    t = problem.targets[:, top:bottom, :, 0].transpose(1, 2, 0).astype(np.float32, order="C")
    gram = np.matmul(z, z.swapaxes(2, 3)).astype(np.float64)
    gram += PENALTY * DATA_RANGE**2 * np.eye(z.shape[2])
    right = np.matmul(z, t[..., None]).astype(np.float64)
    return np.linalg.solve(gram, right)[..., 0].transpose(2, 0, 1)


def design(problem: Problem, top: int, bottom: int) -> npt.NDArray[np.float32]:
    """Return the regressors of some rows of pixels.

    Returns
    -------
    ndarray of float32, shape (rows, width, taps + 1, pairs)
        Intensities of 0 to 255, 0 outside the image; 255 for the bias, last. Pairs lie side by
        side, the layout that stacked matrix products are fastest with.
    """
    field, (pairs, height, width, _) = problem.field, problem.sources.shape
    bottom = min(bottom, height)
    reach_y, reach_x = np.abs(field.taps).max(axis=0)
    first, last = max(0, top - reach_y), min(height, bottom + reach_y)
    margins = ((first - top + reach_y, bottom + reach_y - last), (reach_x, reach_x), (0, 0))
    samples = problem.sources[:, first:last, :, 0].transpose(1, 2, 0).astype(np.float32, order="C")
    samples = np.pad(samples, margins)
    z = np.empty((bottom - top, width, len(field) + 1, pairs), np.float32)
    for k, (dy, dx) in enumerate(field.offsets):
        y, x = reach_y + dy, reach_x + dx
        z[:, :, k] = samples[y : y + bottom - top, x : x + width]
    z[:, :, -1] = DATA_RANGE
    return z


def design_bytes(problem: Problem) -> int:
    """Return the bytes of the regressors of one row of pixels."""
    return 4 * problem.size * len(problem.sources) * (len(problem.field) + 1)


def scikit_learn(problem: Problem) -> Peer:
    """Return scikit-learn's ridge regression of some pixels of the middle row."""
    middle, count = problem.size // 2, min(RIDGES, problem.size)

    def fit() -> Floats:
        z = design(problem, middle, middle + 1)[0] / np.float32(DATA_RANGE)
        t = problem.targets[:, middle, :, 0] / np.float32(DATA_RANGE)
        ridge = Ridge(alpha=PENALTY, fit_intercept=False)
        return np.stack([ridge.fit(z[x].T, t[:, x]).coef_ for x in range(count)], axis=1)[:, None]

    part = (slice(None), slice(middle, middle + 1), slice(0, count))
    name = f"scikit-learn's Ridge, {count} pixels extrapolated"
    return Peer(name, fit, factor=problem.size**2 / count, part=part)


def applied(weights: Floats, field: ReceptiveField, image: Floats) -> Floats:
    """Apply weights (taps + 1, height, width) to an image (height, width) in NumPy."""
    taps = windows_of(image[None], field)[0]
    return np.einsum("yxk,kyx->yx", taps, weights[:-1]) + weights[-1]


def sparse_matrix(problem: Problem, weights: Floats, images: Floats) -> Callable[[], Floats]:
    """Return the product of SciPy's sparse matrix of all weights with images (N, H, W)."""
    size, field = problem.size, problem.field
    row, column = np.mgrid[:size, :size]
    matrix = sparse.csr_array((size**2, size**2), dtype=np.float32)
    for tap, (dy, dx) in zip(weights, field.offsets, strict=False):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        indices = ((row * size + column)[inside], (y * size + x)[inside])
        matrix += sparse.csr_array((tap[inside], indices), shape=matrix.shape)
    bias, flat = weights[-1].reshape(-1, 1), images.reshape(len(images), -1)

    def product() -> Floats:
        output = matrix @ flat.T
        output += bias
        return np.ascontiguousarray(output.T).reshape(images.shape)

    return product


def limits(threads: int, repeat: int) -> dict[str, float]:
    """Return 10^9 operations of matrix products, and bytes read and written, a second."""
    found = {}
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a, b = rng.random((2, MATRIX, MATRIX)).astype(dtype)
        with threadpool_limits(threads, "blas"):
            median = statistics.median(stages.timed(lambda a=a, b=b: a @ b, repeat))
        found[f"{np.dtype(dtype)} matrix product, Gop/s"] = 2 * MATRIX**3 / median / 1e9
    arrays = np.ones((threads, 2, COPIED // threads), np.uint8)
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), arrays))

        median = statistics.median(stages.timed(copy, repeat))
    found["copy in memory, GB/s"] = arrays.nbytes / median / 1e9
    return found


def duration(value: float) -> str:
    """Return a time with two significant digits."""
    unit, size = next(u for u in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)) if value >= u[1])
    return f"{value / size:.{0 if value >= 10 * size else 1}f} {unit}"


def summary(result: dict[str, Any], training: dict[Any, dict[str, Any]]) -> str:
    """Return the table of speeds in the documentation."""
    rows = []
    for size, field in training:
        applying = next(
            entry["seconds"]["median"]
            for entry in result["stages"]
            if entry["stage"] == "apply"
            and (entry["size"], entry["receptive_field"]) == (size, field)
        )
        found = training[size, field]
        plain, ratio = found.get(PLAIN, (None, None))
        theirs = ["over 0.5 GB: not run", ""]
        if plain is not None:
            theirs = [duration(plain), f"{ratio:.0f} times"]
        ours = duration(found["mlr"][0])
        rows.append([f"{size} px, {field}", ours, *theirs, duration(applying)])
    heads = ["size, window", "train from memory", PLAIN, "", "apply to an image"]
    threads, pairs = result["settings"]["threads"], result["settings"]["pairs"]
    return f"{machine(threads)}; {pairs} grey pairs, medians.\n\n{table(heads, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, nargs="*", default=[])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="renew the documentation")
    options = parser.parse_args()
    pairs, repeat, threads = options.pairs, options.repeat, thread_count()
    result = bench(sizes=options.size, pairs=pairs, repeat=repeat)
    print(bench_table(result))
    print("\nLimits of the machine")
    for name, rate in limits(threads, repeat).items():
        print(f"  {name:46}{number(rate):>10}")
    training = {}
    for size, side in [(size, 3) for size in options.size] or CASES:
        problem = Problem(ReceptiveField.square(side), *stages.generate(size, pairs))
        images, what = problem.sources, f"{size} px, {problem.field}, 1 thread"
        training[size, str(problem.field)] = compare_training(problem, threads, repeat)
        for title, found in (
            (f"Weights from {problem}", training[size, str(problem.field)]),
            (f"1 image of {what}", compare_applying(problem, images[:1], repeat)),
            (f"{pairs} images of {what}", compare_applying(problem, images, repeat)),
        ):
            print(f"\n{title}")
            for name, (median, ratio) in found.items():
                print(f"  {name:46}{seconds(median):>10}{number(ratio):>8} times")
    if options.write:
        renew_page("measurements.md", "speeds", summary(result, training))


if __name__ == "__main__":
    main()
