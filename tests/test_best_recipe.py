"""The default recipe: what it does to sums is what one would do to the images."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import mlr
from mlr.data.images import write_image
from mlr.errors import DataError, MlrError, MlrWarning, OptionError
from mlr.folds import Folds, fold_of
from mlr.gathering.accumulate import statistics_of_arrays
from mlr.kernels import jit
from mlr.kernels.blur import blur, gaussian
from mlr.kernels.cholesky import solve_pixels
from mlr.receptive_field import ReceptiveField
from mlr.recipes.best import BIAS, FARTHEST, FIELDS, SMOOTH, Best, penalties, prior_of
from mlr.recipes.displacement import Frame, estimate, holds, layout_for, moments, reach_of
from mlr.recipes.displacement import _errors as displacement_errors
from mlr.recipes.displacement import _farthest as displacement_farthest
from mlr.recipes.displacement import _share as displacement_share
from mlr.recipes.moments import Moments, lags_of, margin_for
from mlr.recipes.search import Learner
from mlr.running.report import Report
from mlr.warping import Displacer, interpolation
from tests.conftest import draw

FIELD = ReceptiveField.square(3)
SIZE = (12, 14)
REACH = 2
NAMES = ("dark", "moved", "noisy")


def pairs(seed, count, size=SIZE, channels=3, dtype=np.uint8):
    """Return noise and other noise: the hardest case for sums."""
    rng = np.random.default_rng(seed)
    white = np.iinfo(dtype).max
    return (
        rng.integers(0, white, (count, *size, channels), dtype, endpoint=True) for _ in range(2)
    )


def field(seed, size=SIZE, largest=1.4):
    """Return a smooth random displacement."""
    u = gaussian_filter(np.random.default_rng(seed).normal(size=(2, *size)), (0, 3, 3))
    return (u / np.abs(u).max() * largest).astype(np.float32)


def samples(images):
    """Return each channel as a sample of its own, in [0, 1]."""
    planes = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])
    return planes / np.float64(np.iinfo(images.dtype).max)


def naive_errors(x, t, reach, mirrored):
    """Return the mean of (x(p + d) - t(p))^2 for all d, edge pixels repeated."""
    (count, height, width), side = x.shape, 2 * reach + 1
    errors = np.empty((side, side, height, width))
    for i, j, v, u in np.ndindex(errors.shape):
        at = np.clip(v + i - reach, 0, height - 1), np.clip(u + j - reach, 0, width - 1)
        errors[i, j, v, u] = np.square(x[:, *at] - t[:, v, u]).sum() / count
    return (errors + errors[:, ::-1, :, ::-1]) / 2 if mirrored else errors


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    reach=st.integers(1, 3),
    mirrored=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_errors_of_displacements_are_those_of_displaced_images(size, reach, mirrored, dtype):
    X, T = pairs(3, 5, size, dtype=dtype)
    layout = layout_for(FIELD, reach)
    folds = Folds(tuple(statistics_of_arrays(X[k::2], {"a": T[k::2]}, layout) for k in range(2)))
    errors = displacement_errors(folds, "a", reach, mirrored=mirrored)
    expected = naive_errors(samples(X), samples(T), reach, mirrored)
    np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    longest=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_the_farthest_places_of_pixels_are_found(seed, size, longest):
    places = np.random.default_rng(seed).integers(-9, 9, (2, *size))
    apart = [
        np.abs(places[:, y, x] - places[:, v, u]).max()
        for y, x, v, u in np.ndindex(size * 2)
        if abs(y - v) <= longest[0] and abs(x - u) <= longest[1]
    ]
    assert displacement_farthest(places, np.array([longest, (0, 0)])) == max(apart)


def naive_moments(x, t, taps, margin, lags):
    """Return the sums of `Moments` over samples (N, H, W), edge pixels repeated."""
    x, t = (np.pad(a, ((0, 0), (margin, margin), (margin, margin)), "edge") for a in (x, t))
    y, u = np.indices(x.shape[1:])

    def at(offset):
        rows = np.clip(y + offset[0], 0, x.shape[1] - 1)
        return x[:, rows, np.clip(u + offset[1], 0, x.shape[2] - 1)]

    return (
        np.stack([(x * at(lag)).sum(axis=0) for lag in lags]),
        x.sum(axis=0),
        np.stack([(t * at(tap)).sum(axis=0) for tap in taps]),
        t.sum(axis=0),
        (t * t).sum(axis=0),
    )


def planes(m):
    """Return those of one expression."""
    return m.lags, m.source_sums, m.cross[0], m.target_sums[0], m.squares[0]


@pytest.mark.parametrize(
    ("channels", "dtype", "side"), [(3, np.uint8, 3), (1, np.uint16, 3), (1, np.uint8, 5)]
)
def test_moments_are_those_of_displaced_images(channels, dtype, side):
    taps = ReceptiveField.square(side)
    X, T = pairs(1, 5, channels=channels, dtype=dtype)
    statistics = statistics_of_arrays(X, {"happy": T}, layout_for(taps, REACH))
    for u in (field(2), None):
        m = moments(statistics, ("happy",), taps, u, Frame.whole(SIZE[0], 4))
        x = samples(X)
        moved = x if u is None else Displacer(u)(x.astype(np.float32))
        expected = naive_moments(moved, samples(T), taps.offsets, 4, lags_of(taps))
        for found, wanted in zip(planes(m), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-5)
        assert m.samples == len(x)


def test_mirrored_moments_are_those_of_mirrored_images():
    X, T = pairs(3, 4)
    layout = layout_for(FIELD, REACH)
    u = field(4)
    mirror = u[:, :, ::-1] * np.float32([[[1]], [[-1]]])
    frame = Frame.whole(SIZE[0], 3)
    one = moments(statistics_of_arrays(X, {"a": T}, layout), ("a",), FIELD, u, frame)
    flipped = statistics_of_arrays(
        np.ascontiguousarray(X[:, :, ::-1]), {"a": np.ascontiguousarray(T[:, :, ::-1])}, layout
    )
    other = moments(flipped, ("a",), FIELD, np.ascontiguousarray(mirror), frame)
    total = Moments.total([one, other])
    both = one.with_mirrored()
    assert both.samples == 2 * one.samples
    for found, wanted in zip(planes(both), planes(total), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_blurred_moments_are_those_of_samples_shared_with_neighbours():
    """A neighbour's sample is the image shifted so that the neighbour lies here."""
    X, T = pairs(5, 3, channels=1)
    sigma, taps = 0.7, FIELD
    margin = margin_for(taps, sigma)
    m = moments(
        statistics_of_arrays(X, {"a": T}, layout_for(taps, 0)),
        ("a",),
        taps,
        None,
        Frame.whole(SIZE[0], margin),
    ).blurred(sigma)
    radius = len(gaussian(sigma)) // 2
    weights = np.outer(gaussian(sigma), gaussian(sigma))
    wide = tuple(np.pad(samples(a), ((0, 0), (9, 9), (9, 9)), mode="edge") for a in (X, T))
    y, x = 5, 6  # a pixel of the image
    G, b = np.zeros((10, 10)), np.zeros(10)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            v, u = 9 + y + dy, 9 + x + dx
            z = np.stack([wide[0][:, v + oy, u + ox] for oy, ox in taps.offsets] + [np.ones(3)])
            G += weights[dy + radius, dx + radius] * z @ z.T
            b += weights[dy + radius, dx + radius] * z @ wide[1][:, v, u]
    penalty, prior = 0.3 * np.eye(10) + 0.1, np.linspace(-1, 1, 10)
    expected = np.linalg.solve(G + penalty, b + penalty @ prior)
    found = m.solve(penalty, prior)[0, :, y, x]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_weights_are_those_of_pairs_in_brighter_and_darker_light():
    """The penalty on weights that do not add up to 1 does what other light does to the samples."""
    X, T = pairs(10, 4)
    statistics = statistics_of_arrays(X, {"a": T}, layout_for(FIELD, 0))
    m = moments(statistics, ("a",), FIELD, None, Frame.whole(SIZE[0], 1))
    D, prior = penalties(FIELD, 1.0), prior_of(FIELD, 0.8)
    found = Learner(FIELD, D, prior, 0.04).solve(m, 0.3)[0]
    x, t = (np.concatenate([samples(a) + 0.2, samples(a) - 0.2]) for a in (X, T))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge")
    for y, u in ((0, 0), (5, 6)):
        window = padded[:, y : y + 3, u : u + 3].reshape(len(x), -1)
        z = np.concatenate([window, np.ones((len(x), 1))], axis=1)
        G, b = z.T @ z / 2, z.T @ t[:, y, u] / 2
        expected = np.linalg.solve(G + 0.3 * D, b + 0.3 * D @ prior)
        np.testing.assert_allclose(found[:, y, u], expected, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 4), st.integers(1, 9), st.integers(1, 80), st.integers(0, 3))
