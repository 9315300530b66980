"""The checks of scikit-learn for estimators.

They fit tables, (N, features) to N numbers, which are no images: scikit-learn itself skips nearly
all of them for an estimator of images. So they are run on tables that are turned into images of one
row, in (0, 1), whose targets repeat the number in every pixel.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import r2_score
from sklearn.utils import InputTags
from sklearn.utils.estimator_checks import parametrize_with_checks

from mlr import MaskedRegression


class OnTables(MaskedRegression, BaseEstimator):
    def fit(self, X, y=None):
        images = rows(X)
        if y is not None:
            y = np.repeat(rows(np.asarray(y).reshape(-1, 1)), images.shape[-1], axis=-1)
        return super().fit(images, y)

    def predict(self, X):
        outputs = np.clip(super().predict(rows(X)), 1e-6, 1 - 1e-6).mean(axis=(1, 2))
        return np.log(outputs / (1 - outputs))

    def score(self, X, y):
        return r2_score(y, self.predict(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = InputTags()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = False
        return tags


def rows(table):
    """Return images, or what the estimator has to refuse as it is."""
    if hasattr(table, "toarray"):
        return table
    table = np.asarray(table)
    if table.dtype.kind == "O":
        table = table.astype(np.float64)
    if table.ndim == 2 and table.dtype.kind in "iufb" and np.isfinite(table).all():
        table = 1 / (1 + np.exp(-table.astype(np.float64)))
    return table[:, None, :] if table.ndim == 2 else table


#: Checks that do not apply.
EXPECTED = {
    "check_n_features_in_after_fitting": "images have a size and no number of features",
    "check_n_features_in": "images have a size and no number of features",
    "check_estimators_empty_data_messages": "the message speaks of pairs of images",
    "check_fit2d_predict1d": "the message speaks of images",
    "check_supervised_y_2d": "targets are images, and never columns to be flattened",
    "check_regressors_train": "a pixel sees its neighbours alone, not all ten features",
}


@parametrize_with_checks(
    [OnTables(receptive_field=3, penalty=0.01)], expected_failed_checks=lambda estimator: EXPECTED
)
def test_check(estimator, check):
    check(estimator)
