"""Measure how the time and the memory of training grow with pairs, pixels and window.

    python benchmarks/growth.py [--axis pairs pixels taps best memory] [--threads N] [--repeat 3]
        [--output benchmarks/results] [--folder FOLDER [--draw]]

Draws colour faces into a temporary folder, as BMP files, for these decode nearly as fast as they
are read. One of pairs, pixels and taps grows while the others stay; "best" is the default recipe on
larger and larger images, "memory" the same training in less and less memory. Each training runs in
a process of its own, after a small one that loads the kernels. Time is that of the processors, all
threads together, which other programs disturb less than the clock's: the median of several runs,
all of an axis in turn.
Memory is the most that the process has held, less what it held after the small training; "needed"
are the pixels of a batch, the sums and the weights, which no training can do without; the default
recipe holds the features of at most 300 subjects beside them, of 128 px, to make templates. Every
axis is kept in growth.json, so that they can be measured one at a time; growth.md and growth.png
are made of all that are there. Exponents are fitted to the three largest, and nothing is subtracted
from the time: below them it is what each file and each run cost that counts. Needs mlr[plot].
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from files import write_pairs
from mlr.core.folds import fold_of

from mlr.bench.machine import describe, optional
from mlr.core.accumulate import batch_size
from mlr.io.images import read_header
from mlr.recipes.fit import recipe as named_recipe
from mlr.utils.threads import thread_count

DRAWN = 400  # people in files of their own; more are links to these
FITTED = 3  # of the largest
TAKEN, NEEDED, LINE = "#0b6e99", "#d98c2b", "#999999"

#: What grows, on what, and the runs: value, pairs, side in pixels, window, recipe, memory.
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


def measure(folder, small, window, recipe, memory, options):
    """Return what peak.py prints."""
    chosen = {"receptive_field": window, "recipe": recipe, "memory": memory}
    script = Path(__file__).with_name("peak.py")
    arguments = [script, folder, small, json.dumps({**chosen, "threads": options.threads})]
    command = [sys.executable, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def needed(folder, pairs, window, recipe):
    """Return the bytes of a batch's pixels and of the sums, of colour images."""
    header = read_header(next((folder / "neutral").iterdir()))
    made = named_recipe(recipe, {"receptive_field": window})
    layout = made.layout((3, header.height, header.width))
    channels, plane = layout.channels(3), header.height * header.width
    folds = len({fold_of(path.stem, made.folds) for path in (folder / "neutral").iterdir()})
    pixels = 2 * channels * plane
    batch = pixels * batch_size(-(-pairs // folds) * 3 // channels, pixels, sparing=True)
    styles = 4 * 8 * 3 * plane if made.registers else 0
    return batch + folds * (4 * channels * plane * layout.planes(1) + styles)


class Folders:
    """Folders of pairs, made when they are first needed."""

    def __init__(self, home, threads):
        self.home, self.threads = home, threads
        self.small = home / "small"
        if not self.small.exists():
            write_pairs(self.small, ".bmp", 8, 24, threads)

    def of(self, pairs, size):
        """Return a folder of so many pairs of so many pixels."""
        folder = self.home / f"{pairs}-{size}"
        if not folder.exists():
            drawn = self.home / f"drawn-{size}"
            if not drawn.exists():
                write_pairs(drawn, ".bmp", min(DRAWN, max(pairs, 100)), size, self.threads)
            for expression in ("neutral", "happy"):
                (folder / expression).mkdir(parents=True)
                files = sorted((drawn / expression).iterdir())
                for n in range(pairs):
                    os.link(files[n % len(files)], folder / expression / f"{n:05}.bmp")
        return folder


def runs_of(axis, options):
    """Yield value, pairs, side, window, recipe and memory of the runs of an axis."""
    for value, pairs, size, *rest in AXES[axis][1][: options.first]:
        yield value, pairs // options.smaller, size // options.smaller, *rest


def measured(axis, folders, options):
    """Return the figures of an axis: all runs in turn, several times, and medians."""
    found = defaultdict(list)
    for _ in range(options.repeat):
        for value, pairs, size, *how in runs_of(axis, options):
            folder = folders.of(pairs, size)
            found[value].append(measure(folder, folders.small, *how, options))
    rows = []
    for value, pairs, size, window, recipe, _ in runs_of(axis, options):
        row = {key: statistics.median(r[key] for r in found[value]) for key in found[value][0]}
        least = needed(folders.of(pairs, size), pairs, window, recipe) + row["weights"]
        rows.append({"value": value, **row, "needed": least})
    machine = describe(options.threads)
    return {"what": AXES[axis][0], "rows": rows, "repeat": options.repeat, "machine": machine}


def exponent(rows, key):
    """Return the slope of a line through the logarithms of the three largest, and the line."""
    rows = sorted(rows, key=lambda row: row["value"])[-FITTED:]
    numbers = np.array([row["value"] for row in rows], float)
    values = np.array([row[key] for row in rows], float)
    if len(numbers) < 2 or values.min() <= 0:
        return math.nan, numbers, np.full(len(numbers), math.nan)
    slope, level = np.polyfit(np.log(numbers), np.log(values), 1)
    return slope, numbers, np.exp(level) * numbers**slope


def report(found):
    """Return the figures as Markdown."""
    machine = next(iter(found.values()))["machine"]
    lines = [
        "# Growth of training",
        "",
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, NumPy "
        f"{machine['numpy']}, Numba {machine['numba']}. Colour BMP files, from the files to the "
        "weights. Seconds of all processors, median of the runs; memory above that of a process "
        "that has trained on next to nothing; needed: the pixels of a batch, the sums and the "
        "weights. By `python benchmarks/growth.py`.",
    ]
    for axis, result in found.items():
        rows = sorted(result["rows"], key=lambda row: row["value"])
        lines += ["", f"| {result['what']} | seconds | MB | needed | ratio |", "|" + "---:|" * 5]
        lines += [
            f"| {row['value']} | {row['seconds']:.3f} | {row['bytes'] / 1e6:.1f} | "
            f"{row['needed'] / 1e6:.1f} | {row['bytes'] / row['needed']:.2f} |"
            for row in rows
        ]
        if axis != "memory":
            slope = exponent(rows, "seconds")[0]
            growth = exponent(rows, "bytes")[0]
            lines += ["", f"Exponents of the three largest: time {slope:.2f}, memory {growth:.2f}."]
        lines += ["", f"{result['repeat']} runs." if result["repeat"] > 1 else "One run."]
    return "\n".join(lines) + "\n"


def draw(found, path):
    """Draw time above memory, a column for each of what grows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (3.4 * len(found), 6)
    figure, axes = pyplot.subplots(2, len(found), figsize=size, layout="constrained", squeeze=False)
    for column, (axis, result) in zip(axes.T, found.items(), strict=True):
        rows = sorted(result["rows"], key=lambda row: row["value"])
        numbers = [row["value"] for row in rows]
        for ax, key, unit, label in (
            (column[0], "seconds", 1, "processor time in s"),
            (column[1], "bytes", 1e6, "memory in MB"),
        ):
            if axis != "memory":
                slope, at, line = exponent(rows, key)
                ax.loglog(at, line / unit, color=LINE, label=f"exponent {slope:.2f}")
            values = [row[key] / unit for row in rows]
            ax.loglog(numbers, values, "o", color=TAKEN, label="taken" if key == "bytes" else None)
            if key == "bytes":
                needs = [row["needed"] / unit for row in rows]
                if axis == "memory":
                    ax.loglog(numbers, numbers, "-", color=NEEDED, label="given")
                else:
                    ax.loglog(numbers, needs, "-", color=NEEDED, label="needed")
                values = values + needs if axis != "memory" else values + numbers
            ax.set_xticks(numbers, [f"{n:,}" for n in numbers], fontsize=7, rotation=30)
            ax.minorticks_off()
            ticks = nice_ticks(min(values), max(values))
            ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_ylabel(label)
            ax.grid(color="#dddddd", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
            place = "lower right" if key == "bytes" else "upper left"
            if ax.get_legend_handles_labels()[1]:
                ax.legend(frameon=False, loc=place, fontsize=8)
        column[1].set_xlabel(result["what"], fontsize=8)
    figure.savefig(path, dpi=110)


def nice_ticks(low, high):
    """Return 1, 2 and 5 times powers of ten that reach from below one number to above another."""
    low = max(low, high / 1e6, 1e-9)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.sort(np.concatenate([powers, 2 * powers, 5 * powers]))
    first, last = np.searchsorted(ticks, low, "right") - 1, np.searchsorted(ticks, high)
    return ticks[first : last + 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axis", nargs="*", choices=AXES, default=list(AXES))
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--folder", type=Path, help="keep what is drawn there for another run")
    parser.add_argument("--draw", action="store_true", help="draw, and measure nothing")
    parser.add_argument("--first", type=int, help="only so many values of each")
    parser.add_argument("--smaller", type=int, default=1, help="divide pairs and sides by this")
    options = parser.parse_args()
    if optional("matplotlib") is None:
        sys.exit("needs mlr[plot]: pip install 'mlr[plot]'")
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "growth.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folders = Folders(options.folder or Path(name), options.threads)
        for axis in options.axis:
            for _, pairs, size, *_ in runs_of(axis, options):
                folders.of(pairs, size)
            if not options.draw:
                found[axis] = measured(axis, folders, options)
                kept.write_text(json.dumps(found, indent=1) + "\n")
    if options.draw:
        return
    found = {axis: found[axis] for axis in AXES if axis in found}
    text = report(found)
    (options.output / "growth.md").write_text(text)
    draw(found, options.output / "growth.png")
    print(text, end="")


if __name__ == "__main__":
    main()
