"""Drawing what a model has learnt: `mlr inspect`."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import mlr
from mlr import load
from mlr.core.exposure import Exposure
from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.fields import resize_field, warp
from mlr.errors import OptionError
from mlr.evaluation import inspect, maps
from mlr.samples import sample
from tests.conftest import names


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draw few pixels, which is quicker."""
    monkeypatch.setattr(inspect, "DPI", 30)


def random_model(channels=3):
    field = ReceptiveField.square(3)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, channels, 10, 4, 5)).astype(np.float32)
    return Model(weights, field, ("happy",), ModelInfo(penalty=0.4))


def test_maps_are_what_they_say():
    model = random_model()
    w = model.weights[0].astype(float)
    y, x = 2, 3
    offsets = model.receptive_field.offsets
    assert np.array_equal(maps.bias(model, "happy"), w[:, -1])
    mean, size = maps.tap_weights(model, "happy")
    np.testing.assert_allclose(mean, [np.mean(w[:, k]) for k in range(9)])
    np.testing.assert_allclose(size, [np.mean(np.abs(w[:, k])) for k in range(9)])
    gains = []
    for fy in range(-8, 8):
        for fx in range(-8, 8):
            if max(abs(fy), abs(fx)) >= 4:
                for c in range(3):
                    waves = [np.exp(2j * np.pi * (fy * dy + fx * dx) / 16) for dy, dx in offsets]
                    gains.append(abs(np.dot(w[c, :-1, y, x], waves)))
    assert maps.sharpness(model, "happy")[y, x] == pytest.approx(np.mean(gains))


def test_expected_change_is_that_of_images_without_registration():
    """A model is linear: pictures of one white pixel each tell all that it does."""
    model, (height, width) = random_model(channels=1), (4, 5)
    model = replace(model, info=ModelInfo(exposure=Exposure((0.4,), (0.2,))))
    count = height * width
    black = model.synthesize(np.zeros((height, width), np.float32)).reshape(-1)
    units = np.eye(count, dtype=np.float32).reshape(count, height, width)
    change = (model.synthesize(units).reshape(count, count) - black).T - np.eye(count)
    positions = np.stack(np.indices((height, width)), -1).reshape(-1, 2)
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
    covariance = 0.2**2 * np.exp(-apart / (maps.SMOOTHNESS * np.sqrt(count)))
    expected = (change @ covariance * change).sum(axis=1) + (black + 0.4 * change.sum(axis=1)) ** 2
    found = maps.change(model, "happy")
    inner = np.s_[1:-1, 1:-1]  # whose taps are all inside of the frame
    expected = np.sqrt(expected).reshape(height, width)
    np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-4)


def test_copying_model_changes_nothing_and_is_sharp():
    weights = np.zeros((1, 1, 10, 4, 5), np.float32)
    weights[:, :, 4] = 1
    model = Model(weights, ReceptiveField.square(3), ("happy",), ModelInfo())
    assert inspect.summarize(model, "happy") == {
        "change": 0,
        "bias": 0,
        "sharpness": pytest.approx(1),
        "farthest": 0,
    }
    assert maps.mean_face(model, "happy") is None


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    """A model of drawn faces with a style."""
    folder = tmp_path_factory.mktemp("drawn")
    sample(folder, pairs=10, size=64, target=["happy"])
    return mlr.train(folder)


def test_mean_face_is_that_of_the_sources_and_changes_like_any_other(styled):
    appearance = styled.registered.appearances["happy"]
    found = maps.mean_face(styled, "happy")
    whole = resize_field(appearance.motion, *styled.shape[1:])
    oval = styled.registered.geometry.oval(*styled.shape[1:])
    again = warp(found.source, whole) - appearance.face / np.float32(255)
    assert np.abs(again[:, oval]).mean() < 0.01
    assert list(found.outputs) == [*maps.STYLES, None]
    image = np.ascontiguousarray(found.source.transpose(1, 2, 0))
    for style, output in found.outputs.items():
        expected = styled.synthesize(image, style=style).transpose(2, 0, 1)
        np.testing.assert_allclose(output, expected, atol=1e-6)
    difference = found.outputs[None].astype(float) - found.source
    change = np.sqrt((difference**2).mean(axis=0))
    np.testing.assert_allclose(maps.change(styled, "happy"), change)
    assert inspect.summarize(styled, "happy")["farthest"] == np.hypot(*found.motion).max() > 0


