"""Finding the pairs of a data set, which has one of four layouts.

1. expression folders: ``DATA/neutral/ann.png``, ``DATA/happy/ann.png``, ...
2. two folders: ``DATA/trainA/1.png`` and ``DATA/trainB/1.png`` (``testA``/``testB``), or
   ``A``/``B``; the expressions are called A and B
3. a manifest: ``DATA/pairs.csv`` with the columns ``source,target`` and optionally ``expression``
4. names: ``DATA/ann_neutral.png``, ``DATA/ann_happy.png``, or those of a known data set
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath, PurePosixPath

from mlr.errors import DataError, did_you_mean
from mlr.io.files import is_folder_name, located
from mlr.io.folders import Problem, by_spelling, list_files, same, spelt_in
from mlr.io.images import is_image
from mlr.io.names import PLAIN, SCHEMES, recognised
from mlr.io.provenance import is_output
from mlr.io.tables import read_table
from mlr.utils.progress import counted

MANIFEST = "pairs.csv"
UNREAD = "has no name like the others, from which subject and expression can be read"


@dataclass(frozen=True, slots=True)
class Subject:
    """A source image and its target images.

    Files are strings, which take a tenth of the memory of `Path` objects.
    """

    name: str  # unique within a data set
    folder: Path  # of the data set
    files: tuple[str, ...]  # the source and the targets, relative to the folder
    expressions: tuple[str, ...]  # of the targets, in the same order

    @property
    def source(self) -> Path:
        """Path of the source image."""
        return self.folder / self.files[0]

    @property
    def targets(self) -> dict[str, Path]:
        """Paths of the target images by expression."""
        names = zip(self.expressions, self.files[1:], strict=True)
        return {expression: self.folder / file for expression, file in names}


@dataclass(frozen=True)
class PairList:
    """The pairs of a data set."""

    source: str  # name of the source expression
    subjects: tuple[Subject, ...]  # sorted by name
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()  # to the user

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the target expressions, in alphabetical order."""
        return tuple(sorted({name for subject in self.subjects for name in subject.expressions}))

    def __len__(self) -> int:
        return sum(len(subject.expressions) for subject in self.subjects)


def find_pairs(
    data: str | Path,
    *,
    source: str = "neutral",
    target: str | Sequence[str] = (),
    split: str = "train",
) -> PairList:
    """Find the pairs of a data set in a folder, or at an fsspec address.

    ``source`` is the name of the folder of source images in layout 1. ``target`` names target
    expressions, by default all. With ``split`` "train" or "test" the folder ``trainA`` or ``testA``
    is preferred in layout 2.

    `DataError` is raised if the folder cannot be read, has none of the layouts, lacks an
    expression, has one with an invalid name, or contains no pair.
    """
    target = (target,) if isinstance(target, str) else tuple(target)
    root = located(data)
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: {found}; expected a folder of training images")
    notes: list[str] = []
    problems: list[Problem] = []
    subjects: list[Subject] = []
    if (root / MANIFEST).is_file():
        name = "source"
        subjects = _from_manifest(root / MANIFEST, target, problems)
    else:
        name, folder, targets = _folders(root, source, split)
        if folder is not None:
            targets = targets if target else _without_outputs(source, targets, notes)
            target = _check_expressions(root, targets, target)
            images = {each: _by_stem(targets[each], problems) for each in target or targets}
            subjects = _paired(root, name, _by_stem(folder, problems), images, problems, notes)
        if not subjects and (read := _from_names(root, source, target, problems, notes)):
            subjects = read
        elif folder is None:
            raise DataError(
                f"{root}: contains {', '.join(targets) or 'no folders'}; expected a folder "
                f"{source!r} and one for each target expression, or trainA and trainB, or "
                f"{MANIFEST}, or names such as {PLAIN.example} (name another source folder with "
                "--source)"
            )
    if not subjects:
        if problems:
            raise DataError(f"{problems[0].path}: {problems[0].cause}; no pairs are left")
        raise DataError(
            f"{root}: no pairs of images; expected the same file name in {name} and in the "
            "folder of another expression"
        )
    subjects.sort(key=lambda subject: subject.name)
    return PairList(name, tuple(subjects), tuple(problems), tuple(notes))


