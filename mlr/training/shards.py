"""Shards: the subjects of a training set in parts that are summed up by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mlr.core.bands import RowSums
from mlr.core.folds import fold_of
from mlr.io.files import LARGEST, is_here, open_regular
from mlr.io.pairs import Subject
from mlr.training.collect import Job, sum_up
from mlr.training.decode import DecodedSubject
from mlr.training.spooled import Spooled
from mlr.utils.progress import Report
from mlr.utils.threads import limited

Shard = tuple[Subject, ...]
Failures = tuple[tuple[Path, str], ...]

LEAST = 128  # subjects in a shard


@dataclass(frozen=True)
class Part:
    """What came of a shard.

    Attributes
    ----------
    sums : RowSums
        Of its subjects, without those whose images cannot be read.
    failures : tuple of (Path, str)
        What cannot be read, and why.
    digests : dict of str to str
        SHA-256 of each file by its `address`, 64 hexadecimal digits; none of what cannot be opened.
    """

    sums: RowSums
    failures: Failures
    digests: dict[str, str]


#: Sums up a shard: what of `mlr.training.gather.make_part` hangs on who does it.
Make = Callable[[Shard, int, int | None, Path | None], Part]


def cut(subjects: Sequence[Subject], size: int, folds: int) -> list[Shard]:
    """Cut subjects into shards of one fold each, of nearly the same size.

    A shard's sums then are those of one fold, a fraction of all.

    Parameters
    ----------
    subjects : sequence of Subject
        In any order.
    size : int
        How many subjects a shard has at most.
    folds : int
        How many folds there are.
    """
    by_fold: list[list[Subject]] = [[] for _ in range(folds)]
    for subject in subjects:
        by_fold[fold_of(subject.name, folds)].append(subject)
    shards: list[Shard] = []
    for some in by_fold:
        count = -(-len(some) // size)
        ends = [len(some) * index // max(count, 1) for index in range(count + 1)]
        shards += [tuple(some[a:b]) for a, b in pairwise(ends)]
    return shards


def size_for(job: Job) -> int:
    """Return how many subjects a shard should have: their images outweigh the sums of them."""
    layout, channels = job.layout, job.format.channels
    sums = 4 * layout.planes(job.expressions) * layout.channels(channels)  # bytes for each pixel
    images = channels * (1 + job.expressions)
    return max(LEAST, -(-sums // images))


def sum_shard(
    shard: Shard, job: Job, threads: int, advance: Callable[[], object] = lambda: None
) -> Part:
    """Sum up the subjects of a shard.

    Parameters
    ----------
    shard : tuple of Subject
        Who.
    job : Job
        What is to be made of them.
    threads : int
        How many to decode and to compute with.
    advance : function
        Called for everybody who is decoded.
    """
    with limited(threads) as count:
        subjects = _Decoding(shard, job, count, advance)
        return subjects.part(sum_up(subjects, shard, job))


def spooled_shard(
    shard: Shard,
    job: Job,
    threads: int,
    memory: int,
    folder: Path | None,
    advance: Callable[[], object] = lambda: None,
) -> Part:
    """Decode the subjects of a shard, whose sums do not fit in memory, and keep their pixels.

    Parameters
    ----------
    shard, job, threads, advance
        As for `sum_shard`.
    memory, folder
        As for `mlr.training.banded.Banded`.

    Raises
    ------
    MlrError
        If the disk is full.
    """
    sums = Spooled(job, memory, folder)
    with limited(threads) as count:
        subjects = _Decoding(shard, job, count, advance)
        for found in subjects:
            for subject in found:
                sums.add(subject)
        return subjects.part(sums)


class _Decoding:
    """The subjects of a shard as they are decoded, and what is to be noted of their files."""

    def __init__(self, shard: Shard, job: Job, threads: int, advance: Callable[[], object]) -> None:
        self._shard, self._job, self._threads, self._advance = shard, job, threads, advance
        self._quiet = Silent()
        self._digests: dict[str, str] = {}

    def __iter__(self) -> Iterator[list[DecodedSubject]]:
        named = {subject.name: subject for subject in self._shard}
        for found in self._job.decoded(self._shard, self._threads, self._quiet):
            for part in found:
                subject = named[part.name]
                self._digests[address(subject.source)] = part.source.digest.hex()
                for name, image in part.targets.items():
                    self._digests[address(subject.targets[name])] = image.digest.hex()
            self._advance()
            yield found

    def part(self, sums: RowSums) -> Part:
        """Return what came of the shard once all have been decoded."""
        for path in files_of(self._shard):  # of subjects who could not be decoded
            if address(path) not in self._digests and (digest := digest_of(path)) is not None:
                self._digests[address(path)] = digest
        return Part(sums, tuple(self._quiet.failures), self._digests)


class Silent(Report):
    """Collects failures, for somebody else to tell of them."""

    def show_failure(self, line: str) -> None:
        """Show nothing."""


def files_of(shard: Shard) -> list[Path]:
    """Return all image files of a shard."""
    return [path for subject in shard for path in (subject.source, *subject.targets.values())]


def address(path: Path) -> str:
    """Return where a file is, from wherever one looks."""
    return str(path.absolute()) if is_here(path) else str(path)


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, 64 hexadecimal digits, or None if it cannot be read."""
    try:
        with open_regular(path, LARGEST) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
