"""Model files: ``.npz`` archives with the weights, the taps, and metadata as a JSON string."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.exposure import Exposure
from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.geometry import Geometry
from mlr.core.registration.stored import (
    LEAST_LIGHT,
    MOST,
    stored_array,
    stored_eyes,
    stored_number,
)
from mlr.core.registration.synthesis import Appearance, Registered
from mlr.errors import MlrError, ModelError
from mlr.io.files import is_folder_name
from mlr.io.npz import DAMAGED, read_npz, save_npz

FORMAT = 3
WITHOUT_TEMPLATES = 2  # format of models without registration
LARGEST_WEIGHT = 1e9  # above, float32 has no digits left for intensities
BUNDLED = Path(__file__).parents[1] / "data"  # models that come with the program

Array = npt.NDArray[Any]

#: Types of the fields of `ModelInfo` that are stored as they are but are no text.
_TYPES = {"penalty": (int, float), "blur": (int, float), "pairs": (dict,)}
#: Arrays and numbers of an `Appearance`. Files number the arrays by expression.
_ARRAYS = ("template", "variation", "motion", "shape", "mean", "spread", "share", "face")
_NUMBERS = ("light", "style", "other", "plain", "explained")
_LEAST = {"light": LEAST_LIGHT, "explained": 0.0}


def save_model(model: Model, path: str | Path, *, force: bool = False) -> None:
    """Write a model to an ``.npz`` file; with ``force``, overwrite an existing file.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    meta = model.info.to_json() | {
        "kind": "model",
        "format": WITHOUT_TEMPLATES if model.registered is None else FORMAT,
        "expressions": model.expressions,
        "edge": model.edge,
        "channels": model.channels,
    }
    taps = [(0, dy, dx) for dy, dx in model.receptive_field.offsets]
    arrays: dict[str, Array] = {"weights": model.weights, "taps": np.array(taps, np.int16)}
    if (registered := model.registered) is not None:
        arrays["source_template"], looks = registered.source, {}
        for index, (name, appearance) in enumerate(sorted(registered.appearances.items())):
            arrays |= {f"{key}{index}": getattr(appearance, key) for key in _ARRAYS}
            looks[name] = {key: getattr(appearance, key) for key in _NUMBERS}
        eyes = registered.geometry.eyes
        meta["registered"] = {"eyes": eyes, "white": registered.eye_white, "looks": looks}
    save_npz(Path(path), arrays, meta, force=force)


def load_model(path: str | Path) -> Model:
    """Read a model that `save_model` has written; unknown metadata is ignored.

    Parameters
    ----------
    path : path or str
        A file, or the name of a model that comes with the program, see `models`. A file wins.

    Raises
    ------
    ModelError
        If the file is damaged, of a newer format, or not a model.
    """
    path = model_path(path)
    arrays, meta = read_npz(path, kind="model", newest=FORMAT)
    halves = [name for name, array in arrays.items() if array.dtype == np.float16]
    arrays |= {name: arrays[name].astype(np.float32) for name in halves}
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _model_from_arrays(arrays, meta, sha256)
    except MlrError as error:
        raise ModelError(f"{path}: {error}") from error
    except DAMAGED as error:
        raise ModelError(f"{path}: not a model file, or a damaged one: {error}") from error


def model_path(model: str | Path) -> Path:
    """Return the path of a model file, or of a bundled model unless a file has its name."""
    path = _bundled().get(str(model))
    return Path(model) if path is None or Path(model).is_file() else path


def models() -> list[dict[str, Any]]:
    """Return the models that come with the program, with data and licence.

    Returns
    -------
    list of dict
        ``name``, for `load`; ``path``; and what `Model.summary` returns.
    """
    return [
        {"name": name, "path": str(path), **load_model(path).summary()}
        for name, path in _bundled().items()
    ]


def _bundled() -> dict[str, Path]:
    return {path.stem: path for path in sorted(BUNDLED.glob("*.npz"))}


