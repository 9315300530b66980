"""The paper's claim on real photographs, if they are available."""

import os
from pathlib import Path

import numpy as np
import pytest

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.receptive_field import ReceptiveField
from mlr.core.statistics import total
from mlr.io.images import read_image
from mlr.recipes.fit import fit
from mlr.recipes.paper import Paper

LONDON = Path(os.environ.get("MLR_DATA", "../shared/data")) / "london" / "128"

pytestmark = pytest.mark.skipif(
    not LONDON.is_dir(), reason=f"needs the London faces in {LONDON} (set MLR_DATA)"
)


def stack(expression):
    paths = sorted((LONDON / expression).glob("*.png"))
    return np.stack([read_image(path).pixels for path in paths])


def test_cross_validated_the_papers_recipe_beats_copying_the_input_by_more_than_12_percent():
    X, T = stack("neutral"), stack("happy")
    fold = np.arange(len(X)) % 4
    parts = [
        statistics_of_arrays(X[fold == k], {"happy": T[fold == k]}, ReceptiveField.square(3))
        for k in range(4)
    ]
    everyone = total(parts)
    outputs = np.empty_like(X)
    for k, part in enumerate(parts):
        model = fit(Paper(), everyone - part)
        outputs[fold == k] = model.synthesize(X[fold == k])
    error = np.square(outputs / 255 - T / 255).mean()
    copied = np.square(X / 255 - T / 255).mean()
    assert error < 0.88 * copied
