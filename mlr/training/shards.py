"""Shards: parts of the training subjects whose statistics are computed on their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mlr.core.statistics import Statistics
from mlr.io.files import file_digest, is_here
from mlr.io.pairs import Subject
from mlr.training.accumulate import Plan
from mlr.training.decode import DecodedSubject
from mlr.utils.progress import Silent

Shard = tuple[Subject, ...]

LEAST = 128  # subjects of a shard


@dataclass(frozen=True)
class Part:
    """The statistics of a shard.

    Attributes
    ----------
    statistics : Statistics
        Of its subjects, without those whose images cannot be read.
    failures : tuple of (Path, str)
        Files that cannot be read, and why.
    digests : dict of str to str
        SHA-256 of each file by its `address`, 64 hexadecimal digits; none of files that cannot be
        opened.
    """

    statistics: Statistics
    failures: tuple[tuple[Path, str], ...]
    digests: dict[str, str]


def cut(subjects: Sequence[Subject], size: int) -> list[Shard]:
    """Cut subjects into shards of nearly the same size, at most ``size``."""
    count = -(-len(subjects) // size)
    ends = [len(subjects) * index // max(count, 1) for index in range(count + 1)]
    return [tuple(subjects[first:end]) for first, end in pairwise(ends)]


def default_size(plan: Plan) -> int:
    """Return how many subjects a shard should have: their images outweigh its statistics."""
    layout, channels = plan.layout, plan.format.channels
    statistics = 4 * layout.planes(plan.expressions) * layout.channels(channels)  # bytes a pixel
    images = channels * (1 + plan.expressions)
    return max(LEAST, -(-statistics // images))


class Decoding:
    """The subjects of a shard as they are decoded, with the digests of their files.

    Attributes
    ----------
    failures : list of (Path, str)
        Files that cannot be read so far, and why.
    """

    def __init__(self, shard: Shard, plan: Plan) -> None:
        self._shard, self._plan, self._report = shard, plan, Silent()
        self._digests: dict[str, str] = {}
        self.failures = self._report.failures

    def __iter__(self) -> Iterator[list[DecodedSubject]]:
        named = {subject.name: subject for subject in self._shard}
        for found in self._plan.decoded(self._shard, self._report):
            for part in found:
                subject = named[part.name]
                self._digests[address(subject.source)] = part.source.digest.hex()
                for name, image in part.targets.items():
                    self._digests[address(subject.targets[name])] = image.digest.hex()
            yield found

    def digests(self) -> dict[str, str]:
        """Return the digest of each file, of those that could not be decoded too."""
        for path in files_of(self._shard):
            if address(path) not in self._digests and (digest := file_digest(path)) is not None:
                self._digests[address(path)] = digest
        return self._digests


def files_of(shard: Shard) -> list[Path]:
    """Return all image files of a shard."""
    return [path for subject in shard for path in (subject.source, *subject.targets.values())]


def address(path: Path) -> str:
    """Return an absolute path, or the address of a file elsewhere."""
    return str(path.absolute()) if is_here(path) else str(path)
