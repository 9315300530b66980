"""Measure what training costs for each pair, row and byte, to tell what a million pairs would take.

    python benchmarks/scale.py [--size 1024] [--pairs 1000000] [--write]

Each step is measured by itself, in one thread, on colour images of the size (a band of their rows
for the sums), and multiplied. ``--write`` renews ``benchmarks/results/scale.md``, which
``docs/scale.md`` explains. Needs ``mlr[cluster]``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from mlr.training.engine import engine
from mlr.training.registering import framed_arrays, make_templates

from mlr.bench.machine import describe
from mlr.core.accumulate import statistics_of_arrays
from mlr.core.layout import Layout
from mlr.io.images import read_header, read_image, write_image
from mlr.io.pairs import find_pairs
from mlr.recipes.fit import recipe
from mlr.samples.folder import write_samples
from mlr.training.decode import common_format
from mlr.utils.progress import Report
from mlr.utils.threads import limited

RESULTS = Path(__file__).parent / "results" / "scale.md"
ROWS = 32  # of the band that is summed up
SMALL = 128  # side of the images that are solved for, in pixels
HOUR = 3600.0


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    """Return the median of what some work takes."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def planes(layout: Layout) -> int:
    """Return how many planes there are of colour images with one expression."""
    return layout.planes(1) * layout.channels(3)


def style_planes(name: str) -> int:
    """Return how many planes of 64 bits there are beside them, with light and style."""
    return 4 * 3 if recipe(name, {}).registers else 0


def files(folder: Path, size: int) -> dict[str, float]:
    """Return the bytes of a pair and the seconds for its headers and for decoding it."""
    write_samples(folder, pairs=3, size=size, target=["happy"])
    paths = sorted(folder.rglob("*.png"))
    return {
        "bytes": 2 * statistics.mean(path.stat().st_size for path in paths),
        "header": 2 * seconds(lambda: [read_header(path) for path in paths]) / len(paths),
        "decode": 2 * seconds(lambda: [read_image(path) for path in paths]) / len(paths),
    }


def registering(folder: Path) -> float:
    """Return the seconds that a pair takes to be registered and moved into its frame."""
    pairs = find_pairs(folder)
    image_format = common_format(pairs, Report())[1]
    templates = make_templates(pairs.subjects, image_format, 1, Report())
    images = [
        (read_image(subject.source).pixels, read_image(subject.targets["happy"]).pixels)
        for subject in pairs.subjects
    ]
    work = [partial(framed_arrays, x, {"happy": t}, templates) for x, t in images]
    return seconds(lambda: [each() for each in work]) / len(work)


def pairing(folder: Path, subjects: int = 2000) -> dict[str, float]:
    """Return the seconds and bytes that finding a pair takes."""
    pixel = np.zeros((1, 1, 3), np.uint8)
    for subject in range(subjects):
        for name in ("neutral", "happy"):
            write_image(folder / name / f"{subject:07}.png", pixel)
    took = seconds(lambda: find_pairs(folder))
    tracemalloc.start()
    pairs = find_pairs(folder)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"find": took / len(pairs), "held": held / len(pairs)}


def summing(name: str, size: int) -> dict[str, float]:
    """Return the seconds to sum up a pair, and to add up a byte of sums."""
    layout = recipe(name, {}).layout((3, size, size))
    count = 512 // (3 // layout.channels(3))  # a whole batch of samples
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, ROWS, size, 3), np.uint8)
    targets = {"happy": images[::-1].copy()}
    sums = statistics_of_arrays(images, targets, layout)
    took = seconds(lambda: statistics_of_arrays(images, targets, layout))
    adding = seconds(lambda: sums + sums)
    return {
        "sum": took / count * size / ROWS,
        "add": adding / sums.nbytes,
        "bytes": (4 * planes(layout) + 8 * style_planes(name)) * size * size,
        "planes": planes(layout) + style_planes(name),
    }


