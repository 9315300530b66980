"""Measure what shards and processes cost: against one process, and for each shard.

    python benchmarks/shards.py [--pairs 2000] [--size 256] [--repeat 3] [--only whole] [--write]

First, `mlr train` on drawn colour pairs, at once and with ``--cluster local:2``, in turn, for both
recipes: medians of the wall clock, and whether the model files agree. Then 500 small pairs cut into
10 to 500 shards, for two processes that are there already: what a shard takes besides the work,
which is the same each time. Last, the most memory that the client, with the scheduler, and the
workers ever hold in a run with ``--memory`` on images whose sums are larger, beyond what they hold
on a few small images. Memory is what the system says a process has for itself; pages of files,
which it takes back as it likes, are not in it. ``--write`` renews ``benchmarks/results/shards.md``
and ``.png``.
Needs ``mlr[cluster]``, and mlr[plot] for the picture.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from mlr.bench.machine import describe
from mlr.utils.threads import thread_count

RESULTS = Path(__file__).parent / "results" / "shards.md"
PEOPLE = 500
SHARDS = (10, 25, 50, 100, 250, 500)
MEMORY_PEOPLE = 48
MEMORY = (("paper", 512, 30_000_000), ("paper", 1024, 60_000_000), ("best", 128, 330_000_000))


def mlr(*words: object) -> float:
    """Run the program; return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mlr", *map(str, words), "-q"], check=True)
    return time.perf_counter() - start


def whole(folder: Path, data: Path, recipe: str, repeat: int) -> list[str]:
    """Return a line of the first table."""
    times: dict[str, list[float]] = {"plain": [], "cluster": []}
    models = {name: folder / f"{name}.npz" for name in times}
    for _ in range(repeat):
        for name, more in {"plain": [], "cluster": ["--cluster", "local:2"]}.items():
            train = ["train", data, "-o", models[name], "--force", "--recipe", recipe]
            times[name].append(mlr(*train, *more))
    same = models["plain"].read_bytes() == models["cluster"].read_bytes()
    plain, cluster = (statistics.median(times[name]) for name in times)
    ratios = [b / a for a, b in zip(times["plain"], times["cluster"], strict=True)]
    return [
        recipe,
        f"{plain:.1f} s",
        f"{cluster:.1f} s",
        f"{statistics.median(ratios):.2f}",
        "the same" if same else "DIFFERENT",
    ]


def each(data: Path, kept: Path, repeat: int) -> dict[str, dict[int, float]]:
    """Return the seconds that shards took, by way and number."""
    from mlr.training.engine import engine
    from mlr.training.gather import Sharding, gather_pairs

    from mlr.io.pairs import find_pairs
    from mlr.recipes.paper import Paper
    from mlr.utils.progress import Report

    pairs, recipe = find_pairs(data), Paper()
    found: dict[str, dict[int, list[float]]] = {"local:2": {}, "checkpoint": {}}

    def gathered(sharding: Sharding) -> float:
        start = time.perf_counter()
        options = {"folds": 1, "threads": None, "report": Report(), "sharding": sharding}
        sums = gather_pairs(pairs, recipe.layout, **options)
        list(sums.each(_nothing, sums.bands(lambda rows: 0)))  # until they are there
        return time.perf_counter() - start

    with engine("local:2", Report()) as two:
        gathered(Sharding(None, PEOPLE, two))  # the first time loads the kernels
        for number in range(repeat):
            for count in SHARDS:
                subjects = PEOPLE // count
                took = gathered(Sharding(None, subjects, two))
                found["local:2"].setdefault(count, []).append(took)
                took = gathered(Sharding(kept / f"{number}-{count}", subjects))
                found["checkpoint"].setdefault(count, []).append(took)
    return {
        way: {count: statistics.median(times) for count, times in by_count.items()}
        for way, by_count in found.items()
    }


