"""The times of the program's own stages, each with the limit that the machine sets."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numba.core.event
import numpy as np

from mlr.bench import plain
from mlr.bench.machine import copies_beyond_cache, reading_timing
from mlr.bench.timing import Timing, once, timed
from mlr.bench.work import EXPRESSION, PENALTY, Data, Floats, Pixels, Work, as_planes
from mlr.core.accumulate import statistics_of_arrays
from mlr.core.apply import apply
from mlr.core.model import Model
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import resize_field, warp
from mlr.core.solve import solve
from mlr.core.statistics import Statistics
from mlr.errors import MlrError
from mlr.io.files import temporary_folder
from mlr.io.images import read_image, write_image
from mlr.kernels.pack import pack, samples_shape
from mlr.kernels.products import add_products, sums_of
from mlr.sklearn import MaskedRegression
from mlr.training.decode import ordered_map
from mlr.utils.progress import Report
from mlr.utils.threads import limited

TOLERANCE = 1e-4  # of weights and intensities, against plain NumPy
REGISTERED = 16  # pairs that the templates are made of
FILES = 100  # at most; they take longer to write than to read
CHECKED = 2  # rows of pixels at the top, in the middle and at the bottom


def first_calls() -> list[dict[str, Any]]:
    """Call every kernel once on tiny arrays; none of them should have been called before.

    Returns
    -------
    list of dict
        ``name``, ``seconds``, and ``compiled``: false if compiled code was loaded from the cache.
    """
    images = np.zeros((1, 4, 4, 1), np.uint8)
    sums = [call for bits in (8, 16) for call in _first_sums(bits)]
    field = ReceptiveField.square(3)
    statistics = statistics_of_arrays(images, {EXPRESSION: images}, field)
    weights = np.zeros((1, len(field) + 1, 4, 4), np.float32)
    return [
        *sums,
        _first_call("solve", lambda: solve(statistics, PENALTY)),
        _first_call("apply", lambda: apply(weights, field, as_planes(images))),
        _first_call("registration", lambda: _registered(images, images).synthesize(images)),
    ]


def time_all(
    works: Sequence[Work],
    data: Mapping[int, Data],
    limits: Mapping[str, Mapping[str, Any]],
    threads: int,
    repeat: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Time all stages of all work.

    Parameters
    ----------
    works : sequence of Work
        What to do.
    data : mapping of int to Data
        The images of each size.
    limits : mapping
        As `mlr.bench.machine.limits` returns them.
    threads, repeat : int
        Threads to decode with, and runs.
    report : Report
        Told about progress.

    Returns
    -------
    list of dict
        For each stage ``stage``, ``work``, the work's key, ``seconds`` (of repeated runs),
        ``items`` a run with ``items_per_second`` (None where images or pairs are no measure),
        ``rate`` and ``limit`` in ``unit``, ``limit_name``, ``fraction``; the last three are None
        where no limit is known.
    """
    measured: list[dict[str, Any]] = []
    decoded: set[int] = set()
    for work in report.progress(works, len(works), "timing"):
        if work.size not in decoded:
            measured.append(_decode(work, data[work.size], threads, repeat))
            measured += _register(work, data[work.size], repeat)
            decoded.add(work.size)
        measured += _train(work, data[work.size], limits, repeat)
        measured += _apply(work, data[work.size], limits, repeat)
    return measured