def test_without_a_style_the_default_is_shown_alone(best_model):
    assert list(maps.mean_face(load(best_model), "happy").outputs) == [None]


def test_a_pixel_of_a_registered_model_shows_the_residual_too(styled):
    appearance, found = styled.registered.appearances["happy"], maps.at(styled, "happy", 30, 45)
    np.testing.assert_array_equal(found["mean"], appearance.mean[:, 45, 30])
    np.testing.assert_array_equal(found["spread"], appearance.spread[:, 45, 30])


def test_a_pixel_shows_its_own_coefficients():
    model = random_model()
    found = maps.at(model, "happy", 3, 2)
    np.testing.assert_allclose(found["weights"], model.weights[0, :, :-1, 2, 3])
    np.testing.assert_allclose(found["bias"], model.weights[0, :, -1, 2, 3])
    with pytest.raises(OptionError, match="no pixel 5,0 in 5x4"):
        maps.at(model, "happy", 5, 0)


def test_plus_has_holes_in_its_window():
    weights = np.zeros((1, 1, 6, 4, 5), np.float32)
    model = Model(weights, ReceptiveField.of("plus"), ("happy",), ModelInfo())
    window = maps.as_window(model, np.arange(5.0))
    assert np.isnan(window[0, 0])
    assert window[1, 1] == 2


def test_missing_matplotlib_is_a_hint(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("inspect", model, "-o", tmp_path / "out")
    assert result.code == 1
    hint = "pip install 'masked-linear-regression[plot]'"
    assert result.lines == [f"mlr: error: drawing needs Matplotlib: {hint}"]


def test_pictures_are_written(run, best_model, styled, grey_model, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    mlr.save(styled, tmp_path / "styled.npz")
    what = ("motion", "residual", "sharpness", "styles", "taps", "templates")
    for path in (tmp_path / "styled.npz", best_model):
        result = run("inspect", path, "-o", tmp_path / "out", "--json", "--force")
        assert result.code == 0, result.err
        assert names(tmp_path / "out") == [f"happy-{name}.png" for name in what]
        assert json.loads(result.out)["expressions"]["happy"]["farthest"] > 0
        for name in names(tmp_path / "out"):
            assert mlr.io.images.read_image(tmp_path / "out" / name).pixels.std() > 1
    again = run("inspect", best_model, "-o", tmp_path / "out")
    assert again.code == 1
    assert "exists already" in again.lines[0]
    assert run("inspect", best_model, "-o", tmp_path / "p", "--at", "3,4").code == 0
    assert names(tmp_path / "p") == ["happy-at-3-4.png"]
    assert run("inspect", best_model, "-o", tmp_path / "p", "--at", "99,4").code == 2
    assert run("inspect", best_model, "-o", tmp_path / "p", "--at", "x").code == 2
    assert run("inspect", grey_model, "-o", tmp_path / "g").code == 0
    what = ("bias", "change", "sharpness", "taps")
    assert names(tmp_path / "g") == [f"happy-{name}.png" for name in what]


def test_any_name_can_be_drawn(run, best_model, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    found = load(best_model)
    for name, at in (("$x^{$", ()), ("\u7b11\u9854", ("--at", "3,4"))):
        appearances = {name: found.registered.appearances["happy"]}
        registered = replace(found.registered, appearances=appearances)
        odd = replace(found, expressions=(name,), registered=registered, info=ModelInfo())
        mlr.save(odd, tmp_path / "odd.npz", force=True)
        result = run("inspect", tmp_path / "odd.npz", "-o", tmp_path / "out", "-q", *at)
        assert (result.code, result.err) == (0, "")
        assert (tmp_path / "out" / f"{name}-{'at-3-4' if at else 'styles'}.png").is_file()
