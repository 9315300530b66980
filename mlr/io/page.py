"""Pages: HTML files that need no other file and no network.

A page is a file ``NAME.html`` with its placeholders, ``[[name]]``, filled. Its style and script are
``NAME.css`` and ``NAME.mjs`` in the same folder, after those that all pages share: ``page.css`` and
``page.mjs`` in this folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlr._version import __version__

_SHARED = Path(__file__)


def filled(html: Path, values: Mapping[str, str]) -> str:
    """Return the text of a page; ``style``, ``script`` and ``generator`` need no values."""
    styles = (_read(path.with_suffix(".css")) for path in (_SHARED, html))
    known = {
        "generator": f"mlr {__version__}",
        "style": "\n".join(styles),
        "script": joined(path.with_suffix(".mjs") for path in (_SHARED, html)),
        **values,
    }
    # In one pass, so that values that look like placeholders stay.
    return re.sub(r"\[\[(\w+)]]", lambda found: known[found[1]], _read(html))


def joined(modules: Iterable[Path]) -> str:
    """Return modules as one script, without imports and exports; no two define the same name."""
    text = "\n".join(map(_read, modules))
    text = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
