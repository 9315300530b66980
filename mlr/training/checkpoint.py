"""Checkpoints: finished shards of a training set, from which a killed run continues.

A checkpoint is a folder with ``manifest.json``, which describes the statistics, and a statistics
file for each finished shard, whose metadata hold its subjects and the SHA-256 of their files.
A shard is used only if its checksums are correct and its image files still have the same digests.
Forged statistics with correct checksums are not detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlr._version import __version__
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics
from mlr.core.statistics import digest_of as digest_of_templates
from mlr.errors import DataError, MlrError, ModelError
from mlr.io.files import at_end, file_digest, is_here, lock, open_regular, replacing
from mlr.io.npz import DAMAGED, meta_of, read_npz, save_npz
from mlr.io.pairs import Subject
from mlr.io.statistics_file import load_statistics, save_statistics
from mlr.training.accumulate import Plan
from mlr.utils.threads import ordered_map

FORMAT = 3
MANIFEST = "manifest.json"
TEMPLATES = "templates.npz"
LARGEST_MANIFEST = 1 << 20  # bytes

Shard = tuple[Subject, ...]


@dataclass(frozen=True)
class Part:
    """The statistics of a shard, without subjects whose images cannot be read."""

    statistics: Statistics
    failures: tuple[tuple[Path, str], ...]  # files that cannot be read, with the cause
    digests: dict[str, str]  # SHA-256 by `address`, except of files that cannot be opened


@dataclass(frozen=True)
class Checkpoint:
    """A folder of finished shards; workers see it under the same path."""

    folder: Path
    plan: Plan

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder or check that it fits the plan, and lock it."""
        path, wanted = self.folder / MANIFEST, self._manifest()
        if not path.exists():
            inside = self.folder.iterdir() if self.folder.is_dir() else [self.folder]
            unfinished = f".{MANIFEST}.*.tmp"  # of killed programs
            if self.folder.exists() and not all(each.match(unfinished) for each in inside):
                raise DataError(f"{self.folder}: is neither a checkpoint nor an empty folder")
            with replacing(path, force=True, durable=True) as file:
                file.write(json.dumps(wanted, indent=1, sort_keys=True).encode() + b"\n")
        with locked_manifest(path) as found:
            for key, value in wanted.items():
                if found.get(key) != value:
                    raise DataError(
                        f"{self.folder}: was made with another {key.replace('_', ' ')}: "
                        f"{str(found.get(key))[:80]}, this run has {str(value)[:80]}; give another "
                        "folder, or delete this one"
                    )
            templates = self.plan.templates
            if templates is not None and not (self.folder / TEMPLATES).exists():
                arrays, details = templates.to_arrays()
                meta = {"kind": "templates", "format": FORMAT, "templates": details}
                save_npz(self.folder / TEMPLATES, arrays, meta, force=True)
            self._tidy_up()
            at_end.append(self._tidy_up)
            try:
                yield
            finally:
                at_end.remove(self._tidy_up)
                self._tidy_up()

    def _tidy_up(self) -> None:
        """Delete unfinished files of killed programs or workers."""
        for pattern in (".shard-*.tmp", f".{MANIFEST}.*.tmp", f".{TEMPLATES}.*.tmp"):
            for left in self.folder.glob(pattern):
                with suppress(OSError):
                    left.unlink()

    def shards(self, subjects: Sequence[Subject], size: int) -> list[Shard]:
        """Cut subjects into shards; finished shards are kept.

        Outdated shards are deleted: with some of these subjects and others, with files that no
        longer exist, or unreadable.
        """
        waiting = {_key(subject): subject for subject in subjects}
        files = {address(path) for path in files_of(subjects)}
        kept: list[Shard] = []
        for path in sorted(self.folder.glob("shard-*.npz")):
            named = _subjects_in(path)
            if named and all(key in waiting for key in named):
                kept.append(tuple(waiting.pop(key) for key in named))
                continue
            held = [file for several in named.values() for file in several]
            gone = any("://" not in file and not Path(file).exists() for file in held)
            if not named or gone or not files.isdisjoint(held):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    cause = error.strerror or error
                    raise MlrError(f"{path}: cannot be deleted: {cause}") from error
        return kept + cut(list(waiting.values()), size)

    def path(self, shard: Shard) -> Path:
        """Return the file that a shard is kept in."""
        return self.folder / f"shard-{_hash([_key(subject) for subject in shard])[:24]}.npz"

    def load(self, shard: Shard, mapped: bool = False) -> Part | None:
        """Return the statistics of a shard if it is finished and its files are unchanged."""
        path, files = self.path(shard), {address(file): file for file in files_of(shard)}
        if not path.exists():
            return None
        try:
            record = meta_of(path, "statistics")["shard"]
            statistics = load_statistics(path, mapped=mapped)
            statistics.check_fits(self.plan.empty)
            failures = tuple((files[where], str(cause)) for where, cause in record["failures"])
            now = dict(zip(files, ordered_map(file_digest, files.values()), strict=True))
            known = record["digests"] == now  # None for a file that cannot be opened
        except (MlrError, *DAMAGED):
            return None  # it is computed again
        return Part(statistics, failures, record["digests"]) if known else None

    def save(self, shard: Shard, part: Part) -> None:
        """Write the statistics of a shard."""
        record = {
            "people": [json.loads(_key(subject)) for subject in shard],
            "digests": part.digests,
            "failures": [(address(path), cause) for path, cause in part.failures],
        }
        save_statistics(part.statistics, self.path(shard), force=True, more={"shard": record})

    def _manifest(self) -> dict[str, Any]:
        """Return a description of the statistics, ready for JSON."""
        layout = self.plan.layout
        offsets = json.dumps(layout.receptive_field.offsets)
        return {
            "kind": "checkpoint",
            "format": FORMAT,
            "program": __version__,
            "source": self.plan.source,
            "images": f"{self.plan.format}, {self.plan.format.channels} channels",
            "receptive_field": str(layout),
            "layout": _hash([offsets, layout.pooled]),
            "templates": digest_of_templates(self.plan.templates),
        }


