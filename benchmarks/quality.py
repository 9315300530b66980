"""Cross-validate on a folder of pairs: every person is scored by a model that has not seen them.

python benchmarks/quality.py DATA [--folds 4] [--receptive-field 3] [--penalty 0.4]

The model for a fold is solved from the statistics of all people minus those of the fold.
"""

import argparse
import hashlib
from dataclasses import replace

import numpy as np

from mlr import ReceptiveField, metrics
from mlr.collect import collect
from mlr.data.images import read_image
from mlr.data.pairs import find_pairs
from mlr.evaluation import MEASURES
from mlr.recipes.paper import Paper
from mlr.report import Report


def fold_of(person, folds):
    """Return the fold of a person, which depends on the name alone."""
    return int.from_bytes(hashlib.sha256(person.name.encode()).digest()[:8]) % folds


def unit(pixels):
    return pixels / np.iinfo(pixels.dtype).max


def cross_validate(pairs, field, penalty, folds):
    """Return the scores of the model and of the unchanged input, for each pair."""
    parts = [
        replace(
            pairs,
            people=tuple(p for p in pairs.people if fold_of(p, folds) == fold),
            problems=pairs.problems if fold == 0 else (),  # to be told once
        )
        for fold in range(folds)
    ]
    statistics = [collect(part, field) for part in parts]
    everyone = sum(statistics[1:], statistics[0])
    ours, copied = [], []
    for part, held_out in zip(parts, statistics, strict=True):
        model = Paper(penalty=penalty).fit(everyone - held_out, Report())
        for person in part.people:
            source = read_image(person.source).pixels
            for expression, path in person.targets.items():
                target = unit(read_image(path).pixels)
                output = model.synthesize(source, expression)
                ours.append(metrics.scores(unit(output), target))
                copied.append(metrics.scores(unit(source), target))
    return ours, copied


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--receptive-field", default="3")
    parser.add_argument("--penalty", type=float, default=0.4)
    options = parser.parse_args()
    pairs = find_pairs(options.data)
    field = ReceptiveField.of(options.receptive_field)
    ours, copied = cross_validate(pairs, field, options.penalty, options.folds)
    print(f"{len(pairs)} pairs of {len(pairs.people)} people, {options.folds} folds\n")
    print("| | MSE | PSNR | SSIM | sharpness |\n|---|---|---|---|---|")
    name = f"{field}, penalty {options.penalty:g}"
    for label, scores in (("copy of the input", copied), (name, ours)):
        means = [np.mean([score[measure] for score in scores]) for measure in MEASURES]
        print(f"| {label} | {means[0]:.5f} | {means[1]:.2f} | {means[2]:.3f} | {means[3]:.2f} |")
    better = np.mean([o["mse"] < c["mse"] for o, c in zip(ours, copied, strict=True)])
    print(f"\nlower error than the input for {better:.0%} of the pairs")


if __name__ == "__main__":
    main()
