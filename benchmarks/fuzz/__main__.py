"""Feed the program with damaged, hostile and absurd input, and check that it refuses it.

    python -m benchmarks.fuzz [--seed 0] [--cases 30000] [--only KIND ...] [--keep FOLDER] [--write]

Cases depend on the seed and their number alone. They run in a child process, many in a row, with a
memory limit; the parent learns of each, so it can name the one that crashed or hung, and goes on
with the next. Wrong are: any exception but the program's own errors, a message of several lines,
messages of libraries, a crash, more than `PATIENCE` seconds, more memory than `MEMORY`, a file that
appears, changes or disappears outside the output folder, and an input neither written nor named.

A kind of input is a function of a `Room` and a random generator that runs one case and returns its
outcome; `kind` registers it. ``--keep`` saves the input of crashes and hangs. ``--write`` renews
the rows of these kinds in ``benchmarks/results/fuzz.md``. Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.fuzz.room import KINDS, Room, WrongError
from benchmarks.tables import campaign_report, rows_there

for _module in ("images", "files", "templates", "texts", "wild"):  # as in the table
    import_module(f"benchmarks.fuzz.{_module}")

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fuzz.md"
PATIENCE = 120  # seconds that a case may take on a busy machine
START = 300  # seconds that a child may take to import and compile everything
ADDRESSES = 6 << 30  # bytes of address space that a child may have, thread stacks included
MEMORY = 2 << 30  # bytes of memory that a child may have used: an image of 178 megapixels, twice


def child(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    """Run cases in this process, and print a line of JSON for each."""
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    room = Room(folder)
    errors = os.open(room.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(errors, 2)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    warnings.simplefilter("ignore")
    import mlr.cli
    import mlr.evaluation.evaluate
    import mlr.synthesis.files  # noqa: F401 (imported before the first case, not by it)
    from mlr.training.warmup import warm_up

    warm_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + count):
        lines.write(json.dumps({"started": number}) + "\n")
        rng = random.Random(f"{seed} {name} {number}")
        room.clear()
        wrong = ""
        try:
            outcome = KINDS[name][0](room, rng)
            room.check()
        except WrongError as error:
            outcome, wrong = "wrong", str(error)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            outcome, wrong = "wrong", f"{type(error).__name__} in {where}: {str(error)[:200]}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if memory << 10 > MEMORY and memory > before:
            outcome, wrong = "wrong", wrong or f"used {memory >> 10} MiB"
        before = max(before, memory)
        line = {"number": number, "outcome": outcome, "wrong": wrong, "memory": memory >> 10}
        lines.write(json.dumps(line) + "\n")


def campaign(name: str, seed: int, count: int, folder: Path, keep: Path | None) -> dict[str, Any]:
    """Run all cases of a kind in children; return the figures."""
    outcomes, wrong, memory, done = Counter[str](), [], 0, 0
    start, slowest = time.perf_counter(), 0.0
    while done < count:
        numbers = map(str, (seed, done, count - done))
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzz", "--child", name, *numbers, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert process.stdout is not None
        started, since, end = None, time.perf_counter(), ""
        while True:
            watchdog = threading.Timer(START if started is None else PATIENCE, process.kill)
            watchdog.start()
            text = process.stdout.readline()
            late = watchdog.finished.is_set()
            watchdog.cancel()
            if not text:
                code = process.wait()
                end = f"hung for {PATIENCE} s" if late else f"crashed with {code}" if code else ""
                break
            line = json.loads(text)
            if "started" in line:
                started, since = line["started"], time.perf_counter()
                continue
            slowest = max(slowest, time.perf_counter() - since)
            memory = max(memory, line["memory"])
            outcomes[line["outcome"]] += 1
            done = line["number"] + 1
            if line["wrong"]:
                wrong.append(f"{name} {line['number']}: {line['wrong']}")
        if end:
            said = Path(folder / "errors").read_text(errors="replace")[:600]
            outcomes["wrong"] += 1
            wrong.append(f"{name} {started}: {end}: {said!r}")
            done = (done if started is None else started) + 1
            if keep is not None:
                shutil.copytree(folder / "in", keep / f"{name}-{started}", dirs_exist_ok=True)
    return {
        "kind": name,
        "cases": sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "wrong": wrong,
        "memory": memory,
        "slowest": slowest,
        "seconds": time.perf_counter() - start,
    }


def row(result: dict[str, Any]) -> str:
    """Return a line of the table."""
    what = "; ".join(f"{text}: {count}" for text, count in result["outcomes"].items())
    return (
        f"| {result['kind']} | {result['cases']} | {what} | {result['memory']} MiB | "
        f"{result['slowest']:.1f} s | {len(result['wrong'])} |"
    )


def report(rows: dict[str, str], seed: int) -> str:
    """Return the figures as Markdown."""
    intro = (
        "# Fuzzing\n\nMade by `make fuzz`. Wrong are: any exception but the program's own one-line "
        "errors, a crash, messages of\nlibraries, more than "
        f"{PATIENCE} s or {MEMORY >> 20} MiB, any change outside the output folder, and in trees "
        "of folders a file that is\nneither written nor named.\n\n"
        f"Seed {seed}: {{runs}} cases, {{wrong}} of them wrong."
    )
    heads = ["input", "cases", "results", "peak memory", "slowest", "wrong"]
    about = {title: function.__doc__ or "" for title, (function, _) in KINDS.items()}
    return campaign_report(intro, heads, rows, about)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, seed, first, count, folder = sys.argv[2:]
        child(name, int(seed), int(first), int(count), Path(folder))
        return
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=30_000)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="kinds at a time")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    shares = sum(KINDS[name][1] for name in options.only)
    with (
        tempfile.TemporaryDirectory(prefix="mlr-fuzz-") as folder,
        ThreadPoolExecutor(options.jobs) as pool,
    ):

        def run(name: str) -> dict[str, Any]:
            room = Path(folder) / name / "room"
            room.mkdir(parents=True)
            Room(room).furnish(registered=name == "templates")
            count = -(-options.cases * KINDS[name][1] // shares)
            result = campaign(name, options.seed, count, room, options.keep)
            for line in result["wrong"]:
                print(f"WRONG {line}", flush=True)
            return result

        results = list(pool.map(run, options.only))
    rows = {result["kind"]: row(result) for result in results}
    print(report(rows, options.seed))
    if options.write:
        RESULTS.write_text(report(rows_there(RESULTS, KINDS) | rows, options.seed))
    sys.exit(any(result["wrong"] for result in results))


if __name__ == "__main__":
    main()