def solving(name: str, folder: Path) -> float:
    """Return the seconds to fit a pixel of a model of one expression."""
    from mlr.training.train import gather

    folds = gather(folder, recipe=name)
    made = recipe(name, {})
    return seconds(lambda: made.fit(folds, Report()), 1) / SMALL**2


def sending(megabytes: int = 200) -> float:
    """Return the seconds for a byte from one worker here to another."""
    with engine("local:2", Report()) as two:
        assert two is not None
        client = two._workers.client
        one, other = list(client.nthreads())

        def once() -> None:
            made = client.submit(_numbers, megabytes << 18, workers=[one], pure=False)
            client.submit(_length, made, workers=[one], pure=False).result()
            start = time.perf_counter()
            client.submit(_length, made, workers=[other], pure=False).result()
            times.append(time.perf_counter() - start)

        times: list[float] = []
        for _ in range(3):
            once()
    return statistics.median(times) / (megabytes << 20)


def _numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


def _length(numbers: np.ndarray) -> int:
    return len(numbers)


def lines(size: int, pairs: int, folder: Path) -> list[str]:
    """Return the tables."""
    found = describe(1)
    with limited(1):
        image, pair = files(folder / "faces", size), pairing(folder / "many")
        register = registering(folder / "faces")
        write_samples(folder / "small", pairs=40, size=SMALL, target=["happy"])
        sums = {name: summing(name, size) for name in ("paper", "best")}
        solve = {name: solving(name, folder / "small") for name in sums}
    send = sending()
    million = f"{pairs:,} pairs"
    text = [
        "# Costs",
        "",
        "Made by `python benchmarks/scale.py --write`; explained in `docs/scale.md`.",
        "",
        f"{found['processor']}, one thread, Python {found['python']}, NumPy {found['numpy']};",
        f"drawn colour pairs of {size} px, PNG, one expression.",
        "",
        f"| what | for a pair | for {million} |",
        "|---|---|---|",
    ]

    def row(what: str, each: str, all_: str) -> None:
        text.append(f"| {what} | {each} | {all_} |")

    def timed(what: str, each: float) -> None:
        row(what, f"{1000 * each:.3g} ms", f"{each * pairs / HOUR:.3g} hours")

    timed("finding the pairs, on the client", pair["find"])
    row("holding them", f"{pair['held']:.0f} bytes", f"{pair['held'] * pairs / 1e9:.2g} GB")
    timed("reading both headers, on the client", image["header"])
    row("files", f"{image['bytes'] / 1e6:.2f} MB", f"{image['bytes'] * pairs / 1e12:.2g} TB")
    row("pixels", f"{6 * size**2 / 1e6:.2f} MB", f"{6 * size**2 * pairs / 1e12:.2g} TB")
    timed("decoding, a thread", image["decode"])
    timed("best: registering, a thread", register)
    for name, each in sums.items():
        timed(f"{name}: summing up, a thread", each["sum"])
    text += [
        "",
        f"One worker hands {1e-9 / send:.2g} GB a second to another on this machine.",
        "",
        "| recipe | planes | sums of a shard | of all folds | adding two | sending one | solving |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in sums.items():
        folds = recipe(name, {}).folds
        cells = [
            name,
            f"{each['planes']:.0f}",
            f"{each['bytes'] / 1e9:.2f} GB",
            f"{folds * each['bytes'] / 1e9:.2f} GB",
            f"{each['add'] * each['bytes']:.2g} s",
            f"{send * each['bytes']:.2g} s",
            f"{solve[name] * size**2 / HOUR:.2g} hours",
        ]
        text.append(f"| {' | '.join(cells)} |")
    text += ["", f"Solving is that of {SMALL} px, by the pixel."]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlr-scale-") as name:
        text = lines(options.size, options.pairs, Path(name))
    print("\n".join(text))
    if options.write:
        RESULTS.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
