"""Checkpoints: finished shards of a training set, from which a killed run continues.

A checkpoint is a folder with ``manifest.json``, which describes the statistics, and a statistics
file for each finished shard, whose metadata hold its subjects and the SHA-256 of their files.
Nothing is used unchecked: a shard counts if its checksums hold and all its files have the digests
they had. Forged statistics with correct checksums are not detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlr._version import __version__
from mlr.core.registration.templates import Templates
from mlr.core.statistics import digest_of as digest_of_templates
from mlr.errors import DataError, MlrError, ModelError
from mlr.io.files import at_end, file_digest, lock, open_regular, replacing
from mlr.io.npz import meta_of, read_npz, write_npz
from mlr.io.pairs import Subject
from mlr.io.statistics_file import load_statistics, save_statistics
from mlr.training.accumulate import Plan
from mlr.training.shards import Part, Shard, address, cut, files_of
from mlr.utils.threads import ordered_map

FORMAT = 3
MANIFEST = "manifest.json"
TEMPLATES = "templates.npz"
LARGEST_MANIFEST = 1 << 20  # bytes

_Named = list[tuple[str, str, dict[str, str]]]  # name, source and targets of each subject


@dataclass(frozen=True)
class Checkpoint:
    """A folder of finished shards.

    Attributes
    ----------
    folder : Path
        Where they are; workers see it there, too.
    plan : Plan
        What is accumulated.
    """

    folder: Path
    plan: Plan

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Create the folder or check that it fits the plan, and lock it.

        Raises
        ------
        DataError
            If it is of another plan, damaged, or in use.
        MlrError
            If it cannot be written to.
        """
        path, wanted = self.folder / MANIFEST, self._manifest()
        if not path.exists():
            if self.folder.exists() and not _is_empty(self.folder):
                raise DataError(f"{self.folder}: is neither a checkpoint nor an empty folder")
            with replacing(path, force=True, durable=True) as file:
                file.write(json.dumps(wanted, indent=1, sort_keys=True).encode() + b"\n")
        with _alone(path) as file:
            found = _read_manifest(path, file)
            for key, value in wanted.items():
                if found.get(key) != value:
                    raise DataError(
                        f"{self.folder}: was made with another {key.replace('_', ' ')}: "
                        f"{_short(found.get(key))}, this run has {_short(value)}; give another "
                        "folder, or delete this one"
                    )
            self._keep_templates()
            self._tidy_up()
            at_end.append(self._tidy_up)
            try:
                yield
            finally:
                at_end.remove(self._tidy_up)
                self._tidy_up()

    def _keep_templates(self) -> None:
        """Write the templates for runs that continue from here."""
        path, templates = self.folder / TEMPLATES, self.plan.templates
        if templates is None or path.exists():
            return
        arrays: dict[str, Any]
        arrays, details = templates.to_arrays()
        meta = {"kind": "templates", "format": FORMAT, "templates": details}
        arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
        with replacing(path, force=True, durable=True) as file:
            write_npz(file, arrays)

    def _tidy_up(self) -> None:
        """Delete what killed programs or workers have left half-written."""
        for pattern in (".shard-*.tmp", f".{MANIFEST}.*.tmp", f".{TEMPLATES}.*.tmp"):
            for left in self.folder.glob(pattern):
                with suppress(OSError):
                    left.unlink()

    def shards(self, subjects: Sequence[Subject], size: int) -> list[Shard]:
        """Cut subjects into shards; those that were finished together stay together.

        Outdated shards are deleted: those that hold some of these subjects together with others,
        or files that are gone; and those that cannot be read.

        Parameters
        ----------
        subjects : sequence of Subject
            In any order.
        size : int
            How many subjects a new shard has at most.
        """
        waiting = {_key(subject): subject for subject in subjects}
        files = {address(path) for path in files_of(tuple(subjects))}
        kept: list[Shard] = []
        for path in sorted(self.folder.glob("shard-*.npz")):
            named = _named_in(path)
            if named and all(key in waiting for key in named):
                kept.append(tuple(waiting.pop(key) for key in named))
            elif named is None or _out_of_date(
                [a for key in named for a in _addresses(key)], files
            ):
                _delete(path)
        return kept + cut(list(waiting.values()), size)

    def path(self, shard: Shard) -> Path:
        """Return the file that a shard is kept in."""
        return self.folder / f"shard-{_hash([_key(subject) for subject in shard])[:24]}.npz"

    def load(self, shard: Shard, mapped: bool = False) -> Part | None:
        """Return what was kept of a shard if all its files are what they were.

        Parameters
        ----------
        shard : tuple of Subject
        mapped : bool
            Leave the planes in the file, to be read when they are used.
        """
        path = self.path(shard)
        if not path.exists():
            return None
        try:
            record = meta_of(path, "statistics")["shard"]
            statistics = load_statistics(path, mapped=mapped)
            digests = {str(name): str(digest) for name, digest in record["digests"].items()}
            named = {address(file): file for file in files_of(shard)}
            failures = tuple((named[where], str(cause)) for where, cause in record["failures"])
        except (ModelError, LookupError, TypeError, ValueError, AttributeError):
            return None  # damaged: it is computed again
        empty = self.plan.empty
        if (statistics.layout, statistics.source, statistics.shape) != (
            empty.layout,
            empty.source,
            empty.shape,
        ) or digest_of_templates(statistics.templates) != digest_of_templates(empty.templates):
            return None
        files = files_of(shard)
        found = ordered_map(file_digest, files)
        if any(
            now is None or digests.get(address(file)) != now
            for file, now in zip(files, found, strict=True)
        ):
            return None
        return Part(statistics, failures, digests)

    def save(self, shard: Shard, part: Part) -> None:
        """Keep what was computed of a shard.

        Raises
        ------
        MlrError
            If it cannot be written.
        """
        record = {
            "people": [json.loads(_key(subject)) for subject in shard],
            "digests": part.digests,
            "failures": [(address(path), cause) for path, cause in part.failures],
        }
        save_statistics(part.statistics, self.path(shard), force=True, more={"shard": record})

    def _manifest(self) -> dict[str, Any]:
        """Return what is accumulated, ready for JSON."""
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
    """Return the templates of a checkpoint, if it has some.

    Raises
    ------
    ModelError
        If they are damaged.
    """
    path = folder / TEMPLATES
    if not path.exists():
        return None
    arrays, meta = read_npz(path, kind="templates", newest=FORMAT)
    try:
        return Templates.from_arrays(arrays, meta["templates"])
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: damaged; delete the folder: {error}") from error


