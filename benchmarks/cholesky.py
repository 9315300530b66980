"""Time the solver of all pixels against numpy.linalg.solve on the matrices, ready made.

    python benchmarks/cholesky.py

Prints, for each number of unknowns and threads, the time per pixel of both, the ratio (median of
runs in turn) and the largest residual |A w - b| / (|A| |w|) of both, in the infinity norm.
"""

import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from mlr.core.receptive_field import ReceptiveField
from mlr.core.singular import gather_gram
from mlr.kernels import cholesky
from mlr.utils.threads import limited, thread_count

SIZE, SAMPLES, SCALE, PENALTY = 128, 60, 255.0, 0.06


def equations_of(side, rng):
    """Draw smooth images and sum their products (periodic: the border does not matter here)."""
    wave = np.exp(-0.5 * (np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.fftfreq(SIZE) ** 2) * 40)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SAMPLES, SIZE, SIZE))) * wave).real
    x = np.clip(np.round(128 + 50 * images / images.std() + rng.normal(size=images.shape)), 0, 255)
    t = np.clip(np.round(0.7 * x + rng.normal(30, 5, x.shape)), 0, 255)
    field = ReceptiveField.square(side)
    table = field.lag_table

    def moved(offset):
        return np.roll(x, (-offset[0], -offset[1]), (1, 2))

    return cholesky.NormalEquations(
        lags=np.array([(x * moved(lag)).sum(0) for lag in table.lags]),
        source_sums=x.sum(0),
        samples=float(SAMPLES),
        cross=np.array([[(moved(tap) * t).sum(0) for tap in field.offsets]]),
        target_sums=t.sum(0)[None],
        taps=field.taps,
        lag_of=table.lag_of,
        base_of=table.base_of,
        penalty=PENALTY * np.eye(len(field) + 1),
        prior=np.zeros(len(field) + 1),
        scale=SCALE,
    )


def systems(equations):
    """Return the matrices and right-hand sides of all pixels."""
    y, x = (a.ravel() for a in np.indices(equations.source_sums.shape))
    matrices, inside = gather_gram(equations, y, x)
    matrices += SCALE**2 * equations.penalty
    right = np.concatenate([equations.cross[0], SCALE * equations.target_sums])
    return matrices, np.where(inside, right.reshape(len(right), -1).T, 0.0)[..., None]


def residual(matrices, weights, right):
    """Return the largest relative residual."""
    absolute = np.abs(matrices @ weights - right).max(axis=(1, 2))
    size = np.abs(matrices).sum(2).max(1) * np.abs(weights).max(axis=(1, 2))
    return (absolute / size).max()


def measure(side, threads, runs=15):
    """Print one line."""
    equations = equations_of(side, np.random.default_rng(side))
    unknowns = side * side + 1
    weights = np.empty((1, unknowns, SIZE, SIZE))
    matrices, right = systems(equations)
    ours, theirs = [], []
    with limited(threads), threadpool_limits(threads):
        for _ in range(runs + 1):
            start = time.perf_counter()
            cholesky.solve_pixels(equations, weights)
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
