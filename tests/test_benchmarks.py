"""The benchmarks that are programs of their own: they run, and what they check holds."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "lines"),
    [
        ("reference", ["--sizes", "16", "--pairs", "5"], 4),
        ("files", ["--size", "16", "--pairs", "3", "--repeat", "1", "--threads", "1"], 3),
    ],
)
def test_benchmark_runs(name, options, lines):
    command = [sys.executable, FOLDER / f"{name}.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == lines