def test_blur_is_scipys(sigma, height, width, cut):
    cut = min(cut, (height - 1) // 2, (width - 1) // 2)
    plane = np.random.default_rng(height).random((2, height, width))
    expected = gaussian_filter(plane, (0, sigma, sigma), mode="nearest", truncate=3.0)
    inner = expected[:, cut : height - cut, cut : width - cut]
    np.testing.assert_allclose(blur(plane, sigma, cut), inner, atol=1e-12)


def test_error_is_that_of_the_images():
    X, T = pairs(6, 4)
    statistics = statistics_of_arrays(X, {"a": T}, layout_for(FIELD, 0))
    m = moments(statistics, ("a",), FIELD, None, Frame.whole(SIZE[0], 3))
    weights = np.random.default_rng(7).normal(size=(10, *SIZE))
    padded = np.pad(samples(X), ((0, 0), (1, 1), (1, 1)), "edge")
    output = np.broadcast_to(weights[-1], (len(padded), *SIZE)).copy()
    for k, (dy, dx) in enumerate(FIELD.offsets):
        output += weights[k] * padded[:, 1 + dy : 1 + dy + SIZE[0], 1 + dx : 1 + dx + SIZE[1]]
    expected = np.square(output - samples(T)).sum(axis=(0, 2))
    np.testing.assert_allclose(m.errors(weights[None])[0], expected, rtol=1e-9)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("far", [1.4, 40])  # in and out of the image
def test_displacing_without_numba_gives_the_same_bits(monkeypatch, plain, far):
    monkeypatch.setattr(jit, "PLAIN_KERNELS", plain or jit.PLAIN_KERNELS)
    images = np.random.default_rng(3).random((5, *SIZE), np.float32)
    u = field(3, largest=far)
    move = Displacer(u)
    with_numba = move(images)
    monkeypatch.setattr("mlr.warping.kernels_are_worth_it", lambda products: False)
    monkeypatch.setattr("mlr.warping.TOGETHER", 70)
    assert move(images).tobytes() == with_numba.tobytes()
    rows, columns, down, across = interpolation(u, SIZE)
    taken = images[:, rows[..., :, None], columns[..., None, :]]
    expected = np.einsum("nyxij,yxi,yxj->nyx", taken, down, across)
    assert np.allclose(with_numba, expected, atol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 3)])
