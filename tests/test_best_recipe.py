"""The default recipe: registered pairs, a shared ridge in the frame, residual, shape and style."""

import hashlib

import numpy as np
import pytest

import mlr
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.synthesis import Appearance
from mlr.core.registration.templates import UNITS
from mlr.errors import DataError, ModelError, OptionError
from mlr.io.images import read_image, write_image
from mlr.io.statistics_file import load_statistics
from mlr.recipes.best import Best
from mlr.recipes.fit import fit
from mlr.recipes.moments import is_closed
from mlr.samples import sample
from mlr.training.decode import framed_pairs, framed_statistics
from mlr.utils.threads import limited
from tests.conftest import draw, draw_pairs
from tests.naive import naive_blur, naive_residual, naive_share, naive_shared_ridge

SIZE = 40
PAIRS = 10


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn faces with two expressions."""
    folder = tmp_path_factory.mktemp("drawn")
    sample(folder, pairs=PAIRS, size=SIZE, target=["happy", "surprised"])
    return folder


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """The model of the drawn faces, and its statistics."""
    folder = tmp_path_factory.mktemp("trained")
    mlr.statistics(drawn, folder / "sums.npz")
    return mlr.train(drawn, folder / "model.npz"), folder


def images(folder, expression):
    return np.stack([read_image(path).pixels for path in sorted((folder / expression).iterdir())])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("field", [3, "plus"])
def test_weights_residual_and_shape_agree_with_plain_numpy(drawn, channels, dtype, field):
    X, T = (images(drawn, name)[..., :channels] for name in ("neutral", "happy"))
    if dtype == np.uint16:
        X, T = X.astype(np.uint16) * 257 - X, T.astype(np.uint16) * 257 - T // 2
    if dtype == np.float32:
        X, T = X / np.float32(255), T / np.float32(255)
    recipe = Best(receptive_field=field, penalty=0.02, blur=1.2)
    sums = framed_statistics(X, {"happy": T}, recipe.layout())
    model = fit(recipe, sums)
    pairs = [
        pair
        for x, t in zip(X, T, strict=True)
        for _, pair in framed_pairs(x, {"happy": t}, sums.templates)
    ]
    white = {np.uint8: 255, np.uint16: 65535, np.float32: None}[dtype]

    def stored(planes):
        return planes if white is None else np.rint(np.clip(planes, 0, 1) * white) / white

    x = np.stack([stored(pair.source) for pair in pairs]).astype(np.float64)
    t = np.stack([stored(pair.target) for pair in pairs]).astype(np.float64)
    light, style, teeth = (
        np.array([getattr(pair, name) for pair in pairs]) / UNITS
        for name in ("light", "style", "teeth")
    )
    offsets = ReceptiveField.of(field).offsets
    penalty = 0.02 * channels * np.diag([1.0] * len(offsets) + [1e-3])
    weights = naive_shared_ridge(x, t, offsets, light, penalty, 1.2)
    flipped = [offsets.index((dy, -dx)) for dy, dx in offsets]
    expected = (weights[:-1] + weights[flipped][..., ::-1]) / 2
    np.testing.assert_allclose(model.weights[0, 0, :-1], expected, atol=3e-5)
    assert not model.weights[0, 0, -1].any()
    mean, spread = naive_residual(x, t, offsets, weights, light, teeth, 1)
    mean += weights[-1]
    face = np.tensordot(light, x, 1)
    mean, spread, face = ((planes + planes[..., ::-1]) / 2 for planes in (mean, spread, face))
    share = naive_share(spread, face / (light @ light), SIZE / 128)
    look = model.registered.appearances["happy"]
    np.testing.assert_allclose(look.mean, mean, atol=5e-5)
    np.testing.assert_allclose(look.share, share, atol=5e-4)
    assert share.max() > 0.05 or channels == 1
    expected = spread + look.share * (face / (light @ light))
    np.testing.assert_allclose(look.spread, expected, atol=5e-5)
    shape = np.mean([s * pair.shape / 64 for s, pair in zip(style, pairs, strict=True)], axis=0)
    shape = (shape + shape[..., ::-1] * np.reshape([1, -1], (2, 1, 1))) / 2
    np.testing.assert_allclose(look.shape, shape, atol=1e-6)
    assert np.abs(look.face / 255 - face / light.sum()).max() < 0.6 / 255
    assert style.std() > 0.5
    assert light.mean() == pytest.approx(1, abs=0.02)
    assert look.plain == (look.other if look.style != look.other else -1)


def test_blur_of_planes_is_that_of_the_reference():
    from mlr.kernels.blur import blur

    planes = np.random.default_rng(0).normal(size=(3, 20, 17))
    for sigma in (0, 0.4, 2.3):
        np.testing.assert_allclose(blur(planes, sigma), naive_blur(planes, sigma), atol=1e-12)


def test_threads_order_and_shards_change_no_bit(trained, drawn, tmp_path):
    _, folder = trained
    wanted = (folder / "model.npz").read_bytes()
    mlr.train(drawn, tmp_path / "one.npz", threads=1)
    mlr.train(drawn, tmp_path / "cut.npz", shard=3)
    mlr.train(folder / "sums.npz", tmp_path / "sums.npz")
    assert all(path.read_bytes() == wanted for path in tmp_path.iterdir())
    manifest = "\n".join(
        f"neutral/{n:0{digits}}.png,{name}/{n:0{digits}}.png,{name}"
        for name in ("surprised", "happy")
        for n in reversed(range(PAIRS))
        for digits in [len(next((drawn / "neutral").iterdir()).stem)]
    )
    for name in ("neutral", "happy", "surprised"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in (drawn / name).iterdir():
            (tmp_path / "data" / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "data" / "pairs.csv").write_text("source,target,expression\n" + manifest)
    model = mlr.train(tmp_path / "data")
    assert model.weights.tobytes() == mlr.load(folder / "model.npz").weights.tobytes()


def test_fields_of_files_are_added_up(trained, drawn):
    found = load_statistics(trained[1] / "sums.npz")
    for name, sums in found.targets.items():
        pairs = [
            pair
            for x, t in zip(images(drawn, "neutral"), images(drawn, name), strict=True)
            for _, pair in framed_pairs(x, {name: t}, found.templates)
        ]
        expected = sum(pair.style * pair.shape.astype(np.int64) for pair in pairs)
        assert np.array_equal(sums.styles.shape, expected)


def test_statistics_of_the_same_templates_add_up_to_the_bit(trained, drawn, tmp_path):
    _, folder = trained
    whole = load_statistics(folder / "sums.npz")
    for name in ("neutral", "happy", "surprised"):
        for n, path in enumerate(sorted((drawn / name).iterdir())):
            part = tmp_path / ("some" if n < 4 else "rest") / name
            part.mkdir(parents=True, exist_ok=True)
            (part / path.name).write_bytes(path.read_bytes())
    like = folder / "sums.npz"
    mlr.statistics(tmp_path / "some", tmp_path / "some.npz", like=like)
    mlr.statistics(tmp_path / "rest", tmp_path / "rest.npz", like=like)
    mlr.statistics([tmp_path / "some.npz", tmp_path / "rest.npz"], tmp_path / "both.npz")
    assert (tmp_path / "both.npz").read_bytes() == (folder / "sums.npz").read_bytes()
    # Without some, by their files or by their statistics, the rest is left, to the bit.
    for remove in ("some", "some.npz"):
        mlr.statistics(like, tmp_path / "left.npz", remove=tmp_path / remove, force=True)
        assert (tmp_path / "left.npz").read_bytes() == (tmp_path / "rest.npz").read_bytes()
    some, rest = (load_statistics(tmp_path / f"{name}.npz") for name in ("some", "rest"))
    assert (some + rest).targets["happy"].styles.numbers == whole.targets["happy"].styles.numbers
    # Other templates: no.
    mlr.statistics(tmp_path / "rest", tmp_path / "own.npz")
    with pytest.raises(DataError, match=r"own\.npz: .* different templates .* --like"):
        mlr.train([tmp_path / "some.npz", tmp_path / "own.npz"])
    # A folder beside a file is registered to the templates of the file.
    model = mlr.train([tmp_path / "some.npz", tmp_path / "rest"])
    assert model.weights.tobytes() == mlr.load(folder / "model.npz").weights.tobytes()


def test_templates_must_suit_the_pairs(trained, drawn, tmp_path):
    _, folder = trained
    sample(tmp_path / "sad", pairs=2, size=SIZE, target=["sad"])
    with pytest.raises(DataError, match="no expression 'sad'; they have: happy, surprised"):
        mlr.train(tmp_path / "sad", like=folder / "sums.npz")
    sample(tmp_path / "small", pairs=2, size=SIZE - 4, target=["happy"])
    with pytest.raises(DataError, match="templates are for 40x40 px"):
        mlr.train(tmp_path / "small", like=folder / "sums.npz")
    mlr.statistics(drawn, tmp_path / "paper.npz", recipe="paper")
    with pytest.raises(DataError, match="not registered"):
        mlr.train(drawn, like=tmp_path / "paper.npz")


def test_several_folders_share_templates(drawn, tmp_path):
    for name in ("neutral", "happy"):
        for n, path in enumerate(sorted((drawn / name).iterdir())):
            for part in ("all", "one" if n % 2 else "two"):
                (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / part / name / path.name).write_bytes(path.read_bytes())
    both = mlr.train([tmp_path / "one", tmp_path / "two"])
    assert both.weights.tobytes() == mlr.train(tmp_path / "all").weights.tobytes()


def test_a_killed_run_keeps_its_templates(drawn, tmp_path):
    kept = tmp_path / "kept"
    first = mlr.train(drawn, checkpoint=kept, shard=4, target=["happy"])
    assert (kept / "templates.npz").exists()
    for path in kept.glob("shard-*"):
        path.unlink()
    again = mlr.train(drawn, checkpoint=kept, shard=4, target=["happy"])
    assert again.weights.tobytes() == first.weights.tobytes()
    (kept / "templates.npz").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"templates\.npz"):
        mlr.train(drawn, checkpoint=kept, shard=4, target=["happy"])


def test_few_pairs_have_no_style_and_say_so(drawn, run, tmp_path):
    for name in ("neutral", "happy"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for path in sorted((drawn / name).iterdir())[:7]:
            (tmp_path / "few" / name / path.name).write_bytes(path.read_bytes())
    result = run("train", tmp_path / "few", "-o", tmp_path / "m.npz")
    assert "happy: no style, which takes at least 8 pairs (there are 7)" in result.err
    model = mlr.load(tmp_path / "m.npz")
    look = model.registered.appearances["happy"]
    assert not look.styled
    assert not look.spread.any()
    assert not look.shape.any()
    with pytest.raises(OptionError, match="fewer than 8 pairs has no style"):
        model.synthesize(images(drawn, "neutral")[0], style=1)
    result = run("train", drawn, "-o", tmp_path / "n.npz")
    assert "of what varies" in result.err


def test_style_and_strength(trained, drawn):
    model, _ = trained
    face = images(drawn, "neutral")[0]
    default = model.synthesize(face, "surprised")
    assert np.array_equal(model.synthesize(face, "surprised", 0), face)
    low, middle, high = (
        model.synthesize(face, "surprised", style=style).astype(float) for style in (-1, 0, 1)
    )
    assert np.abs(high - low).max() > 8
    # In between, style is nearly linear.
    assert np.abs((low + high) / 2 - middle).mean() < 0.3 * np.abs(high - low).mean()
    named = model.synthesize(face, "surprised", style={"surprised": 1, "happy": 3})
    assert np.array_equal(named, high)
    look = model.registered.appearances["surprised"]
    assert np.array_equal(model.synthesize(face, "surprised", style=look.style), default)
    change = model.changer(face, "surprised", 0)
    for strength in (0.5, 1.3):
        assert np.array_equal(change(strength), model.synthesize(face, "surprised", strength, 0))
    for style in (6, float("nan"), {"surprised": -7}):
        with pytest.raises(OptionError, match="the style must lie between -5 and 5"):
            model.synthesize(face, "surprised", style=style)
    with pytest.raises(ModelError, match="no expression 'sad'"):
        model.synthesize(face, "surprised", style={"sad": 1})


def test_the_style_follows_the_strength():
    planes = np.zeros((1, 1, 1), np.float32)
    look = Appearance(*[planes] * 8, light=1.0, style=1.2, other=-0.6, plain=-0.6, explained=0.9)
    assert [look.style_at(k, None) for k in (0, 0.4, 0.7, 1, 2)] == pytest.approx(
        [-0.6, -0.6, 0.3, 1.2, 1.2]
    )
    assert look.style_at(0.1, 0.5) == 0.5


def test_halves_of_an_expression_make_the_whole(trained, drawn):
    model, _ = trained
    face = images(drawn, "neutral")[1]
    whole = model.synthesize(face, "happy", 1, 0)
    assert np.array_equal(model.synthesize(face, {"happy": 0.5}, 2, 0), whole)
    both = model.synthesize(face, {"happy": 1, "surprised": 1}, 1, 0)
    assert np.abs(both.astype(int) - whole).max() > 10
    assert np.array_equal(model.synthesize(face, {"happy": 1, "surprised": 0}, 1, 0), whole)


def test_outside_of_the_face_nothing_changes(trained, drawn):
    model, _ = trained
    for face in images(drawn, "neutral")[:3]:
        changed = model.synthesize(face, "surprised")
        planes = np.ascontiguousarray(face.transpose(2, 0, 1) / np.float32(255))
        change = model.face_change(planes, model.change_of("surprised"))(1.0)
        outside = ~(change.motion.any(axis=0) | change.added.any(axis=0))
        assert 0.2 < outside.mean() < 0.7
        assert outside[0].all()
        assert np.array_equal(changed[outside], face[outside])
        assert (changed[~outside] != face[~outside]).mean() > 0.5


def test_a_region_alone_is_changed(trained, drawn):
    model, _ = trained
    for face in images(drawn, "neutral")[:3]:
        whole = model.synthesize(face, "surprised")
        found = {}
        for names, rows in (
            (("mouth",), range(20)),
            (("eyes", "brows"), range(28, SIZE)),
            (("lower",), range(15)),
            (("upper",), range(30, SIZE)),
        ):
            region = names[0] if len(names) == 1 else names
            found[names[0]] = changed = model.synthesize(face, "surprised", region=region)
            assert np.array_equal(changed[list(rows)], face[list(rows)])
            assert (changed != face).mean() > 0.05
        # In the middle of a region all of the change is there.
        middle = np.s_[28:33, 16:24]
        for name in ("mouth", "lower"):
            assert np.abs(found[name][middle].astype(int) - whole[middle]).max() <= 2
            assert np.abs(face[middle].astype(int) - whole[middle]).max() > 20
        assert np.array_equal(model.synthesize(face, "surprised", 0, region="mouth"), face)
        change = model.changer(face, "surprised", region=["mouth"])
        assert np.array_equal(change(1.0), found["mouth"])
        assert np.array_equal(model.synthesize(face, "surprised", region=()), whole)


def test_an_unknown_region_is_refused(trained, drawn):
    model, _ = trained
    face = images(drawn, "neutral")[0]
    for region, name in (("nose", "nose"), (["mouth", "ears"], "ears"), ("", "")):
        message = f"unknown region '{name}'; use mouth, eyes, brows, lower, upper"
        with pytest.raises(OptionError, match=message):
            model.synthesize(face, "happy", region=region)
        with pytest.raises(OptionError, match=message):
            model.changer(face, "happy", region=region)
        with pytest.raises(OptionError, match=message):
            model.synthesize(face, "happy", 0, region=region)


def test_batches_and_threads_change_no_bit(trained, drawn):
    model, _ = trained
    faces = images(drawn, "neutral")[:6]
    alone = [model.synthesize(face, {"happy": 0.6, "surprised": 0.5}, 0.8) for face in faces]
    for threads in (1, 3):
        with limited(threads):
            for order in (np.arange(6), np.array([4, 1, 5])):
                found = model.synthesize(faces[order], {"happy": 0.6, "surprised": 0.5}, 0.8)
                assert np.array_equal(found, np.stack(alone)[order])


def test_the_changer_tells_how_faces_fit(trained, drawn):
    model, _ = trained
    faces = images(drawn, "neutral")[:2]
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    stack = np.stack([faces[0], noise, faces[1], faces[0][::-1]])
    change = model.changer(stack, "happy")
    assert [fit.unlike for fit in change.fits] == [False, True, False, True]
    for strength in (0.3, 2.0):
        changed = change(strength)
        for n, unlike in enumerate((False, True, False, True)):
            assert np.array_equal(changed[n], stack[n]) == unlike
    planes = np.ascontiguousarray(faces[0].transpose(2, 0, 1) / np.float32(255))
    face = model.face_change(planes, model.change_of("happy"))
    assert np.array_equal(face.fit.field, change.fits[0].field)
    again = model.face_change(planes, model.change_of("happy"), face.fit).fit
    assert again.value == pytest.approx(face.fit.value, abs=0.01)
    assert not np.array_equal(again.field, face.fit.field)


def test_grey_colour_and_depth_go_through_one_model(trained, drawn):
    model, _ = trained
    face = images(drawn, "neutral")[2]
    grey = face[..., :1]
    stored = np.repeat(grey, 3, axis=2)
    assert np.array_equal(
        model.synthesize(stored, "happy"), np.repeat(model.synthesize(grey, "happy"), 3, axis=2)
    )
    deep = model.synthesize(face.astype(np.uint16) * 257, "happy")
    assert np.abs(deep / 257 - model.synthesize(face, "happy")).max() <= 0.51
    both = model.synthesize(np.stack([face, face[:, ::-1]]), "happy")
    assert np.array_equal(both[0], model.synthesize(face, "happy"))
    assert np.array_equal(both[1], model.synthesize(face[:, ::-1], "happy"))


def test_the_file_gives_back_the_model(trained, drawn):
    model, folder = trained
    again = mlr.load(folder / "model.npz")
    assert (
        again.summary()["sha256"] == hashlib.sha256((folder / "model.npz").read_bytes()).hexdigest()
    )
    face = images(drawn, "neutral")[3]
    for name in model.expressions:
        assert np.array_equal(again.synthesize(face, name), model.synthesize(face, name))
    assert again.info == model.info


def test_an_infinite_penalty_leaves_the_residual_of_the_input(drawn):
    X, T = images(drawn, "neutral"), images(drawn, "happy")
    recipe = Best(penalty=1e12)
    sums = framed_statistics(X, {"happy": T}, recipe.layout())
    model = fit(recipe, sums)
    identity = np.zeros(10)
    identity[4] = 1
    assert np.abs(model.weights[0, 0] - identity[:, None, None]).max() < 1e-6


def test_statistics_of_the_other_recipe_are_refused(drawn, tmp_path):
    mlr.statistics(drawn, tmp_path / "paper.npz", recipe="paper")
    mlr.statistics(drawn, tmp_path / "best.npz")
    with pytest.raises(DataError, match="statistics for the recipe paper"):
        mlr.train(tmp_path / "paper.npz", recipe="best")
    with pytest.raises(DataError, match="statistics for the recipe best"):
        mlr.train(tmp_path / "best.npz", recipe="paper")
    assert mlr.train(tmp_path / "paper.npz").info.recipe == "paper"
    assert mlr.train(tmp_path / "best.npz").info.recipe == "best"


@pytest.mark.parametrize(
    "options",
    [
        {"receptive_field": 2},
        {"receptive_field": [(0, 0), (0, 2)]},
        {"receptive_field": [(0, 1)]},
        {"penalty": 0},
        {"penalty": -1},
        {"penalty": float("nan")},
        {"blur": -1},
        {"blur": float("nan")},
        {"blur": 100},
    ],
)
def test_choices_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        Best(**options)


def test_choices_of_the_other_recipe_are_refused(faces, model):
    with pytest.raises(OptionError, match="the recipe paper has no option blur"):
        mlr.train(faces, recipe="paper", blur=1)
    paper = mlr.train(faces, recipe="paper", target=["happy"])
    with pytest.raises(OptionError, match="recipe paper has no style"):
        paper.synthesize(draw(0), style=1)


def test_fields_that_can_be_extended_beyond_the_edges():
    for name in (1, 3, 5, "plus", "disc"):
        assert is_closed(ReceptiveField.of(name))
    assert not is_closed(ReceptiveField.of([(0, 0), (2, 0)]))
    assert Best().layout() == Layout(ReceptiveField.square(3), pooled=True)


def test_arrays_take_the_recipe_too(drawn):
    X, T = images(drawn, "neutral"), images(drawn, "happy")
    fitted = mlr.MaskedRegression(recipe="best", threads=1).fit(X, T)
    assert fitted.score(X, T) > mlr.MaskedRegression(recipe="best").fit(X, X).score(X, T)
    assert fitted.predict(X).shape == X.shape


def test_images_of_other_shapes(tmp_path):
    for size in ((20, 31), (31, 20), (9, 9), (2, 3)):
        for subject in range(3):
            face = draw(subject, max(size))[: size[0], : size[1]]
            for name in ("neutral", "happy"):
                write_image(tmp_path / str(size) / name / f"{subject}.png", face)
        model = mlr.train(tmp_path / str(size))
        changed = model.synthesize(draw(7, max(size))[: size[0], : size[1]])
        assert changed.shape == (*size, 3)


def test_a_face_that_fits_nowhere_is_left_alone(trained):
    model, _ = trained
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert np.array_equal(model.synthesize(noise, "happy"), noise)


def test_templates_of_many_are_made_of_some(tmp_path, monkeypatch):
    draw_pairs(tmp_path, range(9))
    monkeypatch.setattr("mlr.training.decode.MOST_SUBJECTS", 4)
    model = mlr.train(tmp_path)
    monkeypatch.setattr("mlr.training.decode.MOST_SUBJECTS", 300)
    assert model.info.templates != mlr.train(tmp_path).info.templates
    assert model.info.pairs == {"happy": 9}
