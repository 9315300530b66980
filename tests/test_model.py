import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.core.model import LUMA, Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError, ModelError, OptionError, OutputExistsError
from mlr.io.model_file import load_model, save_model
from mlr.training.train import train
from tests.conftest import draw_pairs
from tests.naive import naive_canonical, naive_regions

FIELD = ReceptiveField.square(3)


def model(channels=3, expressions=("happy",), height=6, width=7):
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.2, (len(expressions), channels, 10, height, width))
    return Model(weights.astype(np.float32), FIELD, expressions, ModelInfo(source="neutral"))


def image(channels=3, height=6, width=7, dtype=np.uint8):
    high = np.iinfo(dtype).max + 1
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(1).integers(0, high, shape, dtype=dtype)


def test_strength_scales_the_change():
    m, x = model(), image() / 255
    full = m.synthesize(x)
    assert np.allclose(m.synthesize(x, strength=0.25), x + 0.25 * (full - x), atol=1e-6)
    assert np.allclose(m.synthesize(x, strength=2), x + 2 * (full - x), atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(OptionError, match="between 0 and 2"):
        model().synthesize(image(), strength=strength)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("model_channels", [1, 3])
def test_strength_0_returns_the_input(model_channels, channels, dtype):
    x = image(channels, dtype=dtype)
    assert np.array_equal(model(model_channels).synthesize(x, strength=0), x)


def test_integers_are_rounded_and_clipped():
    m, x = model(), image()
    exact = m.synthesize(x / 255) * 255
    expected = np.clip(np.rint(exact), 0, 255)
    assert np.abs(m.synthesize(x).astype(float) - expected).max() <= 1
    assert exact.min() < 0  # otherwise clipping is not tested


def test_a_stack_is_synthesized_image_by_image():
    m = model()
    stack = np.stack([image(), image()[::-1]])
    result = m.synthesize(stack)
    assert np.array_equal(result[1], m.synthesize(stack[1]))
    assert result.shape == stack.shape


def test_a_stack_of_n_grey_images_of_n_by_n_pixels_is_a_stack():
    m = model(1, height=6, width=6)
    stack = np.stack([image(0, 6, 6) // (n + 1) for n in range(6)])
    assert np.array_equal(m.synthesize(stack)[2], m.synthesize(stack[2]))
    assert m.synthesize(stack[:0]).shape == (0, 6, 6)


def test_grey_goes_through_a_colour_model_as_colour():
    m, x = model(3), image(1)
    as_colour = m.synthesize(x.repeat(3, axis=2) / 255)
    assert np.allclose(m.synthesize(x / 255)[..., 0], as_colour @ LUMA, atol=1e-5)


def test_colour_goes_through_a_grey_model_by_its_luma():
    m, x = model(1), image(3) / 255
    luma = x @ LUMA
    change = m.synthesize(luma) - luma
    assert np.allclose(m.synthesize(x), x + change[..., None], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("model_channels", "channels"), [(3, 3), (1, 3), (3, 1), (1, 0)])
def test_regions_confine_the_change(model_channels, channels, dtype):
    height, width = 30, 26
    eyes = ((0.30, 0.34), (0.66, 0.38))
    m = model(model_channels, ("happy", "sad"), height, width)
    m = replace(m, info=replace(m.info, eyes=eyes))
    x = image(channels, height, width)
    unit = x / np.float32(255)
    grid = naive_canonical((height, width), eyes, height, width, 0.5)
    for names in (("mouth",), ("eyes", "brows"), ("lower", "brows", "mouth")):
        share = naive_regions(names, *grid)
        if channels:
            share = share[..., None]
        for target, strength in (("happy", 1.0), ({"happy": 0.5, "sad": 1.5}, 0.7)):
            whole = m.synthesize(unit, target, strength) - unit
            given = x if dtype == np.uint8 else unit
            found = m.synthesize(given, target, strength, region=names)
            expected = unit + share * whole
            if dtype == np.uint8:
                expected = np.clip(np.rint(255 * expected), 0, 255)
            np.testing.assert_allclose(found, expected, atol=1 if dtype == np.uint8 else 1e-4)
            outside = np.broadcast_to(share == 0, x.shape)
            assert 0.15 < outside.mean() < 0.95
            assert np.array_equal(found[outside], given[outside])
    assert np.array_equal(m.synthesize(x, "happy", 0, region="mouth"), x)
    assert np.array_equal(m.synthesize(x, "happy", region=()), m.synthesize(x, "happy"))


def test_several_regions_are_their_union():
    m, x = model(height=32, width=32), image(height=32, width=32) / np.float32(255)
    changes = [np.abs(m.synthesize(x, region=name) - x) for name in ("mouth", "eyes", "upper")]
    union = np.abs(m.synthesize(x, region=["mouth", "eyes", "upper"]) - x)
    np.testing.assert_allclose(union, np.max(changes, axis=0), atol=1e-6)
    assert m.changer(x, region="eyes").fits == []
    with pytest.raises(OptionError, match="unknown region 'ears'; use mouth, eyes, brows, lower"):
        m.synthesize(x, region=["eyes", "ears"])


def test_one_of_several_expressions_must_be_named():
    m = model(expressions=("happy", "sad"))
    assert not np.array_equal(m.synthesize(image(), "happy"), m.synthesize(image(), "sad"))
    with pytest.raises(ModelError, match="name one of: happy, sad"):
        m.synthesize(image())
    with pytest.raises(ModelError, match="no expression 'angry'; it has: happy, sad"):
        m.synthesize(image(), "angry")


SHARES = st.dictionaries(st.sampled_from(["angry", "happy", "sad"]), st.floats(0, 2), min_size=1)


@settings(deadline=None, max_examples=40)
@given(SHARES, st.floats(0, 2), st.sampled_from([1, 3]), st.sampled_from([0, 1, 3]), st.booleans())
@example({"happy": 0.6, "sad": 0.4}, 1.0, 3, 3, True)
@example({"happy": 0.5}, 1.0, 1, 3, False)
def test_mix_is_the_sum_of_the_changes(shares, strength, model_channels, channels, own_tap):
    m, x = model(model_channels, ("angry", "happy", "sad")), image(channels) / 255
    if not own_tap:
        offsets = [(7, 0) if tap == (0, 0) else tap for tap in FIELD.offsets]
        m = replace(m, receptive_field=ReceptiveField.of(offsets))
    change = sum(share * (m.synthesize(x, name) - x) for name, share in shares.items())
    assert np.allclose(m.synthesize(x, shares, strength), x + strength * change, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mix_of_one_whole_expression_is_that_expression(dtype):
    m, x = model(expressions=("happy", "sad")), image(dtype=dtype)
    assert np.array_equal(m.synthesize(x, {"sad": 1}), m.synthesize(x, "sad"))
    assert np.array_equal(m.synthesize(x, {"happy": 0.0, "sad": 1}), m.synthesize(x, "sad"))
    assert np.array_equal(m.synthesize(x, {"happy": 0}), x)
    assert np.array_equal(m.synthesize(x, {"happy": 0.7, "sad": 0.7}, 0), x)


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({}, "at least one expression"),
        ({"happy": -0.1}, "from 0 to 1000, not -0.1"),
        ({"happy": 0.5, "sad": float("nan")}, "share of 'sad' .* not nan"),
        ({"happy": float("inf")}, "not inf"),
        ({"happy": 0.5, "calm": 0.5}, "no expression 'calm'; it has: happy, sad"),
    ],
)
def test_an_invalid_mix_is_refused(shares, reason):
    with pytest.raises(MlrError, match=reason):
        model(expressions=("happy", "sad")).synthesize(image(), shares)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((7, 6, 3), np.uint8), "7x6 px, got an array of shape"),
        (np.zeros((6, 7, 2), np.uint8), "got 2 channels"),
        (np.zeros((6, 7, 3), np.int64), "got int64"),
        (np.zeros(7, np.uint8), "shape"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, reason):
    with pytest.raises(ModelError, match=reason):
        model().synthesize(images)


def test_repr_is_one_line():
    assert repr(model(expressions=("happy", "sad"))) == (
        "Model(happy, sad: 7x6, channels 3, receptive field 3x3, 2,076 parameters)"
    )


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    data = draw_pairs(tmp_path_factory.mktemp("faces"), subjects=range(8))
    return train(data)


def test_the_summary_describes_the_style(styled):
    appearance = styled.registered.appearances["happy"]
    assert styled.summary()["styles"]["happy"]["explained"] == appearance.explained
    assert ", registered, " in repr(styled)
    for style, groups in ((1.5, [-0.5, 1.5]), (-0.5, None)):
        own = {"happy": replace(appearance, style=style, other=-0.5, explained=0.9)}
        found = replace(styled, registered=replace(styled.registered, appearances=own))
        said = {"explained": 0.9, "groups": groups, "default": style}
        assert found.summary()["styles"] == {"happy": said}
    own = {"happy": replace(appearance, explained=0.0)}
    found = replace(styled, registered=replace(styled.registered, appearances=own))
    assert found.summary()["styles"] == {"happy": None}
    assert "styles" not in model().summary()


def test_parameters_do_not_count_taps_outside_the_image():
    assert model(1, height=1, width=1).parameters == 2
    assert model(3, ("happy", "sad"), 2, 2).parameters == 2 * 3 * 4 * 5


def test_the_file_follows_the_contract(tmp_path):
    m = model(3, ("happy", "sad"))
    save_model(m, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert sorted(file) == ["meta", "taps", "weights"]
        assert file["weights"].dtype == np.float32
        assert file["weights"].shape == (2, 3, 10, 6, 7)
        assert file["taps"].dtype == np.int16
        assert file["taps"].tolist() == [[0, dy, dx] for dy, dx in FIELD.offsets]
        meta = json.loads(str(file["meta"]))
    assert meta["format"] == 2
    assert meta["expressions"] == ["happy", "sad"]
    assert meta["eyes"] == [[0.32, 0.36], [0.68, 0.36]]
    again = load_model(tmp_path / "m.npz")
    assert again.receptive_field == FIELD
    assert again.expressions == m.expressions
    assert np.array_equal(again.synthesize(image(), "sad"), m.synthesize(image(), "sad"))
    with pytest.raises(OutputExistsError):
        save_model(m, tmp_path / "m.npz")
