"""Other ways to the same results, timed in turn with the program's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlr.bench import plain
from mlr.bench.machine import blas_threads, optional
from mlr.bench.stages import checked
from mlr.bench.timing import in_turn
from mlr.bench.work import EXPRESSION, PENALTY, Data, Work, as_planes
from mlr.core.accumulate import statistics_of_arrays
from mlr.core.apply import apply
from mlr.core.solve import solve
from mlr.utils.threads import limited

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


def compare_training(work: Work, data: Data, threads: int, repeat: int) -> list[dict[str, Any]]:
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
    list of dict
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
    peers = [
        Peer(name, lambda: _in_bands(work, data, used)),
        *_torch(work, data, used),
        *_ridge(work, data),
    ]
    if 2 * _design_bytes(work) * work.size <= WHOLE_BYTES:  # float64
        arrays = (data.sources, data.targets, work.field, PENALTY)
        peers.insert(0, Peer("plain NumPy", lambda: plain.textbook_weights(*arrays)))
    with blas_threads(1):  # sharing out each of many small matrix products makes them slower
        compared = _compared("the weights", work, ours, peers, repeat)
    return [{"task": "train", "work": str(work), **work.key(), **compared}]


def compare_applying(work: Work, data: Data, repeat: int) -> list[dict[str, Any]]:
    """Compare the application of a model to one image and to many, in one thread.

    Parameters and results are those of `compare_training`.
    """
    statistics = statistics_of_arrays(data.sources, {EXPRESSION: data.targets}, work.field)
    weights, images = solve(statistics, PENALTY)[0], as_planes(data.sources)
    image, what = images[:1], f"of {work.size} px, {work.field}"
    one = [
        Peer("plain NumPy", lambda: plain.applied(weights[0], work.field, image[0, 0])),
        *_sparse(work, weights[0], image[:, 0]),
    ]
    with limited(1):
        return [
            {"task": task, "work": f"{name} {what}", **work.key()}
            | _compared(
                "the pixels",
                work,
                lambda planes=planes: apply(weights, work.field, planes)[:, 0],  # type: ignore[misc]
                peers,
                repeat,
            )
            for task, name, planes, peers in (
                ("apply", "1 image", image, one),
                ("batch", f"{len(images)} images", images, _sparse(work, weights[0], images[:, 0])),
            )
        ]


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


def _in_bands(
    work: Work, data: Data, threads: int, solve: Callable[[Any, Any], Any] = np.linalg.solve
) -> plain.Floats:
    """Do plain NumPy's work band by band, so that it stays in the cache, in all threads."""
    rows = max(1, min(BAND_BYTES // _design_bytes(work), work.size // threads))

    def band(top: int) -> plain.Floats:
        height = min(rows, work.size - top)
        return plain.weights(data.sources, data.targets, work.field, PENALTY, top, height, solve)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(band, range(0, work.size, rows))), axis=1)


def _torch(work: Work, data: Data, threads: int) -> list[Peer]:
    """Do the same with PyTorch's solution of stacked equations, if it is there."""
    torch = optional("torch")
    if torch is None:
        return []
    torch.set_num_threads(1)  # the bands are shared out already

    def stacked(gram: Any, right: Any) -> Any:
        return torch.linalg.solve(torch.from_numpy(gram), torch.from_numpy(right)).numpy()

    return [
        Peer(
            "the same with PyTorch's batched solve", lambda: _in_bands(work, data, threads, stacked)
        )
    ]


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


def _sparse(work: Work, weights: plain.Floats, images: plain.Floats) -> list[Peer]:
    """Multiply by SciPy's sparse matrix, made beforehand, if it is there.

    SciPy needs the pixels of a batch as the rows of a matrix: one peer is given the images as they
    come, another as it likes them best.
    """
    sparse = optional("scipy.sparse")
    if sparse is None:
        return []
    size, count = work.size, len(images)
    row, column = np.mgrid[:size, :size]
    parts = []
    for tap, (dy, dx) in zip(weights, work.field.offsets, strict=False):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        places = ((row * size + column)[inside], (y * size + x)[inside])
        parts.append(sparse.csr_array((tap[inside], places), shape=(size**2, size**2)))
    matrix, bias = sum(parts[1:], start=parts[0]), weights[-1].reshape(-1, 1)
    flat = images.reshape(count, -1)
    columns = np.ascontiguousarray(flat.T)

    def transposed() -> plain.Floats:
        output = matrix @ columns
        output += bias
        return output.reshape(size, size, count).transpose(2, 0, 1)

    def as_they_come() -> plain.Floats:
        output = matrix @ flat.T
        output += bias
        return np.ascontiguousarray(output.T).reshape(count, size, size)

    if count == 1:
        return [Peer("SciPy's sparse matrix", transposed)]
    return [
        Peer("SciPy's sparse matrix", as_they_come),
        Peer("SciPy's, images transposed before and left so", transposed),
    ]


def _design_bytes(work: Work) -> int:
    """Return the bytes that one row of pixels takes as plain NumPy's matrices."""
    return 4 * work.size * work.pairs * (len(work.field) + 1)
