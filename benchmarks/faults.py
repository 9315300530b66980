"""Kill, starve and mislead the program, and see that nothing is lost.

    python benchmarks/faults.py [--seed 0] [--kills 120] [--trials 20] [--only NAME ...] [--write]

Every case below runs the program many times in processes of its own, does something bad to it, and
judges what is left: each output file must be the one that was there before or the one of an
undisturbed run, whole; nothing else may have changed; and what the program says must be lines of
its own, with the exit code that goes with them. The same seed draws the same moments, sizes and
files; what a moment meets depends on the machine.

A case is a function of a `Campaign` that yields a `Trial` for each run; `case` puts it on the list.
Disks are mounted in a name space of their own: without ``unshare`` those cases are left out, with
the reason. ``--write`` renews the lines of these cases in ``benchmarks/results/faults.md``. Exit
code 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "faults.md"
MLR = [sys.executable, "-m", "mlr"]
PATIENCE = 300  # seconds until a run counts as hung: on a busy machine kernels compile for long
SIGNALS = {signal.SIGINT: (130, "mlr: interrupted"), signal.SIGTERM: (143, "mlr: terminated")}
ALL = "train checkpoint statistics synthesize evaluate sample cluster"
PAPER = ["--recipe", "paper"]  # its shards are small
#: What no user should see: Python's own words, or those of a library below it.
FOREIGN = re.compile(
    r"Traceback|Exception ignored|Fatal Python|Segmentation|LLVM ERROR|Assertion|terminate called"
)
#: What a process says that Python was starting for the program as this was killed.
ORPHAN = re.compile(r"Traceback (?:(?!Traceback ).)*EOFError: Ran out of input\n", re.DOTALL)


@dataclass
class Run:
    """What became of one process: its exit code (None: hung) and what it said."""

    code: int | None
    out: str
    err: str
    seconds: float


@dataclass
class Trial:
    """One run: what came of it, in a few words, and what is wrong with that, if anything."""

    outcome: str
    wrong: str = ""


@dataclass
class Task:
    """A command, the folder that it writes to, and what is there before it and after it."""

    name: str
    arguments: list[object]
    output: Path
    old: dict[str, bytes] = field(default_factory=dict)
    new: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def restore(self) -> None:
        """Put back what was there before the command ran."""
        shutil.rmtree(self.output, ignore_errors=True)
        for name, data in self.old.items():
            path = self.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


Case = Callable[["Campaign"], Iterator[Trial]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Put a function on the list of cases."""
    CASES[function.__name__] = function
    return function


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def is_temporary(name: str) -> bool:
    """Tell whether a file is one that the program writes to before it is whole."""
    return Path(name).name.startswith(".") and name.endswith(".tmp")


def is_shard(name: str) -> bool:
    """Tell whether a file is a shard in a checkpoint; who share one depends on earlier runs."""
    return Path(name).name.startswith("shard-")


