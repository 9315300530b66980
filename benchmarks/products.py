"""Time the kernel for products against a matrix product of float32 numbers.

    python benchmarks/products.py

Prints billions of operations a second (a multiplication and an addition count as two; only those
that lag and cross planes need count, not those with padding or outside the frame) for one thread
and all threads, and the ratio to `numpy.matmul`, measured in turn: medians of the runs.
"""

import math
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from mlr.core.receptive_field import ReceptiveField
from mlr.kernels.pack import at_line, clear_from, pack, samples_shape
from mlr.kernels.products import add_products, sums_of
from mlr.utils.threads import limited, thread_count

RUNS, MATRIX = 11, 1024
LONG = 0.05  # seconds
PAUSE = 0.1  # seconds: BLAS's threads go on spinning for a while, in the other's way
CASES = [(128, 512, 5), (256, 512, 5), (128, 256, 5), (128, 200, 3), (256, 200, 3), (128, 512, 7)]


def operations(offsets, size, samples):
    return 2 * samples * sum((size - abs(y)) * (size - abs(x)) for y, x in offsets.tolist())


def seconds(function):
    """Return the seconds of a call, of as many as take `LONG` together."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < LONG:
        function()
        calls += 1
    return (time.perf_counter() - start) / calls


def measure(size, samples, side):
    """Return the rates of the kernel and of the matrix product, and the ratio."""
    rng = np.random.default_rng(0)
    shape = samples_shape(1, size, size, samples)
    images, targets = (at_line(math.prod(shape), np.uint8).reshape(shape) for _ in range(2))
    for array in (images, targets):
        clear_from(array, 0)
        pack(rng.integers(0, 256, (samples, size, size, 1), np.uint8), array, 0)
    (totals,) = sums_of([images])
    field = ReceptiveField.square(side)
    taps, lags = field.taps, field.lag_table.lags
    matrix = rng.random((MATRIX, MATRIX), np.float32)
    cross_planes = np.zeros((1, len(taps), size, size), np.int32)
    lag_planes = np.zeros((1, len(lags), size, size), np.int32)

    def both():
        add_products(
            [
                (images, images, lags, totals, lag_planes),
                (targets, images, taps, totals, cross_planes),
            ]
        )

    work = operations(taps, size, samples) + operations(lags, size, samples)
    both()
    rates = []
    for _ in range(RUNS):
        theirs = 2 * MATRIX**3 / seconds(lambda: matrix @ matrix) / 1e9
        time.sleep(PAUSE)
        rates.append((work / seconds(both) / 1e9, theirs))
    ours, theirs = zip(*rates, strict=True)
    ratios = [our / their for our, their in rates]
    return statistics.median(ours), statistics.median(theirs), statistics.median(ratios)


def main():
    print("threads  size  samples  window   Gop/s  matmul  ratio")
    for threads in sorted({1, thread_count()}):
        with limited(threads), threadpool_limits(threads, "blas"):
            for size, samples, side in CASES:
                ours, theirs, ratio = measure(size, samples, side)
                print(
                    f"{threads:7} {size:5} {samples:8}     {side}x{side} "
                    f"{ours:7.1f} {theirs:7.1f} {ratio:6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
