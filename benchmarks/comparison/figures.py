"""The figures of one rival: what the tables, the claims and the sheet show of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from benchmarks.comparison import measures
from benchmarks.comparison.curves import thinned
from benchmarks.comparison.data import Images, Pairs, at_size
from benchmarks.comparison.protocol import OUTER, Job, compete, fold_of
from benchmarks.rivals.base import Rival

SHOWN, SHOWN_OUTSIDE = 3, 2  # faces on the sheet, of the held-out people and of each other kind

Outcome = tuple[dict[str, Any], list[Images]]  # the figures, and the faces for the sheet


def outcome(
    rival: Rival,
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    *,
    size: int,
    sizes: Sequence[int] = (),
    counts: Sequence[int] = (),
) -> Outcome:
    """Let a rival compete.

    GANs are trained once, on all but the people of the first fold.

    Parameters
    ----------
    rival : Rival
        Not fitted yet.
    pairs : Pairs
        The people.
    outside : mapping of str to list of ndarray
        Faces from elsewhere, of each kind.
    size, sizes, counts : int, sequences of int
        Side of the images in px; further sides and numbers of training pairs for the curves.
    """
    gan = rival.family == "gan"
    found, faces = _compete(rival, pairs, outside, size, () if gan else counts, 1 if gan else OUTER)
    found["by_size"] = {} if gan else _by_size(rival, pairs, size, sizes, found)
    return found, faces


def _compete(
    rival: Rival,
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    size: int,
    counts: Sequence[int],
    folds: int,
) -> Outcome:
    size = min(size, rival.largest or size)
    data = pairs.at(size)
    fold = fold_of(len(pairs.inputs), OUTER)
    kinds = {kind: at_size(faces, size) for kind, faces in outside.items()}
    held = [np.flatnonzero(fold == k) for k in range(folds)]
    jobs = [Job(np.flatnonzero(fold != k), data.inputs[held[k]]) for k in range(folds)]
    jobs[0] = Job(jobs[0].train, np.concatenate([jobs[0].faces, *kinds.values()]))
    order = np.random.default_rng(2).permutation(jobs[0].train)
    fewer = {n: Job(order[:n], data.inputs[held[0]]) for n in counts if n < len(order)}
    got = compete(rival, data.inputs, data.targets, [*jobs, *fewer.values()])
    outputs = [measures.written(made) for made in got.outputs]
    first, elsewhere = np.split(outputs[0], [len(held[0])])
    outputs[0] = first
    each = _scores(outputs[:folds], [data.targets[subjects] for subjects in held])
    found = {
        **{name: getattr(rival, name) for name in ("name", "family", "largest")},
        "size": size,
        "folds": folds,
        "settings": got.settings[:folds],
        "scores": {name: mean(values) for name, values in each.items()},
        "error": stdev(each["mse"]) / len(each["mse"]) ** 0.5,
        "each": each,
        "seconds": median(got.seconds[:folds]),
        "elapsed": median(got.elapsed[:folds]),
        "search_seconds": got.search_seconds,
        **got.cost,
        "by_pairs": {
            str(n): _mse(made, data.targets[held[0]])
            for n, made in [*zip(fewer, outputs[folds:], strict=True), (len(order), first)]
        }
        if counts
        else {},
        "outside": dict(_kept(first, data.inputs[held[0]], elsewhere, kinds)),
        "training": got.training,
        "history": thinned(got.history),
    }
    shown, begin = list(first[:SHOWN]), 0
    for faces in kinds.values():
        shown += list(elsewhere[begin : begin + min(SHOWN_OUTSIDE, len(faces))])
        begin += len(faces)
    return found, shown


def _by_size(
    rival: Rival, pairs: Pairs, size: int, sizes: Sequence[int], found: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return error, time and memory at each size that the rival reaches."""
    if rival.key.endswith("-change"):
        return {}  # costs what its original does
    result = {}
    fold = fold_of(len(pairs.inputs), OUTER)
    held = np.flatnonzero(fold == 0)
    for side in sizes:
        if side > (rival.largest or side) or side > pairs.inputs.shape[1]:
            continue
        if side == found["size"]:
            error = mean(found["each"]["mse"][: len(held)])
            seconds, memory = found["seconds"], found["bytes"]
        else:
            data = pairs.at(side)
            job = Job(np.flatnonzero(fold != 0), data.inputs[held])
            got = compete(rival, data.inputs, data.targets, [job])
            error = _mse(measures.written(got.outputs[0]), data.targets[held])
            seconds, memory = got.seconds[0], got.cost["bytes"]
        result[str(side)] = {"mse": error, "seconds": seconds, "bytes": memory}
    return result


def _scores(outputs: Sequence[Images], targets: Sequence[Images]) -> dict[str, list[float]]:
    parts = [measures.against_targets(o, t) for o, t in zip(outputs, targets, strict=True)]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _mse(outputs: Images, targets: Images) -> float:
    return float(np.square(outputs / 255 - targets / 255).mean())


def _kept(
    first: Images, inputs: Images, elsewhere: Images, kinds: Mapping[str, Images]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what is kept of the held-out people and of the faces of each kind."""
    yield "held out", measures.against_inputs(first, inputs)
    begin = 0
    for kind, faces in kinds.items():
        yield kind, measures.against_inputs(elsewhere[begin : begin + len(faces)], faces)
        begin += len(faces)
