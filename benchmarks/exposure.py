"""Measure the gain of exposure matching on darkened and brightened held-out faces.

    python -m benchmarks.exposure DATA [-o FILE] [--folds 4]

The subjects are split into folds by their names; both recipes learn from the other folds. Input and
target of held-out subjects are changed alike and rounded to 8 bits, and the recipes' outputs scored
as they would be written; those of the recipe paper also with exposure matching, as photographs
get it. The recipe best follows the light on its own.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.quality import part_of, train_on
from benchmarks.tables import table
from mlr.io.files import replacing
from mlr.io.images import read_image
from mlr.io.pairs import find_pairs
from mlr.photo.composite import exposure_match
from mlr.recipes.fit import RECIPES

#: How intensities x in [0, 1] are changed.
LIGHTS = {
    "as it is": lambda x: x,
    "0.7 x": lambda x: 0.7 * x,
    "0.5 x": lambda x: 0.5 * x,
    "0.3 x": lambda x: 0.3 * x,
    "x^2": lambda x: x**2,
    "x^0.6": lambda x: x**0.6,
    "0.5 x + 0.5": lambda x: 0.5 * x + 0.5,
    "0.6 x + 0.1": lambda x: 0.6 * x + 0.1,
}
COPY = "copy"


def as_8bit(x):
    """Return intensities as an 8-bit file would hold them."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.float32) / 255


def matched(model, x, expression):
    """Return the output at the exposure of the face."""
    gain, offset = exposure_match(model, x)
    exposed = gain * x + offset
    return x + (model.synthesize(exposed, expression) - exposed) / gain


def measure(pairs, folds):
    """Return squared errors, {(light, column): one for each pair}."""
    errors = defaultdict(list)
    for fold in range(folds):
        training = [p for p in pairs.subjects if part_of(p, folds) != fold]
        held_out = [p for p in pairs.subjects if part_of(p, folds) == fold]
        if not training or not held_out:
            continue
        models = {name: train_on(training, name) for name in RECIPES}
        for subject in held_out:
            x = read_image(subject.source)
            for expression, path in subject.targets.items():
                t = read_image(path)
                for light, change in LIGHTS.items():
                    source, target = (
                        as_8bit(change(i.pixels / np.iinfo(i.pixels.dtype).max)) for i in (x, t)
                    )
                    outputs = {COPY: source}
                    for name, model in models.items():
                        outputs[name] = model.synthesize(source, expression)
                        if model.registered is None:
                            outputs[f"{name}, matched"] = matched(model, source, expression)
                    for column, output in outputs.items():
                        error = np.square(as_8bit(output) - target).mean(dtype=np.float64)
                        errors[light, column].append(error)
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/exposure.md"))
    parser.add_argument("--folds", type=int, default=4)
    options = parser.parse_args()
    pairs = find_pairs(options.data)
    errors = measure(pairs, options.folds)
    columns = list(dict.fromkeys(column for _, column in errors))
    rows = [
        [light, *(f"{1e5 * np.mean(errors[light, column]):.1f}" for column in columns)]
        for light in LIGHTS
    ]
    what = f"{len(pairs)} pairs of {len(pairs.subjects)} subjects, {options.folds} folds by name"
    text = f"{what}; mean squared error x 100,000.\n\n{table(['light', *columns], rows)}\n"
    print(text)
    with replacing(options.output, force=True) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
