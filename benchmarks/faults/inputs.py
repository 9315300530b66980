"""Inputs that change while they are read, or are not what their names say."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.campaign import Campaign, Run, Trial, case, wrong_message
from benchmarks.faults.limits import limited


@case
def inputs_change(campaign: Campaign) -> Iterator[Trial]:
    """Train while an image disappears, changes, is truncated or becomes a pipe.

    The model must be that of the data before, of the data with the other image, or, if the file is
    named as skipped, of the data without it.
    """
    good = campaign.data / "happy" / "000.png"
    for number in range(2 * campaign.trials):
        data = campaign.folder / "changing"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(campaign.data, data)
        victim = data / campaign.random.choice(["neutral", "happy"]) / "017.png"
        fault = ["disappears", "changes", "is truncated", "is a pipe"][number % 4]
        model = campaign.folder / "changed.npz"
        start = time.perf_counter()
        process = campaign.start("train", data, "-o", model, "--force")
        while process.poll() is None and not _has_open(process.pid, data):
            time.sleep(0.0003)
        time.sleep(campaign.random.uniform(0, 0.1))
        if fault == "disappears":
            victim.unlink()
        elif fault == "changes":
            shutil.copy(good, victim)
        elif fault == "is truncated":
            os.truncate(victim, campaign.random.randint(0, victim.stat().st_size - 1))
        else:
            victim.unlink()
            os.mkfifo(victim)
        run = campaign.finish(process, start)
        wrong = wrong_message(run)
        if not wrong:
            wrong = _not_a_model_of(campaign, data, victim, model, run)
        named = "named" if victim.name in run.err else "not met"
        yield Trial(f"a file {fault}: {named}", wrong and f"{fault}: {wrong}")


def _has_open(pid: int, folder: Path) -> bool:
    """Return whether a process has a file of a folder open."""
    with suppress(OSError):  # closed or ended meanwhile
        return any(
            str(entry.readlink()).startswith(str(folder))
            for entry in Path(f"/proc/{pid}/fd").iterdir()
        )
    return False


def _not_a_model_of(campaign: Campaign, data: Path, victim: Path, model: Path, run: Run) -> str:
    """Return an error of a model trained while an image changed, or an empty string."""
    import mlr

    found = mlr.load(model)
    without = campaign.folder / "without"
    shutil.rmtree(without, ignore_errors=True)
    shutil.copytree(campaign.data, without)
    if victim.name in run.err:
        for path in without.rglob(victim.name):
            path.unlink()
        allowed = [without]
    elif run.code == 0:
        shutil.copy(campaign.data / "happy" / "000.png", without / victim.relative_to(data))
        allowed = [campaign.data, without]
    else:
        return f"exit code {run.code}, but the file is not named: {run.err}"
    expected = [mlr.train(folder) for folder in allowed]
    same = any((found.weights == other.weights).all() for other in expected)
    return "" if same else "the model is that of none of the states of the data"


@case
def rivals(campaign: Campaign) -> Iterator[Trial]:
    """Let two programs write the same outputs; without --force exactly one of them may."""
    for number, task in enumerate(
        campaign.take("train statistics synthesize evaluate sample", campaign.trials)
    ):
        force = number % 2 == 0 or task.name in ("sample", "synthesize", "evaluate")
        arguments = [a for a in task.arguments if a != "--force" or force]
        if not force:
            shutil.rmtree(task.output)
        start = time.perf_counter()
        both = [campaign.start(*arguments) for _ in range(2)]
        runs = [campaign.finish(process, start) for process in both]
        trials = [campaign.judge(task, run) for run in runs]
        if not force:
            for trial in trials:
                trial.wrong = trial.wrong if "is gone" not in trial.wrong else ""
        wrong = trials[0].wrong or trials[1].wrong
        codes = sorted(str(run.code) for run in runs)
        if codes != (["0", "0"] if force else ["0", "1"]):
            wrong = wrong or f"{task.name}: exit codes {codes}: {runs[0].err} {runs[1].err}"
        yield Trial(f"{'with' if force else 'without'} --force: {' and '.join(codes)}", wrong)


@case
def endless_files(campaign: Campaign) -> Iterator[Trial]:
    """Give pipes without a writer, and endless devices, wherever a file is read."""
    folder = campaign.folder / "endless"
    folder.mkdir(exist_ok=True)
    pipe = folder / "pipe.png"
    os.mkfifo(pipe)
    for name, end in (("a pipe", pipe), ("/dev/zero", Path("/dev/zero"))):
        data = folder / name.replace("/", "")
        shutil.copytree(campaign.data, data)
        for link in ("neutral/017.png", "happy/018.png"):
            (data / link).unlink()
            (data / link).symlink_to(end)
        listed = folder / f"list-{data.name}"
        listed.mkdir()
        rows = [f"{campaign.data}/neutral/{n:03}.png,{end}" for n in range(2)]
        rows.append(f"{campaign.data}/neutral/003.png,{campaign.data}/happy/003.png")
        (listed / "pairs.csv").write_text("\n".join(["source,target", *rows]))
        odd = folder / f"odd-{data.name}"
        odd.mkdir()
        (odd / "pairs.csv").symlink_to(end)
        out = folder / "out"
        commands = {
            "linked from a folder": ["train", data, "-o", out / "m.npz"],
            "in a manifest": ["train", listed, "-o", out / "m.npz"],
            "as manifest": ["train", odd, "-o", out / "m.npz"],
            "as data": ["train", end, "-o", out / "m.npz"],
            "as face": ["synthesize", campaign.model, end, "-o", out],
            "among faces": ["synthesize", campaign.model, data / "neutral", "-o", out],
            "evaluated": ["evaluate", campaign.model, data],
            "as model": ["synthesize", end, campaign.data / "neutral", "-o", out],
            "shown": ["info", end],
            "as output": ["train", campaign.data, "-o", end, "--force"],
        }
        for place, arguments in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            run = campaign.run(*arguments, preexec_fn=limited(AS=4 << 30))
            wrong = wrong_message(run)
            if run.code == 0:
                wrong = wrong or f"exit code 0: {run.err}"
            yield Trial(f"{name} {place}: {run.code}", wrong and f"{name} {place}: {wrong}")
