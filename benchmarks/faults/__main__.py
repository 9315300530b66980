"""Kill, starve and mislead the program, and check that nothing is lost.

    python -m benchmarks.faults [--seed 0] [--kills 120] [--trials 20] [--only NAME ...] [--write]

Every case runs the program many times in processes of its own, disturbs it, and judges the result:
each output file must be the one that existed before or the one of an undisturbed run, complete;
nothing else may change; and the messages must be lines of the program, with the right exit code.
The same seed draws the same moments, sizes and files; their effect depends on the machine.

A case is a function of a `Campaign` that yields a `Trial` for each run; `case` registers it.
Disks are mounted in a namespace of their own: without ``unshare`` those cases are skipped, with the
reason. ``--write`` renews the rows of these cases in ``benchmarks/results/faults.md``. Exit code 1
if anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

from benchmarks.faults.campaign import CASES, ROOT, Campaign
from benchmarks.tables import campaign_report, rows_there

for _module in (
    "ends",
    "templates",
    "clusters",
    "limits",
    "inputs",
    "surroundings",
):  # as in the table
    import_module(f"benchmarks.faults.{_module}")

RESULTS = ROOT / "benchmarks" / "results" / "faults.md"


def enter_namespace() -> None:
    """Restart in a namespace where disks can be mounted, if that is possible."""
    if os.environ.get("MLR_FAULTS") or not shutil.which("unshare"):
        return
    os.environ["MLR_FAULTS"] = "1"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0:
        os.execvp("unshare", ["unshare", "-rm", *sys.orig_argv])


def row(title: str, outcomes: dict[str, int], wrong: int) -> str:
    """Return a line of the table."""
    what = "; ".join(f"{text}: {count}" for text, count in sorted(outcomes.items()))
    return f"| {title} | {sum(outcomes.values())} | {what} | {wrong} |"


def report(rows: dict[str, str], seed: int) -> str:
    """Return the figures as Markdown."""
    intro = (
        "# Faults\n\nMade by `make faults`. After every fault each output must be the file that "
        "existed before or that of\nan undisturbed run, complete, and the program has to report "
        f"what happened.\n\nSeed {seed}: {{runs}} runs, {{wrong}} of them wrong."
    )
    about = {title: (function.__doc__ or "").splitlines()[0] for title, function in CASES.items()}
    return campaign_report(intro, ["case", "runs", "results", "wrong"], rows, about)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it behind "&"
    enter_namespace()
    rows, lost = rows_there(RESULTS, CASES) if options.write else {}, 0
    with tempfile.TemporaryDirectory(prefix="mlr-faults-") as name:
        campaign = Campaign(Path(name), options.seed, options.kills, options.trials)
        for title in options.only:
            campaign.random = random.Random(f"{options.seed} {title}")
            start = time.perf_counter()
            outcomes, wrong = Counter[str](), list[str]()
            for trial in CASES[title](campaign):
                outcomes[trial.outcome] += 1
                if trial.wrong:
                    wrong.append(trial.wrong)
                    print(f"WRONG {title}: {trial.wrong}", flush=True)
            lost += len(wrong)
            rows[title] = row(title, outcomes, len(wrong))
            print(f"{rows[title]} {time.perf_counter() - start:.0f} s", flush=True)
            if options.write:
                RESULTS.write_text(
                    report(rows_there(RESULTS, CASES) | {title: rows[title]}, options.seed)
                )
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