def _folders(root: Path, source: str, split: str) -> tuple[str, Path | None, dict[str, Path]]:
    """Return name and folder of the source expression, None if missing, and folders of targets."""
    for prefix in (split, "", "test" if split == "train" else "train"):
        a, b = root / f"{prefix}A", root / f"{prefix}B"
        if a.is_dir() and b.is_dir():
            return "A", a, {"B": b}
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    targets = {unicodedata.normalize("NFC", folder.name): folder for folder in folders}
    if len(targets) < len(folders):  # both forms of a name
        targets = {folder.name: folder for folder in folders}
    small = {same(name): folder for name, folder in targets.items()}
    if source not in targets and same(source) in small and len(small) == len(targets):
        source, targets = same(source), small  # Neutral/, Happy/
    return source, targets.pop(source, None), targets


def _without_outputs(source: str, targets: Mapping[str, Path], notes: list[str]) -> dict[str, Path]:
    """Return the folders of targets without those that ``mlr synthesize`` wrote; note these."""
    own = {f"{name}-{other}" for name in targets for other in targets}
    outputs = [
        name
        for name, folder in targets.items()
        if name.startswith(f"{source}-") or name in own or _is_synthesized(folder)
    ]
    if outputs:
        notes.append(
            f"note: skipped {', '.join(outputs)}: outputs of mlr synthesize; else give --target"
        )
    return {name: folder for name, folder in targets.items() if name not in outputs}


def _is_synthesized(folder: Path) -> bool:
    """Return whether the first images of a folder are outputs of ``mlr synthesize``."""
    first = list_files(folder, is_image).files[:20]  # others may be next to their inputs
    return bool(first) and all(map(is_output, first))


def _check_expressions(
    root: Path, found: Collection[str], target: Sequence[str]
) -> tuple[str, ...]:
    """Return the targets as they are spelt in ``found``.

    `DataError` is raised unless all are found and are valid names of folders.
    """
    small = {same(name): name for name in found}
    target = tuple(name if name in found else small.get(same(name), name) for name in target)
    for name in target:
        if name not in found:
            names = ", ".join(found) or "none"
            raise DataError(
                f"{root}: no expression {name!r}; target expressions found: {names}"
                f"{did_you_mean(name, found)}"
            )
    for name in target or found:
        if not is_folder_name(name):
            raise DataError(
                f"{root}: the expression {name!r} cannot be the name of a folder; rename it"
            )
    return target


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, str]:
    """Return images, relative to the parent folder, by their path in the folder without suffix."""
    listing = list_files(folder, is_image)
    problems += listing.problems
    names = [path.relative_to(folder).as_posix() for path in listing.files]
    names.sort(key=lambda name: name.replace("/", "\0"))  # the order of paths
    found: dict[str, str] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        first = found.setdefault(stem, f"{folder.name}/{name}")
        if first != f"{folder.name}/{name}":
            suffix = PurePosixPath(first).suffix
            problems.append(
                Problem(folder / name, f"has the same stem as a {suffix} file, which is used")
            )
    return found


