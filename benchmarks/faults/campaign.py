"""Commands, runs and checks for all cases."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MLR = [sys.executable, "-m", "mlr"]
PATIENCE = 300  # seconds until a run counts as hung; compiling takes long on a busy machine
SIGNALS = {signal.SIGINT: (130, "mlr: interrupted"), signal.SIGTERM: (143, "mlr: terminated")}
ALL = "train checkpoint templates statistics synthesize evaluate sample cluster"
PAPER = ["--recipe", "paper"]  # its shards are small
#: Messages of Python and of libraries, which no user should see.
FOREIGN = re.compile(
    r"Traceback|Exception ignored|Fatal Python|Segmentation|LLVM ERROR|Assertion|terminate called"
)
#: Message of a process that Python was starting when the program was killed.
ORPHAN = re.compile(r"Traceback (?:(?!Traceback ).)*EOFError: Ran out of input\n", re.DOTALL)


@dataclass
class Run:
    """Exit code (None: hung) and messages of a process."""

    code: int | None
    out: str
    err: str
    seconds: float


@dataclass
class Trial:
    """The outcome of a run in a few words, and its error, if any."""

    outcome: str
    wrong: str = ""


@dataclass
class Task:
    """A command, the folder that it writes to, and the files before and after it."""

    name: str
    arguments: list[object]
    output: Path
    old: dict[str, bytes] = field(default_factory=dict)
    new: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def restore(self) -> None:
        """Restore the files before the command."""
        shutil.rmtree(self.output, ignore_errors=True)
        for name, data in self.old.items():
            path = self.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


Case = Callable[["Campaign"], Iterator[Trial]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case."""
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
    """Return whether a file is a temporary one of the program."""
    return Path(name).name.startswith(".") and name.endswith(".tmp")


def is_shard(name: str) -> bool:
    """Return whether a file is a shard; which subjects it holds depends on earlier runs."""
    return Path(name).name.startswith("shard-")


class Campaign:
    """The data, the commands and the tools for all cases."""

    def __init__(self, folder: Path, seed: int, kills: int, trials: int) -> None:
        self.folder, self.seed, self.kills, self.trials = folder, seed, kills, trials
        self.random = random.Random(seed)
        self.data, self.model = folder / "data", folder / "model.npz"
        self.must("sample", self.data, "--pairs", 40, "--size", 64, "--target", "happy")
        self.must("warmup")
        self.must("train", self.data, "-o", self.model)
        self.tasks = {task.name: task for task in self._tasks()}

    def _tasks(self) -> Iterator[Task]:
        """Yield the commands that write, after a run with other options."""

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
        cluster = ["--cluster", "local:2"] if find_spec("distributed") else None
        checkpoints = {"checkpoint": PAPER, "templates": [], "cluster": cluster and PAPER + cluster}
        for name, more in checkpoints.items():
            if more is not None:
                kept = ["train", self.data, "-o", out(name, "m.npz"), "--force"]
                size = 3 if PAPER[1] in more else 20
                shards = ["--checkpoint", out(name, "kept"), "--shard", size]
                yield task(name, [*kept, *more[:2], "--penalty", 1], [*kept, *shards, *more])
        drawn = ["sample", out("sample"), "--pairs", 10, "--size", 64, "--force"]
        yield task("sample", [*drawn, "--seed", 1], drawn)

    def start(
        self, *arguments: object, program: Sequence[str] = MLR, **options
    ) -> subprocess.Popen[str]:
        """Start the program, or another one that runs it."""
        options = {"stdin": subprocess.DEVNULL, "cwd": ROOT, "errors": "replace"} | options
        return subprocess.Popen(
            [*program, *map(str, arguments)],
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            **options,
        )

    def finish(self, process: subprocess.Popen[str], start: float) -> Run:
        """Wait for the program to end; after `PATIENCE` it is killed, and counts as hung."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                out, err = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:  # a process that it has started is still running
                out, err = "", ""
            return Run(None, out or "", err or "", time.perf_counter() - start)
        return Run(process.returncode, out or "", err or "", time.perf_counter() - start)

    def run(self, *arguments: object, **options) -> Run:
        """Run the program to its end."""
        start = time.perf_counter()
        return self.finish(self.start(*arguments, **options), start)

    def must(self, *arguments: object) -> Run:
        """Run the program, which must succeed."""
        run = self.run(*arguments)
        if run.code != 0:
            raise SystemExit(f"{arguments}: exit code {run.code}: {run.err}")
        return run

    def take(self, names: str, count: int) -> Iterator[Task]:
        """Yield tasks in turn, each with its old outputs restored."""
        wanted = [self.tasks[name] for name in names.split() if name in self.tasks]
        for number in range(count):
            task = wanted[number % len(wanted)]
            task.restore()
            yield task

    def judge(self, task: Task, run: Run, *, killed: bool = False) -> Trial:
        """Judge a run: all files must be complete, old or new, and the messages its own."""
        now = contents(task.output) if task.output.exists() else {}
        left = {name for name in now if is_temporary(name)}
        files = {n: data for n, data in now.items() if n not in left and not is_shard(n)}
        new = {n: data for n, data in task.new.items() if not is_shard(n)}
        wrong = wrong_message(run, killed)
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


def wrong_message(run: Run, killed: bool = False) -> str:
    """Return an error in the exit code or messages of a run, or an empty string."""
    if run.code is None:
        return f"hung for {PATIENCE} s"
    text = run.err + run.out
    if run.code == -9:
        text = ORPHAN.sub("", text)
    if found := FOREIGN.search(text):
        begin, at = text[found.start() :].splitlines(), text.strip().splitlines()
        return f"{' / '.join(begin[:6])[:500]} ... {' / '.join(at[-2:])[:300]}"
    # Negative: ended by a signal before the program handles it, or after its end.
    allowed = (0, 1, 2, 130, 143, *([-9, -2, -15] if killed else []))
    if run.code not in allowed:
        return f"exit code {run.code}: {run.err.strip()[-300:]}"
    lines = [line for line in run.err.splitlines() if line]
    if run.code in (1, 2) and not lines:
        return f"exit code {run.code} without a message"
    if run.code == 1 and not any(line.startswith("mlr: ") for line in lines):
        return f"no error of its own: {lines[-1][:300]}"
    return ""
