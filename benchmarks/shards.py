"""Measure what shards and processes cost: against one process, and for each shard.

    python -m benchmarks.shards [--pairs 2000] [--size 256] [--repeat 3] [--only whole] [--write]

First `mlr train` on drawn colour pairs, in one process and with ``--cluster local:2``, in turn, for
both recipes: medians of elapsed time, and whether the model files agree. Then 500 small pairs split
into 10 to 500 shards: the time of each further shard. Last, the peak memory of the client, with the
scheduler, and of a worker in a run with ``--memory`` on images whose statistics are larger, above
that on a few small images. It is the memory that a process does not share with files. ``--write``
renews ``benchmarks/results/shards.md``. Needs ``mlr[cluster]``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.faults.clusters import children
from benchmarks.peak import memory
from benchmarks.tables import machine, table
from mlr.utils.threads import thread_count

RESULTS = Path(__file__).parent / "results" / "shards.md"
SUBJECTS = 500
SHARDS = (10, 25, 50, 100, 250, 500)
MEMORY_SUBJECTS = 48
#: Recipe, side of the images, and about the least --memory it takes.
MEMORY = (("paper", 512, 30_000_000), ("paper", 1024, 60_000_000), ("best", 128, 330_000_000))
LOCAL = ("--cluster", "local:2")


def mlr(*words: object) -> float:
    """Run the program; return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mlr", *map(str, words), "-q"], check=True)
    return time.perf_counter() - start


def sample(folder: Path, pairs: int, size: int) -> Path:
    """Draw pairs."""
    mlr("sample", folder, "--pairs", pairs, "--size", size, "--target", "happy")
    return folder


def same(one: Path, other: Path) -> str:
    return "the same" if one.read_bytes() == other.read_bytes() else "DIFFERENT"


def whole(folder: Path, recipe: str, options: argparse.Namespace) -> list[str]:
    """Return a row of the first table."""
    data = folder / "data"
    if not data.exists():
        sample(data, options.pairs, options.size)
    runs = {folder / "plain.npz": (), folder / "cluster.npz": LOCAL}
    times: list[list[float]] = [
        [mlr("train", data, "-o", model, "--force", "--recipe", recipe, *more)
         for model, more in runs.items()]
        for _ in range(options.repeat)
    ]  # fmt: skip
    plain, cluster = map(statistics.median, zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    return [recipe, f"{plain:.1f} s", f"{cluster:.1f} s", f"{ratio:.2f}", same(*runs)]


def each(folder: Path, repeat: int) -> list[list[str]]:
    """Return the rows of the second table."""
    data = sample(folder / "small", SUBJECTS, 64)
    runs = [
        [
            [
                mlr(*train, "--shard", SUBJECTS // count, *LOCAL),
                mlr(*train, "--shard", SUBJECTS // count, "--checkpoint", folder / f"{count}-{n}"),
            ]
            for count in SHARDS
        ]
        for n in range(repeat)
        for train in [["train", data, "-o", folder / "m.npz", "--force", "--recipe", "paper"]]
    ]
    rows = []
    for k, count in enumerate(SHARDS):
        cells = [str(count)]
        for way in range(2):
            first, seconds = (statistics.median(run[i][way] for run in runs) for i in (0, k))
            more = f"{1000 * (seconds - first) / (count - SHARDS[0]):.1f} ms" if k else ""
            cells += [f"{seconds:.2f} s", more]
        rows.append(cells)
    return rows


def peaks(folder: Path, recipe: str, size: int, amount: int) -> list[str]:
    """Return a row of the table of memory."""
    held = []
    for side in (32, size):
        data, models = folder / f"{recipe}-{side}", (folder / "plain.npz", folder / "cluster.npz")
        sample(data, MEMORY_SUBJECTS, side)
        train = ["train", data, "--force", "--recipe", recipe, "--memory", amount]
        if side == size:
            mlr(*train, "-o", models[0])
        shard = ("--shard", MEMORY_SUBJECTS // 8)
        held.append(most_memory(*train, "-o", models[1], *LOCAL, *shard))
    client, worker = (f"{(large - few) / 1e6:.0f} MB" for few, large in zip(*held, strict=True))
    return [recipe, f"{size} px", f"{amount / 1e6:.0f} MB", client, worker, same(*models)]


def most_memory(*words: object) -> tuple[int, int]:
    """Run the program; return the peak memory of it and of one of its workers, in bytes."""
    process = subprocess.Popen([sys.executable, "-m", "mlr", *map(str, words), "-q"])
    most = {process.pid: 0}
    while process.poll() is None:
        for pid in (process.pid, *descendants(process.pid)):
            most[pid] = max(most.get(pid, 0), memory("RssAnon", pid) or 0)
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}")
    return most.pop(process.pid), max(most.values())


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["whole", "each", "memory"])
    parser.add_argument("--recipes", nargs="*", default=["paper", "best"])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts = [
        "# Shards and processes",
        "Made by `python -m benchmarks.shards --write`.",
        f"{machine(thread_count())}, Dask {version('dask')}.",
    ]
    with tempfile.TemporaryDirectory(prefix="mlr-shards-") as name:
        folder = Path(name)
        if options.only in (None, "whole"):
            heads = ["recipe", "one process", "`--cluster local:2`", "ratio", "model files"]
            rows = [whole(folder, recipe, options) for recipe in options.recipes]
            parts += [
                f"`mlr train`, {options.pairs} drawn colour pairs of {options.size} px, medians of "
                f"{options.repeat} runs:",
                table(heads, rows),
            ]
        if options.only in (None, "each"):
            heads = ["shards", "local:2", "each further", "`--checkpoint`", "each further"]
            parts += [
                f"`mlr train`, {SUBJECTS} drawn pairs of 64 px, recipe paper, in more and more "
                "shards: seconds, and milliseconds for each shard beyond the first 10.",
                table(heads, each(folder, options.repeat)),
            ]
        if options.only in (None, "memory"):
            heads = ["recipe", "images", "`--memory`", "client", "worker", "model files"]
            rows = [peaks(folder, *case) for case in MEMORY if case[0] in options.recipes]
            parts += [
                f"{MEMORY_SUBJECTS} drawn colour pairs, `--cluster local:2` with about the least "
                "`--memory` it takes: peak memory of a process above that for pairs of 32 px.",
                table(heads, rows),
            ]
    text = "\n\n".join(parts) + "\n"
    print(text, end="")
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
