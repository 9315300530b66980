"""Taking the time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHORTEST = 0.005  # seconds; what takes less is done several times in a run
#: Seconds. After a matrix product OpenBLAS's threads look out for more work for 14 to 20 ms: with
#: two processors, training right after that took up to three times as long. A pause cools down,
#: too: training on 200 pairs of 128 px takes 9 ms after it and 5 ms right after another one, half
#: of the difference in reading the images. That is how training mostly begins.
PAUSE = 0.05


@dataclass(frozen=True)
class Timing:
    """The times of several runs.

    Attributes
    ----------
    runs : tuple of float
        Seconds that each took, at least one.
    """

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.runs)

    def summary(self, factor: float = 1.0) -> dict[str, float | int]:
        """Return median, min, max, each times ``factor``, and the number of runs."""
        return {
            "median": factor * self.median,
            "min": factor * min(self.runs),
            "max": factor * max(self.runs),
            "runs": len(self.runs),
        }


def once(function: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def timed(function: Callable[[], object], repeat: int) -> Timing:
    """Time a function after one call that warms it up."""
    time.sleep(PAUSE)
    number = calls(once(function))
    return Timing(tuple(once(lambda: _several(function, number)) / number for _ in range(repeat)))


def in_turn(functions: Sequence[Callable[[], object]], repeat: int) -> list[Timing]:
    """Time functions in turn, so that a busy spell of the machine hits them all.

    Each waits until the threads of the one before, which look out for more work, fall asleep.
    """
    numbers = [calls(once(function)) for function in functions]

    def run(function: Callable[[], object], number: int) -> float:
        time.sleep(PAUSE)
        return once(lambda: _several(function, number)) / number

    rounds = [list(map(run, functions, numbers)) for _ in range(repeat)]
    return [Timing(runs) for runs in zip(*rounds, strict=True)]


def calls(seconds: float) -> int:
    """Return how many calls, one of which takes so long, make up a run."""
    return max(1, math.ceil(SHORTEST / max(seconds, 1e-9)))


def _several(function: Callable[[], object], number: int) -> None:
    for _ in range(number):
        function()
