"""What is in folders, and how names of files are written and compared.

A name may be any bytes. Those that are not UTF-8 are written as in JSON and Python, ``\\udce9``, in
every table, page and message. In a table of paths this spelling is understood, and so are
backslashes between folders, blanks around, the other Unicode form or encoding of an accent, and
other cases of letters, unless a file is spelt just like that.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from mlr.io.files import is_here
from mlr.io.sniff import UNREAD

Value = TypeVar("Value")

_RAW = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8
_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")
#: Files that accompany images, which are skipped without a word, by name or suffix.
_COMPANIONS = frozenset({"thumbs.db", "desktop.ini", "pairs.csv", "alignment.csv", "eyes.csv"})
_COMPANIONS |= {".xmp", ".aae", ".thm", ".lrv"}


class Problem(NamedTuple):
    """A file that cannot be used, and the cause in one line."""

    path: Path
    cause: str


@dataclass
class Listing:
    """What is in a folder and its subfolders."""

    files: list[Path] = field(default_factory=list)  # that are wanted
    problems: list[Problem] = field(default_factory=list)  # what cannot be read
    others: list[Path] = field(default_factory=list)  # files that are not wanted
    repeated: list[Path] = field(default_factory=list)  # links to folders that are listed already


def as_text(name: str) -> str:
    """Return a name as it is written."""
    return name.encode("utf-8", "backslashreplace").decode()


def same(name: str) -> str:
    """Return what is equal for spellings of a name that differ in case or Unicode form.

    Blanks around it do not count, nor whether accents are in UTF-8 or Windows-1252.
    """
    text = _RAW.sub(lambda byte: _bytes(byte[0]).decode("cp1252", "replace"), _read(name)).strip()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _read(name: str) -> str:
    """Return a path that `as_text`, or Windows, has written."""
    return _BYTE.sub(lambda byte: chr(int(byte[1], 16)), name).replace("\\", "/")


def real(path: Path) -> Path:
    """Return a path without links; unlike `Path.resolve`, never fail for a circular link."""
    return Path(os.path.realpath(path))


def by_spelling(found: Mapping[str, Value], wanted: Iterable[str]) -> dict[str, Value]:
    """Return values by names spelt as the wanted ones, where exactly one of these is like it."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in wanted:
        alike[same(name)].append(name)
    spelt = {name: value for name, value in found.items() if name in alike[same(name)]}
    for name, value in found.items():
        free = [other for other in alike[same(name)] if other not in spelt]
        if name not in spelt:
            spelt[free[0] if len(free) == 1 else name] = value
    return spelt


def spelt_in(folder: Path, name: str) -> str:
    """Return the path of a file in a folder, given as a table spells it."""
    if not is_here(folder):
        return _read(name)
    spellings = (name, name.replace("\\", "/"), name.strip(), _read(name).strip())
    for spelling in spellings:
        if os.path.lexists(folder / spelling):
            return spelling
    path = Path()
    for part in PurePosixPath(spellings[-1]).parts:
        if not os.path.lexists(folder / path / part):
            try:
                inside = [each.name for each in (folder / path).iterdir()]
            except OSError:
                inside = []
            near = [each for each in inside if same(each) == same(part)]
            if len(near) != 1:
                return spellings[-1]
            part = near[0]
        path /= part
    return path.as_posix()


def list_files(folder: Path, is_wanted: Callable[[Path], bool]) -> Listing:
    """List the files in a folder and its subfolders, sorted.

    Hidden files and folders are skipped. Linked folders are followed; a folder is listed once.
    Folders that cannot be read and broken links are problems, but broken links whose suffix is
    wanted are files, which fail when they are read. So are images and clips of formats that are
    not read, unless a file with the same stem is wanted: a camera raw file next to its JPEG.
    """
    found, links = Listing(), list[Path]()
    seen = set[Path]()
    _list(folder, is_wanted, found, links, seen)
    while links:
        link = links.pop(0)
        if link.parent.resolve().is_relative_to(link.resolve()):
            found.repeated.append(link)
        else:
            _list(link, is_wanted, found, links, seen)
    found.files.sort()
    stems = {path.with_suffix("") for path in found.files}
    unread = [path for path in sorted(found.others) if path.suffix.lower() in UNREAD]
    found.others = sorted(set(found.others) - set(unread))
    found.problems += [
        Problem(path, f"{path.suffix} files are not read; save it as PNG, JPEG or MP4")
        for path in unread
        if path.with_suffix("") not in stems  # a camera raw file next to its JPEG
    ]
    found.others += [path for path in unread if path.with_suffix("") in stems]
    return found


def _list(
    folder: Path,
    is_wanted: Callable[[Path], bool],
    found: Listing,
    links: list[Path],
    seen: set[Path],
) -> None:
    here = is_here(folder)
    if here and (real := folder.resolve()) in seen:
        found.repeated.append(folder)
        return
    elif here:
        seen.add(real)
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        for path in inside:
            link = here and path.is_symlink()
            if path.is_dir():
                links.append(path) if link else _list(path, is_wanted, found, links, seen)
            elif is_wanted(path) and (link or not here or path.is_file()):
                found.files.append(path)
            elif link and not path.exists():
                found.problems.append(Problem(path, "is a link to nothing"))
            elif not {path.name.lower(), path.suffix.lower()} & _COMPANIONS:
                found.others.append(path)
    except Exception as error:  # file systems raise various errors
        cause = getattr(error, "strerror", None) or error
        found.problems.append(Problem(folder, f"cannot be read: {cause}"))


def counted_suffixes(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the number of files of each suffix, such as ``2 .txt``, or of a name without one."""
    counts: dict[str, int] = defaultdict(int)
    for path in paths:
        counts[path.suffix.lower() or path.name] += 1
    for name, count in sorted(counts.items()):
        yield f"{count} {name}"
