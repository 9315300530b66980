"""Measure how the time and the memory of training grow with pairs, pixels and window.

    python benchmarks/growth.py [--pairs 50 100 200 400 800] [--sizes 64 128 256 512]
        [--windows 1 3 5 7 9] [--threads N] [--repeat 3] [--output benchmarks/results]

Draws colour faces into a temporary folder, as BMP files, for these decode nearly as fast as they
are read. One of the three numbers grows while the others stay in the middle of their lists; a
window of 3 goes with the first two. Each training runs in a process of its own, after a small one
that loads the kernels. Time is that of the processors, all threads together, which other programs
disturb less than the clock's: the median of several runs. Memory is the most that the process has
held, less what it held after the small training. Writes the figures, with the exponents that fit
the three largest, to growth.md, and draws them to growth.png. Needs mlr[plot].
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from files import write_pairs

from mlr.bench.machine import describe, optional, peak_memory
from mlr.threads import thread_count
from mlr.training import train

WINDOW = 3
TAKEN = "#0b6e99"
LINE = "#999999"
FITTED = 3  # of the largest


def run(folder, small, window, threads, repeat):
    """Train on the images in a folder; print seconds of processors, and bytes."""
    train(small, receptive_field=window, threads=threads)
    before = peak()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        train(folder, receptive_field=window, threads=threads)
        times.append(time.process_time() - start)
    print(json.dumps({"seconds": statistics.median(times), "bytes": peak() - before}))


def peak():
    """Return the most bytes that this program has held in this process.

    What `resource` tells includes the process that started it, as it was at that moment.
    """
    status = Path("/proc/self/status")
    if not status.exists():  # not on Linux
        return peak_memory()
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


def measure(folder, small, window, options):
    """Return what `run` prints in a process of its own."""
    arguments = [folder, small, window, options.threads, options.repeat]
    command = [sys.executable, __file__, "--run", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def first_pairs(folder, count, target):
    """Link the first people of a folder into another one; return it."""
    for expression in folder.iterdir():
        (target / expression.name).mkdir(parents=True)
        for path in sorted(expression.iterdir())[:count]:
            os.link(path, target / expression.name / path.name)
    return target


def sweeps(options):
    """Yield what grows, and the results by its values."""
    pairs, size = middle(options.pairs), middle(options.sizes)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        small = home / "small"
        write_pairs(small, ".bmp", 2, 16, options.threads)
        everyone = home / "all"
        write_pairs(everyone, ".bmp", max(options.pairs), size, options.threads)
        folders = {n: first_pairs(everyone, n, home / f"pairs-{n}") for n in options.pairs}
        by_pairs = {n: measure(folders[n], small, WINDOW, options) for n in options.pairs}
        yield f"pairs of {size} px, {WINDOW}x{WINDOW}", by_pairs
        by_pixels = {size * size: by_pairs[pairs]}
        for side in options.sizes:
            if side != size:
                folder = home / f"size-{side}"
                write_pairs(folder, ".bmp", pairs, side, options.threads)
                by_pixels[side * side] = measure(folder, small, WINDOW, options)
        yield f"pixels of each image, {pairs} pairs, {WINDOW}x{WINDOW}", by_pixels
        by_taps = {WINDOW * WINDOW: by_pairs[pairs]}
        for side in options.windows:
            if side != WINDOW:
                by_taps[side * side] = measure(folders[pairs], small, side, options)
        yield f"taps, {pairs} pairs of {size} px", by_taps


def middle(values):
    return sorted(values)[(len(values) - 1) // 2]


def exponent(results, key):
    """Return the slope of a line through the logarithms of the three largest, and the line.

    Where images are small or few, what each file or each run costs hides what grows.
    """
    numbers = np.array(sorted(results)[-FITTED:], float)
    values = np.array([results[int(n)][key] for n in numbers])
    if len(numbers) < 2 or values.min() <= 0:
        return np.nan, numbers, np.full(len(numbers), np.nan)
    slope, level = np.polyfit(np.log(numbers), np.log(values), 1)
    return slope, numbers, np.exp(level) * numbers**slope


def report(found, options):
    """Return the figures as Markdown."""
    machine = describe(options.threads)
    lines = [
        "# Growth of training",
        "",
        f"{machine['processor']}, {machine['threads']} threads, Python {machine['python']}, NumPy "
        f"{machine['numpy']}, Numba {machine['numba']}. Colour BMP files, from the files to the "
        f"weights. Seconds of all processors, median of {options.repeat} runs; memory above that "
        "of a process that has trained on next to nothing.",
    ]
    for what, results in found:
        time_slope, memory_slope = (exponent(results, key)[0] for key in ("seconds", "bytes"))
        lines += ["", f"| {what} | seconds | MB |", "|---:|---:|---:|"]
        lines += [
            f"| {number} | {result['seconds']:.3f} | {result['bytes'] / 1e6:.1f} |"
            for number, result in sorted(results.items())
        ]
        lines += [
            "",
            f"Exponents of the three largest: time {time_slope:.2f}, memory {memory_slope:.2f}.",
        ]
    return "\n".join(lines) + "\n"


def draw(found, path):
    """Draw time above memory, a column for each of what grows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(found), figsize=(10.5, 6), layout="constrained")
    rows = (("seconds", 1, "processor time in s"), ("bytes", 1e6, "memory in MB"))
    for column, (what, results) in zip(axes.T, found, strict=True):
        numbers = sorted(results)
        for ax, (key, unit, label) in zip(column, rows, strict=True):
            slope, at, line = exponent(results, key)
            ax.loglog(at, line / unit, color=LINE, label=f"exponent {slope:.2f}")
            values = [results[n][key] / unit for n in numbers]
            ax.loglog(numbers, values, "o", color=TAKEN)
            ax.set_xticks(numbers, [f"{n:,}" for n in numbers], fontsize=8)
            ax.minorticks_off()
            ticks = nice_ticks(min(values), max(values))
            ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_ylabel(label)
            ax.grid(color="#dddddd", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
            ax.legend(frameon=False, loc="upper left")
        column[1].set_xlabel(what)
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
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 100, 200, 400, 800])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 3, 5, 7, 9])
    parser.add_argument("--threads", type=int, default=thread_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        folder, small, *numbers = options.run
        run(Path(folder), Path(small), *map(int, numbers))
        return
    if optional("matplotlib") is None:
        sys.exit("needs mlr[plot]: pip install 'mlr[plot]'")
    found = list(sweeps(options))
    options.output.mkdir(parents=True, exist_ok=True)
    text = report(found, options)
    (options.output / "growth.md").write_text(text)
    draw(found, options.output / "growth.png")
    print(text, end="")


if __name__ == "__main__":
    main()