def memory(folder: Path, recipe: str, size: int, amount: int) -> list[str]:
    """Return a line of the table of memory."""
    most = []
    for place, side in (("few", 32), ("large", size)):
        data, model = folder / f"{recipe}-{size}-{place}", folder / "m.npz"
        mlr("sample", data, "--pairs", MEMORY_PEOPLE, "--size", side, "--target", "happy")
        train = ["train", data, "-o", model, "--force", "--recipe", recipe, "--memory", amount]
        if place == "large":
            mlr(*train)
            plain = model.read_bytes()
        most.append(most_memory(*train, "--cluster", "local:2", "--shard", MEMORY_PEOPLE // 8))
    same = model.read_bytes() == plain
    client, worker = (large - few for few, large in zip(*most, strict=True))
    return [
        recipe,
        f"{size} px",
        f"{sums_bytes(recipe, size) / 1e6:.0f} MB",
        f"{amount / 1e6:.0f} MB",
        f"{client / 1e6:.0f} MB",
        f"{worker / 1e6:.0f} MB",
        "the same" if same else "DIFFERENT",
    ]


def sums_bytes(name: str, size: int) -> int:
    """Return the bytes that the sums of a training set take."""
    from mlr.recipes.fit import recipe

    made = recipe(name, {})
    layout = made.layout((3, size, size))
    styles = 4 * 8 * 3 if made.registers else 0
    return (4 * layout.planes(1) * layout.channels(3) + styles) * size * size * made.folds


def most_memory(*words: object) -> tuple[int, int]:
    """Run the program; return the most bytes that it and one of its workers have held."""
    process = subprocess.Popen([sys.executable, "-m", "mlr", *map(str, words), "-q"])
    most: dict[int, int] = {}
    while process.poll() is None:
        for pid in (process.pid, *children(process.pid)):
            most[pid] = max(most.get(pid, 0), own_bytes(pid))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}")
    return most.pop(process.pid), max(most.values())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found + [grandchild for child in found for grandchild in children(child)]


def own_bytes(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def _nothing(sums: object, band: object) -> None:
    """Do nothing with a band."""


def draw(found: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the time over the number of shards, and that of a further shard."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for way, times in found.items():
        counts = sorted(times)
        left.plot(counts, [times[n] for n in counts], "o-", label=way)
        right.plot(counts[1:], [1000 * further(times, n) for n in counts[1:]], "o-", label=way)
    left.set(xlabel="shards", ylabel="seconds", title=f"{PEOPLE} pairs", ylim=(0, None))
    right.set(xlabel="shards", ylabel="ms", title="for each further shard", ylim=(0, None))
    left.legend(frameon=False)
    figure.savefig(path, dpi=100)


def further(times: dict[int, float], count: int) -> float:
    """Return the seconds for each shard beyond the fewest."""
    fewest = min(times)
    return (times[count] - times[fewest]) / (count - fewest)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["whole", "each", "memory"])
    parser.add_argument("--data", type=Path, help="folder drawn before, as this does")
    parser.add_argument("--recipes", nargs="*", default=["paper", "best"])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = describe(thread_count())
    lines = [
        "# Shards and processes",
        "",
        "Made by `python benchmarks/shards.py --write`.",
        "",
        f"{found['processor']}, {found['usable_processors']} processors, Python {found['python']}, "
        f"NumPy {found['numpy']}, Dask {version('dask')}.",
    ]
    with tempfile.TemporaryDirectory(prefix="mlr-shards-") as name:
        folder = Path(name)
        if options.only in (None, "whole"):
            data = options.data or folder / "data"
            if options.data is None:
                drawn = ["--pairs", options.pairs, "--size", options.size, "--target", "happy"]
                mlr("sample", data, *drawn)
            title = f"{options.pairs} drawn colour pairs of {options.size} px, medians of "
            lines += ["", f"`mlr train`, {title}{options.repeat} runs:", ""]
            lines += ["| recipe | at once | `--cluster local:2` | ratio | model files |"]
            lines += ["|---|---|---|---|---|"]
            for recipe in options.recipes:
                cells = whole(folder, data, recipe, options.repeat)
                lines.append(f"| {' | '.join(cells)} |")
                print(lines[-1], flush=True)
        if options.only in (None, "each"):
            data = folder / "small"
            mlr("sample", data, "--pairs", PEOPLE, "--size", 64, "--target", "happy")
            took = each(data, folder / "kept", options.repeat)
            lines += ["", f"{PEOPLE} drawn pairs of 64 px, recipe paper, cut into more and more"]
            lines += ["shards: seconds, and milliseconds for each shard beyond the first 10.", ""]
            lines += ["| shards | local:2 | each further | `--checkpoint` | each further |"]
            lines += ["|---|---|---|---|---|"]
            for count in SHARDS:
                cells = [str(count)]
                for times in took.values():
                    more = f"{1000 * further(times, count):.1f} ms" if count > SHARDS[0] else ""
                    cells += [f"{times[count]:.2f} s", more]
                lines.append(f"| {' | '.join(cells)} |")
                print(lines[-1], flush=True)
            if options.write:
                draw(took, RESULTS.with_suffix(".png"))
            lines += ["", "![Seconds over the number of shards](shards.png)"]
        if options.only in (None, "memory"):
            lines += ["", f"{MEMORY_PEOPLE} drawn colour pairs, `--cluster local:2` with about "]
            lines[-1] += "the least `--memory` it takes: the most"
            lines += ["that a process had for itself, beyond the same on pairs of 32 px.", ""]
            lines += ["| recipe | images | all sums | `--memory` | client | worker | model files |"]
            lines += ["|---|---|---|---|---|---|---|"]
            for recipe, size, amount in MEMORY:
                lines.append(f"| {' | '.join(memory(folder, recipe, size, amount))} |")
                print(lines[-1], flush=True)
    if options.write:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