def test_displacement_finds_a_shift(shift):
    rng = np.random.default_rng(8)
    X = gaussian_filter(rng.random((9, 96, 96, 1)), (0, 1.2, 1.2, 0))
    X = np.uint8(255 * (X - X.min()) / np.ptp(X))
    T = np.roll(X, shift, axis=(1, 2))
    statistics = statistics_of_arrays(X, {"a": T}, layout_for(FIELD, 5))
    u = estimate(Folds((statistics,)), "a", 5, mirrored=False)
    inner = u[:, 16:-16, 16:-16]
    assert np.abs(inner + np.reshape(shift, (2, 1, 1))).max() < 0.3


def test_what_saves_little_is_moved_little():
    errors = np.ones((3, 3, 1, 5))
    errors[2, 0, 0] = 1.1, 0.98, 0.91, 0.75, 0.0
    errors[1, 1, 0, 4] = 0.0  # nothing can be saved
    np.testing.assert_allclose(displacement_share(errors), [[0, 0, 0.5, 1, 0]])


def test_penalty_is_that_of_the_weights_and_of_their_differences():
    field = ReceptiveField.of("disc")
    rng = np.random.default_rng(13)
    w = rng.normal(size=len(field) + 1)
    at = dict(zip(field.offsets, w, strict=False))
    rough = 0.0
    for y in range(-4, 5):
        for x in range(-4, 5):
            for other in ((y, x + 1), (y + 1, x)):
                if (0, 0) not in ((y, x), other):
                    rough += (at.get((y, x), 0) - at.get(other, 0)) ** 2
    expected = (w[:-1] ** 2).sum() + BIAS * w[-1] ** 2 + SMOOTH * rough
    assert w @ penalties(field, 0.5) @ w == pytest.approx(0.5 * expected)


