"""Compose photographs of drawn faces, and change the expressions in them.

    python -m benchmarks.photographs [MODEL] [-o SHEET]

Draws photographs with faces of several sizes and angles, changes their expressions with `mlr
synthesize`, and writes a sheet of the photographs before and after. The model is of drawn faces.
"""

import argparse
import cmath
import csv
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import PIL.ImageFilter

from mlr import load
from mlr.io.images import read_image, write_image
from mlr.io.sheet import draw_sheet
from mlr.photo.eyes import COLUMNS
from mlr.samples import EYES, draw_face
from mlr.synthesis.files import synthesize

HEIGHT, WIDTH = 330, 500
SEED = 11  # of held-out subjects: `make demo` trains on those of 0
GRAIN = 4  # of 255, standard deviation
#: The prints in each photograph: subject, side in pixels, centre, degrees, brightness.
PHOTOGRAPHS = (
    ((0, 260, (250, 165), -12, 1.0),),
    ((1, 150, (95, 110), 8, 0.8), (2, 190, (275, 190), -25, 1.0), (3, 110, (430, 90), 30, 0.6)),
)
EXPRESSIONS = ("happy", "surprised")


def draw_print(subject, side, brightness):
    """Return a print with a white margin, and its eyes, relative to the centre."""
    face = draw_face(SEED, subject, "neutral", side) * brightness
    margin = side // 16
    sheet = np.full((side + 2 * margin, side + 2 * margin, 3), 245, np.uint8)
    sheet[margin:-margin, margin:-margin] = np.clip(face, 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(sheet), [complex(x - 0.5, y - 0.5) * side for x, y in EYES]


def draw_photograph(prints, rng):
    """Return a wall with prints on it, and the eyes of each as complex numbers."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    wall = (196 - 34 * y - 8 * x)[..., None] * (1.0, 0.98, 0.92)
    scene = PIL.Image.fromarray(wall.astype(np.uint8))
    eyes = []
    for subject, side, middle, degrees, brightness in prints:
        sheet, positions = draw_print(subject, side, brightness)
        turned = sheet.convert("RGBA").rotate(-degrees, PIL.Image.Resampling.BICUBIC, expand=True)
        corner = round(middle[0] - turned.width / 2), round(middle[1] - turned.height / 2)
        shade = PIL.Image.new("L", scene.size)
        shade.paste(turned.getchannel("A"), (corner[0] + 4, corner[1] + 5))
        shade = shade.filter(PIL.ImageFilter.GaussianBlur(5))
        scene.paste((70, 70, 75), (0, 0), shade)
        scene.paste(turned, corner, turned)
        centre = complex(corner[0] + turned.width / 2, corner[1] + turned.height / 2)
        turn = cmath.rect(1, math.radians(degrees))
        eyes.append([centre + turn * eye - (0.5 + 0.5j) for eye in positions])
    pixels = np.asarray(scene) + rng.normal(0, GRAIN, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), eyes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=Path("demo/model.npz"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/photographs.jpg"))
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "eyes.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", *COLUMNS])
            for number, prints in enumerate(PHOTOGRAPHS):
                pixels, eyes = draw_photograph(prints, rng)
                write_image(folder / "in" / f"{number}.png", pixels)
                for left, right in eyes:
                    table.writerow([f"{number}.png", left.real, left.imag, right.real, right.imag])
        synthesize(
            load(options.model),
            [folder / "in"],
            folder / "out",
            target=EXPRESSIONS,
            eyes=folder / "eyes.csv",
        )
        for number in range(len(PHOTOGRAPHS)):
            parts = ("in", *(f"out/{expression}" for expression in EXPRESSIONS))
            rows.append(("", [read_image(folder / p / f"{number}.png").pixels for p in parts]))
    sheet = draw_sheet(["photograph", *EXPRESSIONS], rows)
    write_image(options.output, sheet, quality=88, force=True)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