def _model_from_arrays(arrays: Mapping[str, Array], meta: Mapping[str, Any], sha256: str) -> Model:
    weights, taps = arrays["weights"], arrays["taps"]
    expressions = tuple(str(name) for name in meta["expressions"])
    channels = meta.get("channels")
    _check_weights(weights, taps, expressions)
    if channels is not None and (channels not in (1, 3) or weights.shape[1] != 1):
        raise ModelError(f"weights of shape {weights.shape} do not serve {channels!r} channels")
    registered = None
    if meta.get("registered") is not None:
        size = weights.shape[3], weights.shape[4]
        registered = _registered_from_arrays(arrays, meta["registered"], size, channels)
        if set(registered.appearances) != set(expressions):
            raise ModelError("its templates and its expressions disagree")
    return Model(
        weights=weights,
        receptive_field=ReceptiveField.of([(int(dy), int(dx)) for _, dy, dx in taps]),
        expressions=expressions,
        info=_info_from_json(meta, channels or weights.shape[1]),
        registered=registered,
        edge=bool(meta.get("edge", False)),
        channels=channels,
        sha256=sha256,
    )


def _check_weights(weights: Array, taps: Array, expressions: tuple[str, ...]) -> None:
    of_shape = f"of shape {weights.shape}"
    if weights.dtype != np.float32 or weights.ndim != 5:
        raise ModelError(f"weights are {weights.dtype} {of_shape}, expected float32, 5-d")
    if taps.dtype != np.int16 or taps.ndim != 2 or taps.shape[1] != 3 or taps[:, 0].any():
        raise ModelError(f"taps are {taps.dtype} of shape {taps.shape}, expected int16 (taps, 3)")
    if weights.shape[0] != len(expressions) or weights.shape[2] != len(taps) + 1:
        known = f"{len(expressions)} expressions and {len(taps)} taps"
        raise ModelError(f"weights {of_shape} do not fit {known}")
    if weights.shape[1] not in (1, 3):
        raise ModelError(f"weights are for {weights.shape[1]} channels, expected 1 or 3")
    if not float(np.abs(weights).max()) <= LARGEST_WEIGHT:
        raise ModelError("some weights are too large or not finite numbers; train the model again")
    if len(set(expressions)) != len(expressions):
        raise ModelError("it has the same expression twice")
    for name in expressions:
        if not is_folder_name(name):
            raise ModelError(f"expression {name!r} cannot be the name of a folder")


def _info_from_json(meta: Mapping[str, Any], channels: int) -> ModelInfo:
    names = [field.name for field in fields(ModelInfo)]
    found = {name: meta[name] for name in names if meta.get(name) is not None}
    for name, value in found.items():
        kinds = _TYPES.get(name, (str,))
        if name == "eyes":
            found[name] = stored_eyes(value)
        elif name == "exposure":
            found[name] = Exposure.from_meta(value, channels)
        elif not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ModelError(f"its {name} is {value!r}, expected {expected}")
    return ModelInfo(**found)


def _registered_from_arrays(
    arrays: Mapping[str, Array], noted: Mapping[str, Any], size: tuple[int, int], channels: Any
) -> Registered:
    geometry = Geometry(size, stored_eyes(noted["eyes"]))
    half, whole = geometry.fields, (channels, *size)
    features, field = (*half, 2), (2, *half)
    shapes = (features, features, field, field, whole, whole, size, whole)
    appearances = {}
    for index, (name, look) in enumerate(sorted(noted["looks"].items())):
        own: dict[str, Any] = {}
        for key, shape in zip(_ARRAYS, shapes, strict=True):
            most = max(half) if shape == field else MOST
            dtype = np.uint8 if key == "face" else np.float32
            own[key] = stored_array(arrays, f"{key}{index}", shape, most, dtype)
        for key in _NUMBERS:
            least = _LEAST.get(key, -MOST)
            own[key] = stored_number(f"the {key} of {name}", look[key], least)
        appearances[name] = Appearance(**own)
    eye_white = stored_number("the white of its eyes", noted["white"], LEAST_LIGHT)
    source = stored_array(arrays, "source_template", features)
    return Registered(geometry, source, eye_white, appearances)
