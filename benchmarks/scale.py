"""Measure how `mlr train` scales: at once, with a checkpoint, and in two processes.

    python -m benchmarks.scale [--repeat 3] [--only growth | limit] [--folder FOLDER]
        [--write]

First, drawn colour pairs, fewer and more of them, small and large: medians of the wall-clock time
and of the time of all processors, and the most memory that the program and one of its workers have
held. The ways to train take turns. Then the same with a memory limit below the size of the
statistics. Memory is what the system says that a process has for itself (in addition to what it
holds for a few small images, where there is a limit); pages of files, which the system takes back
when it likes, do not count. Every model file is compared with that of training at once. ``--write``
renews ``benchmarks/results/scale.md``. Needs the extra ``cluster``, and Linux's /proc.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.tables import machine, table
from mlr.utils.threads import thread_count

RESULTS = Path(__file__).parent / "results" / "scale.md"
RECIPES = ("paper", "best")
WAYS = {
    "at once": [],
    "`--checkpoint`": ["--checkpoint", "kept"],
    "`--cluster local:2`": ["--cluster", "local:2"],
    "both": ["--checkpoint", "kept", "--cluster", "local:2"],
}
GROWTH = ((64, 500), (64, 2000), (1024, 50), (1024, 150))  # side in pixels, pairs
LIMIT = (768, 48, 60_000_000)  # side in pixels, pairs, bytes
FEW = (32, 8)  # what memory is compared with


@dataclass
class Run:
    """What a run took: seconds, of all processors too, and bytes of the program and a worker."""

    seconds: float
    processors: float
    program: int
    worker: int


def run(*words: object, cwd: Path | None = None) -> Run:
    """Run the program quietly, and watch it.

    Raises
    ------
    SystemExit
        If it fails.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "mlr", *map(str, words), "-q"]
    process = subprocess.Popen(command, cwd=cwd)
    most: dict[int, int] = {process.pid: 0}
    while process.poll() is None:
        for pid in (process.pid, *descendants(process.pid)):
            most[pid] = max(most.get(pid, 0), own_bytes(pid))
        time.sleep(0.005)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, used, most.pop(process.pid), max(most.values(), default=0))


def most_memory(*words: object) -> tuple[int, int]:
    """Run the program; return the most bytes that it and one of its workers have held."""
    found = run(*words)
    return found.program, found.worker


def descendants(pid: int) -> list[int]:
    """Return the child processes of a process, and their children."""
    found = []
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found + [grandchild for child in found for grandchild in descendants(child)]


def own_bytes(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def drawn(folder: Path, size: int, pairs: int) -> Path:
    """Return a folder of drawn pairs."""
    data = folder / f"{size}-{pairs}"
    if not data.exists():
        run("sample", data, "--pairs", pairs, "--size", size, "--target", "happy")
    return data


def trainings(
    data: Path, recipe: str, repeat: int, *options: object
) -> tuple[dict[str, Run], dict[str, bool]]:
    """Train in every way, in turn; return medians, and whether the model equals the first one."""
    found, models = defaultdict(list), defaultdict(set)
    for _ in range(repeat):
        for way, more in WAYS.items():
            shutil.rmtree(data.parent / "kept", ignore_errors=True)
            train = ["train", data, "-o", f"{recipe}.npz", "--force", "--recipe", recipe]
            found[way].append(run(*train, *options, *more, cwd=data.parent))
            models[way].add((data.parent / f"{recipe}.npz").read_bytes())
    medians = {
        way: Run(*(statistics.median(getattr(each, key) for each in runs) for key in vars(runs[0])))
        for way, runs in found.items()
    }
    return medians, {way: found == models["at once"] for way, found in models.items()}


def growth(folder: Path, repeat: int) -> str:
    """Return the table of time and memory."""
    rows = []
    for recipe in RECIPES:
        for size, pairs in GROWTH:
            medians, same = trainings(drawn(folder, size, pairs), recipe, repeat)
            first = medians["at once"].seconds
            for way, each in medians.items():
                cells = [f"{size} px", pairs, recipe, way, f"{each.seconds:.1f} s"]
                cells += [f"{each.seconds / first:.2f}", f"{each.processors:.1f} s"]
                cells += [megabytes(each.program), megabytes(each.worker)]
                rows.append([*cells, "the same" if same[way] else "DIFFERENT"])
                print(*rows[-1], flush=True)
    heads = ["images", "pairs", "recipe", "", "time", "ratio", "all processors", "program"]
    return table([*heads, "a worker", "model file"], rows)


def limit(folder: Path, repeat: int) -> str:
    """Return the table with a memory limit."""
    size, pairs, memory = LIMIT
    rows = []
    for recipe in RECIPES:
        options = ["--memory", memory, "--shard", pairs // 8]
        few, _ = trainings(drawn(folder, *FEW), recipe, 1, *options)
        data, file, plain = drawn(folder, size, pairs), folder / "s.npz", folder / "plain.npz"
        run("statistics", data, "-o", file, "--force", "--recipe", recipe)
        run("train", file, "-o", plain, "--force")
        medians, same = trainings(data, recipe, repeat, *options)
        same["at once"] = plain.read_bytes() == (folder / f"{recipe}.npz").read_bytes()
        for way, each in medians.items():
            cells = [recipe, megabytes(file.stat().st_size), way, f"{each.seconds:.1f} s"]
            cells += [megabytes(each.program - few[way].program)]
            cells += [megabytes(each.worker - few[way].worker)]
            rows.append([*cells, "the same" if same[way] else "DIFFERENT"])
            print(*rows[-1], flush=True)
    heads = ["recipe", "statistics", "", "time", "program", "a worker", "model file"]
    return (
        f"{pairs} pairs of {size} px, `--shard {pairs // 8}`, `--memory {memory // 10**6}MB`; the "
        f"program and a worker,\nin addition to what they hold for {FEW[1]} pairs of {FEW[0]} px:"
        f"\n\n{table(heads, rows)}"
    )


def megabytes(count: int) -> str:
    """Return bytes in MB, or nothing where there are none."""
    return f"{count / 1e6:.0f} MB" if count else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=["growth", "limit"])
    parser.add_argument("--folder", type=Path, help="keep what is drawn there for another run")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts = [
        "# Scaling",
        "Made by `python -m benchmarks.scale --write`.",
        f"{machine(thread_count())}, Dask {version('dask')}; drawn colour pairs, PNG, one "
        f"expression,\nmedians of {options.repeat} runs.",
    ]
    with tempfile.TemporaryDirectory(prefix="mlr-scale-") as name:
        folder = (options.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for part in (growth, limit):
            if options.only in (None, part.__name__):
                parts.append(part(folder, options.repeat))
    if options.write:
        RESULTS.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
