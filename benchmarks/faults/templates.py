"""Faults between the stages of training: listing, checking, templates, and accumulating."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.campaign import (
    SIGNALS,
    Campaign,
    Run,
    Task,
    Trial,
    case,
    contents,
    is_temporary,
    wrong_message,
)

#: Runs the program, and sends it a signal some time after it begins to compute templates.
ENDED = """
import os, sys, threading
from pathlib import Path
import mlr.training.train as training
number, moment, made, *arguments = sys.argv[1:]
make_templates = training.make_templates
def make(*args):
    timer = threading.Timer(float(moment), os.kill, (os.getpid(), int(number)))
    timer.daemon = True
    timer.start()
    found = make_templates(*args)
    Path(made).touch()
    return found
training.make_templates = make
from mlr.cli import main
main(arguments)
"""

#: Runs the program, and lets it wait after a call of a function until a file appears.
PAUSED = """
import importlib, sys, time
from pathlib import Path
place, reached, changed, *arguments = sys.argv[1:]
module, name = place.rsplit(".", 1)
module = importlib.import_module(module)
function = getattr(module, name)
def paused(*args, **options):
    found = function(*args, **options)
    Path(reached).touch()
    while not Path(changed).exists():
        time.sleep(0.001)
    return found
setattr(module, name, paused)
from mlr.cli import main
main(arguments)
"""

STAGES = {
    "listing": "mlr.training.train.find_pairs",
    "checking": "mlr.training.train.common_format",
    "templates": "mlr.training.train.make_templates",
    "16 subjects": "mlr.training.accumulate._add",
}
CHANGES = ("added", "removed", "replaced", "truncated", "swapped")


@case
def templates_ended(campaign: Campaign) -> Iterator[Trial]:
    """End training while templates are computed, or later; the next run gives the same model."""
    signals = [signal.SIGKILL, *SIGNALS]
    made = campaign.folder / "made"
    for count, task in enumerate(campaign.take("train templates", 2 * campaign.trials)):
        number = signals[count // 2 % 3]
        made.unlink(missing_ok=True)
        start = time.perf_counter()
        moment = campaign.random.uniform(0, 0.4 * task.seconds)
        program = [sys.executable, "-c", ENDED, str(int(number)), str(moment), str(made)]
        run = campaign.finish(campaign.start(*task.arguments, program=program), start)
        trial = campaign.judge(task, run, killed=number == signal.SIGKILL)
        if number in SIGNALS and run.code not in (0, SIGNALS[number][0]):
            trial.wrong = trial.wrong or f"{task.name}: exit code {run.code} after {number.name}"
        when = "after the templates" if made.exists() else "during the templates"
        again = campaign.run(*task.arguments)
        trial.wrong = trial.wrong or _not_the_same(task, again)
        yield Trial(f"{task.name}, {when}: {trial.outcome.split(',')[0]}", trial.wrong)


def _not_the_same(task: Task, run: Run) -> str:
    """Return an error if a run does not end with the files of an undisturbed one."""
    now = {name: data for name, data in contents(task.output).items() if name in task.new}
    left = [name for name in contents(task.output) if is_temporary(name) and "shard" in name]
    if run.code != 0 or now.get("m.npz") != task.new["m.npz"] or left:
        return f"{task.name}: the next run ends with {run.code} {left}: {run.err[-200:]}"
    return ""


@case
def folders_change(campaign: Campaign) -> Iterator[Trial]:
    """Add, remove, replace, truncate and swap files after each stage of training.

    The model must be that of one state of the data, or, if a file is named, that of the data
    without it, whether or not the templates saw it; or there is none, and a changed file is named.
    """
    reached, changed = campaign.folder / "reached", campaign.folder / "changed"
    data, model = campaign.folder / "changing", campaign.folder / "changed.npz"
    for count in range(2 * campaign.trials):
        what = CHANGES[count % len(CHANGES)]
        stage = list(STAGES)[count // len(CHANGES) % len(STAGES)]
        kept = ["--checkpoint", campaign.folder / "kept"] if campaign.random.random() < 0.5 else []
        for folder in (data, campaign.folder / "kept"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (reached, changed, model):
            file.unlink(missing_ok=True)
        shutil.copytree(campaign.data, data)
        program = [sys.executable, "-c", PAUSED, STAGES[stage], str(reached), str(changed)]
        start = time.perf_counter()
        process = campaign.start("train", data, "-o", model, *kept, program=program)
        while process.poll() is None and not reached.exists():
            time.sleep(0.001)
        victims = _change(data, what, f"{campaign.random.randrange(30, 40):03}.png")
        changed.touch()
        run = campaign.finish(process, start)
        outcome, wrong = _judged(campaign, data, victims, model, run)
        yield Trial(f"{what} after {stage}: {outcome}", wrong and f"{what} after {stage}: {wrong}")


def _change(data: Path, what: str, name: str) -> list[str]:
    """Change a folder; return the files that may be named for it."""
    victim, other = data / "happy" / name, data / "happy" / "000.png"
    match what:
        case "added":
            for folder in ("neutral", "happy"):
                shutil.copy(data / folder / name, data / folder / "new.png")
            return []
        case "removed":
            victim.unlink()
        case "replaced":
            shutil.copy(other, victim)
        case "truncated":
            victim.write_bytes(victim.read_bytes()[:-100])
        case "swapped":
            first, second = victim.read_bytes(), other.read_bytes()
            victim.write_bytes(second)
            other.write_bytes(first)
            return [victim.name, other.name]
    return [victim.name]


def _judged(
    campaign: Campaign, data: Path, victims: list[str], model: Path, run: Run
) -> tuple[str, str]:
    """Return the outcome of a run in a few words, and its error or an empty string."""
    if wrong := wrong_message(run):
        return "", wrong
    named = [name for name in victims if name in run.err]
    if not model.exists():
        return "refused", "" if run.code == 1 and named else f"no file is named: {run.err}"
    found = model.read_bytes()
    if not named and run.code == 0:
        after = campaign.folder / "after.npz"
        campaign.must("train", data, "-o", after, "--force")
        states = {"as before": campaign.model.read_bytes(), "as after": after.read_bytes()}
    elif named and run.code == 1:
        without, files = campaign.folder / "without", campaign.folder / "before.npz"
        shutil.rmtree(without, ignore_errors=True)
        shutil.copytree(campaign.data, without)
        for name in named:
            (without / "happy" / name).unlink()
        states = {}
        campaign.run("statistics", campaign.data, "-o", files)
        for state, like in {"without it": [], "of its templates": ["--like", files]}.items():
            campaign.run("train", without, "-o", campaign.folder / "w.npz", "--force", *like)
            states[f"named, {state}"] = (campaign.folder / "w.npz").read_bytes()
    else:
        return "", f"exit code {run.code}: {run.err}"
    for state, expected in states.items():
        if found == expected:
            return state, ""
    return "", f"the model is that of none of the states of the data: {run.err}"
