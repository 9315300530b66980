"""Masked linear regression: change the expression of a face with a model trained in seconds.

Everything here is loaded when it is first used, so that ``import mlr`` costs nothing.
"""

from __future__ import annotations

import importlib

from mlr._version import __version__

TYPE_CHECKING = False  # that of `typing`, which takes longer to load than this package does

_HOME = {
    "MaskedRegression": "mlr.sklearn",
    "MlrError": "mlr.errors",
    "Model": "mlr.core.model",
    "ReceptiveField": "mlr.core.receptive_field",
    "Statistics": "mlr.core.statistics",
    "evaluate": "mlr.evaluation.evaluate",
    "load": "mlr.core.model",
    "statistics": "mlr.training.train",
    "train": "mlr.training.train",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from typing import Any

    from mlr.core.model import Model as Model
    from mlr.core.model import load as load
    from mlr.core.receptive_field import ReceptiveField as ReceptiveField
    from mlr.core.statistics import Statistics as Statistics
    from mlr.errors import MlrError as MlrError
    from mlr.evaluation.evaluate import evaluate as evaluate
    from mlr.sklearn import MaskedRegression as MaskedRegression
    from mlr.training.train import statistics as statistics
    from mlr.training.train import train as train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mlr' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