def kept_templates(folder: Path) -> Templates | None:
    """Return the templates of a checkpoint, if there are any; raise a `ModelError` if damaged."""
    path = folder / TEMPLATES
    if not path.exists():
        return None
    arrays, meta = read_npz(path, kind="templates", newest=FORMAT)
    try:
        templates = Templates.from_arrays(arrays, meta["templates"])
    except DAMAGED as error:
        raise ModelError(f"{path}: damaged; delete the folder: {error}") from error
    with locked_manifest(folder / MANIFEST) as found:
        if found.get("templates") != templates.digest:
            raise ModelError(f"{path}: not the templates of the shards; delete the folder")
    return templates


def cut(subjects: Sequence[Subject], size: int) -> list[Shard]:
    """Cut subjects into shards of nearly the same size, at most ``size``."""
    count = -(-len(subjects) // size)
    ends = [len(subjects) * index // max(count, 1) for index in range(count + 1)]
    return [tuple(subjects[first:end]) for first, end in pairwise(ends)]


def files_of(subjects: Sequence[Subject]) -> list[Path]:
    """Return all image files of subjects."""
    return [subject.folder / file for subject in subjects for file in subject.files]


def address(path: Path) -> str:
    """Return an absolute path, or an address as it is."""
    return str(path.absolute()) if is_here(path) else str(path)


def _key(subject: Subject) -> str:
    """Return name and files of a subject, as a line of JSON."""
    targets = {name: address(path) for name, path in sorted(subject.targets.items())}
    return json.dumps([subject.name, address(subject.source), targets])


def _subjects_in(path: Path) -> dict[str, list[str]]:
    """Return key and files of the subjects of a shard; none if it cannot be read."""
    found: dict[str, list[str]] = {}
    try:
        for name, source, targets in meta_of(path, "statistics")["shard"]["people"]:
            files = [source, *dict(targets).values()]
            if not all(isinstance(file, str) for file in files):
                return {}
            found[json.dumps([name, source, dict(targets)])] = files
    except (MlrError, *DAMAGED):
        return {}
    return found


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


@contextmanager
def locked_manifest(path: Path) -> Iterator[dict[str, Any]]:
    """Read the manifest of a checkpoint, and lock it until the block ends."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path, LARGEST_MANIFEST))
            lock(file, wait=False)
            found = json.loads(file.read())
        except BlockingIOError:
            raise DataError(f"{path.parent}: is in use by another run") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: not the manifest of a checkpoint, or damaged: {error}"
            ) from None
        if not isinstance(found, dict) or found.get("kind") != "checkpoint":
            raise DataError(f"{path}: not the manifest of a checkpoint")
        yield found
