"""Measure how the time and the memory of training grow with pairs, pixels and window.

    python -m benchmarks.growth [--axis pairs pixels taps best memory] [--threads N] [--repeat 3]
        [--output benchmarks/results]

Draws colour faces into a temporary folder, as BMP files, which decode nearly as fast as they are
read. One of pairs, pixels and taps grows while the others stay; "best" is the recipe best on larger
and larger images, "memory" the same training with less and less memory. Each training runs in a
process of its own. Time is processor time of all threads, which other programs affect less than
elapsed time: the median of several runs, all of an axis in turn. Memory is the peak above that of a
process that has trained on a few small images; "needed" are the pixels of a mini-batch, the
statistics and the weights (the recipe best also holds the features of up to 300 subjects while it
makes templates). Exponents are fitted to the three largest. Every axis is kept in growth.json, so
that axes can be measured one at a time; growth.md and growth.png show all of them. Needs the extra
plot.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.tables import machine, table
from mlr.core.accumulate import batch_size
from mlr.io.images import write_image
from mlr.recipes.fit import recipe as named_recipe
from mlr.samples import draw_face
from mlr.utils.threads import thread_count

ROOT = Path(__file__).parent.parent
DRAWN = 24  # subjects; the others are these with another exposure and noise
WRITTEN = 400  # subjects with files of their own; the others are links to these
FITTED = 3  # of the largest
TAKEN, NEEDED, LINE = "#0b6e99", "#d98c2b", "#999999"

#: What grows, its title, and the runs: value, pairs, side in pixels, window, recipe, memory.
AXES = {
    "pairs": ("pairs of 128 px, 3x3", [(n, n, 128, 3, "paper", None) for n in
                                       (200, 400, 800, 1600, 3200, 6400)]),
    "pixels": ("pixels of each image, 100 pairs, 3x3", [(s * s, 100, s, 3, "paper", None) for s in
                                                        (64, 128, 256, 512, 1024)]),
    "taps": ("taps, 200 pairs of 128 px", [(w * w, 200, 128, w, "paper", None) for w in
                                           (1, 3, 5, 7, 9, 11)]),
    "best": ("pixels of each image, 80 pairs, recipe best", [(s * s, 80, s, None, "best", None) for
                                                             s in (64, 96, 128, 192, 256, 384)]),
    "memory": ("MB given, 200 pairs of 512 px, 5x5", [(m, 200, 512, 5, "paper", m * 10**6) for m in
                                                      (1000, 500, 250, 125, 60)]),
}  # fmt: skip


def write_pairs(folder, pairs, size, threads):
    """Write expression folders of BMP files, all after the first `WRITTEN` as links."""

    def write(expression, subject):
        path = folder / expression / f"{subject:05}.bmp"
        if subject >= WRITTEN:
            os.link(path.with_name(f"{subject % WRITTEN:05}.bmp"), path)
            return
        rng = np.random.default_rng(subject)
        gain, offset = rng.uniform(0.8, 1.1), rng.uniform(-10, 20)
        face = faces[expression, subject % DRAWN] * gain + offset
        pixels = np.clip(np.rint(face + rng.normal(0, 1, face.shape)), 0, 255).astype(np.uint8)
        write_image(path, pixels)

    faces = {
        (expression, subject): draw_face(0, subject, expression, size).astype(np.float32)
        for expression in ("neutral", "happy")
        for subject in range(min(DRAWN, pairs))
    }
    for subjects in (range(min(WRITTEN, pairs)), range(WRITTEN, pairs)):
        with ThreadPoolExecutor(threads) as pool:
            for expression in ("neutral", "happy"):
                list(pool.map(lambda n, e=expression: write(e, n), subjects))


def folder_of(home, pairs, size, threads):
    """Return a folder of pairs, drawn when it is first needed."""
    folder = home / f"{pairs}-{size}"
    if not folder.exists():
        write_pairs(folder, pairs, size, threads)
    return folder


def needed(pairs, size, window, recipe):
    """Return the bytes of a mini-batch's pixels and of the statistics, of colour images."""
    made = named_recipe(recipe, {"receptive_field": window})
    layout, plane = made.layout(), size * size
    channels = layout.channels(3)
    sample = 2 * channels * plane  # source and target
    batch = sample * batch_size(pairs * 3 // channels, sample)
    styles = 4 * 8 * 3 * plane if made.registers else 0
    return batch + 4 * channels * plane * layout.planes(1) + styles


def measured(axis, home, options):
    """Return the figures of an axis: all runs in turn, several times, and medians."""
    runs = [
        (value, pairs // options.smaller, size // options.smaller, *how)
        for value, pairs, size, *how in AXES[axis][1][: options.first]
    ]
    found = {value: [] for value, *_ in runs}
    small = folder_of(home, 8, 24, options.threads)
    for _ in range(options.repeat):
        for value, pairs, size, window, recipe, memory in runs:
            chosen = {"receptive_field": window, "recipe": recipe, "memory": memory}
            arguments = [folder_of(home, pairs, size, options.threads), small]
            arguments.append(json.dumps(chosen | {"threads": options.threads}))
            command = [sys.executable, "-m", "benchmarks.peak", *map(str, arguments)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT)
            found[value].append(json.loads(done.stdout))
    rows = []
    for value, pairs, size, window, recipe, _ in runs:
        row = {key: statistics.median(r[key] for r in found[value]) for key in found[value][0]}
        least = needed(pairs, size, window, recipe) + row["weights"]
        rows.append({"value": value, **row, "needed": least})
    rows.sort(key=lambda row: row["value"])
    return {
        "what": AXES[axis][0],
        "rows": rows,
        "repeat": options.repeat,
        "machine": machine(options.threads),
    }


def exponent(rows, key):
    """Return the slope of a line through the logarithms of the three largest, and the line."""
    numbers = np.array([row["value"] for row in rows[-FITTED:]], float)
    values = np.array([row[key] for row in rows[-FITTED:]], float)
    if len(numbers) < 2 or values.min() <= 0:
        return math.nan, numbers, np.full(len(numbers), math.nan)
    slope, level = np.polyfit(np.log(numbers), np.log(values), 1)
    return slope, numbers, np.exp(level) * numbers**slope


def report(found):
    """Return the figures as Markdown."""
    parts = [
        "# Growth of training",
        f"{next(iter(found.values()))['machine']}. Colour BMP files, from the files to the "
        "weights. Processor time in seconds, median of the runs; peak memory above that of a "
        "process that has trained on a few small images; needed: the pixels of a mini-batch, the "
        "statistics and the weights. By `python -m benchmarks.growth`.",
    ]
    for axis, result in found.items():
        rows = [
            (
                row["value"],
                f"{row['seconds']:.3f}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['needed'] / 1e6:.1f}",
                f"{row['bytes'] / row['needed']:.2f}",
            )
            for row in result["rows"]
        ]
        parts.append(table([result["what"], "seconds", "MB", "needed", "ratio"], rows))
        runs = f"{result['repeat']} runs." if result["repeat"] > 1 else "One run."
        if axis != "memory":
            slopes = [exponent(result["rows"], key)[0] for key in ("seconds", "bytes")]
            runs += " Exponents of the three largest: time {:.2f}, memory {:.2f}.".format(*slopes)
        parts.append(runs)
    return "\n\n".join(parts) + "\n"


def draw(found, path):
    """Draw time above memory, a column for each axis."""
    figure = Figure(figsize=(3.4 * len(found), 6), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, (axis, result) in zip(axes.T, found.items(), strict=True):
        rows = result["rows"]
        numbers = [row["value"] for row in rows]
        for ax, key, unit, label in (
            (column[0], "seconds", 1, "processor time in s"),
            (column[1], "bytes", 1e6, "peak memory in MB"),
        ):
            if axis != "memory":
                slope, at, line = exponent(rows, key)
                ax.loglog(at, line / unit, color=LINE, label=f"exponent {slope:.2f}")
            ax.loglog(numbers, [row[key] / unit for row in rows], "o", color=TAKEN)
            if key == "bytes":
                given = axis == "memory"
                values = numbers if given else [row["needed"] / unit for row in rows]
                ax.loglog(numbers, values, color=NEEDED, label="given" if given else "needed")
            ax.set_xticks(numbers, [f"{n:,}" for n in numbers], fontsize=7, rotation=30)
            ax.minorticks_off()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.set_ylabel(label)
            ax.grid(color="#dddddd", linewidth=0.6)
            if ax.get_legend_handles_labels()[1]:
                ax.legend(frameon=False, fontsize=8)
        column[1].set_xlabel(result["what"], fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axis", nargs="*", choices=AXES, default=list(AXES))
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--first", type=int, help="only so many values of each axis")
    parser.add_argument("--smaller", type=int, default=1, help="divide pairs and sides by this")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "growth.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as home:
        for axis in options.axis:
            found[axis] = measured(axis, Path(home), options)
            kept.write_text(json.dumps(found, indent=1) + "\n")
    found = {axis: found[axis] for axis in AXES if axis in found}
    text = report(found)
    (options.output / "growth.md").write_text(text)
    draw(found, options.output / "growth.png")
    print(text, end="")


if __name__ == "__main__":
    main()
