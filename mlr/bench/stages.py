"""The stages of the program, timed and checked."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from timeit import timeit
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.model import LUMA, Model
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import resize_field, warp
from mlr.core.solve import solve
from mlr.core.statistics import Statistics
from mlr.errors import MlrError
from mlr.io.files import temporary_folder
from mlr.io.images import read_image, write_image
from mlr.kernels.apply import apply
from mlr.recipes.fit import RECIPES
from mlr.samples import draw_face
from mlr.sklearn import MaskedRegression
from mlr.training.train import train
from mlr.utils.progress import Report
from mlr.utils.threads import limited, ordered_map

EXPRESSION = "happy"
PENALTY = 0.4
DRAWN = 16  # subjects; drawing hundreds would take seconds
NOISE = 4  # intensities out of 255
FILES = 50  # pairs, at most
REGISTERED = 16  # pairs that the model of the recipe best is trained on
TOLERANCE = 1e-4  # of weights and intensities
CACHE = 128 << 20  # bytes, larger than caches
SHORTEST = 0.005  # seconds; shorter functions are called several times in a run
#: Seconds. BLAS threads spin for 14 to 20 ms after a matrix product and slow down what follows.
PAUSE = 0.05

Pixels = npt.NDArray[np.uint8]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Training on square grey images."""

    field: ReceptiveField
    sources: Pixels  # (pairs, size, size, 1)
    targets: Pixels

    def __str__(self) -> str:
        return f"{len(self.sources)} pairs of {self.size} px, {self.field}"

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.sources.shape[1]

    @property
    def key(self) -> dict[str, Any]:
        """The properties of this problem, for JSON."""
        pairs = len(self.sources)
        return {"size": self.size, "pairs": pairs, "receptive_field": str(self.field)}

    def statistics(self) -> Statistics:
        """Return the statistics of all pairs."""
        return statistics_of_arrays(self.sources, {EXPRESSION: self.targets}, self.field)

    def model(self) -> Model:
        """Return the model of the recipe paper."""
        return MaskedRegression(self.field, PENALTY).fit(self.sources, self.targets).model_


def operations(problem: Problem) -> dict[str, int]:
    """Return the number of additions and multiplications by stage, inside the image.

    Solving n equations takes n^3 / 3 + 2 n^2.
    """
    size, taps = problem.size, problem.field.offsets
    lags: list[tuple[int, int]] = problem.field.lag_table.lags.tolist()

    def products(offsets: Sequence[tuple[int, int]]) -> int:
        inside = (max(0, size - abs(dy)) * max(0, size - abs(dx)) for dy, dx in offsets)
        return 2 * len(problem.sources) * sum(inside)

    y, x = np.indices((size, size))
    n = np.ones_like(y)  # coefficients of each pixel, with the bias
    for dy, dx in taps:
        n += (y + dy >= 0) & (y + dy < size) & (x + dx >= 0) & (x + dx < size)
    solving = int(np.sum(n**3 / 3 + 2 * n**2))
    return {"accumulate": products([*lags, *taps]), "solve": solving, "batch": products(taps)}


def generate(size: int, pairs: int) -> tuple[Pixels, Pixels]:
    """Return grey sources and targets: a few subjects, repeated with noise."""
    rng = np.random.default_rng(0)

    def draw(expression: str) -> Pixels:
        subjects = range(min(pairs, DRAWN))
        faces = list(ordered_map(lambda n: draw_face(0, n, expression, size) @ LUMA, subjects))
        noise = rng.integers(-NOISE, NOISE + 1, (pairs, size, size), np.int8)
        images = np.rint(np.resize(np.array(faces, np.float32), noise.shape)) + noise
        return np.clip(images, 0, 255).astype(np.uint8)[..., None]

    return draw("neutral"), draw(EXPRESSION)