def naive_best(X, T, fold, options):
    """Choose and fit on the pixels themselves; only the displacement is taken from the program."""
    recipe, u = options
    x, t = samples(X), samples(T)
    x = Displacer(u)(x.astype(np.float32)).astype(np.float64)
    fold = np.repeat(fold, X.shape[3])
    scale = X.shape[3]
    prior = prior_of(FIELD, recipe.sharpen)
    D = penalties(FIELD, 1.0)
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge")
    Z = np.stack(
        [padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in FIELD.offsets]
        + [np.ones_like(x)],
        axis=-1,
    )

    def weights(who, penalty):
        G = b = 0
        for light in (recipe.brightness, -recipe.brightness):  # half of each
            lit = Z[who] + light * np.append(np.ones(len(FIELD)), 0)
            G = G + np.einsum("nyxa,nyxb->yxab", lit, lit) / 2
            b = b + np.einsum("nyxa,nyx->yxa", lit, t[who] + light) / 2
        d = scale * penalty * D
        return np.linalg.solve(G + d, (b + d @ prior)[..., None])[..., 0]

    errors = {}
    for penalty in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5):
        total = 0.0
        for k in np.unique(fold):
            w = weights(fold != k, penalty)
            total += np.square(np.einsum("nyxa,yxa->nyx", Z[fold == k], w) - t[fold == k]).sum()
        errors[penalty] = total / t.size
    good = [d for d, error in errors.items() if error <= 1.0075 * min(errors.values())]
    return errors, max(good), weights(fold >= 0, max(good))


def test_selection_agrees_with_refitting_on_the_pixels():
    rng = np.random.default_rng(9)
    X = np.stack([draw(n, size=16) for n in range(24)])
    noise = rng.integers(-20, 20, X.shape)
    T = np.uint8(np.clip(np.roll(X, 1, axis=1) * 0.8 + 20 + noise, 0, 255))
    recipe = Best(receptive_field=3, displacement=2, blur=0, mirrored=False)
    fold = np.array([fold_of(str(n), 4) for n in range(len(X))])
    layout = recipe.layout((3, 16, 16))
    parts = [statistics_of_arrays(X[fold == k], {"a": T[fold == k]}, layout) for k in range(4)]
    model = recipe.fit(Folds(tuple(parts)), Report())
    errors, penalty, weights = naive_best(X, T, fold, (recipe, model.displacement[0]))
    said = model.meta["cross_validation"]["a"]["errors"]
    tried = {e["penalty"]: e["mse"] for e in said}
    assert tried == pytest.approx({d: errors[d] for d in tried}, rel=1e-4)
    assert model.meta["penalty"] == {"a": penalty}
    np.testing.assert_allclose(model.weights[0, 0], np.moveaxis(weights, -1, 0), atol=1e-3)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    for person in range(12):
        face = draw(person, size=24)
        write_image(root / "neutral" / f"{person}.png", face)
        for shift, name in ((1, "happy"), (2, "sad")):
            write_image(root / name / f"{person}.png", np.roll(face, shift, axis=0))
    return root


