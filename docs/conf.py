"""Settings of Sphinx for ``make docs``; the root of the repository is the source folder.

Hence links between the documents and the results of the benchmarks work in the site and in the
repository alike. The site needs no network: no web fonts, no scripts of others.
"""

from __future__ import annotations

import json
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser

import mlr

project, version, release = "mlr", mlr.__version__, mlr.__version__
project_copyright = "the authors of mlr, MIT licence"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "benchmarks/results/*.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/site", "**/.*", "demo", "build", "dist", "**/__pycache__"]

myst_heading_anchors = 3  # links to #sections
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings name them
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes as a list; their types would link to others of the name
autodoc_mock_imports = ["dask", "distributed"]

html_theme = "furo"
html_title = "mlr"
html_static_path = ["site/static"]
html_css_files = ["mlr.css"]
html_extra_path = ["site/extra"]  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_sphinx = False


class Notebook(MystParser):
    """Reads a Jupyter notebook as Markdown: text, code and the outputs that are stored in it."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the cells of a notebook."""
        cells = json.loads(inputstring)["cells"]
        super().parse("\n\n".join(map(as_markdown, cells)), document)


def as_markdown(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook as Markdown."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    parts = [f"```python\n{text}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            parts.append(f"![Output](data:image/png;base64,{''.join(data['image/png']).strip()})")
        else:
            parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts)


def setup(app: Any) -> None:
    """Teach Sphinx to read notebooks."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(Notebook)
