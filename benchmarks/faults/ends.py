"""Faults that end the program: kills and signals at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator

from benchmarks.faults.campaign import ALL, SIGNALS, Campaign, Task, Trial, case


@case
def kill(campaign: Campaign) -> Iterator[Trial]:
    """Send `kill -9`, half at any moment, half just after a temporary file appears."""
    for number, task in enumerate(campaign.take(ALL, campaign.kills)):
        process = campaign.start(*task.arguments)
        start = time.perf_counter()
        if number % 2:
            time.sleep(campaign.random.uniform(0, task.seconds))
        else:
            while process.poll() is None and not any(task.output.rglob(".*.tmp")):
                time.sleep(0.0003)
            time.sleep(campaign.random.uniform(0, 0.005))
        process.kill()
        yield campaign.judge(task, campaign.finish(process, start), killed=True)


@case
def signals(campaign: Campaign) -> Iterator[Trial]:
    """Send SIGINT and SIGTERM at any moment: exit code 130 and 143, one line, no partial file."""
    tasks = campaign.take(ALL, 5 * campaign.trials)
    for number, task in enumerate(tasks):
        yield _signalled(campaign, task, list(SIGNALS)[number % 2], task.seconds)


def _signalled(campaign: Campaign, task: Task, number: signal.Signals, longest: float) -> Trial:
    """Send a signal at a random moment, and judge the run."""
    moment = campaign.random.uniform(0.0, longest)
    start = time.perf_counter()
    process = campaign.start(*task.arguments)
    time.sleep(moment)
    process.send_signal(number)
    sent = time.perf_counter()
    run = campaign.finish(process, start)
    took = time.perf_counter() - sent
    code, line = SIGNALS[number]
    starting = "KeyboardInterrupt" in run.err and "mlr" not in run.err  # no file of ours
    if starting:  # Python has not started the program yet
        run.err, run.code = "", -number
    plain = run.code == -number  # a shell reports the same, and no file needs to be removed
    run.code = code if plain else run.code
    trial = campaign.judge(task, run)
    if run.code == code and not plain and [t for t in run.err.splitlines() if t][-1:] != [line]:
        trial.wrong = trial.wrong or f"{task.name}: wrote {run.err!r}"
    if took > 5:
        trial.wrong = trial.wrong or f"{task.name}: took {took:.1f} s to end"
    if trial.wrong:
        trial.wrong += f" ({number.name} at {moment:.2f} s)"
    if plain:
        trial.outcome = f"ended by {number.name} before or after the program"
    return trial


@case
def signals_while_compiling(campaign: Campaign) -> Iterator[Trial]:
    """Send SIGINT, SIGTERM and SIGKILL while kernels compile; the cache must stay usable."""
    cache = campaign.folder / "cache"
    surroundings = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    task = campaign.tasks["train"]
    for round_ in range(max(1, campaign.trials // 10)):
        shutil.rmtree(cache, ignore_errors=True)
        for number in (*SIGNALS, signal.SIGKILL):
            task.restore()
            start = time.perf_counter()
            process = campaign.start(*task.arguments, env=surroundings)
            time.sleep(1 + campaign.random.uniform(0, 8))
            process.send_signal(number)
            sent = time.perf_counter()
            trial = campaign.judge(
                task, campaign.finish(process, start), killed=number == signal.SIGKILL
            )
            took = time.perf_counter() - sent
            if took > 10:
                trial.wrong = trial.wrong or f"took {took:.1f} s to end"
            yield trial
        task.restore()
        after = campaign.run(*task.arguments, env=surroundings)
        yield campaign.judge(task, after)
        if round_ == 0:
            again = campaign.run("warmup", "--json", env=surroundings)
            yield Trial("the cache is usable", "" if again.code == 0 else again.err)
