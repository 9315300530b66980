"""``--recipe paper`` is the paper's ridge regression, however the program computes it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import Ridge

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.solve import solve
from mlr.recipes.fit import fit
from mlr.recipes.paper import Paper
from tests.naive import naive_masked_regression, naive_synthesis


def images(rng, count, height, width, channels):
    return rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def test_the_recipe_is_that_of_the_paper():
    assert Paper().layout() == Layout(ReceptiveField.square(3))
    assert Paper().penalty == 0.4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_weights_equal_the_normal_equations_of_the_paper(side, channels):
    rng = np.random.default_rng(side)
    X = images(rng, 30, 9, 11, channels)
    targets = {name: images(rng, 30, 9, 11, channels) for name in ("sad", "happy", "angry")}
    field = ReceptiveField.square(side)
    statistics = statistics_of_arrays(X, targets, field)
    weights = solve(statistics, 0.4)
    assert weights.dtype == np.float32
    assert weights.shape == (3, channels, side * side + 1, 9, 11)
    for e, name in enumerate(statistics.expressions):
        for c in range(channels):
            expected = naive_masked_regression(
                X[..., c] / 255, targets[name][..., c] / 255, field.offsets, 0.4
            )
            assert np.abs(weights[e, c] - expected).max() < 1e-6


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_taps_on_any_frame_equal_the_normal_equations(data):
    taps = data.draw(
        st.lists(
            st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6, unique=True
        )
    )
    shape = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5)))
    penalty = data.draw(st.floats(0.01, 10))
    X = data.draw(arrays(np.uint8, (*shape, 1)))
    T = data.draw(arrays(np.uint8, (*shape, 1)))
    weights = solve(statistics_of_arrays(X, {"happy": T}, ReceptiveField.of(taps)), penalty)
    expected = naive_masked_regression(X[..., 0] / 255, T[..., 0] / 255, taps, penalty)
    assert np.allclose(weights[0, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_deeper_images_equal_the_normal_equations_too(dtype):
    rng = np.random.default_rng(1)
    X, T = rng.random((2, 20, 6, 7, 1))
    white = 65535 if dtype == np.uint16 else 1
    X, T = ((images * white).astype(dtype) for images in (X, T))
    weights = solve(statistics_of_arrays(X, {"happy": T}, ReceptiveField.square(3)), 0.4)
    offsets = ReceptiveField.square(3).offsets
    expected = naive_masked_regression(X[..., 0] / white, T[..., 0] / white, offsets, 0.4)
    assert np.abs(weights[0, 0] - expected).max() < 1e-6


@pytest.mark.parametrize("pixel", [(0, 0), (4, 5), (7, 8)])
def test_a_pixel_equals_scikit_learns_ridge_with_the_bias_as_a_column(pixel):
    rng = np.random.default_rng(2)
    X, T = images(rng, 40, 8, 9, 1), images(rng, 40, 8, 9, 1)
    weights = solve(statistics_of_arrays(X, {"happy": T}, ReceptiveField.square(3)), 0.4)
    y, x = pixel
    padded = np.pad(X[..., 0] / 255, ((0, 0), (1, 1), (1, 1)))
    window = padded[:, y : y + 3, x : x + 3].reshape(40, 9)
    ridge = Ridge(alpha=0.4, fit_intercept=False, solver="cholesky")
    ridge.fit(np.column_stack([window, np.ones(40)]), T[:, y, x, 0] / 255)
    assert np.abs(weights[0, 0, :, y, x] - ridge.coef_).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_synthesis_is_the_weighted_sum_of_the_receptive_field(channels):
    rng = np.random.default_rng(3)
    X, T = images(rng, 12, 7, 10, channels), images(rng, 12, 7, 10, channels)
    field = ReceptiveField.square(5)
    model = fit(Paper(), statistics_of_arrays(X, {"happy": T}, field))
    image = X[0] / 255
    output = model.synthesize(image)
    for c in range(channels):
        expected = naive_synthesis(model.weights[0, c], field.offsets, image[..., c])
        assert np.allclose(output[..., c], expected, atol=1e-5)


def test_without_penalty_the_solution_of_least_norm_is_taken():
    rng = np.random.default_rng(4)
    X, T = images(rng, 5, 4, 4, 1), images(rng, 5, 4, 4, 1)  # fewer pairs than taps
    X[:, :2] = 0  # constant pixels
    weights = solve(statistics_of_arrays(X, {"happy": T}, ReceptiveField.square(3)), 0)
    assert np.isfinite(weights).all()
    padded = np.pad(X[..., 0] / 255, ((0, 0), (1, 1), (1, 1)))
    for y in range(4):
        for x in range(4):
            window = padded[:, y : y + 3, x : x + 3].reshape(5, 9)
            Z = np.column_stack([window, np.ones(5)])
            expected = np.linalg.pinv(Z) @ (T[:, y, x, 0] / 255)
            assert np.abs(weights[0, 0, :, y, x] - expected).max() < 1e-4
