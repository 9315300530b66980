"""How the rivals are compared: the same people, folds and budget for all.

Everybody is scored by a model that has not seen them, in outer folds. A method with
hyper-parameters chooses them inside the training people, in `INNER` folds among `SETTINGS`
settings, by the mean squared error of clipped outputs. It is trained in a process of its own, so
that its memory and its time are its own.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.rivals.base import Images, Outputs, Rival, Setting
from mlr.bench.machine import blas_threads

OUTER, INNER = 4, 3
REPEATS = 7  # of the prediction of one image
WARM_PAIRS, WARM_SIDE = 4, 16  # of the training that loads and compiles code

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """One training, and what to make with it.

    Attributes
    ----------
    train : ndarray of int64
        The people to learn from.
    faces : ndarray of uint8, shape (N, height, width, channels)
        Whose expression to change then.
    """

    train: Indices
    faces: Images


@dataclass
class Result:
    """What came of the jobs of one rival.

    Attributes
    ----------
    settings : list
        Those chosen, for each job.
    search_seconds : float
        Processor time that choosing took, for all jobs.
    seconds, elapsed : list of float
        Processor time, of all threads, and time on the clock that training took, for each job. The
        former hardly depends on what else the machine does.
    outputs : list of ndarray
        For each job.
    cost : dict
        ``bytes`` of memory that the first training needed (None where the system does not tell),
        ``parameters``, ``disk`` in bytes, ``image_seconds`` of processor time for one image.
    training, history : dict and list
        What a GAN's first training was, and its losses, if it is one.
    """

    settings: list[Setting] = field(default_factory=list)
    search_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)
    outputs: list[Outputs] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    history: list[Any] = field(default_factory=list)


def fold_of(subjects: int, folds: int, seed: int = 0) -> Indices:
    """Return the fold of each person."""
    result = np.empty(subjects, np.int64)
    result[np.random.default_rng(seed).permutation(subjects)] = np.arange(subjects) % folds
    return result


def choose(rival: Rival, inputs: Images, targets: Images) -> Setting:
    """Return the setting with the least cross-validated error."""
    grid = rival.grid()
    if len(grid) == 1:
        return grid[0]
    folds = fold_of(len(inputs), INNER, seed=1)
    errors = np.zeros(len(grid))
    for fold in range(INNER):
        seen, held = folds != fold, folds == fold
        wanted = targets[held] / np.float32(255)
        for k, outputs in enumerate(rival.path(inputs[seen], targets[seen], inputs[held])):
            errors[k] += np.square(np.clip(outputs, 0, 1) - wanted).sum(dtype=np.float64)
    return grid[int(np.argmin(errors))]


def compete(rival: Rival, inputs: Images, targets: Images, jobs: Sequence[Job]) -> Result:
    """Choose settings, then train and predict in a new process.

    Parameters
    ----------
    rival : Rival
        Not fitted yet.
    inputs, targets : ndarray of uint8, shape (N, height, width, channels)
        All pairs.
    jobs : sequence of Job
        Memory and other costs are those of the first.
    """
    begin = time.process_time()
    with blas_threads(1):
        settings = [
            choose(copy.deepcopy(rival), inputs[job.train], targets[job.train]) for job in jobs
        ]
    seconds = time.process_time() - begin
    result = isolated(train_all, rival, inputs, targets, jobs, settings)
    result.search_seconds = seconds
    return result


def train_all(
    rival: Rival, inputs: Images, targets: Images, jobs: Sequence[Job], settings: list[Setting]
) -> Result:
    """Train and predict for each job, and take the costs of the first; to be run by `isolated`.

    NumPy's BLAS runs in one thread: several wait for each other where the machine does other work,
    and that would count as processor time.
    """
    with blas_threads(1):
        return _train_all(rival, inputs, targets, jobs, settings)


def _train_all(
    rival: Any, inputs: Images, targets: Images, jobs: Sequence[Job], settings: list[Setting]
) -> Result:
    result = Result(settings=settings)
    if rival.family != "gan":
        warm = [images[:WARM_PAIRS, :WARM_SIDE, :WARM_SIDE] for images in (inputs, targets)]
        first = copy.deepcopy(rival)
        first.fit(*warm)
        first.predict(warm[0])
    for job, setting in zip(jobs, settings, strict=True):
        fresh = copy.deepcopy(rival)
        pairs = inputs[job.train], targets[job.train]
        elapsed, seconds, memory = _fit(fresh, *pairs, setting)
        if rival.family == "gan":  # it may have read all or some of this from its checkpoint
            elapsed, seconds = fresh.seconds, fresh.cpu_seconds
            *_, memory = _fit(fresh.rehearsal(), *pairs, setting)
            result.training, result.history = fresh.training(), fresh.history
        result.elapsed.append(elapsed)
        result.seconds.append(seconds)
        if not result.cost:
            result.cost = {"bytes": memory, **_costs(fresh, job.faces)}
        result.outputs.append(fresh.predict(job.faces))
    return result


def _fit(
    rival: Any, inputs: Images, targets: Images, setting: Setting
) -> tuple[float, float, int | None]:
    """Fit, and return the time on the clock, that of the processor, and the memory needed."""
    before = _begin_peak()
    begin = time.perf_counter(), time.process_time()
    rival.fit(inputs, targets, **setting)
    elapsed, seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    peak = _peak()
    return elapsed, seconds, None if peak is None or before is None else peak - before


def isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, which ends with this one, however that ends."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        return pool.submit(function, *arguments).result()


def _end_with_parent() -> None:
    """Let a thread wait for the end of the process that has started this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _costs(rival: Rival, faces: Images) -> dict[str, Any]:
    times = []
    for _ in range(1 + REPEATS):
        begin = time.process_time()
        rival.predict(faces[:1])
        times.append(time.process_time() - begin)
    with tempfile.TemporaryDirectory() as folder:
        rival.save(Path(folder) / "model.npz")
        disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "parameters": rival.parameters(),
        "disk": disk,
        "image_seconds": median(times[1:]),
    }


def _begin_peak() -> int | None:
    """Let the system forget the most memory held so far; return what is held now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux
        return None
    return _peak()


def _peak() -> int | None:
    """Return the most memory held since `_begin_peak`, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(1024 * int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM"))