def check(work: Work, data: Data) -> None:
    """Compare the program's results with plain NumPy's: some rows of weights, and one image.

    Raises
    ------
    MlrError
        If they differ.
    """
    model = _model(work, data)
    for top in (0, work.size // 2, work.size - CHECKED):
        expected = plain.weights(data.sources, data.targets, work.field, PENALTY, top, CHECKED)
        checked("the weights", work, model.weights[0, 0, :, top : top + CHECKED], expected)
    image = data.sources[0].astype(np.float32) / np.float32(255)
    output = plain.applied(model.weights[0, 0], work.field, image[..., 0])
    checked("the pixels", work, model.synthesize(image)[..., 0], output)
    rounded = np.rint(np.clip(output, 0, 1) * 255)
    # A pixel half-way between two integers may be rounded either way.
    if np.abs(model.synthesize(data.sources[0])[..., 0] - rounded).max() > 1:
        raise MlrError(f"wrong result for {work}: 8-bit pixels are off by more than 1")


def checked(what: str, work: Work, ours: plain.Floats, theirs: plain.Floats) -> float:
    """Return the largest difference of two results.

    Raises
    ------
    MlrError
        If it is above `TOLERANCE`, or there are numbers that are not finite.
    """
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise MlrError(
            f"wrong result for {work}: {what} differ from those of plain NumPy by up to "
            f"{difference:.3g}, {TOLERANCE:g} is allowed; please report this with your "
            "processor and the versions of Numba and NumPy"
        )
    return difference


def _decode(work: Work, data: Data, threads: int, repeat: int) -> dict[str, Any]:
    """Time the decoding of PNG files; their inflation alone is the limit."""
    images = np.concatenate([data.sources, data.targets])[:FILES]
    with temporary_folder() as folder:
        paths = [folder / f"{n}.png" for n in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            write_image(path, image)
        if not np.array_equal(read_image(paths[0]).pixels, images[0]):
            raise MlrError(f"wrong result for {work}: a PNG file is not read as it was written")
        packed = [_compressed_pixels(path.read_bytes()) for path in paths]
        timing = timed(lambda: _run(read_image, paths, threads), repeat)
        inflation = timed(lambda: _run(zlib.decompress, packed, threads), repeat)
    return _measured(
        "decode",
        f"{len(images)} PNG files of {work.size} px",
        {"size": work.size},
        timing,
        len(images),
        amount=images.nbytes / 1e6,
        unit="MB/s",
        limit_name="inflation of the same files",
        limit=images.nbytes / 1e6 / inflation.median,
    )


def _train(
    work: Work, data: Data, limits: Mapping[str, Mapping[str, Any]], repeat: int
) -> list[dict[str, Any]]:
    """Time accumulation and solution; matrix products are the limit."""
    statistics = _accumulated(work, data)
    return [
        _measured(
            "accumulate",
            str(work),
            work.key(),
            timed(lambda: _accumulated(work, data), repeat),
            work.pairs,
            amount=work.accumulate_operations / 1e9,
            unit="Gop/s",
            limit_name="float32 matrix product",
            limit=limits["float32"]["rate"],
        ),
        _measured(
            "solve",
            str(work),
            work.key(),
            timed(lambda: solve(statistics, PENALTY), repeat),
            None,
            amount=work.solve_operations / 1e9,
            unit="Gop/s",
            limit_name="float64 matrix product",
            limit=limits["float64"]["rate"],
        ),
    ]


def _apply(
    work: Work,
    data: Data,
    limits: Mapping[str, Mapping[str, Any]],
    repeat: int,
) -> list[dict[str, Any]]:
    """Time the application to one image in one thread, to many, and to many of 8 bits."""
    model = _model(work, data)
    images, weights = as_planes(data.sources), model.weights[0]
    what = f"{len(images)} images of {work.size} px, {work.field}"
    batch = timed(lambda: apply(weights, work.field, images), repeat)
    whole = timed(lambda: model.synthesize(data.sources), repeat)
    return [
        _apply_one(work, weights, images[:1], repeat),
        _measured(
            "batch",
            what,
            work.key(),
            batch,
            len(images),
            amount=len(images) * work.apply_operations / 1e9,
            unit="Gop/s",
            limit_name="float32 matrix product",
            limit=limits["float32"]["rate"],
        ),
        _measured(
            "synthesize",
            what,
            work.key(),
            whole,
            len(images),
            amount=2 * images.nbytes / 1e9,
            unit="GB/s",
            limit_name="copy in memory, of the images as float32",
            limit=limits["copy"]["rate"],
        ),
    ]


def _apply_one(work: Work, weights: Floats, image: Floats, repeat: int) -> dict[str, Any]:
    """Time the application to one image, of many models in turn: weights come from memory."""
    models = np.repeat(weights[None], copies_beyond_cache(weights.nbytes), axis=0)

    def apply_all() -> None:
        for each in models:
            apply(each, work.field, image)

    with limited(1):
        runs = timed(apply_all, repeat).runs
    return _measured(
        "apply",
        f"1 image of {work.size} px, {work.field}, 1 thread",
        work.key(),
        Timing(tuple(run / len(models) for run in runs)),
        1,
        amount=weights.nbytes / 1e9,
        unit="GB/s",
        limit_name="reading the weights from memory once",
        limit=weights.nbytes / 1e9 / reading_timing(weights.nbytes, repeat).median,
    )


def _register(work: Work, data: Data, repeat: int) -> list[dict[str, Any]]:
    """Time what the recipe best does to one face, in one thread: each step, and all of them."""
    few = slice(REGISTERED)
    model = _registered(data.sources[few], data.targets[few])
    registered = model.registered
    assert registered is not None
    image = data.sources[0]
    unit = image.astype(np.float32) / np.float32(255)
    (planes,) = as_planes(image[None])
    face = registered.register(planes)
    field = resize_field(face.field, work.size, work.size)
    stages: dict[str, Callable[[], object]] = {
        "features": lambda: features_of(unit),
        "register": lambda: registered.template.best(face.features),
        "warp": lambda: warp(planes, field),
        "change": lambda: model.synthesize(image),
    }
    with limited(1):
        return [
            _measured(
                stage,
                f"1 face of {work.size} px, 1 thread",
                {"size": work.size},
                timed(call, repeat),
                1,
                amount=image.size / 1e6,
                unit="Mpx/s",
            )
            for stage, call in stages.items()
        ]


def _registered(sources: Pixels, targets: Pixels) -> Model:
    """Return a model of the recipe best."""
    return MaskedRegression(recipe="best").fit(sources, targets).model_


def _measured(
    stage: str,
    what: str,
    key: dict[str, Any],
    timing: Timing,
    items: int | None,
    *,
    amount: float,
    unit: str,
    limit_name: str | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Return the entry of a stage; ``amount`` is what one run does, in units times seconds."""
    rate = amount / timing.median
    return {
        "stage": stage,
        "work": what,
        **key,
        "seconds": timing.summary(),
        "items": items,
        "items_per_second": None if items is None else items / timing.median,
        "rate": rate,
        "unit": unit,
        "limit_name": limit_name,
        "limit": limit,
        "fraction": None if limit is None else rate / limit,
    }


def _first_sums(bits: int) -> list[dict[str, Any]]:
    """Call the kernels that sum up images; those of 16 bits are summed up as float64."""
    samples, planes = (np.uint8, np.int32) if bits == 8 else (np.float64, np.float64)
    images = np.zeros((1, 4, 4, 1), samples)
    packed = np.zeros(samples_shape(1, 4, 4, 1), samples)
    offsets = np.zeros((1, 2), np.int64)
    products, totals = (
        np.zeros((1, 1, 4, 4), planes),
        np.zeros(packed.shape[:2] + packed.shape[3:4], planes),
    )
    return [
        _first_call(f"pack, {bits} bits", lambda: pack(images, packed, 0)),
        _first_call(
            f"products, {bits} bits",
            lambda: add_products([(packed, packed, offsets, totals, products)]),
        ),
        _first_call(f"sums, {bits} bits", lambda: sums_of([packed])),
    ]


def _first_call(name: str, call: Callable[[], object]) -> dict[str, Any]:
    with numba.core.event.install_recorder("numba:compile") as recorder:
        seconds = once(call)
    return {"name": name, "seconds": seconds, "compiled": bool(recorder.buffer)}


def _model(work: Work, data: Data) -> Model:
    weights = solve(_accumulated(work, data), PENALTY)
    return Model(weights, work.field, (EXPRESSION,))


def _accumulated(work: Work, data: Data) -> Statistics:
    return statistics_of_arrays(data.sources, {EXPRESSION: data.targets}, work.field)


def _run(function: Callable[[Any], object], items: Any, threads: int) -> None:
    """Call the function on all items, in threads, as the program does."""
    for _ in ordered_map(function, items, threads):
        pass


def _compressed_pixels(png: bytes) -> bytes:
    """Return the compressed stream in a PNG file: the contents of its IDAT chunks, joined."""
    parts: list[bytes] = []
    place = 8
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        if kind == b"IDAT":
            parts.append(png[place + 8 : place + 8 + length])
        place += 12 + length
    return b"".join(parts)
