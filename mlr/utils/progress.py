"""What was done, left out and failed in work over many files."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mlr.errors import MlrWarning

Item = TypeVar("Item")

SHOWN = 3  # reasons in a summary
_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, "
    "{remaining} left, ready at {eta:%H:%M:%S}"
)


@dataclass
class Report:
    """Collects the outcome for each file; by default each failure is a Python warning.

    Attributes
    ----------
    done : int
        Files or subjects that went through.
    failures : list of (Path, str)
        What did not, and why, in one line each.
    skipped : int
        Outputs that were there already and asked to be left alone.
    """

    done: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)
    skipped: int = 0
    _reasons: Counter[str] = field(default_factory=Counter)

    def fail(self, path: Path, cause: str, output: Path | None = None) -> None:
        """Note that a file is left out.

        Parameters
        ----------
        path : Path
            The file.
        cause : str
            Why, in one line, which may begin with the path.
        output : Path, optional
            What it was to become, if this is what the cause begins with.
        """
        cause = cause.removeprefix(f"{path}: ")
        self.failures.append((path, cause))
        self._reasons[cause.removeprefix(f"{output}: ").partition(";")[0]] += 1
        self.show_failure(f"{path}: {cause}")

    def left_out(self) -> str:
        """Return how many files were left out, and the reasons that several share, or nothing."""
        if not self.failures:
            return ""
        shared = [(text, n) for text, n in self._reasons.most_common(SHOWN) if n > 1]
        reasons = "".join(f", {n} times: {text}" for text, n in shared)
        return f"; {len(self.failures)} left out, see above{reasons}"

    def show_failure(self, line: str) -> None:
        """Tell the user of a failure as it happens."""
        warnings.warn(line, MlrWarning, stacklevel=3)

    def note(self, line: str) -> None:
        """Tell the user something worth knowing; nothing is shown by default."""

    def note_losses(self, losses: Iterable[str]) -> None:
        """Note what images hold that was not decoded: `mlr.io.images.Image.loss` of each."""
        for loss, images in Counter(filter(None, losses)).items():
            self.note(f"note: {counted(images, 'image holds', 'images hold')} {loss}")

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items, showing how far it is; nothing is shown by default."""
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
        0 for failures alone, 1 for progress and the summary too, 2 for details.
    """

    def __init__(self, verbosity: int = 1) -> None:
        super().__init__()
        self.verbosity = verbosity

    def show_failure(self, line: str) -> None:
        """Write a failure to stderr."""
        self._write(f"mlr: {line}")

    def note(self, line: str) -> None:
        """Write a line to stderr unless told to be quiet."""
        if self.verbosity > 0:
            self._write(line)

    def progress(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield the items under a progress bar, which vanishes where stderr is no terminal."""
        if self.verbosity == 0 or not sys.stderr.isatty():
            yield from items  # importing tqdm takes longer than changing a face
            return
        from tqdm import tqdm

        bar = {"desc": what, "bar_format": _BAR, "unit": "", "leave": False, "file": sys.stderr}
        yield from tqdm(items, total=total, **bar)

    @staticmethod
    def _write(line: str) -> None:
        if "tqdm" not in sys.modules:  # and so no bar
            print(printable(line), file=sys.stderr)
            return
        from tqdm import tqdm

        tqdm.write(printable(line), file=sys.stderr)


def printable(text: str) -> str:
    """Return text on one line, with what cannot be printed, as in odd file names, escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what it counts, as "1 face" and "2 faces"; an s makes many of one."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(value: object) -> str:
    """Return a value for subjects to read: the parts of a mapping or a list with commas between."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
