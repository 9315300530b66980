"""Progress of work on many files: what succeeded, was skipped and failed."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlr.errors import MlrWarning

Item = TypeVar("Item")

SHOWN = 3  # reasons in a summary
_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, "
    "{remaining} left, ready at {eta:%H:%M:%S}"
)


@dataclass
class Report:
    """Collects the outcome of work on many files; by default each failure is a Python warning.

    Attributes
    ----------
    done : int
        Number of files or pairs that succeeded.
    failures : list of (Path, str)
        Files that failed, and the cause in one line.
    skipped : int
        Number of existing outputs that were skipped.
    faces : list of dict
        How the faces in the files fit those learned from, ready for JSON.
    """

    done: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    skipped: int = 0
    faces: list[dict[str, Any]] = field(default_factory=list)
    _reasons: Counter[str] = field(default_factory=Counter)

    def fail(self, path: Path, cause: str, output: Path | None = None) -> None:
        """Record that a file failed."""
        cause = cause.removeprefix(f"{path}: ")
        self.failures.append((path, cause))
        self._reasons[cause.removeprefix(f"{output}: ").partition(";")[0]] += 1
        self.show_failure(f"{path}: {cause}")

    def failure_summary(self) -> str:
        """Return the number of failures and their most frequent causes, or an empty string."""
        if not self.failures:
            return ""
        shared = [(text, n) for text, n in self._reasons.most_common(SHOWN) if n > 1]
        reasons = "".join(f", {n} times: {text}" for text, n in shared)
        return f"; {len(self.failures)} failed, see above{reasons}"

    def show_failure(self, line: str) -> None:
        """Show a failure when it happens."""
        warnings.warn(line, MlrWarning, stacklevel=3)

    def note(self, line: str) -> None:
        """Show a note; does nothing by default."""

    def note_losses(self, losses: Iterable[str]) -> None:
        """Show what was not decoded of images: `mlr.io.images.Image.loss` of each."""
        for loss, images in Counter(filter(None, losses)).items():
            self.note(f"note: {counted(images, 'image holds', 'images hold')} {loss}")

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items and show progress; shows nothing by default."""
        yield from items


class Silent(Report):
    """Collects failures without showing them."""

    def show_failure(self, line: str) -> None:
        """Show nothing."""


class ConsoleReport(Report):
    """Shows progress, notes and failures on stderr.

    Parameters
    ----------
    verbosity : int
        0 shows failures, 1 progress and summaries too, 2 details too.
    """

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__()
        self.verbosity = verbosity

    def show_failure(self, line: str) -> None:
        """Write a failure to stderr."""
        self._write(f"mlr: {line}")

    def note(self, line: str) -> None:
        """Write a line to stderr unless the verbosity is 0."""
        if self.verbosity > 0:
            self._write(line)

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items and show a progress bar if stderr is a terminal."""
        if self.verbosity == 0 or not sys.stderr.isatty():
            yield from items  # importing tqdm takes longer than synthesizing a face
            return
        from tqdm import tqdm

        bar = {"desc": what, "bar_format": _BAR, "unit": "", "leave": False, "file": sys.stderr}
        yield from tqdm(items, total=total, **bar)

    @staticmethod
    def _write(line: str) -> None:
        if "tqdm" not in sys.modules:  # no bar
            print(printable(line), file=sys.stderr)
            return
        from tqdm import tqdm

        tqdm.write(printable(line), file=sys.stderr)


def printable(text: str) -> str:
    """Return text with unprintable characters, as in odd file names, escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun, such as "1 face" or "2 faces"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(value: object) -> str:
    """Return a value as text, with commas between the parts of a mapping or sequence."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
