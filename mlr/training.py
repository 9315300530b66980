"""Training: from a folder of pairs to statistics, and from statistics to a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlr.accumulate import Accumulator, person_digest
from mlr.data.files import check_free
from mlr.data.images import Image, Pixels
from mlr.data.pairs import PairList, find_pairs
from mlr.data.stream import DecodedPerson, common_format, decoded
from mlr.errors import DataError, MlrError
from mlr.model import Model, new_meta
from mlr.receptive_field import ReceptiveField
from mlr.report import Report
from mlr.solve import check_penalty, solve
from mlr.statistics import TO_16_BITS, WHITE, Statistics
from mlr.threads import limited
from mlr.warmup import announced

PACK = 32  # people handed on at once: 32 neighbouring bytes of samples are half a cache line
PACK_BYTES = 64 << 20


@dataclass(frozen=True)
class Recipe:
    """The choices that make a model out of statistics.

    Attributes
    ----------
    receptive_field : int or str
        As `ReceptiveField.of` takes it.
    penalty : float
        Ridge penalty for intensities in [0, 1].
    """

    receptive_field: int | str
    penalty: float


#: "paper": Khan et al. 2020; all coefficients, the bias included, are pulled to zero.
RECIPES = {"paper": Recipe(receptive_field=3, penalty=0.4)}


def train(
    data: str | Path,
    output: str | Path | None = None,
    *,
    recipe: str = "paper",
    receptive_field: ReceptiveField | int | str | None = None,
    penalty: float | None = None,
    source: str = "neutral",
    target: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Model:
    """Train a model on a folder of image pairs.

    Parameters
    ----------
    data : path
        Expression folders, ``trainA`` and ``trainB``, or ``pairs.csv``; see `find_pairs`.
    output : path, optional
        ``.npz`` file to write the model to.
    recipe : str
        Name of a set of choices; each can be overridden.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    source : str
        Folder of the source images.
    target : sequence of str
        Target expressions; none means all.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    force : bool
        Overwrite ``output`` if it exists.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    Model
        The same bits for any number of threads and any order of the files.

    Raises
    ------
    DataError
        If there is no usable pair.
    OutputExistsError
        If ``output`` exists and ``force`` is false.
    MlrError
        If an option makes no sense or the model cannot be written.
    """
    if recipe not in RECIPES:
        raise MlrError(f"unknown recipe {recipe!r}; there is: {', '.join(RECIPES)}")
    defaults = RECIPES[recipe]
    field = ReceptiveField.of(
        defaults.receptive_field if receptive_field is None else receptive_field
    )
    penalty = defaults.penalty if penalty is None else penalty
    check_penalty(penalty)
    if output is not None:
        check_free(Path(output), force=force)
    report = report or Report()
    pairs = find_pairs(data, source=source, target=target)
    with limited(threads), announced(report):
        statistics = collect(pairs, field, threads=threads, report=report)
        model = fit(statistics, penalty, source=pairs.source, recipe=recipe)
    if output is not None:
        model.save(output, force=force)
    return model


def fit(statistics: Statistics, penalty: float, *, source: str, recipe: str) -> Model:
    """Solve for a model.

    Parameters
    ----------
    statistics : Statistics
        Sums over the training pairs.
    penalty : float
        Ridge penalty for intensities in [0, 1].
    source : str
        Name of the source expression.
    recipe : str
        Name of the recipe that the choices come from; "custom" is noted if they differ from it.

    Raises
    ------
    MlrError
        If the penalty makes no sense or there are no pairs.
    """
    named = RECIPES[recipe]
    as_named = (
        ReceptiveField.of(named.receptive_field) == statistics.receptive_field
        and named.penalty == penalty
    )
    return Model(
        weights=solve(statistics, penalty),
        receptive_field=statistics.receptive_field,
        expressions=statistics.expressions,
        meta=new_meta(
            source=source,
            recipe=recipe if as_named else "custom",
            penalty=penalty,
            prior="zero",
            pairs=statistics.pairs,
            digest=statistics.hexdigest,
        ),
    )


def collect(
    pairs: PairList,
    receptive_field: ReceptiveField,
    *,
    threads: int | None = None,
    report: Report | None = None,
) -> Statistics:
    """Sum up pairs of image files in one pass over them.

    Parameters
    ----------
    pairs : PairList
        What `find_pairs` found.
    receptive_field : ReceptiveField
        Taps to make planes for.
    threads, report
        As for `train`.

    Raises
    ------
    DataError
        If no pair can be used.
    """
    report = report or Report()
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    with limited(threads) as count:
        people, image_format = common_format(pairs, report)
        shape = (image_format.channels, image_format.height, image_format.width)
        stream = decoded(people, image_format, count, report)
        stream = report.progress(stream, len(people), "training")
        expected = Counter(frozenset(person.targets) for person in people)
        statistics = _sum_up(stream, shape, receptive_field, expected)
    if not statistics.expressions:
        raise DataError("not one pair of images could be decoded")
    report.done += sum(statistics.pairs.values())
    return statistics


def _sum_up(
    people: Iterable[DecodedPerson],
    shape: tuple[int, int, int],
    receptive_field: ReceptiveField,
    expected: Mapping[frozenset[str], int],
) -> Statistics:
    """Sum up decoded people in whatever order they come.

    Those who show the same expressions with the same bits are summed up together. They wait in
    bins for being packed, so that changing from one kind of people to another is rare.

    Parameters
    ----------
    people : iterable of DecodedPerson
        All of the same shape.
    shape : tuple of int
        (channels, height, width).
    receptive_field : ReceptiveField
        Taps to make planes for.
    expected : mapping of set of str to int
        About how many people show these expressions.
    """
    total = Statistics(receptive_field, WHITE["uint8"], shape)
    bins: dict[_Kind, list[DecodedPerson]] = {}
    pack = max(1, min(PACK, PACK_BYTES // math.prod(shape)))
    accumulator: Accumulator | None = None
    current: _Kind | None = None

    def empty(kind: _Kind) -> None:
        nonlocal total, accumulator, current
        waiting = bins.pop(kind)
        if accumulator is None or kind != current:
            if accumulator is not None:
                total = total + accumulator.statistics()
            expressions, dtype = current = kind
            accumulator = Accumulator(
                receptive_field,
                shape,
                sorted(expressions),
                dtype,
                people=max(expected.get(expressions, 0), len(waiting)),
            )
        _add(accumulator, waiting)

    for person in people:
        images = (person.source, *person.targets.values())
        dtype = np.result_type(*(image.pixels.dtype for image in images))
        kind = (frozenset(person.targets), dtype.name)
        bins.setdefault(kind, []).append(person)
        if len(bins[kind]) == pack:
            empty(kind)
    for kind in sorted(bins, key=lambda kind: kind != current):
        empty(kind)
    return total if accumulator is None else total + accumulator.statistics()


_Kind = tuple[frozenset[str], str]  # expressions, dtype


def _add(accumulator: Accumulator, people: Sequence[DecodedPerson]) -> None:
    """Stack people's images and hand them to the accumulator."""

    def stacked(images: Iterable[Image]) -> Pixels:
        return np.stack([_with_dtype(image.pixels, accumulator.dtype) for image in images])

    digests = (
        person_digest(p.source.digest, {name: image.digest for name, image in p.targets.items()})
        for p in people
    )
    accumulator.add(
        stacked(p.source for p in people),
        {name: stacked(p.targets[name] for p in people) for name in accumulator.expressions},
        sum(digests),
    )


def _with_dtype(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Return 8-bit pixels as 16-bit ones where their partner has 16 bits; exact."""
    if pixels.dtype == dtype:
        return pixels
    widened: Pixels = pixels.astype(dtype) * dtype.type(TO_16_BITS)
    return widened
