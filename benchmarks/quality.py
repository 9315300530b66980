"""Cross-validate the recipes on a folder of pairs: every subject is scored by models of others.

    python -m benchmarks.quality DATA [--title TEXT] [--output FOLDER] [--folds 4]

The subjects are split into folds by their names. For each fold `mlr.train` learns from the files of
all other subjects, templates included, and again from half of them. The recipe best is scored at
style 0 and at the default style. Writes tables to a section of the FOLDER's `quality.md`: of the
whole image, of face and mouth, and of thirds of the subjects by the lightness of their skin, the
mean luminance of the face in the input. The distance of face embeddings of output and input needs
the extra ``align``. For each expression a contact sheet shows three held-out subjects: those with
the largest, the median and the least error of the face at style 0.
"""

import argparse
import csv
import hashlib
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

import mlr
from benchmarks.tables import table, with_section
from mlr.core import regions
from mlr.core.model import LUMA
from mlr.evaluation.scores import (
    MEASURES,
    REGION_MEASURES,
    REGIONS,
    identity_distance,
    mean_scores,
    score,
)
from mlr.io.files import replacing
from mlr.io.images import read_image, write_image
from mlr.io.pairs import find_pairs
from mlr.io.sheet import as_rgb8, draw_sheet

COPY, HALF = "copy of the input", "half the pairs"
PAPER, MEAN, DEFAULT = "paper", "best, style 0", "best, default style"
#: Recipe and style of each row.
ROWS = {PAPER: ("paper", None), MEAN: ("best", 0.0), DEFAULT: ("best", None)}
LABELS = (COPY, *ROWS)
THIRDS = ("darkest", "middle", "lightest")
BY_SKIN = ("mse", "sharpness")  # of the face and of the mouth
TITLES = {"mse": "MSE", "psnr": "PSNR", "ssim": "SSIM", "sharpness": "sharpness"}
DIGITS = {"mse": 5, "psnr": 2, "ssim": 4, "sharpness": 3, "same_person": 2}
SHEET_QUALITY = 90  # of WebP: a quarter of a PNG, and no difference to see


def part_of(subject, parts):
    """Return the part of a subject, which depends on the name alone."""
    return int.from_bytes(hashlib.sha256(subject.name.encode()).digest()[:8]) % parts