def _paired(
    root: Path,
    source: str,
    sources: Mapping[str, str],
    targets: Mapping[str, Mapping[str, str]],
    problems: list[Problem],
    notes: list[str],
) -> list[Subject]:
    """Return the subjects of files by stem; note how many lack an expression.

    Files are relative to the root. One without any partner is a problem; ``source`` names the
    sources in it.
    """
    count = sum(map(len, (sources, *targets.values())))
    sources = _inputs(sources, targets)
    targets = {
        name: by_spelling(_inputs(images, targets), sources) for name, images in targets.items()
    }
    if own := count - sum(map(len, (sources, *targets.values()))):
        notes.append(f"note: skipped {counted(own, 'output')} of mlr synthesize among the inputs")
    alone = [
        (file, source)
        for images in targets.values()
        for stem, file in images.items()
        if stem not in sources
    ]
    subjects: list[Subject] = []
    for stem, file in sources.items():
        found = {name: images[stem] for name, images in targets.items() if stem in images}
        if found:
            subjects.append(_subject(stem, root, file, found))
        elif targets:
            alone.append((file, " or ".join(targets)))
    problems += [Problem(root / file, f"has no partner in {where}") for file, where in alone]
    counts = Counter(name for subject in subjects for name in subject.expressions)
    lacks = [
        f"{len(subjects) - counts[name]} lack {name}"
        for name in targets
        if counts[name] < len(subjects)
    ]
    if subjects and lacks:
        notes.append(f"note: of {counted(len(subjects), 'subject')}, {', '.join(lacks)}")
    return subjects


def _inputs(files: Mapping[str, str], expressions: Collection[str]) -> dict[str, str]:
    """Return files by stem without outputs next to their inputs, such as ``ann-happy``."""
    parts = {stem: stem.rpartition("-") for stem in files}
    return {
        stem: file
        for stem, file in files.items()
        if not (parts[stem][0] in files and parts[stem][2] in expressions)
    }


def _from_names(
    root: Path,
    source: str,
    target: Sequence[str],
    problems: list[Problem],
    notes: list[str],
) -> list[Subject]:
    """Return the subjects that the names of files tell, and note how they are read."""
    listing = list_files(root, is_image)
    files = [path.relative_to(root).as_posix() for path in listing.files]
    known = recognised(files, source, (PLAIN, *SCHEMES.values()))
    if known is None:
        return []
    scheme, reading = known
    targets = reading.expressions()
    sources = targets.pop(source)
    target = _check_expressions(root, targets, target)
    targets = {name: targets[name] for name in target or targets}
    skipped = f"; skipped {counted(reading.skipped, 'file')}" if reading.skipped else ""
    why = f": {scheme.skips}" if skipped and scheme.skips else ""
    shown = ", ".join((source, *targets))
    notes.append(f"note: read names of files as {scheme.example}, which show {shown}{skipped}{why}")
    problems[:] = listing.problems
    problems += [Problem(root / file, UNREAD) for file in reading.unmatched]
    return _paired(root, source, sources, targets, problems, notes)


def _subject(name: str, folder: Path, source: str, targets: dict[str, str]) -> Subject:
    return Subject(name, folder, (source, *targets.values()), _shared(tuple(targets)))


@cache
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one object for equal tuples, to save memory."""
    return names


def _from_manifest(manifest: Path, target: Sequence[str], problems: list[Problem]) -> list[Subject]:
    """Read a CSV file of pairs; rows with the same source belong to one subject.

    A second target of the same expression belongs to a second subject with the same source.
    """
    rows = _rows(manifest)
    expressions = dict.fromkeys(expression for *_, expression in rows)
    target = _check_expressions(manifest, expressions, target)
    found: dict[tuple[str, int], tuple[str, dict[str, str]]] = {}
    counts = Counter[tuple[str, str]]()
    for line, source, image, expression in rows:
        if target and expression not in target:
            continue
        if not source or not image:
            problems.append(Problem(manifest, f"line {line}: names no source or no target"))
            continue
        source, image = (spelt_in(manifest.parent, name) for name in (source, image))
        path = PurePath(source).as_posix()
        number = counts[path, expression]
        _, targets = found.setdefault((path, number), (f"{source}#{number}", {}))
        targets[expression] = image
        counts[path, expression] += 1
    return [
        _subject(name, manifest.parent, path, targets)
        for (path, _), (name, targets) in found.items()
    ]


def _rows(manifest: Path) -> list[tuple[int, str, str, str]]:
    """Return number, source, target and expression of each line; missing ones are empty."""
    return [
        (line, row["source"], row["target"], row.get("expression", "").strip() or "target")
        for line, row in read_table(manifest, ("source", "target"))
    ]