class Campaign:
    """The data, the commands and the tools that all cases share."""

    def __init__(self, folder: Path, seed: int, kills: int, trials: int) -> None:
        self.folder, self.seed, self.kills, self.trials = folder, seed, kills, trials
        self.random = random.Random(seed)
        self.data, self.model = folder / "data", folder / "model.npz"
        self.must("sample", self.data, "--pairs", 40, "--size", 64, "--target", "happy")
        self.must("warmup")
        self.must("train", self.data, "-o", self.model)
        self.tasks = {task.name: task for task in self._tasks()}

    def _tasks(self) -> Iterator[Task]:
        """Yield the commands that write, with the outputs of a run with other options before."""

        def task(name: str, before: list[object], after: list[object]) -> Task:
            output = self.folder / f"out-{name}"
            made = Task(name, after, output)
            self.must(*before)
            made.old = contents(output)
            made.seconds = self.must(*after).seconds
            made.new = contents(output)
            assert made.old.keys() <= made.new.keys(), name
            assert made.old != made.new, name
            return made

        def out(name: str, *parts: str) -> Path:
            return self.folder.joinpath(f"out-{name}", *parts)

        train = ["train", self.data, "-o", out("train", "m.npz"), "--force"]
        yield task("train", [*train, "--penalty", 1], train)
        sums = ["statistics", self.data, "-o", out("statistics", "s.npz"), "--force"]
        yield task("statistics", [*sums, "--receptive-field", "plus"], sums)
        faces = ["synthesize", self.model, self.data / "neutral", "-o", out("synthesize")]
        yield task("synthesize", [*faces, "--strength", 0.5], [*faces, "--force"])
        other = self.folder / "other.npz"
        self.must("train", self.data, "-o", other, "--penalty", 9)
        pictures = ["--report", out("evaluate"), "--force"]
        before = ["evaluate", other, self.data, *pictures]
        yield task("evaluate", before, ["evaluate", self.model, self.data, *pictures])
        for name, where in {"checkpoint": [], "cluster": ["--cluster", "local:2"]}.items():
            if not where or find_spec("distributed"):
                kept = ["train", self.data, "-o", out(name, "m.npz"), "--force", *PAPER]
                shards = ["--checkpoint", out(name, "kept"), "--shard", 3, *where]
                yield task(name, [*kept, "--penalty", 1], [*kept, *shards])
        drawn = ["sample", out("sample"), "--pairs", 10, "--size", 64, "--force"]
        yield task("sample", [*drawn, "--seed", 1], drawn)

    def start(self, *arguments: object, **options) -> subprocess.Popen[str]:
        """Start the program."""
        options = {"stdin": subprocess.DEVNULL, "cwd": ROOT, "errors": "replace"} | options
        return subprocess.Popen(
            [*MLR, *map(str, arguments)],
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            **options,
        )

    def finish(self, process: subprocess.Popen[str], start: float) -> Run:
        """Wait for the program to end; one that does not is killed, and counts as hung."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                out, err = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:  # somebody it has started is still there
                out, err = "", ""
            return Run(None, out or "", err or "", time.perf_counter() - start)
        return Run(process.returncode, out or "", err or "", time.perf_counter() - start)

    def run(self, *arguments: object, **options) -> Run:
        """Run the program to its end."""
        start = time.perf_counter()
        return self.finish(self.start(*arguments, **options), start)

    def must(self, *arguments: object) -> Run:
        """Run the program, which has to succeed."""
        run = self.run(*arguments)
        if run.code != 0:
            raise SystemExit(f"{arguments}: exit code {run.code}: {run.err}")
        return run

    def take(self, names: str, count: int) -> Iterator[Task]:
        """Yield tasks in turn, so many, each with its old outputs in place."""
        wanted = [self.tasks[name] for name in names.split() if name in self.tasks]
        for number in range(count):
            task = wanted[number % len(wanted)]
            task.restore()
            yield task

    def judge(self, task: Task, run: Run, *, killed: bool = False) -> Trial:
        """Judge what a run has left: whole old files, whole new ones, and lines of its own."""
        now = contents(task.output) if task.output.exists() else {}
        left = {name for name in now if is_temporary(name)}
        files = {n: data for n, data in now.items() if n not in left and not is_shard(n)}
        new = {n: data for n, data in task.new.items() if not is_shard(n)}
        wrong = said_wrong(run, killed)
        if left and not killed:
            wrong = f"left {sorted(left)[0]}"
        for name, data in files.items():
            if data not in (task.old.get(name), new.get(name)):
                wrong = f"{name} is neither the old file nor the new one"
        if missing := task.old.keys() - files.keys():
            wrong = f"{sorted(missing)[0]} is gone"
        if run.code == 0 and files != new:
            wrong = "exit code 0, but the outputs are not those of an undisturbed run"
        state = "new" if files == new else "old" if files == task.old else "some new"
        said = {None: "hung", 0: "done", 1: "one-line error", 130: "interrupted", 143: "terminated"}
        outcome = "killed" if killed and run.code == -9 else said.get(run.code, f"{run.code}")
        return Trial(f"{outcome}, {state} outputs", wrong and f"{task.name}: {wrong}")


def said_wrong(run: Run, killed: bool = False) -> str:
    """Return what is wrong with the way that a run ended, or an empty string."""
    if run.code is None:
        return f"hung for {PATIENCE} s"
    text = run.err + run.out
    if run.code == -9:
        text = ORPHAN.sub("", text)
    if found := FOREIGN.search(text):
        begin, at = text[found.start() :].splitlines(), text.strip().splitlines()
        return f"{' / '.join(begin[:6])[:500]} ... {' / '.join(at[-2:])[:300]}"
    # A negative one: by a signal, before the program listens to it or after its end.
    allowed = (0, 1, 2, 130, 143, *([-9, -2, -15] if killed else []))
    if run.code not in allowed:
        return f"exit code {run.code}: {run.err.strip()[-300:]}"
    lines = [line for line in run.err.splitlines() if line]
    if run.code in (1, 2) and not lines:
        return f"exit code {run.code} without a word"
    if run.code == 1 and not any(line.startswith("mlr: ") for line in lines):
        return f"no error of its own: {lines[-1][:300]}"
    return ""


# What ends the program.


@case
def kill(campaign: Campaign) -> Iterator[Trial]:
    """Send `kill -9`, half of them at any moment, half just after a file was begun."""
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
    """Send SIGINT and SIGTERM at any moment: 130 and 143, one line, nothing half done."""
    tasks = campaign.take(ALL, 5 * campaign.trials)
    for number, task in enumerate(tasks):
        yield _signalled(campaign, task, list(SIGNALS)[number % 2], task.seconds)


def _signalled(campaign: Campaign, task: Task, number: signal.Signals, longest: float) -> Trial:
    """Send a signal at a moment drawn, and judge what comes of it."""
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
    if starting:  # nor anything that we could do about it: Python has not come to the program
        run.err, run.code = "", -number
    plain = run.code == -number  # what a shell calls the same, while nothing needs clearing away
    run.code = code if plain else run.code
    trial = campaign.judge(task, run)
    if run.code == code and not plain and [t for t in run.err.splitlines() if t][-1:] != [line]:
        trial.wrong = trial.wrong or f"{task.name}: said {run.err!r}"
    if took > 5:
        trial.wrong = trial.wrong or f"{task.name}: took {took:.1f} s to end"
    if trial.wrong:
        trial.wrong += f" ({number.name} at {moment:.2f} s)"
    if plain:
        trial.outcome = f"ended by {number.name} itself, before the work or after it"
    return trial


@case
def signals_while_compiling(campaign: Campaign) -> Iterator[Trial]:
    """Send SIGINT, SIGTERM and SIGKILL while kernels compile; the cache has to serve on."""
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
            yield Trial("the cache serves", "" if again.code == 0 else again.err)


# Checkpoints and clusters.


@case
def runs_go_on(campaign: Campaign) -> Iterator[Trial]:
    """End runs with a checkpoint again and again, by all signals, until one comes to its end."""
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

    The scheduler of processes here is the trainer: there it is the one that they are forked from.
    """
    if "cluster" not in campaign.tasks:
        yield Trial("left out: needs mlr[cluster]")
        return
    task = campaign.tasks["cluster"]
    for number in range(campaign.kills // 2):
        task.restore()
        with _cluster(number % 2 == 0) as (address, victims):
            arguments = [a if a != "local:2" else address for a in task.arguments]
            start = time.perf_counter()
            process = campaign.start(*arguments)
            third = "server" if address == "local:2" else "scheduler"
            victim = ["trainer", "worker", third, "both workers"][number // 2 % 4]
            moment = campaign.random.uniform(0.2, 1.0) * task.seconds
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            there = victims(process.pid)
            targets = {
                "trainer": [process.pid],
                "worker": there["workers"][:1],
                "both workers": there["workers"],
                third: there[third],
            }
            for pid in targets[victim]:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            run = campaign.finish(process, start)
            trial = campaign.judge(task, run, killed=True)
            ours = [*there["workers"], *there["server"]] if address == "local:2" else []
            left = still_there(ours)
        if not trial.wrong and left:
            trial.wrong = f"processes {left} outlive the program"
        if not trial.wrong and run.code != 0:  # what was finished serves on
            after = [a for a in task.arguments if a not in ("--cluster", "local:2")]
            trial.wrong = campaign.judge(task, campaign.run(*after)).wrong
        where = "local" if address == "local:2" else "tcp"
        yield Trial(f"{where}, {victim}: {trial.outcome}", trial.wrong)


@case
def workers_hang(campaign: Campaign) -> Iterator[Trial]:
    """Stop a worker, without ending it: others get its work, unless it has not even begun."""
    if "cluster" not in campaign.tasks:
        yield Trial("left out: needs mlr[cluster]")
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
        for pid in workers if run.code is None else []:  # nobody is left to end them
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        trial = campaign.judge(task, run)
        if left := still_there(workers):
            trial.wrong = trial.wrong or f"workers {left} outlive the program"
        yield trial


@contextmanager
def _cluster(local: bool) -> Iterator[tuple[str, Callable[[int], dict[str, list[int]]]]]:
    """Yield an address and what tells the processes there are, of a program with this id."""
    if local:
        yield "local:2", lambda pid: {"workers": workers_of(pid), "server": children(pid)}
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
    """Return the workers of a program: forked by a server of its own."""
    return [worker for server in children(pid) for worker in children(server)]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, but for the one that cleans up."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and "resource_tracker" not in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def still_there(pids: list[int], seconds: float = 20) -> list[int]:
    """Return the processes that have not ended after some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


# What the program runs out of.


def _limited(**limits: int) -> Callable[[], None]:
    """Return what sets limits in a child: names of ``resource`` without RLIMIT."""

    def set_limits() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    return set_limits


@case
def memory(campaign: Campaign) -> Iterator[Trial]:
    """Set `ulimit -v`, from less than Python needs to more than enough."""
    names = ALL
    for task in campaign.take(names, 3 * campaign.trials):
        mebibytes = int(2 ** campaign.random.uniform(6.5, 11.5))
        run = campaign.run(*task.arguments, preexec_fn=_limited(AS=mebibytes << 20))
        trial = campaign.judge(task, run)
        if run.code and run.err.startswith(("OpenBLAS error: ", "OpenBLAS warning: ")):
            trial = Trial("NumPy's BLAS ends the program in a line of its own, old outputs")
            trial.wrong = "" if contents(task.output) == task.old else "outputs have changed"
        if trial.wrong:
            trial.wrong += f" ({mebibytes} MiB)"
        yield trial


@case
def open_files(campaign: Campaign) -> Iterator[Trial]:
    """Set `ulimit -n`, from fewer files than Python needs."""
    for task in campaign.take(ALL, campaign.trials):
        files = campaign.random.randint(4, 24)
        run = campaign.run(*task.arguments, preexec_fn=_limited(NOFILE=files))
        trial = campaign.judge(task, run)
        if trial.wrong:
            trial.wrong += f" ({files} files)"
        yield trial


@case
def file_size(campaign: Campaign) -> Iterator[Trial]:
    """Limit the size of files, mostly to less than that of the outputs."""
    for task in campaign.take(ALL, campaign.trials):
        largest = max(map(len, task.new.values()))
        size = campaign.random.randint(0, int(1.2 * largest))
        yield campaign.judge(task, campaign.run(*task.arguments, preexec_fn=_limited(FSIZE=size)))


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a small disk on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def needs_mounts() -> str:
    """Return why nothing can be mounted here, or an empty string."""
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", name], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", name], check=True)
    return done.stderr.decode().strip()


@case
def full_disk(campaign: Campaign) -> Iterator[Trial]:
    """Write to a disk that gets full."""
    if reason := needs_mounts():
        yield Trial(f"left out: {reason}")
        return
    for task in campaign.take(ALL, campaign.trials):
        used = sum(-(-len(data) // 4096) * 4096 for data in task.old.values()) + 4096
        size = used + campaign.random.randint(0, 40) * 4096
        shutil.rmtree(task.output)
        with disk(task.output, f"size={size}"):
            for name, data in task.old.items():
                path = task.output / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            yield campaign.judge(task, campaign.run(*task.arguments))


@case
def read_only_disk(campaign: Campaign) -> Iterator[Trial]:
    """Write to a disk that is read-only, from the start or from some moment on."""
    if reason := needs_mounts():
        yield Trial(f"left out: {reason}")
        return
    names = ALL
    for number, task in enumerate(campaign.take(names, campaign.trials)):
        shutil.rmtree(task.output)
        with disk(task.output, "size=64m"):
            for name, data in task.old.items():
                path = task.output / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            start = time.perf_counter()
            process = campaign.start(*task.arguments) if number % 2 else None
            if process:
                time.sleep(campaign.random.uniform(0, task.seconds))
            remount = ["mount", "-o", "remount,ro", str(task.output)]
            refused = subprocess.run(remount, capture_output=True).returncode  # while it writes
            if not process and refused:
                raise SystemExit("a disk could not be made read-only")
            run = campaign.finish(process or campaign.start(*task.arguments), start)
            trial = campaign.judge(task, run)
            yield trial


# What changes under its hands.


@case
def inputs_change(campaign: Campaign) -> Iterator[Trial]:
    """Train while an image disappears, changes, is cut off or becomes a pipe.

    The model must be that of the data before, of the data with the other image, or, if the file is
    named as left out, of the data without it.
    """
    good = campaign.data / "happy" / "000.png"
    for number in range(2 * campaign.trials):
        data = campaign.folder / "changing"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(campaign.data, data)
        victim = data / campaign.random.choice(["neutral", "happy"]) / "017.png"
        fault = ["disappears", "changes", "is cut off", "is a pipe"][number % 4]
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
        elif fault == "is cut off":
            os.truncate(victim, campaign.random.randint(0, victim.stat().st_size - 1))
        else:
            victim.unlink()
            os.mkfifo(victim)
        run = campaign.finish(process, start)
        wrong = said_wrong(run)
        if not wrong:
            wrong = _not_a_model_of(campaign, data, victim, model, run)
        named = "named" if victim.name in run.err else "not met"
        yield Trial(f"a file {fault}: {named}", wrong and f"{fault}: {wrong}")


def _has_open(pid: int, folder: Path) -> bool:
    """Tell whether a process has a file of a folder open at this moment."""
    with suppress(OSError):  # closed, or ended, since the list was made
        return any(
            str(entry.readlink()).startswith(str(folder))
            for entry in Path(f"/proc/{pid}/fd").iterdir()
        )
    return False


def _not_a_model_of(campaign: Campaign, data: Path, victim: Path, model: Path, run: Run) -> str:
    """Return what is wrong with a model trained while an image changed, or an empty string."""
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


# What is not what it seems.


@case
def endless_files(campaign: Campaign) -> Iterator[Trial]:
    """Give pipes nobody writes to, and devices that never end, wherever a file is read."""
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
            run = campaign.run(*arguments, preexec_fn=_limited(AS=4 << 30))
            wrong = said_wrong(run)
            if run.code == 0:
                wrong = wrong or f"exit code 0: {run.err}"
            yield Trial(f"{name} {place}: {run.code}", wrong and f"{name} {place}: {wrong}")


@case
def odd_surroundings(campaign: Campaign) -> Iterator[Trial]:
    """Run with closed or full streams, odd masks, times, encodings, in a folder that is gone."""
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
        run.err = "mlr: (nobody listens: it ends without a word, as others do)"
    return run


def _in_the_past(campaign: Campaign, task: Task) -> Run:
    data = campaign.folder / "data"
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        os.utime(path, [(0, 0), (2**33, 2**33)][number % 2])
    return campaign.run(*task.arguments)


def _in_a_folder_that_is_gone(campaign: Campaign, task: Task) -> Run:
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
    "stdout's reader gone": _with_closed_pipe,
    "umask 077": _with_umask(0o077),
    "umask 777": _with_umask(0o777),
    "ASCII only": _with_environment(LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
    "files of 1970 and 2242": _in_the_past,
    "another time zone": _with_environment(TZ="Pacific/Kiritimati"),
    "no home": _with_environment(HOME="/nowhere", XDG_CACHE_HOME="/nowhere"),
    "working folder gone": _in_a_folder_that_is_gone,
}


# The campaign itself.


def in_a_name_space() -> None:
    """Start anew where disks can be mounted, if that is possible."""
    if os.environ.get("MLR_FAULTS") or not shutil.which("unshare"):
        return
    os.environ["MLR_FAULTS"] = "1"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0:
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])


def row(title: str, outcomes: dict[str, int], wrong: int) -> str:
    """Return a line of the table."""
    what = "; ".join(f"{text}: {count}" for text, count in sorted(outcomes.items()))
    return f"| {title} | {sum(outcomes.values())} | {what} | {wrong} |"


def rows_there() -> dict[str, str]:
    """Return the lines of the table in the file, by case."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {line.split(" | ")[0][2:]: line for line in lines if line.split(" | ")[0][2:] in CASES}


def report(rows: dict[str, str], seed: int) -> str:
    """Return the figures as Markdown."""
    titles = [title for title in CASES if title in rows]
    cells = [rows[title].split(" | ") for title in titles]
    runs = sum(int(cell[1]) for cell in cells)
    wrong = sum(int(cell[-1].rstrip(" |")) for cell in cells)
    lines = [
        "# Faults",
        "",
        "Made by `make faults`. After every fault each output must be the file that was there",
        "before or that of an undisturbed run, whole, and the program has to say what happened.",
        "",
        f"Seed {seed}: {runs} runs, {wrong} of them not as they must be.",
        "",
        "| case | runs | what came of them | wrong |",
        "|---|---|---|---|",
        *(rows[title] for title in titles),
        "",
        "What the cases do:",
        "",
        *(f"- `{title}`: {(CASES[title].__doc__ or '').splitlines()[0]}" for title in titles),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored behind "&"
    in_a_name_space()
    rows, lost = rows_there() if options.write else {}, 0
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
                RESULTS.write_text(report(rows_there() | {title: rows[title]}, options.seed))
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
