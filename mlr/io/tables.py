"""Tables in CSV files, as spreadsheets and scripts write them.

The first line names the columns, in any order and case; others are ignored. Cells are separated by
commas, semicolons, tabs or bars, and text is UTF-8, UTF-16 or, as old spreadsheets save it,
Windows-1252. Empty lines are skipped, also those of separators alone.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from mlr.errors import DataError
from mlr.io.files import LARGEST, open_regular

_SEPARATORS = ",;\t|"


def read_table(path: Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of the line of each row, and its cells by the names of the columns.

    Names of columns are in small letters, with ``_`` for blanks and hyphens; cells that a row lacks
    are empty.

    Raises
    ------
    DataError
        If the file cannot be read, lacks one of ``columns`` or names it twice, or a row has more
        cells than there are columns: with the line, and what is expected.
    """
    try:
        with open_regular(path, LARGEST) as file:
            text = _decoded(file.read())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 or UTF-16: {error}") from error
    try:
        yield from _rows(path, text, columns)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error


def read_number(cell: str) -> float:
    """Return the number in a cell, which may have a decimal comma; ValueError if it is none."""
    return float(cell.replace(",", "."))


def _decoded(data: bytes) -> str:
    """Return text in UTF-8, in UTF-16 with or without a mark, or else in Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    start = data[:1024]
    for zeros, encoding in ((start[1::2], "utf-16-le"), (start[::2], "utf-16-be")):
        if len(zeros) > 4 and 2 * zeros.count(0) > len(zeros):
            return data.decode(encoding)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise
        return data.decode("cp1252", "replace")


def _rows(path: Path, text: str, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    lines = io.StringIO(text, newline="")
    separator, first = None, ""
    while not first.strip(_SEPARATORS + "\r\n "):
        first = lines.readline()
        if not first:
            raise DataError(f"{path}: is empty; expected the columns {','.join(columns)}")
        if named := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # Excel's first line
            separator, first = named[1], ""
    before = text[: lines.tell()].removesuffix(first)
    candidates = separator or _SEPARATORS
    heads = [_heads(first, each) for each in candidates]
    head = max(heads, key=lambda head: (len(set(columns) & set(head)), len(head)))
    separator = candidates[heads.index(head)]
    missing = [name for name in columns if name not in head]
    if missing:
        found = "".join(c if c.isprintable() else " " for c in first).strip()
        raise DataError(
            f"{path}: its first line is {found[:100]}; expected the columns {','.join(columns)}, "
            f"it lacks {', '.join(missing)}"
        )
    for name in columns:
        if head.count(name) > 1:
            raise DataError(f"{path}: has two columns {name}; remove or rename one")
    # Blanks begin a name of a file, unless they stand before quotes.
    blanks = re.search(rf'{re.escape(separator)} +"', text) is not None
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=blanks)
    skipped = len(before.splitlines()) + 1
    for cells in reader:
        line = skipped + reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(head) :]):
            raise DataError(
                f"{path}, line {line}: has {len(cells)} cells, but the first line {len(head)}; put "
                "quotes around cells that hold a separator"
            )
        yield line, dict(zip(head, cells + [""] * (len(head) - len(cells)), strict=False))


def _heads(line: str, separator: str) -> list[str]:
    """Return the names of the columns in a line."""
    cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [re.sub(r"[\s-]+", "_", cell.strip().lower()) for cell in cells]
