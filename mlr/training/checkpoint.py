"""Checkpoints: finished shards of a training set, kept so that a killed run goes on from there.

A checkpoint is a folder with ``manifest.json``, which says what the sums are, and a statistics file
for each finished shard, whose metadata name its subjects and the SHA-256 of each of their files.
Nothing is believed that is not checked: a shard counts if its checksums hold and all its files have
the digests they had. Sums that somebody forges, checksums included, cannot be told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlr._version import __version__
from mlr.core.bands import RowSums
from mlr.core.folds import Folds, joined
from mlr.core.registration.templates import Templates
from mlr.core.statistics import digest_of as digest_of_templates
from mlr.errors import DataError, MlrError, ModelError
from mlr.io.files import lock, open_regular, replacing
from mlr.io.npz import meta_of, read_npz, write_npz
from mlr.io.pairs import Subject
from mlr.training.collect import Job
from mlr.training.combined import Mapped
from mlr.training.decode import ordered_map
from mlr.training.shards import Part, Shard, address, cut, digest_of, files_of

FORMAT = 2
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
        Where they are; whoever works on the job sees it there.
    job : Job
        What they are sums of.
    """

    folder: Path
    job: Job

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, or see that it is of this job, and keep others out of it.

        Raises
        ------
        DataError
            If it is of another job, damaged, or in use.
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
            yield
            self._tidy_up()

    def _keep_templates(self) -> None:
        """Write the templates, if there are some, for runs that go on from here."""
        path, templates = self.folder / TEMPLATES, self.job.templates
        if templates is None or path.exists():
            return
        arrays: dict[str, Any]
        arrays, details = templates.to_arrays()
        meta = {"kind": "templates", "format": FORMAT, "templates": details}
        arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
        with replacing(path, force=True, durable=True) as file:
            write_npz(file, arrays)

    def _tidy_up(self) -> None:
        """Delete what programs, or workers, have left half-written that were killed or hang."""
        for pattern in (".shard-*.tmp", f".{MANIFEST}.*.tmp", f".{TEMPLATES}.*.tmp"):
            for left in self.folder.glob(pattern):
                with suppress(OSError):
                    left.unlink()

    def shards(self, subjects: Sequence[Subject], size: int) -> list[Shard]:
        """Cut subjects into shards; those who were finished together stay together.

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
        return kept + cut(list(waiting.values()), size, self.job.folds)

    def part(
        self, shard: Shard, threads: int, make: Callable[[], Part], memory: int | None = None
    ) -> Part:
        """Return what was kept of a shard, or else make it, and keep that.

        Parameters
        ----------
        shard : tuple of Subject
            Who.
        threads : int
            How many to read files with.
        make : function
            Makes the sums, and the digests of all files.
        memory : int, optional
            Bytes that may be taken, if the sums do not fit: they are left in the file then.

        Raises
        ------
        MlrError
            If it cannot be written.
        """
        path = self.folder / f"shard-{_hash([_key(subject) for subject in shard])[:24]}.npz"
        part = self._load(path, shard, threads, memory)
        if part is None:
            part = make()
            record = {
                "people": [json.loads(_key(subject)) for subject in shard],
                "digests": part.digests,
                "failures": [(address(path), cause) for path, cause in part.failures],
            }
            joined(part.sums).save(path, force=True, more={"shard": record})
            if memory is not None:
                part = replace(part, sums=_left_in(path, memory))
        return part

    def _load(self, path: Path, shard: Shard, threads: int, memory: int | None) -> Part | None:
        """Return what was kept of a shard if all its files are what they were."""
        if not path.exists():
            return None
        try:
            record = meta_of(path, "statistics")["shard"]
            sums: RowSums = Folds.load(path) if memory is None else _left_in(path, memory)
            digests = {str(name): str(digest) for name, digest in record["digests"].items()}
            named = {address(file): file for file in files_of(shard)}
            failures = tuple((named[where], str(cause)) for where, cause in record["failures"])
        except (ModelError, LookupError, TypeError, ValueError, AttributeError):
            return None  # damaged: it is made anew
        job, head = self.job, sums.head
        if (head.layout, head.source, len(head.parts)) != (job.layout, job.source, job.folds) or (
            sums.shape != job.shape
        ):
            return None
        if digest_of_templates(head.templates) != digest_of_templates(job.templates):
            return None
        files = files_of(shard)
        found = ordered_map(digest_of, files, threads)
        if any(
            now is None or digests.get(address(file)) != now
            for file, now in zip(files, found, strict=True)
        ):
            return None
        return Part(sums, failures, digests)

    def _manifest(self) -> dict[str, Any]:
        """Return what the sums are, as JSON has it."""
        layout = self.job.layout
        offsets = json.dumps(layout.receptive_field.offsets)
        return {
            "kind": "checkpoint",
            "format": FORMAT,
            "program": __version__,
            "source": self.job.source,
            "images": f"{self.job.format}, {self.job.format.channels} channels",
            "receptive_field": str(layout),
            "layout": _hash([offsets, layout.pooled]),
            "folds": self.job.folds,
            "templates": digest_of_templates(self.job.templates),
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


def _left_in(path: Path, memory: int) -> Mapped:
    """Return the sums in a file of ours, of which some rows at a time are read."""
    return Mapped(Folds.load(path, mapped=True), memory, path.parent)


def _key(subject: Subject) -> str:
    """Return who somebody is: name and files, as a line of JSON."""
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
    """Tell whether a shard holds some of these files, or one that is gone; else it is others'."""
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
    """Tell whether a folder holds nothing but what programs that were killed have begun."""
    return folder.is_dir() and all(p.match(f".{MANIFEST}.*.tmp") for p in folder.iterdir())


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that nobody else has open in this way, until the block ends."""
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
