"""Other ways to the same results, timed in turn with the program's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlr.accumulate import statistics_of_arrays
from mlr.apply import apply
from mlr.bench import plain
from mlr.bench.machine import blas_threads, optional
from mlr.bench.stages import checked
from mlr.bench.timing import in_turn
from mlr.bench.work import EXPRESSION, PENALTY, Data, Work
from mlr.solve import solve

WHOLE_BYTES = 512 << 20  # most that plain NumPy's matrices may take for a whole image
BAND_BYTES = 2 << 20  # those of a band of rows, so that they stay in the cache
RIDGES = 32  # pixels that scikit-learn fits


@dataclass(frozen=True)
class Peer:
    """Another way.

    Attributes
    ----------
    name : str
        What it is called.
    run : function
        Returns its result, to be compared with the program's.
    factor : float
        What its time is multiplied with because it does only a part of the work.
    part : tuple of slice
        The part of the result that it makes.
    """

    name: str
    run: Callable[[], plain.Floats]
    factor: float = 1.0
    part: tuple[slice, ...] = ()


def compare_training(work: Work, data: Data, threads: int, repeat: int) -> dict[str, Any]:
    """Compare from images in memory to weights.

    Parameters
    ----------
    work, data
        What to train on.
    threads : int
        Threads that every way may use.
    repeat : int
        Rounds.

    Returns
    -------
    dict
        ``task``, the work's key, ``seconds`` of the program, and ``peers``: for each ``name``,
        ``seconds``, ``ratio`` of its median to the program's, ``ratio_of_fastest`` runs, which a
        busy machine spoils less, largest ``difference`` of the results, ``extrapolated`` if it
        did only a part of the work.

    Raises
    ------
    MlrError
        If the results differ.
    """

    def ours() -> plain.Floats:
        statistics = statistics_of_arrays(data.sources, {EXPRESSION: data.targets}, work.field)
        return solve(statistics, PENALTY)[0, 0]

    # Without threadpoolctl each thread's small products may be shared out once more: far slower.
    used = 1 if optional("threadpoolctl") is None else threads
    name = f"NumPy, tuned, in {used} thread{'s' if used > 1 else ''}"
    peers = [Peer(name, lambda: _in_bands(work, data, used)), *_ridge(work, data)]
    if 2 * _design_bytes(work) * work.size <= WHOLE_BYTES:  # float64
        arrays = (data.sources, data.targets, work.field, PENALTY)
        peers.insert(0, Peer("plain NumPy", lambda: plain.textbook_weights(*arrays)))
    with blas_threads(1):  # sharing out each of many small matrix products makes them slower
        compared = _compared("the weights", work, ours, peers, repeat)
    return {"task": "train", "work": str(work), **work.key(), **compared}


def compare_applying(work: Work, data: Data, repeat: int) -> dict[str, Any]:
    """Compare the application of a model to one image, each in the thread that calls it.

    Parameters and results are those of `compare_training`.
    """
    statistics = statistics_of_arrays(data.sources, {EXPRESSION: data.targets}, work.field)
    weights = solve(statistics, PENALTY)[0]
    image = data.sources[:1].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    peers = [
        Peer("plain NumPy", lambda: plain.applied(weights[0], work.field, image[0, 0])),
        *_sparse(work, weights[0], image[0, 0]),
    ]
    return {
        "task": "apply",
        "work": f"1 image of {work.size} px, {work.field}",
        **work.key(),
        **_compared(
            "the pixels", work, lambda: apply(weights, work.field, image)[0, 0], peers, repeat
        ),
    }


def _compared(
    what: str, work: Work, ours: Callable[[], plain.Floats], peers: list[Peer], repeat: int
) -> dict[str, Any]:
    """Check the results of all peers, then time them."""
    result = ours()
    differences = [checked(what, work, result[peer.part], peer.run()) for peer in peers]
    own, *others = in_turn([ours, *(peer.run for peer in peers)], repeat)
    return {
        "seconds": own.summary(),
        "peers": [
            {
                "name": peer.name,
                "seconds": timing.summary(peer.factor),
                "ratio": peer.factor * timing.median / own.median,
                "ratio_of_fastest": peer.factor * min(timing.runs) / min(own.runs),
                "difference": difference,
                "extrapolated": peer.factor != 1,
            }
            for peer, timing, difference in zip(peers, others, differences, strict=True)
        ],
    }


def _in_bands(work: Work, data: Data, threads: int) -> plain.Floats:
    """Do plain NumPy's work band by band, so that it stays in the cache, in all threads."""
    rows = max(1, min(BAND_BYTES // _design_bytes(work), work.size // threads))

    def band(top: int) -> plain.Floats:
        height = min(rows, work.size - top)
        return plain.weights(data.sources, data.targets, work.field, PENALTY, top, height)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(band, range(0, work.size, rows))), axis=1)


def _ridge(work: Work, data: Data) -> list[Peer]:
    """Fit scikit-learn's ridge regression to some pixels of the middle row, if it is there."""
    linear = optional("sklearn.linear_model")
    if linear is None:
        return []
    middle, count = work.size // 2, min(RIDGES, work.size)

    def run() -> plain.Floats:
        z = plain.design(data.sources, work.field, middle, middle + 1)[0] / np.float32(plain.WHITE)
        t = data.targets[:, middle, :, 0] / np.float32(plain.WHITE)
        fits = [
            linear.Ridge(alpha=PENALTY, fit_intercept=False).fit(z[x].T, t[:, x])
            for x in range(count)
        ]
        return np.stack([fit.coef_ for fit in fits], axis=1)[:, None]

    part = (slice(None), slice(middle, middle + 1), slice(0, count))
    name = f"scikit-learn's Ridge, {count} pixels extrapolated"
    return [Peer(name, run, factor=work.size**2 / count, part=part)]


def _sparse(work: Work, weights: plain.Floats, image: plain.Floats) -> list[Peer]:
    """Multiply by SciPy's sparse matrix, made beforehand, if it is there."""
    sparse = optional("scipy.sparse")
    if sparse is None:
        return []
    size = work.size
    row, column = np.mgrid[:size, :size]
    parts = []
    for tap, (dy, dx) in zip(weights, work.field.offsets, strict=False):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        places = ((row * size + column)[inside], (y * size + x)[inside])
        parts.append(sparse.csr_array((tap[inside], places), shape=(size**2, size**2)))
    matrix, bias = sum(parts[1:], start=parts[0]), weights[-1]
    return [
        Peer("SciPy's sparse matrix", lambda: (matrix @ image.ravel()).reshape(size, size) + bias)
    ]


def _design_bytes(work: Work) -> int:
    """Return the bytes that one row of pixels takes as plain NumPy's matrices."""
    return 4 * work.size * work.pairs * (len(work.field) + 1)
