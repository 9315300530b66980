"""Masked linear regression: change the expression of a face with a model trained in seconds.

Everything here is loaded when it is first used, so that ``import mlr`` costs nothing.
"""

from __future__ import annotations

import importlib

from mlr._version import __version__

TYPE_CHECKING = False  # that of `typing`, which takes longer to load than this package does

#: Where each name is defined.
_HOME = {
    "MaskedRegression": "mlr.sklearn.MaskedRegression",
    "MlrError": "mlr.errors.MlrError",
    "Model": "mlr.core.model.Model",
    "ReceptiveField": "mlr.core.receptive_field.ReceptiveField",
    "Statistics": "mlr.core.statistics.Statistics",
    "align": "mlr.photo.align.align",
    "animation": "mlr.synthesis.arrays.animation",
    "crops": "mlr.synthesis.arrays.crops",
    "evaluate": "mlr.evaluation.evaluate.evaluate",
    "export": "mlr.exports.export.export",
    "inspect": "mlr.evaluation.inspect.inspect",
    "load": "mlr.io.model_file.load_model",
    "models": "mlr.io.model_file.models",
    "photograph": "mlr.synthesis.arrays.photograph",
    "preview": "mlr.evaluation.inspect.preview",
    "sample": "mlr.samples.sample",
    "save": "mlr.io.model_file.save_model",
    "serve": "mlr.exports.serve.serve",
    "statistics": "mlr.training.train.statistics",
    "synthesize": "mlr.synthesis.files.synthesize",
    "train": "mlr.training.train.train",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from typing import Any

    from mlr.core.model import Model as Model
    from mlr.core.receptive_field import ReceptiveField as ReceptiveField
    from mlr.core.statistics import Statistics as Statistics
    from mlr.errors import MlrError as MlrError
    from mlr.evaluation.evaluate import evaluate as evaluate
    from mlr.evaluation.inspect import inspect as inspect
    from mlr.evaluation.inspect import preview as preview
    from mlr.exports.export import export as export
    from mlr.exports.serve import serve as serve
    from mlr.io import model_file
    from mlr.photo.align import align as align
    from mlr.samples import sample as sample
    from mlr.sklearn import MaskedRegression as MaskedRegression
    from mlr.synthesis.arrays import animation as animation
    from mlr.synthesis.arrays import crops as crops
    from mlr.synthesis.arrays import photograph as photograph
    from mlr.synthesis.files import synthesize as synthesize
    from mlr.training.train import statistics as statistics
    from mlr.training.train import train as train

    load = model_file.load_model
    models = model_file.models
    save = model_file.save_model


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mlr' has no attribute {name!r}")
    module, _, attribute = _HOME[name].rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
