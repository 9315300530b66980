"""Working in bands of rows changes no bit of a model or of statistics."""

import math

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.bands import WorkedOnHere, bands, rows_within
from mlr.core.folds import Folds, joined
from mlr.core.layout import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.recipes.best import Best
from mlr.recipes.paper import Paper
from mlr.training.registering import framed_statistics
from mlr.utils.progress import Report
from mlr.utils.threads import limited
from tests.conftest import draw

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink an example takes minutes


class Cropped(WorkedOnHere):
    """Row sums made anew from the rows of images, in bands of a given height."""

    def __init__(self, sources, targets, recipe, height):
        self.sources, self.targets, self.height = sources, targets, height
        self.layout = recipe.layout((sources.shape[3], *sources.shape[1:3]))
        self.folds = recipe.folds
        self.shape = (sources.shape[3], *sources.shape[1:3])
        self.head = self.rows(0, 1)

    def rows(self, first, end):
        X = np.ascontiguousarray(self.sources[:, first:end])
        T = {name: np.ascontiguousarray(t[:, first:end]) for name, t in self.targets.items()}
        parts = []
        for k in range(self.folds):
            some = {name: t[k :: self.folds] for name, t in T.items()}
            parts.append(statistics_of_arrays(X[k :: self.folds], some, self.layout))
        return Folds(tuple(parts))

    def only(self, expressions):
        few = object.__new__(Cropped)
        few.__dict__ = self.__dict__ | {
            "targets": {name: self.targets[name] for name in expressions}
        }
        few.head = few.rows(0, 1)
        return few

    def restricted(self, layout):
        few = object.__new__(Cropped)
        few.__dict__ = self.__dict__ | {"layout": layout}
        few.head = few.rows(0, 1)
        return few

    memory = math.inf
    folder = None

    def least_memory(self, cost, halo=0):
        return 0

    def bands(self, cost, halo=0):
        return bands(self.shape[1], self.height, halo)

    def array(self, shape, dtype):
        return np.zeros(shape, dtype)


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
    recipe = Paper(receptive_field=side, penalty=penalty)
    whole = recipe.fit(Cropped(X, targets, recipe, 13).rows(0, 13), Report())
    with limited(threads):
        assert_same(recipe.fit(Cropped(X, targets, recipe, rows), Report()), whole)


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
    recipe = Best(**options)
    sums = framed_statistics(X, {"sad": targets["sad"]}, recipe.layout((3, 21, 16)))
    whole = recipe.fit(Folds((sums,)), Report())

    class Bands(Folds):
        def bands(self, cost, halo=0):
            return bands(21, rows, halo)

    with limited(threads):
        assert_same(recipe.fit(Bands((sums,)), Report()), whole)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 4))
def test_bands_join_to_the_whole(rows, subjects):
    X, _ = faces(subjects, 12, 6)
    # The sums over the sources of the two agree at the top alone: they must not be shared below.
    other = X.copy()
    other[:, 6:] = 255 - other[:, 6:]
    layout = Layout(ReceptiveField.square(3))

    def rows_of(first, end):
        happy = statistics_of_arrays(X[:, first:end].copy(), {"a": X[:, first:end].copy()}, layout)
        sad = statistics_of_arrays(
            other[:, first:end].copy(), {"b": X[:, first:end].copy()}, layout
        )
        return Folds((happy + sad,))

    class Sums:
        shape = (3, 12, 6)
        head = rows_of(0, 12)
        rows = staticmethod(rows_of)
        bands = staticmethod(lambda cost, halo=0: bands(12, rows, halo))
        array = staticmethod(np.zeros)

    found, wanted = joined(Sums()).parts[0], rows_of(0, 12).parts[0]
    assert len(found.groups()) == len(wanted.groups()) == 2
    for name in ("a", "b"):
        assert np.array_equal(found.sources[name].lags, wanted.sources[name].lags)
        assert np.array_equal(found.sources[name].sums, wanted.sources[name].sums)
        assert np.array_equal(found.targets[name].cross, wanted.targets[name].cross)


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
