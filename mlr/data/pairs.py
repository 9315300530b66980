"""Finding the pairs of training or test images in the layouts that people have them in.

1. expression folders: ``DATA/neutral/ann.png``, ``DATA/happy/ann.png``, ...
2. two sides: ``DATA/trainA/1.png`` and ``DATA/trainB/1.png`` (``testA``/``testB``), or ``A``/``B``;
   the expressions are then called A and B
3. a manifest: ``DATA/pairs.csv`` with the columns ``source,target`` and optionally ``expression``
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.data.images import is_image
from mlr.errors import DataError

MANIFEST = "pairs.csv"


@dataclass(frozen=True)
class Person:
    """One source image and the target images that belong to it.

    Attributes
    ----------
    name : str
        What the files of the person have in common; unique within a data set.
    source : Path
        The source image.
    targets : dict of str to Path
        Target image of each expression that there is one of.
    """

    name: str
    source: Path
    targets: dict[str, Path]


@dataclass(frozen=True)
class Problem:
    """A file that is left out, and why, in one line."""

    path: Path
    cause: str


@dataclass(frozen=True)
class PairList:
    """What a data folder holds.

    Attributes
    ----------
    source : str
        Name of the source expression.
    people : tuple of Person
        In the order of their names.
    problems : tuple of Problem
        Files without a partner.
    """

    source: str
    people: tuple[Person, ...]
    problems: tuple[Problem, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """Names of the target expressions, in alphabetical order."""
        return tuple(sorted({name for person in self.people for name in person.targets}))

    def __len__(self) -> int:
        return sum(len(person.targets) for person in self.people)


def find_pairs(
    data: str | Path,
    *,
    source: str = "neutral",
    target: Sequence[str] = (),
    split: str = "train",
) -> PairList:
    """Find the pairs in a data folder.

    Parameters
    ----------
    data : path
        Folder in one of the three layouts.
    source : str
        Folder of the source images (layout 1).
    target : sequence of str
        Expressions wanted; none means all that there are.
    split : {"train", "test"}
        Which of ``trainA``/``testA`` (layout 2) to prefer.

    Raises
    ------
    DataError
        If the folder is none of the layouts, or there is not one pair in it.
    """
    root = Path(data)
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: {found}; expected a folder of training images")
    if (root / MANIFEST).is_file():
        name, people, problems = _from_manifest(root / MANIFEST)
    elif sides := _two_sides(root, split):
        name = "A"
        people, problems = _from_folders(sides[0], {"B": sides[1]})
    elif (root / source).is_dir():
        name = source
        folders = {p.name: p for p in _subfolders(root) if p.name != source}
        people, problems = _from_folders(root / source, _chosen(root, folders, target))
    else:
        raise DataError(_what_is_there(root, source))
    people, problems = _only(people, problems, target)
    if not people:
        raise DataError(
            f"{root}: not one pair of images; expected the same file name in "
            f"{name} and in a folder of another expression"
        )
    return PairList(name, tuple(people), tuple(problems))


def _subfolders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _two_sides(root: Path, split: str) -> tuple[Path, Path] | None:
    other = "test" if split == "train" else "train"
    for prefix in (split, "", other):
        a, b = root / f"{prefix}A", root / f"{prefix}B"
        if a.is_dir() and b.is_dir():
            return a, b
    return None


def _chosen(root: Path, folders: dict[str, Path], target: Sequence[str]) -> dict[str, Path]:
    missing = [name for name in target if name not in folders]
    if missing:
        there = ", ".join(folders) or "none"
        raise DataError(f"{root}: no folder {missing[0]!r}; target expressions there are: {there}")
    return {name: folders[name] for name in target} if target else folders


def _what_is_there(root: Path, source: str) -> str:
    there = ", ".join(p.name for p in _subfolders(root)) or "no folders"
    return (
        f"{root}: holds {there}; expected a folder {source!r} and one for each target expression, "
        f"or trainA and trainB, or {MANIFEST} (another source folder: --source NAME)"
    )


def images_under(folder: Path) -> Iterator[Path]:
    """Yield the image files in a folder and its subfolders, hidden ones left out, in order."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and is_image(path) and path.is_file():
            yield path


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Return the images of a folder by their path in it without the suffix."""
    found: dict[str, list[Path]] = {}
    for path in images_under(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        found.setdefault(stem, []).append(path)
    for paths in found.values():
        for path in paths[1:]:
            problems.append(Problem(path, f"has the same stem as {paths[0].name}, which is used"))
    return {stem: paths[0] for stem, paths in found.items()}


def _from_folders(source: Path, targets: dict[str, Path]) -> tuple[list[Person], list[Problem]]:
    problems: list[Problem] = []
    sources = _by_stem(source, problems)
    people = {stem: Person(stem, path, {}) for stem, path in sources.items()}
    for expression, folder in targets.items():
        found = _by_stem(folder, problems)
        for stem, path in found.items():
            if stem in people:
                people[stem].targets[expression] = path
            else:
                problems.append(Problem(path, f"has no partner {stem}.* in {source}"))
        for stem, path in sources.items():
            if stem not in found:
                problems.append(Problem(path, f"has no partner {stem}.* in {folder}"))
    return [person for person in people.values() if person.targets], problems


def _from_manifest(manifest: Path) -> tuple[str, list[Person], list[Problem]]:
    """Read a CSV of pairs; rows that name the same source are one person."""
    people: list[Person] = []
    by_source: dict[Path, list[Person]] = {}
    problems: list[Problem] = []
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"source", "target"} <= set(reader.fieldnames or ()):
                there = ",".join(reader.fieldnames or ()) or "nothing"
                raise DataError(
                    f"{manifest}: its first line is {there}; expected the columns source,target"
                )
            for row in reader:
                _add_row(manifest, reader.line_num, row, people, by_source, problems)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{manifest}: not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{manifest}: cannot be read: {error.strerror or error}") from error
    return "source", people, problems


def _add_row(
    manifest: Path,
    line: int,
    row: dict[str, str | None],
    people: list[Person],
    by_source: dict[Path, list[Person]],
    problems: list[Problem],
) -> None:
    source_name, target_name = row.get("source"), row.get("target")
    if not source_name or not target_name:
        problems.append(Problem(manifest, f"line {line}: names no source or no target"))
        return
    source, target = manifest.parent / source_name, manifest.parent / target_name
    missing = [path for path in (source, target) if not path.is_file()]
    if missing:
        problems.append(Problem(missing[0], f"does not exist (line {line} of {manifest.name})"))
        return
    expression = row.get("expression") or "target"
    # A second target of the same expression is a further pair: the source counts once more.
    for person in by_source.setdefault(source, []):
        if expression not in person.targets:
            person.targets[expression] = target
            return
    person = Person(f"{source_name}#{len(by_source[source])}", source, {expression: target})
    by_source[source].append(person)
    people.append(person)


def _only(
    people: list[Person], problems: list[Problem], target: Sequence[str]
) -> tuple[list[Person], list[Problem]]:
    """Keep the wanted expressions, and the people who show one of them."""
    if target:
        people = [
            Person(p.name, p.source, {e: f for e, f in p.targets.items() if e in target})
            for p in people
        ]
    return sorted((p for p in people if p.targets), key=lambda p: p.name), problems
