"""Tables of results in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mlr.bench import describe

DOCS = Path(__file__).parent.parent / "docs"


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


def campaign_report(
    intro: str, heads: Sequence[str], rows: Mapping[str, str], about: Mapping[str, str]
) -> str:
    """Return the report of a campaign.

    Parameters
    ----------
    intro : str
        Text, with ``{runs}`` and ``{wrong}`` for the sums of the second and the last column.
    heads : sequence of str
        Titles of the columns.
    rows : mapping of str to str
        Lines of the table by their titles, as `rows_there` returns them.
    about : mapping of str to str
        Descriptions by title, in the order of the table.
    """
    titles = [title for title in about if title in rows]
    cells = [rows[title].strip("| ").split(" | ") for title in titles]
    runs, wrong = (sum(int(cell[column]) for cell in cells) for column in (1, -1))
    listed = "\n".join(f"- `{title}`: {about[title]}" for title in titles)
    return f"{intro.format(runs=runs, wrong=wrong)}\n\n{table(heads, cells)}\n\n{listed}\n"


def with_section(text: str, title: str, body: str) -> str:
    """Return a text with the section of this title replaced by a body, or with a new last one."""
    head, *sections = text.split("\n## ")
    bodies = dict(section.split("\n", 1) for section in sections)
    bodies[title] = f"\n{body.strip()}\n"
    return "\n## ".join([head, *(f"{name}\n{each}" for name, each in bodies.items())])


def renew_page(page: str, part: str, text: str) -> None:
    """Replace the part of a page of the documentation between the two comments with its name."""
    path = DOCS / page
    before, rest = path.read_text().split(f"<!-- {part}: ")
    command, old = rest.split(" -->\n", 1)
    end = f"<!-- end of {part} -->"
    path.write_text(f"{before}<!-- {part}: {command} -->\n{text}{end}{old.split(end)[1]}")
