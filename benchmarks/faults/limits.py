"""Limits: memory, open files, disk space."""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.campaign import ALL, Campaign, Trial, case, contents

#: Lines of libraries that end the program without memory, which Python code cannot prevent.
LIBRARIES = (
    "OpenBLAS error: ",
    "OpenBLAS warning: ",
    "LLVM ERROR: ",
    "terminate called after throwing an instance of 'St9bad_alloc'",
    "cannot allocate memory for thread-local data: ABORT",
)


def limited(**limits: int) -> Callable[[], None]:
    """Return a function that sets limits in a child: names of ``resource`` without RLIMIT."""

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
        run = campaign.run(*task.arguments, preexec_fn=limited(AS=mebibytes << 20))
        trial = campaign.judge(task, run)
        if run.code and run.err.startswith(LIBRARIES):
            trial = Trial("NumPy's BLAS, LLVM or the loader ends the program, old outputs")
            trial.wrong = "" if contents(task.output) == task.old else "outputs have changed"
        if trial.wrong:
            trial.wrong += f" ({mebibytes} MiB)"
        yield trial


@case
def open_files(campaign: Campaign) -> Iterator[Trial]:
    """Set `ulimit -n`, from fewer files than Python needs."""
    for task in campaign.take(ALL, campaign.trials):
        files = campaign.random.randint(4, 24)
        run = campaign.run(*task.arguments, preexec_fn=limited(NOFILE=files))
        trial = campaign.judge(task, run)
        if trial.wrong:
            trial.wrong += f" ({files} files)"
        yield trial


@case
def file_size(campaign: Campaign) -> Iterator[Trial]:
    """Limit the size of files, mostly to less than the outputs need."""
    for task in campaign.take(ALL, campaign.trials):
        largest = max(map(len, task.new.values()))
        size = campaign.random.randint(0, int(1.2 * largest))
        yield campaign.judge(task, campaign.run(*task.arguments, preexec_fn=limited(FSIZE=size)))


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
    """Return why disks cannot be mounted, or an empty string."""
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", name], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", name], check=True)
    return done.stderr.decode().strip()


@case
def full_disk(campaign: Campaign) -> Iterator[Trial]:
    """Write to a disk that runs full."""
    if reason := needs_mounts():
        yield Trial(f"skipped: {reason}")
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
    """Write to a disk that is read-only, from the start or from a random moment on."""
    if reason := needs_mounts():
        yield Trial(f"skipped: {reason}")
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
