"""Time the solver of all pixels against numpy.linalg.solve on the matrices, ready made.

    python benchmarks/cholesky.py

Prints, for each number of unknowns and threads, the time per pixel of both, the ratio (median of
runs in turn) and the largest residual |A w - b| / (|A| |w|) of both, in the infinity norm.
"""

import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from mlr.kernels import cholesky
from mlr.singular import gather_gram
from mlr.threads import limited, thread_count

SIZE, SAMPLES, SCALE, PENALTY = 128, 60, 255.0, 0.06


def planes(side, rng):
    """Draw smooth images and sum their products (periodic: the border does not matter here)."""
    wave = np.exp(-0.5 * (np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.fftfreq(SIZE) ** 2) * 40)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SAMPLES, SIZE, SIZE))) * wave).real
    x = np.clip(np.round(128 + 50 * images / images.std() + rng.normal(size=images.shape)), 0, 255)
    t = np.clip(np.round(0.7 * x + rng.normal(30, 5, x.shape)), 0, 255)
    reach = range(-(side // 2), side // 2 + 1)
    taps = [(dy, dx) for dy in reach for dx in reach]
    lags, (lag_of, base_of) = {}, np.empty((2, len(taps), len(taps)), np.int64)
    for a, (ay, ax) in enumerate(taps):
        for b, (by, bx) in enumerate(taps):
            d = (by - ay, bx - ax)
            base_of[a, b] = b if d < (0, 0) else a
            lag_of[a, b] = lags.setdefault(max(d, (-d[0], -d[1])), len(lags))

    def moved(offset):
        return np.roll(x, (-offset[0], -offset[1]), (1, 2))

    return (
        np.array([(x * moved(d)).sum(0) for d in lags]),
        x.sum(0),
        float(SAMPLES),
        np.array([[(moved(tap) * t).sum(0) for tap in taps]]),
        t.sum(0)[None],
        np.array(taps),
        lag_of,
        base_of,
    )


def systems(arguments, penalty):
    """Return the matrices and right-hand sides of all pixels."""
    lags, source_sums, count, cross, target_sums, taps, lag_of, base_of = arguments
    y, x = (a.ravel() for a in np.indices(source_sums.shape))
    gram = gather_gram(y, x, lags, source_sums, count, taps, lag_of, base_of, SCALE)
    matrices, inside = gram
    unknowns = len(penalty)
    matrices[:, range(unknowns), range(unknowns)] += SCALE**2 * penalty
    right = np.concatenate([cross[0], SCALE * target_sums]).reshape(unknowns, -1).T
    return matrices, np.where(inside, right, 0.0)[..., None]


def residual(matrices, weights, right):
    """Return the largest relative residual."""
    absolute = np.abs(matrices @ weights - right).max(axis=(1, 2))
    size = np.abs(matrices).sum(2).max(1) * np.abs(weights).max(axis=(1, 2))
    return (absolute / size).max()


def measure(side, threads, runs=15):
    """Print one line."""
    arguments = planes(side, np.random.default_rng(side))
    unknowns = side * side + 1
    penalty, prior = np.full(unknowns, PENALTY), np.zeros(unknowns)
    weights = np.empty((1, unknowns, SIZE, SIZE))
    matrices, right = systems(arguments, penalty)
    ours, theirs = [], []
    with limited(threads), threadpool_limits(threads):
        for _ in range(runs + 1):
            start = time.perf_counter()
            cholesky.solve_pixels(*arguments, penalty, prior, SCALE, weights)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            expected = np.linalg.solve(matrices, right)
            theirs.append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(ours[1:], theirs[1:], strict=True))
    microseconds = [1e6 * statistics.median(times[1:]) / SIZE**2 for times in (ours, theirs)]
    result = weights[0].reshape(unknowns, -1).T[..., None]
    print(
        f"{unknowns:3} unknowns, {threads} threads: {microseconds[0]:6.3f} us, numpy"
        f" {microseconds[1]:7.3f} us, ratio {ratio:5.1f};"
        f" residual {residual(matrices, result, right):.1e},"
        f" numpy {residual(matrices, expected, right):.1e}"
    )


if __name__ == "__main__":
    for side in (3, 5, 7):
        for threads in range(1, min(2, thread_count()) + 1):
            measure(side, threads)
