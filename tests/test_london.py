"""The paper's claim on real photographs, where these are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from mlr.accumulate import statistics_of_arrays
from mlr.data.images import read_image
from mlr.receptive_field import ReceptiveField
from mlr.training import fit

LONDON = Path(os.environ.get("MLR_DATA", "../shared/data")) / "london" / "128"

pytestmark = pytest.mark.skipif(
    not LONDON.is_dir(), reason=f"needs the London faces in {LONDON} (set MLR_DATA)"
)


def stack(expression):
    paths = sorted((LONDON / expression).glob("*.png"))
    return np.stack([read_image(path).pixels for path in paths])


def test_the_papers_recipe_beats_copying_the_input_by_more_than_an_eighth():
    X, T = stack("neutral"), stack("happy")
    held_out = np.arange(len(X)) % 4 == 3
    statistics = statistics_of_arrays(
        X[~held_out], {"happy": T[~held_out]}, ReceptiveField.square(3)
    )
    model = fit(statistics, 0.4, recipe="paper")
    truth = T[held_out] / 255
    error = np.square(model.synthesize(X[held_out]) / 255 - truth).mean()
    copied = np.square(X[held_out] / 255 - truth).mean()
    assert error < 0.88 * copied
