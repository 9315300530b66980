"""Tables of results in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mlr.bench.machine import describe

README = Path(__file__).parent.parent / "README.md"


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table without a line break at its end."""
    first, *others = (f"| {' | '.join(map(str, line))} |" for line in (heads, *rows))
    return "\n".join([first, "|---" * len(heads) + "|", *others])


def machine(threads: int) -> str:
    """Return the names and versions that times depend on."""
    found = describe(threads)
    return (
        f"{found['processor']}, {threads} thread{'s' if threads > 1 else ''}, Python "
        f"{found['python']}, NumPy {found['numpy']}, Numba {found['numba']}"
    )


def rows_there(path: Path, titles: Collection[str]) -> dict[str, str]:
    """Return the lines of a table in a file that begin with one of the titles, if there are any."""
    lines = path.read_text().splitlines() if path.exists() else []
    by_title = {line.split(" | ")[0][2:]: line for line in lines}
    return {title: line for title, line in by_title.items() if title in titles}


def renew_readme(part: str, text: str) -> None:
    """Replace the part of the README between the two comments with its name."""
    before, rest = README.read_text().split(f"<!-- {part}: ")
    command, old = rest.split(" -->\n", 1)
    end = f"<!-- end of {part} -->"
    README.write_text(f"{before}<!-- {part}: {command} -->\n{text}{end}{old.split(end)[1]}")
