"""The figures of one rival, for the tables, the claims and the sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from benchmarks.comparison import measures
from benchmarks.comparison.curves import thinned
from benchmarks.comparison.data import Images, Pairs, at_size
from benchmarks.comparison.protocol import OUTER, Indices, Task, compete, fold_of
from benchmarks.comparison.recognition import Classifier, judged
from benchmarks.rivals.base import Rival
from mlr.evaluation.scores import MEASURES

SHOWN, SHOWN_OUTSIDE = 3, 2  # faces on the sheet: held-out subjects, and of each other kind

#: Keys of variants, whose curves are close to those of the originals, end like this.
VARIANTS = ("-change", "-registered", "-style-0")

Outcome = tuple[dict[str, Any], list[Images]]  # the figures, and the faces for the sheet


def outcome(
    rival: Rival,
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    *,
    size: int,
    sizes: Sequence[int] = (),
    counts: Sequence[int] = (),
    judge: Path | None = None,
) -> Outcome:
    """Train and score a rival.

    GANs are trained once, on all but the subjects of the first fold, and not for the curves.

    Parameters
    ----------
    rival : Rival
        Not fitted yet.
    pairs : Pairs
        The subjects.
    outside : mapping of str to list of ndarray
        Faces outside the data set, of each kind.
    size, sizes, counts : int, sequences of int
        Side of the images in pixels; further sides and numbers of training pairs for the curves.
    judge : Path, optional
        Folder with the package of the independent network.
    """
    if rival.key.endswith(VARIANTS):
        counts = sizes = ()
    gan = rival.family == "gan"
    size = min(size, rival.largest or size)
    data = pairs.at(size)
    fold = fold_of(len(pairs.inputs), OUTER)
    kinds = {kind: at_size(faces, size) for kind, faces in outside.items()}
    held = [np.flatnonzero(fold == k) for k in range(1 if gan else OUTER)]
    tasks = [Task(np.flatnonzero(fold != k), data.inputs[each]) for k, each in enumerate(held)]
    tasks[0] = Task(tasks[0].train, np.concatenate([tasks[0].faces, *kinds.values()]))
    order = np.random.default_rng(2).permutation(tasks[0].train)
    fewer = {
        n: Task(order[:n], data.inputs[held[0]])
        for n in counts
        if n < len(order) and not gan
    }  # fmt: skip
    got = compete(rival, data.inputs, data.targets, [*tasks, *fewer.values()])
    outputs = [measures.as_8bit(made) for made in got.outputs]
    parts = np.split(outputs[0], np.cumsum([len(held[0]), *map(len, kinds.values())])[:-1])
    outputs[0], *elsewhere = parts
    each = measured(outputs[: len(held)], held, data, fold, judge)
    by_pairs = zip([*fewer, len(order)], [*outputs[len(held) :], outputs[0]], strict=True)
    inputs = {"held out": data.inputs[held[0]], **kinds}
    found = {
        **{name: getattr(rival, name) for name in ("name", "family", "largest")},
        "size": size,
        "folds": len(held),
        "settings": got.settings[: len(held)],
        "scores": {name: mean(values) for name, values in each.items()},
        "error": stdev(each["mse"]) / len(each["mse"]) ** 0.5,
        "each": each,
        "seconds": median(got.seconds[: len(held)]),
        "elapsed": median(got.elapsed[: len(held)]),
        "search_seconds": got.search_seconds,
        **got.cost,
        "by_pairs": {str(n): _mse(own, data.targets[held[0]]) for n, own in by_pairs}
        if counts and not gan
        else {},
        "outside": {
            kind: measures.against_inputs(own, faces)
            for own, (kind, faces) in zip(parts, inputs.items(), strict=True)
        },
        "training": got.training,
        "history": thinned(got.history),
    }
    found["by_size"] = {} if gan else _by_size(rival, pairs, size, sizes, found)
    return found, [*outputs[0][:SHOWN], *(x for own in elsewhere for x in own[:SHOWN_OUTSIDE])]


def measured(
    outputs: Sequence[Images],
    held: Sequence[Indices],
    data: Pairs,
    fold: Indices,
    judge: Path | None,
) -> dict[str, list[float]]:
    """Return all measures of the outputs of the held-out subjects of each fold."""
    each: dict[str, list[float]] = {}
    for k, (own, subjects) in enumerate(zip(outputs, held, strict=True)):
        seen = fold != k
        classifier = Classifier(data.inputs[seen], data.targets[seen])
        found = measures.against_targets(own, data.targets[subjects])
        found |= measures.same_person(own, data.inputs[subjects])
        found["recognised"] = classifier.recognised(own).astype(float).tolist()
        for name, values in found.items():
            each.setdefault(name, []).extend(values)
    if judge is not None:
        each["judged"] = judged(np.concatenate(outputs), data.expression, judge)
    return each


def truth(pairs: Pairs, size: int, judge: Path | None) -> dict[str, list[float]]:
    """Return the measures in the face of the subjects' own targets, in the outcomes' order."""
    data, fold = pairs.at(size), fold_of(len(pairs.inputs), OUTER)
    held = [np.flatnonzero(fold == k) for k in range(OUTER)]
    each = measured([data.targets[subjects] for subjects in held], held, data, fold, judge)
    return {name: values for name, values in each.items() if name not in MEASURES}


def _by_size(
    rival: Rival, pairs: Pairs, size: int, sizes: Sequence[int], found: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return error, time and memory at each size that the rival reaches."""
    result = {}
    fold = fold_of(len(pairs.inputs), OUTER)
    held = np.flatnonzero(fold == 0)
    for side in sizes:
        if side > (rival.largest or side) or side > pairs.inputs.shape[1]:
            continue
        if side == size:
            error = mean(found["each"]["mse"][: len(held)])
            seconds, memory = found["seconds"], found["bytes"]
        else:
            data = pairs.at(side)
            task = Task(np.flatnonzero(fold != 0), data.inputs[held])
            got = compete(rival, data.inputs, data.targets, [task])
            error = _mse(measures.as_8bit(got.outputs[0]), data.targets[held])
            seconds, memory = got.seconds[0], got.cost["bytes"]
        result[str(side)] = {"mse": error, "seconds": seconds, "bytes": memory}
    return result


def _mse(outputs: Images, targets: Images) -> float:
    return float(np.square(outputs / 255 - targets / 255).mean())
