"""Faults of checkpoints and clusters: of the trainer, workers and scheduler."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.faults.campaign import ROOT, SIGNALS, Campaign, Trial, case, contents


@case
def runs_go_on(campaign: Campaign) -> Iterator[Trial]:
    """End runs with a checkpoint repeatedly, by all signals, until one finishes."""
    signals = [signal.SIGKILL, *SIGNALS]
    for number, task in enumerate(campaign.take("checkpoint cluster", campaign.trials)):
        kept = task.output / "kept"
        ended, wrong = 0, ""
        before: dict[str, bytes] = {}
        while not wrong:
            start = time.perf_counter()
            process = campaign.start(*task.arguments)
            if ended < 3:
                wait = campaign.random.uniform(0.3, 1.0) * task.seconds
                with suppress(subprocess.TimeoutExpired):
                    process.wait(wait)
                process.send_signal(signals[(number + ended) % 3])
            run = campaign.finish(process, start)
            wrong = campaign.judge(task, run, killed=True).wrong
            now = {n: d for n, d in contents(kept).items() if n.startswith("shard-")}
            if lost := before.keys() - now.keys():
                wrong = wrong or f"{task.name}: {sorted(lost)[0]} is gone"
            before = now
            ended += 1
            if run.code == 0:
                break
        yield Trial(f"{task.name}: done after {ended - 1} ends", wrong)


@case
def deaths_in_a_cluster(campaign: Campaign) -> Iterator[Trial]:
    """Send `kill -9` at any moment to the trainer, one worker, both, or the scheduler.

    Local workers have the trainer as their scheduler.
    """
    if "cluster" not in campaign.tasks:
        yield Trial("skipped: needs the extra cluster")
        return
    task = campaign.tasks["cluster"]
    for number in range(campaign.kills // 2):
        task.restore()
        with _cluster(number % 2 == 0) as (address, victims):
            arguments = [a if a != "local:2" else address for a in task.arguments]
            start = time.perf_counter()
            process = campaign.start(*arguments)
            victim = ["trainer", "worker", "scheduler", "both workers"][number // 2 % 4]
            moment = campaign.random.uniform(0.2, 1.0) * task.seconds
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            there = victims(process.pid)
            targets = {
                "trainer": [process.pid],
                "worker": there["workers"][:1],
                "both workers": there["workers"],
                "scheduler": there["scheduler"],
            }
            for pid in targets[victim]:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            run = campaign.finish(process, start)
            trial = campaign.judge(task, run, killed=True)
            left = still_there(there["workers"]) if address == "local:2" else []
        if not trial.wrong and left:
            trial.wrong = f"processes {left} outlive the program"
        if not trial.wrong and run.code != 0:  # finished shards are still used
            after = [a for a in task.arguments if a not in ("--cluster", "local:2")]
            trial.wrong = campaign.judge(task, campaign.run(*after)).wrong
        where = "local" if address == "local:2" else "tcp"
        yield Trial(f"{where}, {victim}: {trial.outcome}", trial.wrong)


@case
def workers_hang(campaign: Campaign) -> Iterator[Trial]:
    """Stop a worker without ending it: others take its tasks, unless it has not started."""
    if "cluster" not in campaign.tasks:
        yield Trial("skipped: needs the extra cluster")
        return
    task = campaign.tasks["cluster"]
    quick = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"}
    for _ in range(campaign.trials // 2):
        task.restore()
        start = time.perf_counter()
        process = campaign.start(*task.arguments, env=quick)
        workers: list[int] = []
        while process.poll() is None and len(workers) < 2:
            time.sleep(0.01)
            workers = workers_of(process.pid)
        with suppress(subprocess.TimeoutExpired):
            process.wait(campaign.random.uniform(0, 0.7) * task.seconds)
        with suppress(OSError):
            os.kill(workers[0], signal.SIGSTOP)
        run = campaign.finish(process, start)
        for pid in workers if run.code is None else []:  # the program no longer ends them
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        trial = campaign.judge(task, run)
        if left := still_there(workers):
            trial.wrong = trial.wrong or f"workers {left} outlive the program"
        yield trial


@contextmanager
def _cluster(local: bool) -> Iterator[tuple[str, Callable[[int], dict[str, list[int]]]]]:
    """Yield an address, and a function that returns the processes of a program."""
    if local:
        yield "local:2", lambda pid: {"workers": workers_of(pid), "scheduler": [pid]}
        return
    dask = [sys.executable, "-m", "distributed.cli.dask_"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    common = ["--no-dashboard"]
    command = [*dask[:2], f"{dask[2]}scheduler", "--host", address, *common]
    started = [subprocess.Popen(command, **quiet)]
    command = [*dask[:2], f"{dask[2]}worker", address, "--nthreads", "1", "--no-nanny", *common]
    started += [subprocess.Popen(command, **quiet) for _ in range(2)]
    scheduler, *workers = [process.pid for process in started]
    try:
        yield address, lambda pid: {"workers": workers, "scheduler": [scheduler]}
    finally:
        for process in started:
            process.kill()
            process.wait()


def workers_of(pid: int) -> list[int]:
    """Return the local workers of a program."""
    return children(pid, "multiprocessing-fork")


def children(pid: int, word: str = "") -> list[int]:
    """Return the processes that a process has started and whose command holds a word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and word in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def still_there(pids: list[int], seconds: float = 20) -> list[int]:
    """Return the processes that are still running after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
