"""Looking into a model."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mlr
from mlr.errors import OptionError
from mlr.inspection import arrays as inspection
from mlr.model import Model, load
from mlr.receptive_field import ReceptiveField
from mlr.recipes.best import penalties, prior_of
from tests.conftest import names


def random_model(channels=3):
    field = ReceptiveField.square(3)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, channels, 10, 4, 5)).astype(np.float32)
    return Model(weights, field, ("happy",), {"penalty": 0.4})


def test_maps_are_what_they_say():
    model = random_model()
    w = model.weights[0].astype(float)
    y, x = 2, 3
    offsets = model.receptive_field.offsets
    assert np.array_equal(inspection.bias(model, "happy"), w[:, -1])
    mean, size = inspection.tap_weights(model, "happy")
    np.testing.assert_allclose(mean, [np.mean(w[:, k]) for k in range(9)])
    np.testing.assert_allclose(size, [np.mean(np.abs(w[:, k])) for k in range(9)])
    gains = []
    for fy in range(-8, 8):
        for fx in range(-8, 8):
            if max(abs(fy), abs(fx)) >= 4:
                for c in range(3):
                    waves = [np.exp(2j * np.pi * (fy * dy + fx * dx) / 16) for dy, dx in offsets]
                    gains.append(abs(np.dot(w[c, :-1, y, x], waves)))
    assert inspection.sharpness(model, "happy")[y, x] == pytest.approx(np.mean(gains))


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_departure_is_the_expected_change_of_images(edge, moved):
    """A model is linear: pictures of one white pixel each tell all that it does."""
    model, (height, width) = random_model(channels=1), (4, 5)
    displacement = np.random.default_rng(1).uniform(-1.2, 1.2, (1, 2, height, width))
    model = replace(
        model,
        displacement=displacement.astype(np.float32) if moved else None,
        edge=edge,
        meta={"exposure": {"brightness": [0.4], "contrast": [0.2]}},
    )
    count = height * width
    black = model.synthesize(np.zeros((height, width), np.float32)).reshape(-1)
    units = np.eye(count, dtype=np.float32).reshape(count, height, width)
    change = (model.synthesize(units).reshape(count, count) - black).T - np.eye(count)
    places = np.stack(np.indices((height, width)), -1).reshape(-1, 2)
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    covariance = 0.2**2 * np.exp(-apart / (inspection.SMOOTHNESS * np.sqrt(count)))
    expected = (change @ covariance * change).sum(axis=1) + (black + 0.4 * change.sum(axis=1)) ** 2
    found = inspection.departure(model, "happy")
    np.testing.assert_allclose(found.reshape(-1), np.sqrt(expected), rtol=1e-4)


def test_copying_model_departs_from_nothing_and_is_sharp():
    weights = np.zeros((1, 1, 10, 4, 5), np.float32)
    weights[:, :, 4] = 1
    model = Model(weights, ReceptiveField.square(3), ("happy",), {})
    assert inspection.summary(model, "happy") == {
        "departure": 0,
        "bias": 0,
        "sharpness": pytest.approx(1),
        "farthest": 0,
    }
    assert inspection.penalties(model, "happy") is None


def test_penalty_of_each_tap(model):
    found = load(model)
    said = inspection.penalties(found, "happy")
    matrix = penalties(found.receptive_field, found.meta["penalty"]["happy"])
    for k, cost in enumerate(said):  # of the cheapest change by 1, the bias is left alone
        others = np.delete(np.arange(len(said)), k)
        follow = np.linalg.solve(matrix[others][:, others], -matrix[others, k])
        change = np.insert(follow, k, 1.0)
        assert change @ matrix[:-1, :-1] @ change == pytest.approx(cost)
    assert set(inspection.penalties(random_model(), "happy")) == {0.4}


def test_cost_of_the_papers_penalty_is_that_of_the_weights():
    model = replace(random_model(), meta={"penalty": 0.4, "pairs": {"happy": 7}})
    expected = np.zeros((4, 5))
    for channel in model.weights[0].astype(float):
        for coefficient in channel:  # the bias, too
            expected += 0.4 * coefficient**2 / 7 / 3
    np.testing.assert_allclose(inspection.penalty_cost(model, "happy"), expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_cost_of_the_penalty_is_that_of_departing_from_the_prior(model, mirrored):
    found = load(model)
    found = replace(found, meta=found.meta | {"mirrored": {"happy": mirrored}})
    cost = inspection.penalty_cost(found, "happy")
    D = penalties(found.receptive_field, found.meta["penalty"]["happy"])
    count = found.meta["pairs"]["happy"] * (2 if mirrored else 1)
    for y, x in ((0, 0), (3, 4)):
        w = found.weights[0, 0, :, y, x].astype(float) - prior_of(found.receptive_field, 0.8)
        assert cost[y, x] == pytest.approx(w @ D @ w / count, rel=1e-9)


@pytest.mark.parametrize(
    "said",
    [{"pairs": 3}, {"pairs": {"happy": "x"}}, {"pairs": {}}, {"penalty": {}}, {"sharpen": "x"}],
)
def test_cost_of_an_unknown_penalty_is_not_drawn(model, said):
    found = load(model)
    assert inspection.penalty_cost(found, "happy") is not None
    assert inspection.penalty_cost(replace(found, meta=found.meta | said), "happy") is None


def test_a_pixel_shows_its_own_coefficients():
    model = random_model()
    found = inspection.at(model, "happy", 3, 2)
    np.testing.assert_allclose(found["weights"], model.weights[0, :, :-1, 2, 3])
    np.testing.assert_allclose(found["bias"], model.weights[0, :, -1, 2, 3])
    with pytest.raises(OptionError, match="no pixel 5,0 in 5x4"):
        inspection.at(model, "happy", 5, 0)


def test_plus_has_holes_in_its_window():
    weights = np.zeros((1, 1, 6, 4, 5), np.float32)
    model = Model(weights, ReceptiveField.of("plus"), ("happy",), {})
    window = inspection.as_window(model, np.arange(5.0))
    assert np.isnan(window[0, 0])
    assert window[1, 1] == 2


def test_missing_matplotlib_is_a_hint(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    result = run("inspect", model, "-o", tmp_path / "out")
    assert result.code == 1
    assert result.lines == ["mlr: error: drawing needs mlr[plot]: pip install 'mlr[plot]'"]


def test_pictures_are_written(run, model, grey_model, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra mlr[plot]")
    result = run("inspect", model, "-o", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    what = ("bias", "departure", "displacement", "penalty", "sharpness", "taps")
    assert names(tmp_path / "out") == [f"happy-{name}.png" for name in what]
    assert json.loads(result.out)["expressions"]["happy"]["farthest"] > 0
    for name in names(tmp_path / "out"):
        assert mlr.data.images.read_image(tmp_path / "out" / name).pixels.std() > 1
    again = run("inspect", model, "-o", tmp_path / "out")
    assert again.code == 1
    assert "exists already" in again.lines[0]
    assert run("inspect", model, "-o", tmp_path / "p", "--at", "3,4").code == 0
    assert names(tmp_path / "p") == ["happy-at-3-4.png"]
    assert run("inspect", model, "-o", tmp_path / "p", "--at", "99,4").code == 2
    assert run("inspect", model, "-o", tmp_path / "p", "--at", "x").code == 2
    assert run("inspect", grey_model, "-o", tmp_path / "g").code == 0
    assert "happy-displacement.png" not in names(tmp_path / "g")


def test_any_name_can_be_drawn(run, model, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra mlr[plot]")
    found = load(model)
    for name in ("$x^{$", "\u7b11\u9854"):
        odd = replace(found, expressions=(name,), meta={"penalty": {name: 0.1}})
        odd.save(tmp_path / "odd.npz", force=True)
        result = run("inspect", tmp_path / "odd.npz", "-o", tmp_path / "out", "-q")
        assert (result.code, result.err) == (0, "")
        assert (tmp_path / "out" / f"{name}-bias.png").is_file()


@pytest.mark.parametrize("said", [[1], {"happy": 1}, {"happy": {"errors": [{}]}}])
def test_unknown_cross_validation_is_not_drawn(model, said):
    found = load(model)
    assert (
        inspection.tried(replace(found, meta=found.meta | {"cross_validation": said}), "happy")
        == []
    )
