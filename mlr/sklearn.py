"""Masked regression on arrays, in the manner of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.accumulate import statistics_of_arrays
from mlr.core.model import Model
from mlr.core.planes import DATA_RANGE
from mlr.errors import DataError, NotFittedError
from mlr.recipes.fit import fit
from mlr.recipes.fit import recipe as named_recipe
from mlr.training.decode import framed_statistics
from mlr.utils.threads import limited

Pixels = npt.NDArray[Any]


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
        self.receptive_field = receptive_field
        self.penalty = penalty
        self.recipe = recipe
        self.threads = threads

    def fit(self, X: Pixels, T: Pixels) -> MaskedRegression:
        """Learn to turn X into T.

        Parameters
        ----------
        X, T : ndarray, shape (N, height, width[, 1 or 3])
            Inputs and targets: uint8 or uint16 (summed up exactly), or floating point in [0, 1].

        Returns
        -------
        MaskedRegression
            Itself.

        Raises
        ------
        DataError
            If shapes or dtypes do not fit, or floating-point pixels are not finite.
        MlrError
            If a parameter makes no sense.
        """
        X, T = np.ascontiguousarray(X), np.ascontiguousarray(T)
        if X.shape != T.shape or X.ndim not in (3, 4) or X.shape[3:] not in ((), (1,), (3,)):
            raise DataError(
                "expected X and T of the same shape (N, height, width[, 1 or 3]), "
                f"got {X.shape} and {T.shape}"
            )
        if X.dtype != T.dtype or X.dtype.name not in DATA_RANGE:
            raise DataError(
                f"expected X and T of the same dtype, one of {', '.join(DATA_RANGE)}, "
                f"got {X.dtype} and {T.dtype}"
            )
        if not X.size:
            raise DataError("expected at least one pair of images")
        if X.dtype.kind == "f" and not (np.isfinite(X).all() and np.isfinite(T).all()):
            raise DataError("X or T holds values that are not finite numbers")
        if X.ndim == 3:
            X, T = X[..., None], T[..., None]
        choices = {"receptive_field": self.receptive_field, "penalty": self.penalty}
        made = named_recipe(self.recipe, choices)
        with limited(self.threads):
            accumulate = framed_statistics if made.registers else statistics_of_arrays
            self.model_: Model = fit(made, accumulate(X, {"target": T}, made.layout()))
        return self

    def predict(self, X: Pixels) -> Pixels:
        """Return the targets that the model expects for X.

        Parameters
        ----------
        X : ndarray, shape ([N,] height, width[, 1 or 3])
            As for `fit`.

        Returns
        -------
        ndarray of the same shape
            As `Model.synthesize`: integers clipped, of the same dtype; floating point as float32.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ModelError
            If the images do not fit the model.
        """
        if not hasattr(self, "model_"):
            raise NotFittedError("this MaskedRegression is not fitted yet; call fit first")
        return self.model_.synthesize(X)

    def score(self, X: Pixels, T: Pixels) -> float:
        """Return the coefficient of determination R^2 over all pixels of all images.

        Parameters
        ----------
        X, T : ndarray, shape (N, height, width[, 1 or 3])
            As for `fit`.

        Returns
        -------
        float
            At most 1. As in scikit-learn NaN for a single pair, and for targets that are all the
            same 1 if they are predicted exactly, else 0.

        Raises
        ------
        DataError
            If the dtype of T is none that `fit` takes.
        """
        T = np.asarray(T)
        if T.dtype.name not in DATA_RANGE:
            raise DataError(f"expected T of dtype {', '.join(DATA_RANGE)}, got {T.dtype}")
        truth = T.astype(np.float64) / DATA_RANGE[T.dtype.name]
        predicted = self.predict(X)
        residual = predicted.astype(np.float64) / DATA_RANGE[predicted.dtype.name] - truth
        error = float(np.square(residual).sum())
        variation = float(np.square(truth - truth.mean(axis=0)).sum())
        if len(T) < 2:
            return float("nan")
        if (truth == truth[0]).all():
            return float(error == 0)
        return 1 - error / variation

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters; ``deep`` is there for scikit-learn."""
        return {
            "receptive_field": self.receptive_field,
            "penalty": self.penalty,
            "recipe": self.recipe,
            "threads": self.threads,
        }

    def set_params(self, **params: Any) -> MaskedRegression:
        """Set parameters of the constructor.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(f"MaskedRegression has no parameter {name!r}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks of an estimator before it works on it, from 1.6 on."""
        from sklearn.utils import RegressorTags, Tags, TargetTags  # who asks has it

        return Tags("regressor", TargetTags(required=True), regressor_tags=RegressorTags())

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"MaskedRegression({inside})"
