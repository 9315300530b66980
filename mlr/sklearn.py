"""Masked regression on arrays, in the manner of scikit-learn."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.model import Model
from mlr.core.planes import DATA_RANGE
from mlr.errors import DataError, NotFittedError
from mlr.recipes.fit import fit, recipe
from mlr.training.decode import framed_statistics
from mlr.utils.threads import limited

Pixels = npt.NDArray[Any]

_SLACK = 1e-6  # beyond [0, 1], for rounding errors of float32
PARAMETERS = ("receptive_field", "penalty", "recipe", "threads")


class MaskedRegression:
    """A ridge regression for every output pixel on the input pixels around it.

    Minimises sum_n (w . z_n - t_n)^2 + penalty ||w||^2 for every pixel and channel, where z_n holds
    the pixels of the receptive field and a 1 (Khan et al. 2020, arXiv 2011.09104).

    Parameters
    ----------
    receptive_field : int, str, ReceptiveField or sequence of (dy, dx), optional
        The taps: the odd side of a square window, a preset's name, or offsets. By default the
        recipe's: 3 for "paper".
    penalty : float, optional
        Ridge penalty for intensities in [0, 1]; the bias is penalised too. By default the recipe's:
        0.4 for "paper".
    recipe : {"paper", "best"}
        "best" registers faces first (see `mlr.recipes.best.Best`): X and T are then aligned faces.
    threads : int, optional
        By default one for each processor.

    Attributes
    ----------
    model_ : Model
        The trained model; its one expression is called "target".

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 256, (20, 16, 16), dtype=np.uint8)
    >>> T = np.roll(X, 1, axis=2)
    >>> bool(MaskedRegression(penalty=0.01).fit(X, T).score(X, T) > 0.9)
    True
    """

    def __init__(
        self,
        receptive_field: Any = None,
        penalty: float | None = None,
        recipe: str = "paper",
        threads: int | None = None,
    ) -> None:
        self.receptive_field, self.penalty = receptive_field, penalty
        self.recipe, self.threads = recipe, threads

    def fit(self, X: Pixels, T: Pixels) -> MaskedRegression:
        """Learn to turn X into T.

        Parameters
        ----------
        X, T : array_like, shape (N, height, width[, 1 or 3])
            Inputs and targets: uint8 or uint16 (accumulated exactly), or float32 or float64 in
            [0, 1]. Lists and other integers are taken as uint8; booleans are refused.

        Raises
        ------
        DataError
            If shapes or dtypes differ, or values are out of range: nothing is rescaled.
        MlrError
            If a parameter is invalid.
        """
        if T is None:
            raise DataError("requires y to be passed, but the target y is None")
        X, T = _images(X), _images(T)
        if X.shape != T.shape or X.ndim not in (3, 4) or X.shape[3:] not in ((), (1,), (3,)):
            raise DataError(
                "expected X and T of the same shape (N, height, width[, 1 or 3]), "
                f"got {X.shape} and {T.shape}"
            )
        if X.dtype != T.dtype:
            raise DataError(f"expected X and T of the same dtype, got {X.dtype} and {T.dtype}")
        if not X.size:
            raise DataError("expected at least one pair of images")
        if X.ndim == 3:
            X, T = X[..., None], T[..., None]
        options = {"receptive_field": self.receptive_field, "penalty": self.penalty}
        chosen = recipe(self.recipe, options)
        with limited(self.threads):
            accumulate = framed_statistics if chosen.registers else statistics_of_arrays
            self.model_: Model = fit(chosen, accumulate(X, {"target": T}, chosen.layout()))
        return self

    def predict(self, X: Pixels) -> Pixels:
        """Return the outputs for X, shape ([N,] height, width[, 1 or 3]), in its shape.

        X is as for `fit`. Integers keep their dtype and are clipped; floats become float32.

        Raises
        ------
        NotFittedError
            If `fit` was not called; also an instance of scikit-learn's, if that is loaded.
        DataError
            If values are out of range.
        ModelError
            If the images do not fit the model.
        """
        if not hasattr(self, "model_"):
            theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
            kinds = (NotFittedError,) if theirs is None else (NotFittedError, theirs)
            kind = type("NotFittedError", kinds, {"__reduce__": lambda e: (NotFittedError, e.args)})
            raise kind("this MaskedRegression is not fitted yet; call fit first")
        return self.model_.synthesize(_images(X))

    def score(self, X: Pixels, T: Pixels) -> float:
        """Return the coefficient of determination R^2 over all pixels of all images, at most 1.

        As in scikit-learn it is NaN, with a warning, for a single pair, and for targets that are
        all the same 1 if they are predicted exactly, else 0. X and T are as for `fit`.

        Raises
        ------
        DataError
            If the shapes of outputs and targets differ, or values are out of range.
        """
        T, predicted = _images(T), self.predict(X)
        if T.shape != predicted.shape:
            raise DataError(f"expected T of the shape of X, {predicted.shape}, got {T.shape}")
        if len(T) < 2:
            warnings.warn("R^2 is not defined for fewer than two pairs", UserWarning, stacklevel=2)
            return float("nan")
        truth = T.astype(np.float64) / DATA_RANGE[T.dtype.name]
        residual = predicted.astype(np.float64) / DATA_RANGE[predicted.dtype.name] - truth
        error = float(np.square(residual).sum())
        variation = float(np.square(truth - truth.mean(axis=0)).sum())
        if not variation or (truth == truth[0]).all():
            return float(error == 0)
        return 1 - error / variation

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor; ``deep`` has no effect."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def set_params(self, **params: Any) -> MaskedRegression:
        """Set parameters of the constructor; raises a ValueError if one is unknown."""
        for name, value in params.items():
            if name not in PARAMETERS:
                raise ValueError(f"MaskedRegression has no parameter {name!r}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return the tags that scikit-learn 1.6 and later asks for."""
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        images = InputTags(two_d_array=False, three_d_array=True, positive_only=True)
        target = TargetTags(required=True, multi_output=True, single_output=False)
        return Tags("regressor", target, regressor_tags=RegressorTags(), input_tags=images)

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"MaskedRegression({parameters})"


def _images(values: Any) -> Pixels:
    """Return images as an array of a dtype that can be fitted, having checked their range."""
    if hasattr(values, "toarray"):
        raise DataError("sparse matrices are not supported: expected an array of images")
    array = np.ascontiguousarray(values)
    if array.dtype.kind == "c":
        raise DataError("Complex data not supported: expected intensities")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError("values are not finite numbers: X or T holds NaN or inf")
        if array.size and (array.min() < -_SLACK or array.max() > 1 + _SLACK):
            raise DataError(
                f"floating-point pixels must be from 0 to 1, but are from {array.min():g} to "
                f"{array.max():g}; divide 8-bit values by 255, or pass uint8"
            )
        return array if array.dtype.name in DATA_RANGE else array.astype(np.float32)
    if array.dtype.kind not in "iu":
        raise DataError(f"expected a dtype of {', '.join(DATA_RANGE)}, got {array.dtype}")
    if array.dtype.name in DATA_RANGE:
        return array
    if array.size and (array.min() < 0 or array.max() > 255):
        raise DataError(
            f"integers must be from 0 to 255, but are from {array.min()} to {array.max()}; "
            "pass 16-bit pixels as uint16"
        )
    return array.astype(np.uint8)