def test_infinite_penalty_returns_the_input(faces):
    model = mlr.train(faces, penalty=1e12, displacement=0, sharpen=0)
    face = draw(99, size=24)
    assert model.displacement is None
    assert np.array_equal(model.synthesize(face, "happy"), face)


def test_infinite_penalty_leaves_the_prior(faces):
    model = mlr.train(faces, penalty=1e12, displacement=1, sharpen=0.7)
    face = draw(99, size=24) / np.float32(255)
    moved = Displacer(model.displacement[0])(face.transpose(2, 0, 1)).transpose(1, 2, 0)
    padded = np.pad(moved, ((1, 1), (1, 1), (0, 0)), "edge")
    down = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    soft = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 4
    expected = moved + 0.7 * (moved - soft)
    assert np.abs(model.displacement).max() > 0.2
    np.testing.assert_allclose(model.synthesize(face, "happy"), expected, atol=1e-5)


def test_threads_and_order_change_no_bit(faces, tmp_path, monkeypatch):
    mlr.train(faces, tmp_path / "a.npz", threads=1)
    monkeypatch.setattr("mlr.gathering.collect.PACK", 2)
    monkeypatch.setattr("mlr.gathering.accumulate.BATCH", 16)
    mlr.train(faces, tmp_path / "b.npz", threads=2)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.fixture
def factorisations(monkeypatch):
    """How many pixels were factored, for how many targets each time."""
    calls = []

    def counted(equations, weights):
        calls.append((weights[0, 0].size, len(weights)))
        return solve_pixels(equations, weights)

    monkeypatch.setattr("mlr.recipes.moments.solve_pixels", counted)
    return calls


def test_expressions_of_the_same_people_share_each_factorisation(faces, factorisations):
    """Nothing is moved: one Gram matrix, factored once for both, and the bits of each alone."""
    pinned = {"displacement": 0, "blur": 1, "mirrored": False, "penalty": 0.1}
    both = mlr.train(faces, **pinned)
    assert {targets for _, targets in factorisations} == {2}
    assert sum(pixels for pixels, _ in factorisations) == 24 * 24 * (4 + 1)  # folds, everybody
    for name in ("happy", "sad"):
        alone = mlr.train(faces, target=[name], **pinned)
        assert alone.weights[0].tobytes() == both.weights[both.expressions.index(name)].tobytes()
        for what in ("penalty", "cross_validation"):
            assert alone.meta[what][name] == both.meta[what][name]


def test_expressions_that_share_moments_choose_for_themselves(tmp_path, factorisations):
    rng = np.random.default_rng(3)
    for person in range(12):
        face = draw(person, size=24)
        write_image(tmp_path / "neutral" / f"{person}.png", face)
        noisy = face + rng.integers(-60, 60, face.shape)
        for name, target in (("noisy", noisy), ("dark", face * 0.5), ("moved", np.roll(face, 1))):
            target = np.uint8(np.clip(target, 0, 255))
            write_image(tmp_path / name / f"{person}.png", target)
    together = mlr.train(tmp_path, displacement=0)
    shared = sum(pixels for pixels, _ in factorisations)
    assert len({(together.meta["blur"][n], together.meta["penalty"][n]) for n in NAMES}) > 1
    factorisations.clear()
    for place, name in enumerate(NAMES):
        alone = mlr.train(tmp_path, displacement=0, target=[name])
        assert alone.weights[0].tobytes() == together.weights[place].tobytes()
        assert alone.meta["cross_validation"][name] == together.meta["cross_validation"][name]
    assert shared < 0.8 * sum(pixels for pixels, _ in factorisations)


def test_expressions_of_different_people_share_nothing(faces, tmp_path, factorisations):
    shutil.copytree(faces, tmp_path / "faces")
    (tmp_path / "faces" / "sad" / "3.png").unlink()
    with pytest.warns(MlrWarning, match="has no partner"):
        mlr.train(tmp_path / "faces", displacement=0, penalty=0.1)
    assert {targets for _, targets in factorisations} == {1}


