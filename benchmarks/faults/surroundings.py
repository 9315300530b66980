"""Unusual environments: streams, masks, times, encodings, folders."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.faults.campaign import ALL, FOREIGN, ROOT, Campaign, Run, Task, Trial, case


@case
def odd_surroundings(campaign: Campaign) -> Iterator[Trial]:
    """Run with closed or full streams, unusual masks, times, encodings, in a deleted folder."""
    for name, surroundings in SURROUNDINGS.items():
        for task in campaign.take(ALL, len(campaign.tasks)):
            run = surroundings(campaign, task)
            trial = campaign.judge(task, run)
            yield Trial(f"{name}: {trial.outcome}", trial.wrong and f"{name}: {trial.wrong}")


def _closed(*descriptors: int) -> Callable[[Campaign, Task], Run]:
    def run(campaign: Campaign, task: Task) -> Run:
        return campaign.run(*task.arguments, preexec_fn=lambda: list(map(os.close, descriptors)))

    return run


def _with_environment(**variables: str) -> Callable[[Campaign, Task], Run]:
    return lambda campaign, task: campaign.run(*task.arguments, env=os.environ | variables)


def _with_umask(mask: int) -> Callable[[Campaign, Task], Run]:
    return lambda campaign, task: campaign.run(*task.arguments, preexec_fn=lambda: os.umask(mask))


def _with_full_stdout(campaign: Campaign, task: Task) -> Run:
    with Path("/dev/full").open("w") as full:
        return campaign.run(*task.arguments, "--json", stdout=full)


def _with_closed_pipe(campaign: Campaign, task: Task) -> Run:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        run = campaign.run(*task.arguments, "--json", stdout=pipe)
    if run.code == 1 and not FOREIGN.search(run.err):
        run.err = "mlr: (without a reader it ends silently, as usual)"
    return run


def _in_the_past(campaign: Campaign, task: Task) -> Run:
    data = campaign.folder / "data"
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        os.utime(path, [(0, 0), (2**33, 2**33)][number % 2])
    return campaign.run(*task.arguments)


def _in_a_deleted_folder(campaign: Campaign, task: Task) -> Run:
    gone = campaign.folder / "gone"
    gone.mkdir()
    code = f"import os; os.rmdir({str(gone)!r}); from mlr.cli import main; main()"
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, task.arguments)],
        cwd=gone,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return campaign.finish(process, start)


SURROUNDINGS: dict[str, Callable[[Campaign, Task], Run]] = {
    "stdin closed": _closed(0),
    "stdout closed": _closed(1),
    "stderr closed": _closed(2),
    "all streams closed": _closed(0, 1, 2),
    "stdout full": _with_full_stdout,
    "stdout without a reader": _with_closed_pipe,
    "umask 077": _with_umask(0o077),
    "umask 777": _with_umask(0o777),
    "ASCII only": _with_environment(LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
    "files of 1970 and 2242": _in_the_past,
    "another time zone": _with_environment(TZ="Pacific/Kiritimati"),
    "no home": _with_environment(HOME="/nowhere", XDG_CACHE_HOME="/nowhere"),
    "working folder deleted": _in_a_deleted_folder,
}
