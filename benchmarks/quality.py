"""Cross-validate the recipes on a folder of pairs: nobody is scored by a model that has seen them.

python benchmarks/quality.py DATA [--output FOLDER] [--folds 4]

The people are cut into folds by their names. For each fold both recipes learn from everybody else,
and again from half of them; all that the recipe best chooses, it chooses inside of these (nested
cross-validation). Every model is solved from sums that are gathered once. Writes two tables, of the
whole image and of face and mouth, to the FOLDER's `quality.md` and, for each expression, a contact
sheet of people left out: the one for whom recipe best is worst, the median, and the best.
"""

import argparse
import hashlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlr import metrics
from mlr.data.files import replacing
from mlr.data.images import read_image, write_image
from mlr.data.pairs import find_pairs
from mlr.evaluation.evaluate import MEASURES, REGION_MEASURES, REGIONS, mean_scores
from mlr.evaluation.sheet import as_rgb8, draw_sheet
from mlr.gathering.collect import collect
from mlr.recipes import RECIPES
from mlr.running.report import Report

COPY, HALF = "copy of the input", "half the pairs"
PAPER, BEST = "paper", "best"
DIGITS = {"mse": 5, "psnr": 2, "ssim": 4, "sharpness": 3}
SHEET_QUALITY = 90  # of WebP: a quarter of a PNG, and no difference to see


def part_of(person, parts):
    """Return the part of a person, which depends on the name alone."""
    return int.from_bytes(hashlib.sha256(person.name.encode()).digest()[:8]) % parts


def unit(pixels):
    return pixels / np.iinfo(pixels.dtype).max


def cross_validate(pairs, folds):
    """Return scores and pictures of each pair: {label: {(expression, person): scores, output}}."""
    parts = [
        replace(
            pairs,
            people=tuple(p for p in pairs.people if part_of(p, 2 * folds) == part),
            problems=pairs.problems if part == 0 else (),  # to be told once
        )
        for part in range(2 * folds)
    ]
    found = defaultdict(dict)
    models = {}
    for name, make in RECIPES.items():
        recipe = make()
        sums = [
            collect(part, recipe.layout, folds=recipe.folds) if part.people else None
            for part in parts
        ]
        for fold in range(folds):
            left = [s for n, s in enumerate(sums) if n % folds != fold and s is not None]
            half = [s for n, s in enumerate(sums) if n % folds != fold and n < folds and s]
            for label, used in ((name, left), (f"{name}, {HALF}", half)):
                if used:
                    models[label, fold] = recipe.fit(sum(used[1:], used[0]), Report())
    for n, part in enumerate(parts):
        for person in part.people:
            source = read_image(person.source).pixels
            for expression, path in person.targets.items():
                target = read_image(path).pixels
                outputs = {COPY: source} | {
                    label: model.synthesize(source, expression)
                    for (label, fold), model in models.items()
                    if fold == n % folds and expression in model.expressions
                }
                for label, output in outputs.items():
                    scores = metrics.scores(unit(output), unit(target))
                    found[label][expression, person.name] = scores, output
    parameters = {label: model.parameters for (label, _), model in models.items()}
    return found, parameters


def table(found, parameters):
    """Return the scores as Markdown: of the whole image, then of the face and the mouth."""
    means = {
        label: mean_scores([scores for scores, _ in of.values()]) for label, of in found.items()
    }
    lines = ["| | MSE | PSNR | SSIM | sharpness | parameters |", "|---|---|---|---|---|---|"]
    for label, mean in means.items():
        lines.append(f"| {label} | {cells(mean, MEASURES)} | {parameters.get(label, '')} |")
    heads = [f"{region} {title}" for region in REGIONS for title in ("MSE", "SSIM", "sharpness")]
    lines += ["", f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for label, mean in means.items():
        parts = [cells(mean[region], REGION_MEASURES) for region in REGIONS]
        lines.append(f"| {label} | {' | '.join(parts)} |")
    for ours, theirs in ((BEST, PAPER), (f"{BEST}, {HALF}", f"{PAPER}, {HALF}")):
        if ours in means and theirs in means:
            mine, other = means[ours], means[theirs]
            less = 1 - mine["mse"] / other["mse"]
            within = [f"{1 - mine[r]['mse'] / other[r]['mse']:.1%} in the {r}" for r in REGIONS]
            text = f"Error of {ours}: {less:.1%} below that of {theirs}; "
            lines += ["", f"{text}{' and '.join(within)}."]
    return "\n".join(lines)


def cells(means, measures):
    """Return means as cells of a row; what is not finite stays empty."""
    shown = {name: means[name] for name in measures}
    return " | ".join("" if v is None else f"{v:.{DIGITS[name]}f}" for name, v in shown.items())


def sheet(found, people, expression):
    """Return a picture of the worst, the median and the best of people left out."""
    people = [person for person in people if (expression, person.name) in found[BEST]]
    people.sort(key=lambda person: -found[BEST][expression, person.name][0]["mse"])
    rows = []
    for person in (people[0], people[len(people) // 2], people[-1]):
        target = read_image(person.targets[expression]).pixels
        outputs = [found[label][expression, person.name] for label in (COPY, PAPER, BEST)]
        caption = ", ".join(
            f"{label} {1000 * scores['mse']:.2f}"
            for label, (scores, _) in zip(("copy", PAPER, BEST), outputs, strict=True)
        )
        pictures = [as_rgb8(output) for _, output in outputs] + [as_rgb8(target)]
        rows.append((f"{person.name}: error x 1000: {caption}", pictures))
    return draw_sheet(["input", PAPER, BEST, "target"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    pairs = find_pairs(options.data)
    found, parameters = cross_validate(pairs, options.folds)
    what = f"{len(pairs)} pairs of {len(pairs.people)} people, {options.folds} folds by name"
    text = f"{what}; nested cross-validation.\n\n{table(found, parameters)}\n"
    print(text)
    with replacing(options.output / "quality.md", force=True) as file:
        file.write(text.encode())
    for expression in pairs.expressions:
        path = options.output / f"quality-{expression}.webp"
        picture = sheet(found, pairs.people, expression)
        write_image(path, picture, quality=SHEET_QUALITY, force=True)


if __name__ == "__main__":
    main()
