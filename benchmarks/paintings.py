"""Change the faces of paintings with the bundled model, at several styles, for the README.

python -m benchmarks.paintings [-o SHEET]
"""

import argparse
from pathlib import Path

import mlr
from mlr.io.images import read_image, write_image
from mlr.io.sheet import draw_sheet

DOCS = Path(__file__).parent.parent / "docs"
PAINTINGS = ("mona-lisa", "straw-hat", "adele-bloch-bauer")
STYLES = (-1.2, -0.5, 0.6, None)
QUALITY = 88  # of JPEG


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=DOCS / "paintings.jpg")
    model, rows = mlr.load("smile"), []
    default = model.appearances["happy"].style
    for name in PAINTINGS:
        face = read_image(DOCS / "paintings" / f"{name}.jpg").pixels
        outputs = [model.synthesize(face, "happy", style=style) for style in STYLES]
        rows.append(("", [face, *outputs]))
    heads = [
        f"style {style:g}" if style is not None else f"style {default:.2g}, the default"
        for style in STYLES
    ]
    sheet = draw_sheet(["painting", *heads], rows)
    write_image(parser.parse_args().output, sheet, quality=QUALITY, force=True)


if __name__ == "__main__":
    main()
