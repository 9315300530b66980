"""The protocol of the comparison: the same subjects, folds and budget for all rivals.

Every subject is scored by a model of others, in outer folds. A method with hyper-parameters chooses
them within the training subjects, in `INNER` folds among `SETTINGS` settings, by the mean squared
error of clipped outputs. It is trained in a process of its own, to measure its memory and time.
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
from threadpoolctl import threadpool_limits

from benchmarks.peak import memory, reset_peak
from benchmarks.rivals.base import Images, Outputs, Rival, Setting

OUTER, INNER = 4, 3
REPEATS = 7  # of the prediction of one image
WARM_PAIRS, WARM_SIDE = 4, 16  # of the training that loads and compiles code

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """A training and a prediction.

    Attributes
    ----------
    train : ndarray of int64
        The subjects to learn from.
    faces : ndarray of uint8, shape (N, height, width, channels)
        The inputs to predict for.
    """

    train: Indices
    faces: Images


@dataclass
class Result:
    """The results of the tasks of one rival.

    Attributes
    ----------
    settings : list
        Those chosen, for each task.
    search_seconds : float
        Processor time of choosing them, for all tasks.
    seconds, elapsed : list of float
        Processor time of all threads, and elapsed time, of each training.
    outputs : list of ndarray
        For each task.
    cost : dict
        ``bytes`` of memory that the first training needed (None if unknown), ``parameters``,
        ``disk`` in bytes, ``image_seconds`` of processor time for one image.
    training, history : dict and list
        Description and losses of the first training of a GAN.
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
    """Return the fold of each subject."""
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


def compete(rival: Rival, inputs: Images, targets: Images, tasks: Sequence[Task]) -> Result:
    """Choose settings, then train and predict in a new process.

    NumPy's BLAS runs in one thread: several would wait for each other on a busy machine, which
    counts as processor time.

    Parameters
    ----------
    rival : Rival
        Not fitted yet.
    inputs, targets : ndarray of uint8, shape (N, height, width, channels)
        All pairs.
    tasks : sequence of Task
        Memory and other costs are those of the first.
    """
    begin = time.process_time()
    with threadpool_limits(1, "blas"):
        settings = [
            choose(copy.deepcopy(rival), inputs[task.train], targets[task.train]) for task in tasks
        ]
    seconds = time.process_time() - begin
    result = isolated(train_all, rival, inputs, targets, tasks, settings)
    result.search_seconds = seconds
    return result


def train_all(
    rival: Any, inputs: Images, targets: Images, tasks: Sequence[Task], settings: list[Setting]
) -> Result:
    """Train and predict for each task, and measure the costs of the first; run by `isolated`."""
    with threadpool_limits(1, "blas"):
        result = Result(settings=settings)
        gan = rival.family == "gan"
        if not gan:
            warm = [images[:WARM_PAIRS, :WARM_SIDE, :WARM_SIDE] for images in (inputs, targets)]
            first = copy.deepcopy(rival)
            first.fit(*warm)
            first.predict(warm[0])
        for task, setting in zip(tasks, settings, strict=True):
            fresh = copy.deepcopy(rival)
            pairs = inputs[task.train], targets[task.train]
            elapsed, seconds, peak = _fit(fresh, *pairs, setting)
            if gan:  # some or all of it may come from its checkpoint
                elapsed, seconds = fresh.seconds, fresh.cpu_seconds
                *_, peak = _fit(fresh.rehearsal(), *pairs, setting)
                result.training, result.history = fresh.training(), fresh.history
            result.elapsed.append(elapsed)
            result.seconds.append(seconds)
            result.cost = result.cost or {"bytes": peak, **_costs(fresh, task.faces)}
            result.outputs.append(fresh.predict(task.faces))
        return result


def _fit(
    rival: Any, inputs: Images, targets: Images, setting: Setting
) -> tuple[float, float, int | None]:
    """Fit; return elapsed time, processor time, and the memory needed."""
    before = reset_peak()
    begin = time.perf_counter(), time.process_time()
    rival.fit(inputs, targets, **setting)
    elapsed, seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    peak = memory("VmHWM")
    return elapsed, seconds, None if peak is None or before is None else peak - before


def isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, which ends with this one in any case."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        return pool.submit(function, *arguments).result()


def _end_with_parent() -> None:
    """End this process as soon as the one that has started it ends."""
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