def train_on(subjects, recipe, **options):
    """Return a model trained on the files of some subjects, and on nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "pairs.csv").open("w", newline="") as file:
            write = csv.writer(file).writerow
            write(["source", "target", "expression"])
            for subject in subjects:
                for name, path in subject.targets.items():
                    write([subject.source.absolute(), path.absolute(), name])
        return mlr.train(folder, recipe=recipe, **options)


def output_of(model, source, expression, style):
    """Return an output; at the default style where a model has no style to choose."""
    styled = model.registered and model.registered.appearances[expression].styled
    return model.synthesize(source, expression, style=style if styled else None)


def cross_validate(pairs, folds):
    """Return scores and outputs, {label: {(expression, subject): (scores, output)}}, and sizes."""
    found = defaultdict(dict)
    parameters = {}
    for fold in range(folds):
        others = [p for p in pairs.subjects if part_of(p, 2 * folds) % folds != fold]
        half = [p for p in others if part_of(p, 2 * folds) < folds]
        models = {
            (recipe, suffix): train_on(subjects, recipe)
            for recipe in ("paper", "best")
            for suffix, subjects in (("", others), (f", {HALF}", half))
            if subjects
        }
        for subject in pairs.subjects:
            if part_of(subject, 2 * folds) % folds != fold:
                continue
            source = read_image(subject.source).pixels
            distance = identity_distance(source)
            for expression, path in subject.targets.items():
                target = read_image(path).pixels
                outputs = {COPY: source}
                for (recipe, suffix), model in models.items():
                    for label, (needed, style) in ROWS.items():
                        if needed == recipe and expression in model.expressions:
                            output = output_of(model, source, expression, style)
                            outputs[label + suffix] = output
                            parameters[label + suffix] = model.parameters
                for label, output in outputs.items():
                    scores = score(output, target)
                    if label in LABELS:
                        scores["same_person"] = distance(output)
                    found[label][expression, subject.name] = scores, output
    return found, parameters


def lightness(subject):
    """Return the mean luminance of the face in the input of a subject, 0 to 255."""
    image = as_rgb8(read_image(subject.source).pixels)
    return float((image[regions.face(*image.shape[:2])] @ LUMA).mean())


def report(found, parameters, subjects):
    """Return the scores as Markdown: whole image, face and mouth, and thirds by skin."""
    order = [*LABELS, *(f"{label}, {HALF}" for label in ROWS)]
    means = {label: means_of(found[label].values()) for label in order if label in found}
    whole = [
        [label, *cells(mean, (*MEASURES, "same_person")), parameters.get(label, "")]
        for label, mean in means.items()
    ]
    parts = [[label, *regional(mean, REGION_MEASURES)] for label, mean in means.items()]
    ordered = np.array(sorted(subjects, key=lightness), object)
    by_skin = []
    for third, group in zip(THIRDS, np.array_split(ordered, 3), strict=True):
        names = {subject.name for subject in group}
        for label in LABELS:
            entries = [entry for (_, name), entry in found[label].items() if name in names]
            if entries:
                mean = means_of(entries)
                by_skin.append([f"{third} third, {label}", *regional(mean, BY_SKIN)])
    texts = [
        table(["", *TITLES.values(), "identity", "parameters"], whole),
        table(["", *regional_titles(REGION_MEASURES)], parts),
        "By the lightness of the skin:",
        table(["", *regional_titles(BY_SKIN)], by_skin),
    ]
    for label in (MEAN, DEFAULT):
        for suffix in ("", f", {HALF}"):
            ours, theirs = label + suffix, PAPER + suffix
            if ours in means and theirs in means:
                texts.append(compared(ours, means[ours], theirs, means[theirs]))
    return "\n\n".join(texts)


def means_of(entries):
    """Return the mean scores of pairs, and their mean distance of embeddings if it is known."""
    scores = [scores for scores, _ in entries]
    distances = [each.get("same_person") for each in scores]
    known = None if None in distances else float(np.mean(distances))
    return mean_scores(scores) | {"same_person": known}


def cells(means, measures):
    """Return means as cells of a row; cells of non-finite means are empty."""
    shown = {name: means[name] for name in measures}
    return ["" if mean is None else f"{mean:.{DIGITS[name]}f}" for name, mean in shown.items()]


def regional(mean, measures):
    """Return the cells of the face and of the mouth."""
    return [cell for region in REGIONS for cell in cells(mean[region], measures)]


def regional_titles(measures):
    return [f"{region} {TITLES[measure]}" for region in REGIONS for measure in measures]


def compared(ours, mine, theirs, other):
    """Return the error of one row relative to another."""
    more = {"of the whole image": mine["mse"] / other["mse"] - 1}
    more |= {
        f"in the {region}": mine[region]["mse"] / other[region]["mse"] - 1 for region in REGIONS
    }
    parts = [f"{value:+.1%} {where}" for where, value in more.items()]
    return f"Error of {ours}, against that of {theirs}: {', '.join(parts)}."


def sheet(found, subjects, expression):
    """Return a picture of three held-out subjects: largest, median and least error of the face."""

    def error(label, subject):
        return found[label][expression, subject.name][0]["face"]["mse"]

    subjects = [subject for subject in subjects if (expression, subject.name) in found[MEAN]]
    subjects.sort(key=lambda subject: -error(MEAN, subject))
    rows = []
    for subject in (subjects[0], subjects[len(subjects) // 2], subjects[-1]):
        caption = ", ".join(f"{label} {1000 * error(label, subject):.2f}" for label in LABELS)
        outputs = [found[label][expression, subject.name][1] for label in LABELS]
        target = read_image(subject.targets[expression]).pixels
        pictures = [as_rgb8(image) for image in (*outputs, target)]
        rows.append((f"{subject.name}: error of the face x 1000: {caption}", pictures))
    return draw_sheet(["input", PAPER, "style 0", "default style", "target"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--title", help="of the section of quality.md  [default: the folder]")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    pairs = find_pairs(options.data)
    found, parameters = cross_validate(pairs, options.folds)
    what = f"{len(pairs)} pairs of {len(pairs.subjects)} subjects, {options.folds} folds by name"
    text = f"{what}.\n\n{report(found, parameters, pairs.subjects)}\n"
    print(text)
    path = options.output / "quality.md"
    before = path.read_text() if path.exists() else ""
    with replacing(path, force=True) as file:
        file.write(with_section(before, options.title or options.data, text).encode())
    for expression in pairs.expressions:
        path = options.output / f"quality-{expression}.webp"
        picture = sheet(found, pairs.subjects, expression)
        write_image(path, picture, quality=SHEET_QUALITY, force=True)


if __name__ == "__main__":
    main()