def _key(subject: Subject) -> str:
    """Return name and files of a subject, as a line of JSON."""
    targets = {name: address(path) for name, path in sorted(subject.targets.items())}
    return json.dumps([subject.name, address(subject.source), targets])


def _addresses(key: str) -> list[str]:
    """Return the files in a key."""
    _, source, targets = json.loads(key)
    return [source, *targets.values()]


def _named_in(path: Path) -> list[str] | None:
    """Return the keys of the subjects in a shard's file, or None if it cannot be read."""
    try:
        subjects = meta_of(path, "statistics")["shard"]["people"]
        keys = [json.dumps([name, source, dict(targets)]) for name, source, targets in subjects]
        return keys if all(isinstance(a, str) for key in keys for a in _addresses(key)) else None
    except (ModelError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _out_of_date(addresses: Sequence[str], files: Set[str]) -> bool:
    """Return whether a shard holds some of these files, or one that is gone."""
    return any(each in files for each in addresses) or not all(
        "://" in each or Path(each).exists() for each in addresses
    )


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise MlrError(f"{path}: cannot be deleted: {error.strerror or error}") from error


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _short(value: Any) -> str:
    """Return a value of a manifest in a few words."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing but unfinished files of killed programs."""
    return folder.is_dir() and all(p.match(f".{MANIFEST}.*.tmp") for p in folder.iterdir())


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """Open and lock a file until the block ends."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path, LARGEST_MANIFEST))
            lock(file, wait=False)
        except BlockingIOError:
            raise DataError(f"{path.parent}: is in use by another run") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        yield file


def _read_manifest(path: Path, file: IO[bytes]) -> dict[str, Any]:
    try:
        found = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the manifest of a checkpoint, or damaged: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != "checkpoint":
        raise DataError(f"{path}: not the manifest of a checkpoint")
    return found
