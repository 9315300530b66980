"""Progress of processing many files: successes, skipped files and failures."""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlr.errors import MlrWarning

Item = TypeVar("Item")

SHOWN = 3  # causes in a summary, and files with the same cause
_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, "
    "{remaining} left, ready at {eta:%H:%M:%S}"
)


@dataclass
class Report:
    """Collects the outcome for many files; by default each failure is a Python warning."""

    done: int = 0  # files or pairs that succeeded
    failures: list[tuple[Path, str]] = field(default_factory=list)  # with the cause in one line
    skipped: int = 0  # existing outputs
    faces: list[dict[str, Any]] = field(default_factory=list)  # fits of each, ready for JSON
    lost: dict[str, list[str]] = field(default_factory=dict)  # what outputs lack, by input
    others: dict[str, str] = field(default_factory=dict)  # why files in folders are skipped
    most_shown: float = math.inf  # failures with the same cause
    _reasons: Counter[str] = field(default_factory=Counter)

    def fail(self, path: Path, cause: str, output: Path | None = None) -> None:
        """Record that a file failed."""
        cause = cause.removeprefix(f"{path}: ")
        self.failures.append((path, cause))
        reason = cause.removeprefix(f"{output}: ").partition(";")[0]
        self._reasons[reason] += 1
        if self._reasons[reason] <= self.most_shown:
            self.show_failure(f"{path}: {cause}")

    def failure_summary(self) -> str:
        """Return the number of failures and their most frequent causes, or an empty string."""
        if not self.failures:
            return ""
        shared = [(text, n) for text, n in self._reasons.most_common(SHOWN) if n > 1]
        reasons = "".join(f", {n} times: {text}" for text, n in shared)
        return f"; {len(self.failures)} failed, see above{reasons}"

    def show_more(self) -> None:
        """Show how many failures were not shown."""
        for reason, count in self._reasons.items():
            if count > self.most_shown:
                self.show_failure(f"and {count - self.most_shown} more: {reason}")

    def show_failure(self, line: str) -> None:
        """Show a failure when it happens."""
        warnings.warn(line, MlrWarning, stacklevel=3)

    def note(self, line: str) -> None:
        """Show a note; does nothing by default."""

    def skip(self, paths: Sequence[Path], what: str, detail: str = "") -> None:
        """Record files in folders that are not wanted, and show how many there are."""
        if paths:
            self.others.update((str(path), what) for path in paths)
            self.note(f"note: skipped {counted(len(paths), what)}{detail}")

    def note_losses(self, losses: Iterable[tuple[Path, str]]) -> None:
        """Record the losses of images, see `mlr.io.images.Header`; show how many have each."""
        found = [(path, loss) for path, loss in losses if loss]
        for path, loss in found:
            self.lost.setdefault(str(path), []).append(loss)
        for loss, images in Counter(loss for _, loss in found).items():
            self.note(f"note: {counted(images, 'image holds', 'images hold')} {loss}")

    def lose(self, path: Path, lost: Sequence[str]) -> None:
        """Record and show what the outputs of a file lack."""
        if lost:
            self.lost.setdefault(str(path), []).extend(lost)
            self.note(f"note: {path}: stored without {', '.join(lost)}")

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items and show progress; shows nothing by default."""
        yield from items


class Silent(Report):
    """Collects failures without showing them."""

    def show_failure(self, line: str) -> None:
        """Show nothing."""


class ConsoleReport(Report):
    """Shows failures on stderr, with verbosity 1 progress and notes too, with 2 details too."""

    def __init__(self, verbosity: int = 1, bars: bool = False) -> None:
        super().__init__()
        self.verbosity, self.bars = verbosity, bars
        if verbosity < 2:
            self.most_shown = SHOWN

    def show_failure(self, line: str) -> None:
        """Write a failure to stderr."""
        self._write(f"mlr: {line}")

    def note(self, line: str) -> None:
        """Write a line to stderr unless the verbosity is 0."""
        if self.verbosity > 0:
            self._write(line)

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items and show a progress bar if stderr is a terminal, or with ``bars``."""
        if self.verbosity == 0 or not (self.bars or sys.stderr.isatty()):
            yield from items  # importing tqdm takes longer than synthesizing a face
            return
        from tqdm import tqdm

        bar = {"bar_format": _BAR, "unit": "", "leave": False, "file": sys.stderr}
        yield from tqdm(items, what, total, **bar)

    @staticmethod
    def _write(line: str) -> None:
        write = sys.modules["tqdm"].tqdm.write if "tqdm" in sys.modules else print  # above a bar
        write(printable(line), file=sys.stderr)


def reporting(report: Report | None, progress: bool) -> Report:
    """Return the report, by default one for the console or one of Python warnings."""
    return report or (ConsoleReport(bars=True) if progress else Report())


def printable(text: str) -> str:
    """Return text with unprintable characters, as in odd file names, escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun, such as "1 face" or "2 faces"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(value: object) -> str:
    """Return a value as text, with commas between the parts of a mapping or sequence."""
    if isinstance(value, Mapping):
        value = [f"{key} {part}" for key, part in value.items()]
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
