"""Processing in bands of rows changes no bit of a model or of statistics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.bands import bands, rows_within
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.recipes.fit import fit
from mlr.recipes.fit import recipe as named_recipe
from mlr.recipes.paper import Paper
from mlr.training import budget
from mlr.training.decode import framed_statistics
from mlr.utils.threads import limited
from tests.conftest import draw

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink an example takes minutes


class Cropped:
    """Statistics computed from rows of the images alone, as a `RowSource`."""

    def __init__(self, sources, targets, layout):
        self.sources, self.targets, self.layout = sources, targets, layout
        self.head = replace(self.rows(0, 1), shape=(sources.shape[3], *sources.shape[1:3]))

    def rows(self, first, end):
        X = np.ascontiguousarray(self.sources[:, first:end])
        T = {name: np.ascontiguousarray(t[:, first:end]) for name, t in self.targets.items()}
        return statistics_of_arrays(X, T, self.layout)

    def loading_bytes(self, rows):
        return 1000.0 * rows


def faces(count, height, width, channels=3):
    X = np.stack([draw(n, 32, channels)[:height, :width] for n in range(count)])
    return X, {"happy": np.roll(X, 1, axis=1), "sad": np.roll(X, 1, axis=2)}


def assert_same(one, other):
    assert one.info == other.info
    assert np.array_equal(one.weights, other.weights)
    if one.registered is not None:
        for name in one.expressions:
            ours, theirs = (model.registered.appearances[name] for model in (one, other))
            for key in ("mean", "spread", "face", "shape"):
                assert np.array_equal(getattr(ours, key), getattr(theirs, key))


@settings(deadline=None, max_examples=8, phases=QUICK)
@given(
    rows=st.integers(1, 13),
    side=st.sampled_from([1, 3, 5]),
    penalty=st.sampled_from([0.0, 0.4]),
    threads=st.integers(1, 2),
)
def test_the_papers_recipe_in_bands(rows, side, penalty, threads):
    X, targets = faces(7, 13, 9)
    recipe = Paper(receptive_field=ReceptiveField.square(side), penalty=penalty)
    source = Cropped(X, targets, recipe.layout())
    whole = fit(recipe, source.rows(0, 13))
    with limited(threads):
        assert_same(fit(recipe, source, bands(13, rows, recipe.halo(source.head))), whole)


@settings(deadline=None, max_examples=8, phases=QUICK)
@given(
    rows=st.integers(1, 21),
    options=st.fixed_dictionaries(
        {},
        optional={
            "receptive_field": st.sampled_from([1, 3, 5, "plus"]),
            "blur": st.sampled_from([0, 0.7, 2]),
            "penalty": st.just(0.1),
        },
    ),
    threads=st.integers(1, 2),
)
def test_the_default_recipe_in_bands(rows, options, threads):
    X, targets = faces(9, 21, 16)
    recipe = named_recipe("best", options)
    found = framed_statistics(X, {"sad": targets["sad"]}, recipe.layout())
    whole = fit(recipe, found, bands(21, 21))
    with limited(threads):
        assert_same(fit(recipe, found, bands(21, rows, recipe.halo(found))), whole)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 4))
def test_bands_join_to_the_whole(rows, subjects):
    X, _ = faces(subjects, 12, 6)
    layout = Layout(ReceptiveField.square(3))
    source = Cropped(X, {"a": X, "b": X[::-1]}, layout)
    memory = 1000 * (min(rows + 2 * 2, 12)) / budget.BAND_SHARE + 1
    found, wanted = budget.load_all(source, budget.Budget(int(memory))), source.rows(0, 12)
    assert found.shape == (3, 12, 6)
    for ours, theirs in zip(found.planes(), wanted.planes(), strict=True):
        assert np.array_equal(ours, theirs)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 9))
def test_bands_make_up_the_image(height, rows, halo):
    found = bands(height, rows, halo)
    assert [y for band in found for y in range(height)[band.rows]] == list(range(height))
    for band in found:
        crop = range(height)[band.above : band.below]
        assert list(crop[band.inner]) == list(range(height)[band.rows])
        assert 1 <= band.end - band.first <= rows
        assert (band.above, band.below) == (
            max(0, band.first - halo),
            min(height, band.end + halo),
        )


@pytest.mark.parametrize(("memory", "rows"), [(0, 0), (10, 0), (30, 1), (95, 7), (1e9, 20)])
def test_as_many_rows_as_fit(memory, rows):
    assert rows_within(memory, 20, lambda rows: 20 + 10 * rows) == rows
