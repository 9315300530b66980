"""Train across hosts, cut one off in the middle, bring it back, and compare the model's bytes.

    sudo python benchmarks/hosts.py [--pairs 300] [--size 96] [--write]

The hosts are network namespaces of this machine with addresses of their own on one bridge: a
scheduler, two workers and the trainer; the data and the checkpoint lie in a folder that all see.
Needs the rights of an administrator, iproute2 and ``mlr[cluster]``. ``--write`` renews
``benchmarks/results/hosts.md``. Exit code 1 if a model differs from that of one process.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "hosts.md"
BRIDGE = "mlr-bridge"
HOSTS = {name: f"10.79.0.{number}" for number, name in enumerate(("s", "a", "b", "t"), 1)}
PORT = 8786
SHARD = 3  # people
AWAY = 16  # seconds that a worker is cut off for: longer than anyone waits for it
#: Whoever is silent is given up sooner than Dask does of itself, for this not to take minutes.
PATIENCE = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s",
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


def ip(*words: str) -> None:
    """Run a command of iproute2."""
    subprocess.run(["ip", *words], check=True)


@contextmanager
def network() -> Iterator[None]:
    """Make the hosts and what connects them."""
    ip("link", "add", BRIDGE, "type", "bridge")
    with ExitStack() as stack:
        stack.callback(ip, "link", "delete", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for name, address in HOSTS.items():
            space, here, there = f"mlr-{name}", f"mlr-{name}-0", f"mlr-{name}-1"
            ip("netns", "add", space)
            stack.callback(ip, "netns", "delete", space)
            ip("link", "add", here, "type", "veth", "peer", "name", there)
            stack.callback(ip, "link", "delete", here)  # whoever is left in there keeps it else
            ip("link", "set", here, "master", BRIDGE, "up")
            ip("link", "set", there, "netns", space)
            ip("-n", space, "address", "add", f"{address}/24", "dev", there)
            ip("-n", space, "link", "set", there, "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield


def on(host: str, *command: object, again: bool = False) -> subprocess.Popen[str]:
    """Start Python on a host; and again whenever it ends, as a service is."""
    words = ["ip", "netns", "exec", f"mlr-{host}", sys.executable, "-m", *map(str, command)]
    if again:
        words = ["sh", "-c", f"while true; do {shlex.join(words)}; sleep 1; done"]
    return subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if again else subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | PATIENCE,
        start_new_session=True,
    )


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start a scheduler, and a worker on each of two hosts."""
    address = f"tcp://{HOSTS['s']}:{PORT}"
    commands: dict[str, list[object]] = {"s": ["distributed.cli.dask_scheduler", "--port", PORT]}
    for host in "ab":
        commands[host] = ["distributed.cli.dask_worker", address, "--nthreads", 1]
        commands[host] += ["--local-directory", folder / host]
    running = [
        on(host, *command, "--no-dashboard", again=True) for host, command in commands.items()
    ]
    try:
        yield
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def train(data: Path, folder: Path, cut: bool, recipe: str, pairs: int) -> tuple[float, str]:
    """Train from the trainer's host; return the seconds and what happened on the way."""
    model, kept = folder / "cluster.npz", folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    start = time.perf_counter()
    options = ["-o", model, "--force", "--recipe", recipe, "--shard", SHARD, "--checkpoint", kept]
    process = on("t", "mlr", "train", data, *options, "--cluster", f"tcp://{HOSTS['s']}:{PORT}")
    happened = ""

    def shards(count: int) -> int:
        """Wait until so many shards are done, or all; return how many are."""
        while process.poll() is None and len(list(kept.glob("shard-*"))) < count:
            time.sleep(0.01)
        return len(list(kept.glob("shard-*")))

    if cut:
        before = shards(5)
        ip("link", "set", "mlr-a-0", "down")
        off = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            process.wait(AWAY)
        meanwhile = shards(0)
        seconds = time.perf_counter() - off
        ip("link", "set", "mlr-a-0", "up")
        happened = f"cut off after {before} shards, brought back {seconds:.0f} s and "
        happened += f"{meanwhile - before} shards later, of about {pairs // SHARD}"
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {said}")
    return time.perf_counter() - start, happened


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("ip"):
        raise SystemExit("needs the rights of an administrator, and iproute2")
    lines, wrong = [], 0
    with tempfile.TemporaryDirectory(prefix="mlr-hosts-") as name, network():
        folder = Path(name)
        data, plain = folder / "data", folder / "plain.npz"
        mlr = [sys.executable, "-m", "mlr"]
        drawn = ["--pairs", str(options.pairs), "--size", str(options.size), "--target", "happy"]
        subprocess.run([*mlr, "sample", data, *drawn, "-q"], check=True, cwd=ROOT)
        for recipe in ("paper", "best"):
            made = ["train", data, "-o", plain, "--recipe", recipe, "--force", "-q"]
            subprocess.run([*mlr, *map(str, made)], check=True, cwd=ROOT)
            for cut in (False, True):
                with cluster(folder):
                    seconds, happened = train(data, folder, cut, recipe, options.pairs)
                same = (folder / "cluster.npz").read_bytes() == plain.read_bytes()
                wrong += not same
                cells = (recipe, happened or "left alone", f"{seconds:.1f} s")
                lines.append(f"| {' | '.join(cells)} | {'the same' if same else 'DIFFERENT'} |")
                print(lines[-1], flush=True)
    text = [
        "# Across hosts",
        "",
        "Made by `sudo python benchmarks/hosts.py --write`: a scheduler, two workers and the",
        f"trainer in network namespaces of one machine of {os.cpu_count()} processors;",
        f"{options.pairs} drawn colour pairs of {options.size} px in shards of at most {SHARD}",
        "people. One worker is cut off and brought back. The model is compared with that of one",
        "process.",
        "",
        "| recipe | the worker | took | model file |",
        "|---|---|---|---|",
        *lines,
    ]
    if options.write:
        RESULTS.write_text("\n".join(text) + "\n")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