def check(problem: Problem) -> None:
    """Compare weights and outputs of some pixels with ridge regression in NumPy."""
    model, offsets, last = problem.model(), problem.field.offsets, problem.size - 1
    sources, targets = problem.sources[..., 0] / 255, problem.targets[..., 0] / 255
    reach = int(np.abs(problem.field.taps).max())
    padded = np.pad(sources, ((0, 0), (reach, reach), (reach, reach)))
    y, x = np.array([(0, 0, last // 2, last, last), (0, last, last // 3, last // 2, last)])
    taps = [padded[:, y + dy + reach, x + dx + reach] for dy, dx in offsets]
    z = np.stack([*taps, np.ones((len(sources), len(y)))], axis=2).swapaxes(0, 1)
    gram = z.swapaxes(1, 2) @ z + PENALTY * np.eye(len(offsets) + 1)
    weights = np.linalg.solve(gram, z.swapaxes(1, 2) @ targets[:, y, x].T[..., None])[..., 0]
    compare("the weights", problem, model.weights[0, 0, :, y, x], weights)
    expected = (z[:, 0] * weights).sum(axis=1)
    outputs = model.synthesize(sources[0].astype(np.float32))
    compare("the pixels", problem, outputs[y, x], expected)
    rounded = model.synthesize(problem.sources[0])[y, x, 0]
    # A value half-way between two integers may be rounded either way.
    if np.abs(rounded - 255 * np.clip(expected, 0, 1)).max() > 0.5 + 255 * TOLERANCE:
        raise MlrError(f"wrong result for {problem}: an 8-bit pixel is rounded wrongly")


def compare(what: str, problem: Problem, ours: Any, expected: Any) -> None:
    """Raise an `MlrError` if two arrays differ by more than `TOLERANCE`."""
    difference = float(np.abs(ours - expected).max())
    if not difference <= TOLERANCE:
        raise MlrError(
            f"wrong result for {problem}: {what} differ from plain NumPy's by up to "
            f"{difference:.3g}, {TOLERANCE:g} is allowed; please report this with your "
            "processor and the versions of Numba and NumPy"
        )


def time_all(problems: Sequence[Problem], repeat: int, report: Report) -> list[Entry]:
    """Check and time all stages; return the entries that `mlr.bench.bench` describes."""
    entries: list[Entry] = []
    sizes: set[int] = set()
    for problem in report.progress(problems, len(problems), "timing"):
        check(problem)
        if problem.size not in sizes:  # does not depend on the receptive field
            sizes.add(problem.size)
            entries += _time_files(problem, repeat)
            entries += _time_registration(problem, repeat)
        entries += _time_training(problem, repeat)
        entries += _time_synthesis(problem, repeat)
    return entries


def _time_files(problem: Problem, repeat: int) -> Iterator[Entry]:
    """Time decoding PNG files, and training from them."""
    size, sources = problem.size, problem.sources[:FILES]
    with temporary_folder() as folder:
        paths = []
        for name, images in (("neutral", sources), (EXPRESSION, problem.targets[:FILES])):
            for n, image in enumerate(images):
                paths.append(folder / name / f"{n:03}.png")
                write_image(paths[-1], image)
        if not np.array_equal(read_image(paths[0]).pixels, sources[0]):
            raise MlrError("wrong result: a PNG file is not read as it was written")
        key, amount = {"size": size}, (2 * sources.nbytes / 1e6, "MB/s")
        runs = timed(lambda: list(ordered_map(read_image, paths)), repeat)
        what = f"{len(paths)} PNG files of {size} px"
        yield _entry("decode", what, key, runs, len(paths), amount)
        for recipe in RECIPES:
            runs = timed(partial(train, folder, recipe=recipe), repeat)
            what = f"{len(sources)} pairs of {size} px, recipe {recipe}"
            yield _entry("train", what, key, runs, len(sources), amount)


def _time_registration(problem: Problem, repeat: int) -> Iterator[Entry]:
    """Time each step of the recipe best for one face in one thread, and all of them together."""
    few = (images[:REGISTERED] for images in (problem.sources, problem.targets))
    model = MaskedRegression(recipe="best").fit(*few).model_
    registered = model.registered
    assert registered is not None
    image, size = problem.sources[0], problem.size
    unit = image.astype(np.float32) / np.float32(255)
    (planes,) = as_planes(image[None])
    face = registered.register(planes)
    field = resize_field(face.fit.field, size, size)
    steps: dict[str, Callable[[], object]] = {
        "features": lambda: features_of(unit),
        "register": lambda: registered.search.find(face.features),
        "warp": lambda: warp(planes, field),
        "change": lambda: model.synthesize(image),
    }
    what, amount = f"1 face of {size} px, 1 thread", (image.size / 1e6, "Mpx/s")
    with limited(1):
        for stage, step in steps.items():
            yield _entry(stage, what, {"size": size}, timed(step, repeat), 1, amount)


def _time_training(problem: Problem, repeat: int) -> Iterator[Entry]:
    """Time accumulation and solution."""
    what, key, needed = str(problem), problem.key, operations(problem)
    runs, amount = timed(problem.statistics, repeat), needed["accumulate"] / 1e9
    yield _entry("accumulate", what, key, runs, len(problem.sources), (amount, "Gop/s"))
    planes = problem.statistics()
    runs, amount = timed(lambda: solve(planes, PENALTY), repeat), needed["solve"] / 1e9
    yield _entry("solve", what, key, runs, None, (amount, "Gop/s"))


def _time_synthesis(problem: Problem, repeat: int) -> Iterator[Entry]:
    """Time applying a model of the recipe paper to one image, to a batch, and to 8-bit images."""
    model, field, key = problem.model(), problem.field, problem.key
    images, weights = as_planes(problem.sources), model.weights[0]
    # Many models in turn, so that weights are read from memory.
    models = np.repeat(weights[None], CACHE // weights.nbytes + 2, axis=0)
    with limited(1):
        runs = timed(lambda: [apply(each, field.offsets, images[:1]) for each in models], repeat)
    runs = [seconds / len(models) for seconds in runs]
    what, amount = f"1 image of {problem.size} px, {field}, 1 thread", weights.nbytes / 1e9
    yield _entry("apply", what, key, runs, 1, (amount, "GB/s"))
    what, count = f"{len(images)} images of {problem.size} px, {field}", len(images)
    runs = timed(lambda: apply(weights, field.offsets, images), repeat)
    amount = operations(problem)["batch"] / 1e9
    yield _entry("batch", what, key, runs, count, (amount, "Gop/s"))
    runs = timed(lambda: model.synthesize(problem.sources), repeat)
    yield _entry("synthesize", what, key, runs, count, (2 * images.nbytes / 1e9, "GB/s"))


def as_planes(images: Pixels) -> npt.NDArray[np.float32]:
    """Return 8-bit images (N, H, W, C) as float32 in [0, 1] of shape (N, C, H, W)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def timed(function: Callable[[], object], repeat: int) -> list[float]:
    """Return the seconds of ``repeat`` runs of a function after one call to warm up."""
    time.sleep(PAUSE)
    calls = max(1, math.ceil(SHORTEST / max(timeit(function, number=1), 1e-9)))
    return [timeit(function, number=calls) / calls for _ in range(repeat)]


def _entry(
    stage: str,
    work: str,
    key: dict[str, Any],
    runs: Sequence[float],
    items: int | None,
    amount: tuple[float, str],
) -> Entry:
    """Return the entry of a stage; ``amount`` is the work of a run, and the unit of the rate."""
    (done, unit), median = amount, statistics.median(runs)
    return {
        "stage": stage,
        "work": work,
        **key,
        "seconds": {"median": median, "min": min(runs), "max": max(runs), "runs": len(runs)},
        "items": items,
        "items_per_second": None if items is None else items / median,
        "rate": done / median,
        "unit": unit,
    }
