import pickle
from pathlib import Path

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlr import MaskedRegression
from mlr.errors import DataError, MlrError, NotFittedError
from mlr.io.images import read_image
from mlr.io.statistics_file import load_statistics

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 8, 9), dtype=np.uint8)
T = np.roll(X, 1, axis=2)


def test_it_learns_a_shift_and_predicts_in_the_images_own_dtype():
    model = MaskedRegression(penalty=1e-3).fit(X, T)
    Y = model.predict(X)
    assert Y.dtype == np.uint8
    assert Y.shape == X.shape
    assert np.abs(Y[:, :, 1:].astype(int) - T[:, :, 1:]).max() <= 1
    assert model.score(X, T) > 0.9


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 1), (6, 5, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_every_shape_and_dtype_of_the_docstring(shape, dtype):
    white = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    A = (np.random.default_rng(1).random(shape) * white).astype(dtype)
    Y = MaskedRegression(penalty=1e-6).fit(A, A).predict(A)
    assert Y.shape == A.shape
    assert Y.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    assert np.abs(Y.astype(float) - A.astype(float)).max() < 0.01 * white
    assert MaskedRegression(penalty=1e-6).fit(A, A).predict(A[0]).shape == shape[1:]


def test_scikit_learn_can_clone_it():
    model = MaskedRegression(receptive_field=5, penalty=0.1, threads=1)
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert copy.set_params(penalty=2).penalty == 2
    with pytest.raises(ValueError, match="alpha"):
        copy.set_params(alpha=2)
    assert repr(model) == (
        "MaskedRegression(receptive_field=5, penalty=0.1, recipe='paper', threads=1)"
    )


def test_scikit_learn_can_cross_validate_it():
    scores = cross_val_score(MaskedRegression(penalty=0.01), X, T, cv=3)
    assert scores.shape == (3,)
    train, test = slice(10, None), slice(10)  # the first fold of three
    fitted = MaskedRegression(penalty=0.01).fit(X[train], T[train])
    assert scores[0] == fitted.score(X[test], T[test])


def test_scikit_learn_can_choose_its_penalty():
    search = GridSearchCV(MaskedRegression(), {"penalty": [0.01, 1e4]}, cv=3).fit(X, T)
    assert search.best_params_ == {"penalty": 0.01}


def test_scikit_learn_can_put_it_into_a_pipeline():
    pipeline = make_pipeline(FunctionTransformer(lambda a: a / 255), MaskedRegression(penalty=0.01))
    pipeline.fit(X, T / 255)
    expected = MaskedRegression(penalty=0.01).fit(X / 255, T / 255)
    assert np.array_equal(pipeline.predict(X), expected.predict(X / 255))
    assert pipeline.score(X, T / 255) == expected.score(X / 255, T / 255)


@pytest.mark.parametrize(
    ("x", "t", "reason"),
    [
        (X, T[:5], "same shape"),
        (X[..., None, None], T[..., None, None], "same shape"),
        (X, T.astype(np.uint16), "same dtype"),
        (X[:0], T[:0], "at least one pair"),
        (X * np.nan, T * 1.0, "not finite"),
        (X * 1.0, T * 1.0, "must be from 0 to 1, but are from 0 to 255; divide"),
        (X / 255 - 0.01, T / 255, "must be from 0 to 1, but are from -0.01"),
        (X / 255, T / 255 * 1.01, "must be from 0 to 1"),
        (X.astype(int) + 1, T.astype(int) + 1, "integers must be from 0 to 255, .* to 256"),
        (X.astype(int) - 256, T, "integers must be from 0 to 255"),
        (X * 1j, T * 1j, "Complex"),
        (X > 9, T > 9, "expected a dtype of uint8"),
        (X.astype(str), T.astype(str), "expected a dtype of uint8"),
        (X, None, "target y is None"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(x, t, reason):
    with pytest.raises(DataError, match=reason):
        MaskedRegression().fit(x, t)


@pytest.mark.parametrize(
    "params", [{"penalty": -1}, {"penalty": np.nan}, {"receptive_field": 2}, {"threads": 0}]
)
def test_parameters_that_make_no_sense_are_refused(params):
    with pytest.raises(MlrError):
        MaskedRegression(**params).fit(X, T)


@pytest.mark.parametrize("size", [1e42, 1e100, 1e155])
def test_a_model_never_holds_what_is_not_finite(size):
    with pytest.raises(MlrError, match="too large"):
        MaskedRegression(penalty=0).fit(X / size, T / 255)


def test_numpy_integers_are_sides_too():
    assert MaskedRegression(receptive_field=np.int64(1)).fit(X, T).predict(X).shape == X.shape


def test_scores_are_those_of_scikit_learn_where_r2_is_undefined():
    model = MaskedRegression().fit(X, T)
    with pytest.warns(UserWarning, match="fewer than two pairs"):
        assert np.isnan(model.score(X[:1], T[:1]))
    flat = np.full_like(X, 7)
    assert model.score(X, flat) == 0
    dark = MaskedRegression().fit(X / 255, T / 255)
    assert dark.score(X / 255, T * 1e-200) == 0  # their squares are 0
    assert MaskedRegression(receptive_field=1, penalty=0).fit(X, flat).score(X, flat) == 1


def test_lists_and_all_integers_are_8_bit():
    expected = MaskedRegression(penalty=0.01).fit(X, T)
    for convert in (np.ndarray.tolist, lambda a: a.astype(np.int64), lambda a: a.astype(np.uint32)):
        model = MaskedRegression(penalty=0.01).fit(convert(X), convert(T))
        outputs = model.predict(convert(X))
        assert outputs.dtype == np.uint8
        assert np.array_equal(outputs, expected.predict(X))
        assert model.score(convert(X), convert(T)) == expected.score(X, T)
    half = MaskedRegression(penalty=0.01).fit((X / 255).astype(np.float16), (T / 255).astype("f2"))
    assert half.predict((X / 255).astype(np.float16)).dtype == np.float32


@pytest.mark.parametrize("wrong", [T[:5], T[..., :-1], T[..., None], T[0]])
def test_scores_of_other_shapes_are_refused(wrong):
    with pytest.raises(DataError, match="expected T of the shape of X"):
        MaskedRegression().fit(X, T).score(X, wrong)


def test_outputs_of_other_ranges_are_refused():
    model = MaskedRegression().fit(X / 255, T / 255)
    for method in (model.predict, lambda a: model.score(a, T / 255)):
        with pytest.raises(DataError, match="from 0 to 255; divide"):
            method(X * 1.0)


def test_not_fitted_is_scikit_learns_error_too():
    for kind in (NotFittedError, sklearn.exceptions.NotFittedError):
        with pytest.raises(kind, match="call fit first") as error:
            MaskedRegression().predict(X)
        assert isinstance(pickle.loads(pickle.dumps(error.value)), NotFittedError)


def test_it_survives_pickling_and_leaves_its_inputs_alone():
    inputs, targets = X.copy(), T.copy()
    inputs.flags.writeable = targets.flags.writeable = False
    model = MaskedRegression(penalty=0.01).fit(inputs, targets)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), model.predict(X))
    assert np.array_equal(inputs, X)


def test_errors_are_those_of_python_too():
    with pytest.raises(ValueError, match="penalty"):
        MaskedRegression(penalty=-1).fit(X, T)
    with pytest.raises(OSError, match=r"missing\.png"):
        read_image(Path("missing.png"))
    with pytest.raises(ValueError, match=r"missing\.npz"):
        load_statistics("missing.npz")
