"""Working in bands of rows changes no bit of a model or of statistics."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlr.data.mapped import reserved_file
from mlr.errors import MlrError
from mlr.folds import WORK, Folds, joined
from mlr.gathering.accumulate import statistics_of_arrays
from mlr.layout import Layout
from mlr.option import Option
from mlr.receptive_field import ReceptiveField
from mlr.recipes import kept
from mlr.recipes.best import Best
from mlr.recipes.displacement import moments
from mlr.recipes.paper import Paper
from mlr.recipes.search import Search, _left_out
from mlr.running.bands import WorkedOnHere, bands, rows_within
from mlr.running.report import Report
from mlr.running.threads import limited
from tests.conftest import draw

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink an example takes minutes


class Others:
    """Those who would work on the bands of some sums, were it not done here."""

    def __init__(self, sums):
        self.sums = sums

    def made(self, making, bands, keep):
        self.making, self.bands = making, bands
        crops = (self.sums.rows(band.above, band.below) for band in bands)
        self.things = [making.make(*both) for both in zip(crops, bands, strict=True)]
        return self

    def each(self, work):
        making, bands = self.making, self.bands
        for band in reversed(bands):
            near = making.near(bands, band)
            yield (
                band,
                work(making.join([making.cut(self.things[k], bands[k], band) for k in near])),
            )


class Cropped(WorkedOnHere):
    """Row sums made anew from the rows of images, in bands of a given height."""

    elsewhere = None

    def __init__(self, sources, targets, recipe, height):
        self.sources, self.targets, self.height = sources, targets, height
        self.layout = recipe.layout((sources.shape[3], *sources.shape[1:3]))
        self.folds = recipe.folds
        self.shape = (sources.shape[3], *sources.shape[1:3])
        if height % 2 == 1:  # as others would, and not one band after the other
            self.elsewhere = Others(self)
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
        few.elsewhere = few.elsewhere and Others(few)
        few.head = few.rows(0, 1)
        return few

    def restricted(self, layout):
        few = object.__new__(Cropped)
        few.__dict__ = self.__dict__ | {"layout": layout}
        few.elsewhere = few.elsewhere and Others(few)
        few.head = few.rows(0, 1)
        return few

    memory = math.inf
    spare = 0
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
    assert one.meta == other.meta
    assert np.array_equal(one.weights, other.weights)
    if one.displacement is not None:
        assert np.array_equal(one.displacement, other.displacement)


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


@settings(deadline=None, max_examples=5, phases=QUICK)
@given(
    rows=st.integers(2, 21),
    options=st.fixed_dictionaries(
        {},
        optional={
            "receptive_field": st.just(3),
            "displacement": st.integers(0, 2),
            "mirrored": st.booleans(),
            "penalty": st.just(0.1),
        },
    ),
    threads=st.integers(1, 2),
)
def test_the_default_recipe_in_bands(rows, options, threads):
    X, targets = faces(12, 21, 16)
    if options.get("displacement") != 0:  # otherwise they share their moments
        del targets["sad"]
    recipe = Best(**options)
    whole = recipe.fit(Cropped(X, targets, recipe, 21).rows(0, 21), Report())
    with limited(threads):
        assert_same(recipe.fit(Cropped(X, targets, recipe, rows), Report()), whole)


@pytest.mark.parametrize("rows", [8, 22])
def test_moments_are_made_once_for_all_questions(rows, monkeypatch):
    X, targets = faces(12, 21, 16)
    recipe = Best(receptive_field=3, displacement=0, blur=0.4)
    sums = Cropped(X, targets, recipe, rows)
    made, asked = [], []

    def counted(*arguments):
        made.append(arguments)
        return moments(*arguments)

    def measured(*arguments):
        asked.append(arguments)
        return Search._measure(*arguments)

    monkeypatch.setattr("mlr.recipes.search.moments", counted)
    monkeypatch.setattr("mlr.recipes.best.Search", type("", (Search,), {"_measure": measured}))
    recipe.fit(sums, Report())
    assert len(made) == 4 * len(sums.bands(None))
    assert len(asked) > 1


def test_what_will_likely_be_asked_is_worked_out_but_in_the_first_band(monkeypatch):
    X, targets = faces(12, 21, 16)
    recipe = Best(receptive_field=3, displacement=0)
    sums = Cropped(X, {"sad": targets["sad"]}, recipe, 8)
    (eager,), (patient,) = recipe._searches(sums), recipe._searches(sums)
    blurs = recipe.blurs(sums.shape)
    options = {"sad": [Option(blur, True, 0.05) for blur in blurs]}
    soon = {"sad": [Option(blur, True, 0.01) for blur in blurs]}
    asked = []

    def left_out(names, parts, learner, asked_now):
        asked.append(len(asked_now))
        return _left_out(names, parts, learner, asked_now)

    monkeypatch.setattr(
        "mlr.recipes.search._left_out", lambda n, p, learner, asked: left_out(n, p, learner, asked)
    )
    assert eager.errors(options, False, soon) == patient.errors(options, False)
    count = len(sums.bands(None))
    assert asked == [2, *[3] * (count - 1), *[2] * count]
    asked.clear()
    assert eager.errors(soon, False) == patient.errors(soon, False)
    # In the other bands one of the two is known, or each in some of them.
    assert sum(asked) == 4 * count - (count - 1)


def test_moments_are_kept_on_the_disk_or_else_in_memory(monkeypatch):
    X, targets = faces(12, 21, 16)
    recipe = Best(receptive_field=3, displacement=0, blur=0.4)
    folds = Cropped(X, targets, recipe, 21).rows(0, 21)
    whole = recipe.fit(folds, Report())
    files, no_room = [], []

    def reserved(size, folder):
        if no_room:
            raise MlrError("no room")
        files.append(size)
        return reserved_file(size, folder)

    monkeypatch.setattr(kept, "IN_MEMORY", 0)
    monkeypatch.setattr("mlr.data.spool.reserved_file", reserved)
    assert_same(recipe.fit(folds, Report()), whole)
    assert len(files) == 4
    no_room.append(True)
    assert_same(recipe.fit(folds, Report()), whole)
    tight = replace(folds, memory=folds.nbytes + WORK + 1000)
    assert tight.spare == tight.only(["sad"]).spare == 1000  # planes of others still take theirs
    with pytest.raises(MlrError, match="no room"):
        recipe.fit(tight, Report())


class Two(Cropped):
    """Row sums of two expressions, each of other people."""

    def __init__(self, one, other):
        self.__dict__ = one.__dict__ | {"both": (one, other)}
        self.elsewhere = one.elsewhere and Others(self)
        self.head = self.rows(0, 1)

    def rows(self, first, end):
        one, other = self.both
        return one.rows(first, end) + other.rows(first, end)

    def only(self, expressions):
        assert set(expressions) == {"happy", "sad"}
        return self


@pytest.mark.parametrize("rows", [4, 5])  # one after the other, and by themselves
def test_people_who_look_alike_at_the_top_alone_share_nothing_below(rows):
    X, targets = faces(12, 20, 16)
    other = X.copy()
    other[:, 8:] //= 2
    recipe = Best(receptive_field=3, displacement=0, blur=0.4, mirrored=False)
    happy, sad = (
        Cropped(images, {name: targets[name]}, recipe, rows)
        for name, images in (("happy", X), ("sad", other))
    )
    both = Two(happy, sad)
    assert both.head.groups() == [("happy", "sad")]
    assert both.rows(0, 20).groups() == [("happy",), ("sad",)]
    found = recipe.fit(both, Report())
    for place, alone in enumerate((happy, sad)):
        assert np.array_equal(found.weights[place], recipe.fit(alone, Report()).weights[0])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 12), st.integers(1, 4))
def test_bands_join_to_the_whole(rows, people):
    X, _ = faces(people, 12, 6)
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
