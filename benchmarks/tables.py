"""Tables of a campaign, of which some rows can be renewed while the others stay."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


def rows_there(path: Path, titles: Collection[str]) -> dict[str, str]:
    """Return the lines of the table in a file of Markdown, by their titles, if it is there."""
    lines = path.read_text().splitlines() if path.exists() else []
    by_title = {line.split(" | ")[0][2:]: line for line in lines}
    return {title: line for title, line in by_title.items() if title in titles}
