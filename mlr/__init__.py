"""Masked linear regression: change the expression of a face with a model trained in seconds.

Everything here is loaded when it is first used, so that ``import mlr`` costs nothing.
"""

from __future__ import annotations

import importlib

from mlr.version import __version__

TYPE_CHECKING = False  # that of `typing`, which takes longer to load than this package does

_HOME = {
    "MaskedRegression": "mlr.regression",
    "MlrError": "mlr.errors",
    "Model": "mlr.model",
    "ReceptiveField": "mlr.receptive_field",
    "Statistics": "mlr.statistics",
    "evaluate": "mlr.evaluation.evaluate",
    "gather": "mlr.training",
    "load": "mlr.model",
    "train": "mlr.training",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from typing import Any

    from mlr.errors import MlrError as MlrError
    from mlr.evaluation.evaluate import evaluate as evaluate
    from mlr.model import Model as Model
    from mlr.model import load as load
    from mlr.receptive_field import ReceptiveField as ReceptiveField
    from mlr.regression import MaskedRegression as MaskedRegression
    from mlr.statistics import Statistics as Statistics
    from mlr.training import gather as gather
    from mlr.training import train as train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mlr' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