def test_every_choice_can_be_pinned(faces, run, tmp_path):
    options = [
        "--penalty",
        "0.2",
        "--displacement",
        "0",
        "--blur",
        "1",
        "--not-mirrored",
        "--sharpen",
        "0.3",
        "--brightness",
        "0.1",
    ]
    path = tmp_path / "m.npz"
    result = run("train", faces, "-o", path, "--receptive-field", 3, *options, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["penalty"] == {"happy": 0.2, "sad": 0.2}
    assert said["blur"] == {"happy": 1.0, "sad": 1.0}
    assert said["mirrored"] == {"happy": False, "sad": False}
    assert said["sharpen"] == 0.3
    assert said["brightness"] == 0.1
    assert said["receptive_field"] == "3x3"
    assert mlr.load(path).displacement is None
    pinned = mlr.train(
        faces,
        recipe="best",
        receptive_field=3,
        penalty=0.2,
        displacement=0,
        blur=1,
        mirrored=False,
        sharpen=0.3,
        brightness=0.1,
    )
    assert pinned.weights.tobytes() == mlr.load(path).weights.tobytes()


def test_the_choice_is_told_and_kept(faces, run, tmp_path):
    result = run("train", faces, "-o", tmp_path / "m.npz")
    meta = mlr.load(tmp_path / "m.npz").meta
    for name in ("happy", "sad"):
        start = result.lines.index(f"{name}: error x 1000 of 12 pairs, left out in 4 folds")
        table = result.lines[start : start + 7]
        assert table[1].split()[0] == "penalty"
        cells = " ".join(table[2:6]).split()
        for e in meta["cross_validation"][name]["errors"]:
            assert {f"{1000 * e['mse']:.3f}", f"{1000 * e['mse']:.3f}*"} & set(cells)
        assert sum("*" in cell for cell in cells) == 1
        assert table[6].startswith(f"  * penalty {meta['penalty'][name]:g}, blur ")
    told = run("info", tmp_path / "m.npz").out.splitlines()[-14:]  # a table of seven lines each
    assert [line.partition("; ")[0] for line in result.lines[:14]] == told
    quiet = run("train", faces, "-o", tmp_path / "q.npz", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    assert meta["cross_validation"]["happy"]["folds"] > 1
    tried = meta["cross_validation"]["happy"]["errors"]
    assert min(e["mse"] for e in tried) > 0
    assert any(e["penalty"] == meta["penalty"]["happy"] for e in tried)


@pytest.mark.parametrize("people", [[0], [0, 1]])
def test_too_few_people_to_choose_by(tmp_path, people):
    for person in people:
        for name in ("neutral", "happy"):
            write_image(tmp_path / name / f"{person}.png", draw(person))
    model = mlr.train(tmp_path)
    assert np.isfinite(model.weights).all()
    face = draw(5)
    assert np.abs(model.synthesize(face).astype(int) - face).mean() < 30


def test_pairs_predicted_without_error_have_one_of_no_sign(tmp_path):
    for person in range(6):
        for name in ("neutral", "happy"):
            write_image(tmp_path / name / f"{person}.png", np.full((*SIZE, 3), 90, np.uint8))
    model = mlr.train(tmp_path)
    assert min(e["mse"] for e in model.meta["cross_validation"]["happy"]["errors"]) >= 0
    grey = np.full((*SIZE, 3), 90, np.uint8)
    assert np.array_equal(model.synthesize(grey), grey)


def test_grey_and_colour_go_through_one_set_of_weights(faces):
    model = mlr.train(faces, target=["happy"])
    face = draw(50, size=24)
    output = model.synthesize(face)
    assert model.weights.shape[1] == 1
    assert model.shape == (3, 24, 24)
    for channel in range(3):
        assert np.array_equal(model.synthesize(face[..., channel]), output[..., channel])


def test_the_file_gives_back_the_model(faces, tmp_path):
    model = mlr.train(faces, tmp_path / "m.npz")
    again = mlr.load(tmp_path / "m.npz")
    face = draw(51, size=24)
    for target in ("happy", {"happy": 0.5, "sad": 0.7}):
        assert np.array_equal(again.synthesize(face, target), model.synthesize(face, target))
    assert (again.edge, again.channels, again.displacement.shape) == (True, 3, (2, 2, 24, 24))


def test_mix_of_displaced_expressions_is_the_sum_of_their_changes(faces):
    model, x = mlr.train(faces), draw(52, size=24) / np.float32(255)
    change = sum(
        share * (model.synthesize(x, name) - x) for name, share in (("happy", 0.6), ("sad", 0.4))
    )
    mixed = model.synthesize(x, {"happy": 0.6, "sad": 0.4}, 1.5)
    assert np.allclose(mixed, x + 1.5 * change, atol=1e-5)


def test_statistics_of_the_other_recipe_are_refused(faces, tmp_path):
    mlr.gather(faces, tmp_path / "best.npz")
    mlr.gather(faces, tmp_path / "paper.npz", recipe="paper")
    assert mlr.train(tmp_path / "best.npz").meta["recipe"] == "best"
    assert mlr.train(tmp_path / "paper.npz").meta["recipe"] == "paper"
    with pytest.raises(DataError, match=r"best\.npz: .*make them with --recipe paper"):
        mlr.train(tmp_path / "best.npz", recipe="paper")
    with pytest.raises(DataError, match=r"paper\.npz: .*make them with --recipe best"):
        mlr.train(tmp_path / "paper.npz", recipe="best")
    with pytest.raises(DataError, match="make them with --recipe best"):
        mlr.train([tmp_path / "best.npz", tmp_path / "paper.npz"], recipe="best")


def test_a_shorter_displacement_is_taken_of_the_same_statistics(faces, tmp_path):
    mlr.gather(faces, tmp_path / "s.npz", displacement=3)
    for reach in (1, 3):
        from_file = mlr.train(tmp_path / "s.npz", displacement=reach)
        assert from_file.weights.tobytes() == mlr.train(faces, displacement=reach).weights.tobytes()
    assert mlr.train(tmp_path / "s.npz").meta["reach"] == 1  # what 24 px deserve
    with pytest.raises(DataError, match="do not hold all"):
        mlr.train(tmp_path / "s.npz", displacement=4)


def test_reach_is_read_off_a_layout():
    for reach in (0, 1, 4):
        layout = layout_for(FIELD, reach)
        assert reach_of(layout, FIELD) == reach
        assert not holds(layout, FIELD, reach + 1)
    wide = ReceptiveField.square(9)  # beyond its longest displacement there are too many taps
    assert reach_of(layout_for(wide, 8), wide) == 8


@pytest.mark.parametrize(
    "options",
    [
        {"penalty": 0.0},
        {"penalty": float("nan")},
        {"displacement": -1},
        {"displacement": float("nan")},
        {"blur": -0.5},
        {"sharpen": -1},
        {"brightness": 1.5},
        {"receptive_field": [(0, 0), (0, 1)]},
        {"receptive_field": [(0, -1), (0, 1)]},
    ],
)
def test_choices_that_make_no_sense_are_refused(options, faces):
    with pytest.raises(OptionError):
        mlr.train(faces, recipe="best", **options)


def test_choices_of_the_other_recipe_are_refused(faces):
    for name in ("blur", "displacement", "mirrored", "sharpen", "brightness"):
        with pytest.raises(MlrError, match="the recipe paper has no"):
            mlr.train(faces, recipe="paper", **{name: 1})


def test_arrays_take_the_recipe_too():
    X = np.stack([draw(n, size=24) for n in range(12)])
    T = np.roll(X, 1, axis=1)
    best = mlr.MaskedRegression(recipe="best").fit(X, T)
    assert best.model_.meta["recipe"] == "best"
    assert best.score(X, T) > 0.9


def test_statistics_hold_the_widest_window_and_the_longest_displacement():
    field = ReceptiveField.of(FIELDS[0])  # as for images of 256 px and more
    assert reach_of(layout_for(field, FARTHEST), field) >= FARTHEST
