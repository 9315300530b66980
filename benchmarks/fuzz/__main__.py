"""Feed the program with damaged, hostile and absurd input, and see that it refuses it in a line.

    python -m benchmarks.fuzz [--seed 0] [--cases 22000] [--only KIND ...] [--keep FOLDER] [--write]

Cases are made from the seed and their number alone. They run in a child process, many in a row,
with a limit to its memory; the parent learns of each, so that it can tell which one crashed or
hung, and goes on with the next. What is wrong: any exception but the program's own errors, a
message of several lines, words of a library below, a crash, more than `PATIENCE` seconds, more
memory than `MEMORY`, and a file that appears, changes or vanishes outside of the output folder.

A kind of input is a function of a `Room` and a random generator that does one case and returns what
came of it; `kind` puts it on the list. ``--keep`` saves what crashed or hung. ``--write`` renews
the lines of these kinds in ``benchmarks/results/fuzz.md``. Exit code 1 if anything was wrong.
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
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.fuzz.room import KINDS, Room, WrongError
from benchmarks.tables import rows_there

for _module in ("images", "files", "texts"):  # as in the table
    import_module(f"benchmarks.fuzz.{_module}")

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "fuzz.md"
PATIENCE = 120  # seconds that a case may take on a busy machine
START = 300  # seconds that a child may take to import and compile everything
ADDRESSES = 6 << 30  # bytes of address space that a child may have, thread stacks included
MEMORY = 2 << 30  # bytes of memory that a child may have used: an image of 178 megapixels, twice


def child(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    """Do cases in this process, and print a line of JSON for each."""
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
        lines.write(json.dumps({"begun": number}) + "\n")
        rng = random.Random(f"{seed} {name} {number}")
        room.clear()
        wrong = ""
        try:
            outcome = KINDS[name][0](room, rng)
            room.check()
        except WrongError as error:
            outcome, wrong = "wrong", str(error)
        except Exception as error:
            place = error.__traceback__
            while place and place.tb_next:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            outcome, wrong = "wrong", f"{type(error).__name__} in {where}: {str(error)[:200]}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if memory << 10 > MEMORY and memory > before:
            outcome, wrong = "wrong", wrong or f"used {memory >> 10} MiB"
        before = max(before, memory)
        line = {"number": number, "outcome": outcome, "wrong": wrong, "memory": memory >> 10}
        lines.write(json.dumps(line) + "\n")


def campaign(name: str, seed: int, count: int, folder: Path, keep: Path | None) -> dict[str, Any]:
    """Do all cases of a kind in children; return the figures."""
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
        begun, since, end = None, time.perf_counter(), ""
        while True:
            watchdog = threading.Timer(START if begun is None else PATIENCE, process.kill)
            watchdog.start()
            text = process.stdout.readline()
            late = watchdog.finished.is_set()
            watchdog.cancel()
            if not text:
                code = process.wait()
                end = f"hung for {PATIENCE} s" if late else f"crashed with {code}" if code else ""
                break
            line = json.loads(text)
            if "begun" in line:
                begun, since = line["begun"], time.perf_counter()
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
            wrong.append(f"{name} {begun}: {end}: {said!r}")
            done = (done if begun is None else begun) + 1
            if keep is not None:
                shutil.copytree(folder / "in", keep / f"{name}-{begun}", dirs_exist_ok=True)
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
    titles = [title for title in KINDS if title in rows]
    cells = [rows[title].split(" | ") for title in titles]
    cases = sum(int(cell[1]) for cell in cells)
    wrong = sum(int(cell[-1].rstrip(" |")) for cell in cells)
    lines = [
        "# Fuzzing",
        "",
        "Made by `make fuzz`. Wrong is any exception but the program's own one-line errors, a",
        f"crash, words of a library below, more than {PATIENCE} s or {MEMORY >> 20} MiB, and any",
        "change outside of the output folder.",
        "",
        f"Seed {seed}: {cases} cases, {wrong} of them wrong.",
        "",
        "| input | cases | what came of them | most memory | slowest | wrong |",
        "|---|---|---|---|---|---|",
        *(rows[title] for title in titles),
        "",
        "What the cases are:",
        "",
        *(f"- `{title}`: {KINDS[title][0].__doc__}" for title in titles),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, seed, first, count, folder = sys.argv[2:]
        child(name, int(seed), int(first), int(count), Path(folder))
        return
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=22_000)
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
            Room(room).furnish()
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
