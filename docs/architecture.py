"""Read the imports of mlr, and draw its folders: ``make architecture``."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"

#: The folders (or modules) of `mlr`, lowest first: each may import from itself and those before it.
LAYERS = (
    "errors",
    "_version",
    "utils",
    "kernels",
    "core",
    "recipes",
    "io",
    "training",
    "photo",
    "exports",
    "synthesis",
    "evaluation",
    "samples",
    "sklearn",
    "bench",
    "cluster",
    "cli",
    "__init__",
    "__main__",
)

NOT_DRAWN = {"errors", "_version", "__init__", "__main__"}

WIDTH, MARGIN, GAP, ROW_GAP = 960, 10, 24, 44  # pixels
LINE, CHARACTER = 17, 7.25  # of 12-pixel monospaced text

STYLE = """\
rect { fill: #f3f6fb; stroke: #5b7aa9 }
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #4a5361 }
.name { font-weight: bold; font-size: 15px; fill: #16233a }
path { fill: none; stroke: #7a8798; stroke-width: 1.3 }
.head { fill: #7a8798; stroke: none }
@media (prefers-color-scheme: dark) {
  rect { fill: #1b2433; stroke: #6f8fc0 }
  text { fill: #b4bfce }
  .name { fill: #eef3fb }
  path { stroke: #97a5b8 }
  .head { fill: #97a5b8 }
}"""


class Box(NamedTuple):
    """A folder in the picture, or, without a height, where an arrow passes a row."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The x coordinate that arrows begin and end at."""
        return self.left + self.width / 2


def layer_of(module: str) -> str:
    """Return the layer of a module: ``core`` for ``mlr.core.model``."""
    return [*module.split("."), "__init__"][1]


def read_imports() -> dict[str, set[str]]:
    """Return the modules that each module of `mlr` imports, also in functions and for types."""
    paths = {_name(path): path for path in sorted((ROOT / "mlr").rglob("*.py"))}
    return {
        name: {
            found
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for found in _imported(node, paths)
        }
        for name, path in paths.items()
    }


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.module, "relative imports are not used"
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in modules else node.module for name in inside]
    return []


def draw(imports: dict[str, set[str]]) -> str:
    """Return an SVG picture of the folders, their modules, and which folder imports which."""
    modules = {
        layer: [name.removeprefix("mlr.") for name in imports if layer_of(name) == layer]
        for layer in LAYERS
        if layer not in NOT_DRAWN
    }
    rows, lines = _placed(_needed(imports))
    boxes = _boxes(rows, modules)
    arrows = [_arrow([boxes[node] for node in line]) for line in lines]
    folders = [_folder(layer, boxes[layer], modules[layer]) for layer in modules]
    height = max(box.top + box.height for box in boxes.values()) + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">',
            "<title>The folders of mlr: arrows point to what a folder imports</title>",
            f"<style>\n{STYLE}\n</style>",
            '<marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">',
            '<path class="head" d="M0,0 L8,4 L0,8 z"/></marker>',
            *arrows,
            *folders,
            "</svg>\n",
        ]
    )


def _needed(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the layers that each layer imports, without those that it gets by way of others."""
    order = [layer for layer in LAYERS if layer not in NOT_DRAWN]
    pairs = {
        (layer_of(module), layer_of(other))
        for module, others in imports.items()
        for other in others
        if other.startswith("mlr.")
    }
    direct = {
        layer: {lower for lower in order[:number] if (layer, lower) in pairs}
        for number, layer in enumerate(order)
    }
    reached: dict[str, set[str]] = {}
    for layer in order:
        reached[layer] = direct[layer].union(*(reached[other] for other in direct[layer]))
    return {
        layer: {name for name in names if not any(name in reached[other] for other in names)}
        for layer, names in direct.items()
    }


def _placed(needed: dict[str, set[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Return rows of nodes, highest first, and the nodes that each arrow passes."""
    depth: dict[str, int] = {}
    for layer, others in needed.items():
        depth[layer] = 1 + max((depth[other] for other in others), default=-1)
    rows: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for layer in needed:
        rows[depth[layer]].append(layer)
    lines = []
    for layer, others in needed.items():
        for other in sorted(others, key=LAYERS.index):
            between = range(depth[layer] - 1, depth[other], -1)
            passed = [f"{layer} to {other} in {row}" for row in between]
            for number, node in zip(between, passed, strict=True):
                rows[number].append(node)
            lines.append([layer, *passed, other])
    rows.reverse()
    links = [pair for line in lines for pair in pairwise(line)]
    for _ in range(4):  # towards fewer crossings: to the mean position of the neighbours
        for above, row in pairwise(rows):
            row.sort(key=lambda node: _mean([above.index(a) for a, b in links if b == node]))
        for row, below in reversed([*pairwise(rows)]):
            row.sort(key=lambda node: _mean([below.index(b) for a, b in links if a == node]))
    return rows, lines


def _mean(positions: list[int]) -> float:
    return sum(positions) / len(positions) if positions else 0.0


def _boxes(rows: list[list[str]], modules: dict[str, list[str]]) -> dict[str, Box]:
    """Return where each node of each row is."""
    boxes = {}
    top = float(MARGIN)
    for row in rows:
        folders = [node for node in row if node in modules]
        free = WIDTH - 2 * MARGIN - GAP * (len(row) - 1)
        width = free / len(folders)
        height = max(28 + LINE * len(_lines(modules[node], width)) for node in folders)
        left = float(MARGIN)
        for node in row:
            boxes[node] = Box(left, top, width if node in modules else 0, height)
            left += boxes[node].width + GAP
        top += height + ROW_GAP
    return boxes


def _lines(modules: list[str], width: float) -> list[str]:
    """Return the names of modules, without that of the folder, in lines of a width."""
    folders = {name.rpartition(".")[0] for name in modules}
    names = [name.partition(".")[2] for name in modules if name not in folders]
    return wrap(", ".join(names), int((width - 2 * MARGIN) / CHARACTER), break_on_hyphens=False)


def _folder(layer: str, box: Box, modules: list[str]) -> str:
    left = box.left + MARGIN
    name = f"{layer}.py" if modules == [layer] else layer
    texts = [f'<text class="name" x="{left:g}" y="{box.top + 19:g}">{name}</text>']
    for number, line in enumerate(_lines(modules, box.width)):
        texts.append(f'<text x="{left:g}" y="{box.top + 37 + LINE * number:g}">{line}</text>')
    left, top, width, height = box
    return f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5"/>' + (
        "".join(texts)
    )


def _arrow(line: list[Box]) -> str:
    """Return an arrow from the first box to the last, through those between."""
    path = f"M{line[0].middle:g},{line[0].top + line[0].height:g}"
    for above, below in pairwise(line):
        start, end = above.top + above.height, below.top
        half = (start + end) / 2
        path += f" C{above.middle:g},{half:g} {below.middle:g},{half:g} {below.middle:g},{end:g}"
        if below.width == 0:
            path += f" V{below.top + below.height:g}"
    return f'<path d="{path}" marker-end="url(#head)"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read_imports()), encoding="utf-8")
