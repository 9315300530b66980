"""A small part of the fuzzing campaign: no input breaks the program."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_damaged_and_hostile_input_is_refused_in_a_line():
    command = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "150", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^Seed 1: 1\d\d cases, 0 of them wrong\.$", done.stdout, re.MULTILINE)
