"""Statistics are exact, and adding and subtracting them adds and removes pairs."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.core.accumulate import Accumulator, PairSums, statistics_of_arrays
from mlr.core.planes import NARROW_SAMPLES, Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.statistics import DIGEST_MODULUS
from mlr.errors import DataError, ModelError, OutputExistsError
from mlr.io.npz import read_npz, write_npz
from mlr.io.statistics_file import load_statistics, save_statistics
from mlr.utils.threads import limited

FIELD = ReceptiveField.square(3)


def pairs(seed, count, expressions=("happy",), shape=(5, 6, 1), dtype=np.uint8):
    rng = np.random.default_rng(seed)
    high = np.iinfo(dtype).max + 1

    def draw():
        return rng.integers(0, high, (count, *shape), dtype=dtype)

    return draw(), {name: draw() for name in expressions}


def statistics(X, targets, digest=0, known=True):
    """Accumulate pairs; the digest of the sources is the sum of theirs, if known."""
    digests = (int.from_bytes(hashlib.sha256(x.tobytes()).digest()) for x in X)
    source = sum(digests) % DIGEST_MODULUS if known else 0
    result = Accumulator(FIELD, (X.shape[3], *X.shape[1:3]), list(targets), X.dtype, len(X))
    result.add(X, targets)
    return result.statistics(PairSums(source, dict.fromkeys(targets, digest)))


def some(X, targets, which):
    return X[which], {name: T[which] for name, T in targets.items()}


def saved(statistics, path):
    save_statistics(statistics, path, force=True)
    return path.read_bytes()


@pytest.mark.parametrize("layout", [Layout(FIELD), Layout(FIELD, pooled=True)])
def test_a_layout_tells_how_many_planes_there_are(layout):
    X, targets = pairs(0, 2, ("happy", "sad"), (4, 5, 3))
    planes = layout.planes(2) * layout.channels(3)
    assert statistics_of_arrays(X, targets, layout).nbytes == 4 * planes * 4 * 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_are_the_sums_of_their_definition(dtype):
    X, targets = pairs(0, 7, ("happy", "sad"), (4, 5, 3), dtype)
    result = statistics(X, targets)
    x = X.astype(object)  # Python integers: exact whatever the size
    for c in range(3):
        for index, (dy, dx) in enumerate(FIELD.lag_table.lags):
            for y in range(4):
                for u in range(5):
                    inside = 0 <= y + dy < 4 and 0 <= u + dx < 5
                    expected = (x[:, y, u, c] * x[:, y + dy, u + dx, c]).sum() if inside else 0
                    assert result.sources["sad"].lags[c, index, y, u] == expected
    t = targets["sad"].astype(object)
    assert (result.targets["sad"].squares == (t * t).sum(axis=0).transpose(2, 0, 1)).all()
    assert (result.targets["sad"].sums == t.sum(axis=0).transpose(2, 0, 1)).all()
    assert [list(group.targets) for group in result.groups] == [["happy", "sad"]]
    assert result.pairs == {"happy": 7, "sad": 7}


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_order_and_batch_size_change_no_bit(count, batch, random):
    X, targets = pairs(count, count)
    order = random.sample(range(count), count)
    result = Accumulator(FIELD, (1, 5, 6), ["happy"], np.uint8, batch)
    for start in range(0, count, 7):
        result.add(*some(X, targets, order[start : start + 7]))
    expected = statistics(X, targets)
    got = result.statistics()
    assert np.array_equal(got.sources["happy"].lags, expected.sources["happy"].lags)
    assert np.array_equal(got.targets["happy"].cross, expected.targets["happy"].cross)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_threads_and_shards_change_no_bit(dtype, tmp_path):
    X, targets = pairs(1, 50, dtype=dtype)
    with limited(1):
        whole = saved(statistics(X, targets), tmp_path / "whole.npz")
    with limited(2):
        shards = [statistics(*some(X, targets, slice(k, None, 3))) for k in range(3)]
    assert saved(shards[0] + shards[1] + shards[2], tmp_path / "a.npz") == whole
    assert saved(shards[2] + (shards[0] + shards[1]), tmp_path / "b.npz") == whole


def test_more_samples_than_32_bits_hold_are_accumulated_in_64():
    count = NARROW_SAMPLES + 7
    X = np.full((count, 1, 2, 1), 255, np.uint8)
    result = Accumulator(FIELD, (1, 1, 2), ["happy"], np.uint8, count)
    for part in np.array_split(X, 3):
        result.add(part, {"happy": part})
    found = result.statistics(PairSums(3, {"happy": 5}))
    lags = found.sources["happy"].lags
    right = FIELD.lag_table.lags.tolist().index([0, 1])
    assert lags[0, right].tolist() == [[count * 255**2, 0]]
    assert lags.dtype == np.int64
    assert found.pairs == {"happy": count}
    assert (found.sources["happy"].digest, found.targets["happy"].digest) == (3, 5)


def test_large_images_are_accumulated_in_small_batches():
    X, targets = pairs(2, 40)
    small = Accumulator(FIELD, (1, 5, 6), ["happy"], np.uint8, len(X), batch_bytes=1)
    small.add(X, targets)
    got, expected = small.statistics(), statistics(X, targets)
    assert np.array_equal(got.sources["happy"].lags, expected.sources["happy"].lags)


def test_taking_pairs_out_equals_never_having_had_them(tmp_path):
    X, targets = pairs(3, 20, ("happy", "sad"))
    stay, leave = slice(0, 15), slice(15, None)
    never = statistics(*some(X, targets, stay), digest=5)
    result = statistics(X, targets, digest=12) - statistics(*some(X, targets, leave), digest=7)
    assert saved(result, tmp_path / "a.npz") == saved(never, tmp_path / "b.npz")


def test_one_expression_of_a_subject_can_be_removed(tmp_path):
    X, targets = pairs(4, 20, ("happy", "sad"))
    last = slice(19, None)
    whole = statistics(X, targets)
    result = whole - statistics(X[last], {"sad": targets["sad"][last]})
    happy = statistics(X, {"happy": targets["happy"]})
    sad = statistics(X[:19], {"sad": targets["sad"][:19]})
    assert result.pairs == {"happy": 20, "sad": 19}
    assert saved(result, tmp_path / "a.npz") == saved(happy + sad, tmp_path / "b.npz")
    restored = result + statistics(X[last], {"sad": targets["sad"][last]})
    assert saved(restored, tmp_path / "a.npz") == saved(whole, tmp_path / "b.npz")


def test_expressions_of_the_same_subjects_share_statistics_after_adding():
    X, targets = pairs(5, 10, ("happy", "sad"))
    apart = [statistics(X, {name: T}) for name, T in targets.items()]
    joined = apart[0] + apart[1]
    (group,) = joined.groups
    assert list(group.targets) == ["happy", "sad"]
    assert joined.pairs == {"happy": 10, "sad": 10}
    unknown = [statistics(X, {name: T}, known=False) for name, T in targets.items()]
    assert len((unknown[0] + unknown[1]).groups) == 2


def test_8_bit_images_join_16_bit_images_exactly(tmp_path):
    X, targets = pairs(6, 9)
    wide = pairs(7, 4, dtype=np.uint16)
    widened = statistics(X.astype(np.uint16) * 257, {"happy": targets["happy"] * np.uint16(257)})
    joined = statistics(X, targets) + statistics(*wide)
    alike = widened + statistics(*wide)
    assert joined.data_range == 65535
    assert np.array_equal(joined.sources["happy"].lags, alike.sources["happy"].lags)
    assert np.array_equal(joined.targets["happy"].squares, alike.targets["happy"].squares)
    back = joined - statistics(*wide)
    assert saved(back, tmp_path / "a.npz") == saved(statistics(X, targets), tmp_path / "b.npz")


def test_what_was_never_put_in_cannot_be_taken_out():
    few, many = statistics(*pairs(8, 3)), statistics(*pairs(9, 5))
    with pytest.raises(DataError, match="never added"):
        _ = few - many
    with pytest.raises(DataError, match="never added"):
        _ = few - statistics(*pairs(10, 3))
    with pytest.raises(DataError, match="never added"):
        _ = few - statistics(*pairs(8, 3, ("sad",)))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: statistics(*pairs(0, 3, shape=(5, 7, 1))), "6x5 px grey and 7x5 px grey"),
        (lambda: statistics(*pairs(0, 3, shape=(5, 6, 3))), "colour"),
        (
            lambda: statistics_of_arrays(*pairs(0, 3), ReceptiveField.square(5)),
            "3x3 and 5x5",
        ),
        (lambda: replace(statistics(*pairs(0, 3)), source="calm"), "expressions: source and calm"),
    ],
)
def test_statistics_that_do_not_fit_together_are_refused_with_the_reason(other, reason):
    with pytest.raises(DataError, match=reason):
        _ = statistics(*pairs(0, 3)) + other()


FEW_TAPS = st.lists(
    st.sampled_from(ReceptiveField.square(5).offsets), min_size=1, max_size=9, unique=True
).map(ReceptiveField.of)


@settings(deadline=None, max_examples=25)
@given(FEW_TAPS, st.sampled_from([1, 3]), st.sampled_from([np.uint8, np.uint16]))
@example(ReceptiveField.square(3), 3, np.uint8)
@example(ReceptiveField.of("plus"), 1, np.uint16)
@example(ReceptiveField.of([(2, -2), (-2, 2)]), 1, np.uint8)
def test_restricted_statistics_are_those_made_for_fewer_taps(taps, channels, dtype):
    X, targets = pairs(13, 4, ("happy", "sad"), (6, 5, channels), dtype)
    result = statistics_of_arrays(X, targets, ReceptiveField.square(5)).restricted(taps)
    direct = statistics_of_arrays(X, targets, taps)
    assert result.receptive_field == taps
    with TemporaryDirectory() as folder:
        assert saved(result, Path(folder, "a.npz")) == saved(direct, Path(folder, "b.npz"))


def test_restricting_to_taps_that_are_not_there_is_refused():
    whole = statistics(*pairs(0, 3))
    assert whole.restricted(FIELD) is whole
    with pytest.raises(DataError, match=r"field 3x3 lack planes that 5x5 needs"):
        whole.restricted(ReceptiveField.square(5))
    with pytest.raises(DataError, match="2 taps"):
        whole.restricted(ReceptiveField.of([(0, 0), (0, 2)]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_some_expressions_are_as_if_there_were_no_other(dtype, tmp_path):
    X, targets = pairs(14, 6, ("angry", "happy", "sad"))
    wide = pairs(15, 3, ("angry",), dtype=dtype)
    whole = statistics(X, targets, digest=3) + statistics(*wide, digest=4)
    some_of_them = statistics(X, {name: targets[name] for name in ("happy", "sad")}, digest=3)
    result = whole.only(["sad", "happy"])
    assert saved(result, tmp_path / "a.npz") == saved(some_of_them, tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"no expression 'calm'; .* there: angry, happy, sad"):
        whole.only(["happy", "calm"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_file_gives_back_what_was_saved(dtype, tmp_path):
    whole = statistics(*pairs(11, 6, ("happy", "sad"), (4, 4, 3), dtype), digest=99)
    path = tmp_path / "s.npz"
    written = saved(whole, path)
    loaded = load_statistics(path)
    assert loaded.pairs == whole.pairs
    assert len(loaded.groups) == 1
    assert loaded.hexdigest == whole.hexdigest
    assert saved(loaded, tmp_path / "again.npz") == written
    with pytest.raises(OutputExistsError):
        save_statistics(whole, path)


def changed(meta, change):
    """Return metadata with some entries changed, at the top or in the one fold."""
    top = {key: value for key, value in change.items() if key in meta}
    fold = {key: value for key, value in change.items() if key not in meta}
    return meta | {"folds": [meta["folds"][0] | fold]} | top


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"folds": []}, "not enough values"),
        ({"white": 256}, "data range is 256"),
        ({"white": None}, "NoneType"),
        ({"shape": [2, 2, 2]}, "2 channels"),
        ({"shape": [1, 2]}, "not enough values"),
        ({"shape": [1, 2, 3]}, r"expected \(1, 9, 2, 3\)"),
        ({"offsets": [[0, 0], [0, 0]]}, "same tap twice"),
        ({"offsets": []}, "at least one tap"),
        ({"offsets": [[0]]}, "not enough values"),
        ({"expressions": ["../happy"]}, "cannot be the name of a folder"),
        ({"expressions": [3]}, "happy"),
        ({"expressions": ["sad"]}, "happy"),
        ({"expressions": ["happy", "sad"]}, "target1"),
        ({"groups": [{"count": 0, "expressions": ["happy"]}]}, "number of pairs is 0"),
        ({"groups": [{}]}, "count"),
        ({"groups": 3}, "int"),
        ({"deep": []}, "index out of range"),
        ({"digests": ["x"]}, "invalid literal"),
    ],
)
def test_metadata_that_make_no_sense_are_refused_with_the_reason(change, reason, tmp_path):
    path = tmp_path / "s.npz"
    saved(statistics(*pairs(12, 2, shape=(2, 2, 1))), path)
    arrays, meta = read_npz(path, kind="statistics", newest=3)
    arrays["meta"] = np.array(json.dumps(changed(meta, change)))
    with path.open("wb") as file:
        write_npz(file, arrays)
    with pytest.raises(ModelError, match=rf"s\.npz: not a statistics file, .*{reason}"):
        load_statistics(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    data = saved(statistics(*pairs(12, 2, shape=(2, 2, 1))), path)
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"s\.npz"):
            load_statistics(path)


def test_a_file_whose_planes_do_not_fit_its_metadata_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    saved(statistics(*pairs(13, 2, shape=(2, 2, 1))), path)
    arrays = dict(np.load(path))
    meta = json.loads(str(arrays["meta"]))
    for change in ({"shape": [1, 2, 3]}, {"groups": []}, {"white": 65535}, {"expressions": []}):
        np.savez(path, **{**arrays, "meta": np.array(json.dumps(changed(meta, change)))})
        with pytest.raises(ModelError, match="damaged"):
            load_statistics(path)
