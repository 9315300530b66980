"""A model for use without this program: as a page, or as a graph, see `mlr.exports.onnx`.

The page changes faces in a browser, in one file that needs no network.

The page is ``page/page.html``, see `mlr.io.page`. The modules of the method are joined to one
script, which runs in a worker of the browser. The model is in there as JSON and base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.model import MOST_STYLE, Model
from mlr.core.registration.synthesis import Appearance
from mlr.errors import ModelError, OptionError
from mlr.io.files import replacing
from mlr.io.page import filled, joined
from mlr.io.provenance import new_record

PAGE = Path(__file__).with_name("page")
#: The modules, each after those that it imports.
MODULES = (
    *("planes", "geometry", "features", "register", "search", "synthesis", "model"),
    *("photo", "detect", "png", "worker"),
)
#: Largest change of a pixel by half precision, at strength 1 and any style: nine tenths of a level.
HALF_ERROR = 0.9 / 255

_LOOKS = ("light", "style", "other", "plain", "explained")
_TYPES = {np.uint8: "byte", np.float16: "half", np.float32: "float"}

Array = npt.NDArray[Any]


def export(
    model: Model,
    output: str | Path,
    target: str | Mapping[str, float] | None = None,
    region: str | Sequence[str] = (),
    *,
    force: bool = False,
) -> Path:
    """Write a model for use without this program.

    Parameters
    ----------
    model : Model
        Of the recipe best if a page is to be written.
    output : str or Path
        With the ending ``.html``: a page that changes faces in any browser and without a network.
        With the ending ``.onnx``: a graph for ONNX Runtime and the like. It takes ``image``,
        float32 (N, 3, height, width) in [0, 1], ``strength``, float32 (N,) or (1,) in [0, 2], and,
        if the model has styles, ``style``, likewise in [-5, 5] or NaN for the default; and returns
        ``output``, float32 (N, 3, height, width) in [0, 1].
    target : str or mapping of str to float, optional
        The expression of a graph, or the share of each in a mix. May be omitted if the model has
        one. A page has all of them.
    region : str or sequence of str
        The parts of the face that a graph changes, by default all of it.
    force : bool
        Overwrite an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OptionError
        If the output has another ending, a target or regions are given for a page, a share is out
        of range, or onnx is not installed.
    ModelError
        If a page is to be written of a model of the recipe paper, the model does not have the
        expression, or not all of its values are finite.
    OutputExistsError
        If the output exists and ``force`` is false.
    """
    output = Path(output)
    suffix = output.suffix.lower()
    if suffix == ".onnx":
        from mlr.exports import onnx

        content = onnx.render(model, target, region)
    elif suffix == ".html":
        if target or region:
            raise OptionError(f"{output}: a page has all expressions and regions; name none")
        content = render(model).encode()
    else:
        raise OptionError(f"{output}: cannot be exported; give a name that ends in .html or .onnx")
    with replacing(output, force=force) as file:
        file.write(content)
    return output


def render(model: Model) -> str:
    """Return the text of the page; the errors are those of `export`."""
    header, arrays = _model_of_page(model)
    names = ", ".join(model.expressions)
    values = {
        "title": escape(f"mlr: {names}"),
        "header": _json(header),
        "arrays": base64.b64encode(arrays).decode(),
        "engine": joined(PAGE / f"{name}.mjs" for name in MODULES),
    }
    return filled(PAGE / "page.html", values)


def _json(value: Any) -> str:
    """Return JSON that can stand in a script of a page."""
    return json.dumps(value).replace("<", "\\u003c")


def _model_of_page(model: Model) -> tuple[dict[str, Any], bytes]:
    """Return what the script of the page reads: numbers by name, and the bytes of all arrays."""
    registered = model.registered
    if registered is None:
        raise ModelError("a model of the recipe paper cannot be a page; name an .onnx file")
    channels, height, width = model.shape
    looks = [registered.appearances[name] for name in model.expressions]
    stored = {"source": np.moveaxis(registered.source, 2, 0)}
    for index, look in enumerate(looks):
        own = _arrays_of(model.weights[index], look)
        stored |= {f"{name}{index}": array for name, array in own.items()}
    for name, array in stored.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{name} has values that are not finite; train the model again")
    arrays = [
        {"name": name, "type": _TYPES[array.dtype.type], "shape": array.shape}
        for name, array in stored.items()
    ]
    header = {
        "expressions": model.expressions,
        "size": (height, width),
        "channels": channels,
        "eyes": registered.geometry.eyes,
        "eyeWhite": registered.eye_white,
        "edge": model.edge,
        "taps": model.receptive_field.offsets,
        "looks": [{key: getattr(each, key) for key in _LOOKS} for each in looks],
        "record": new_record("", 1, model.sha256),
        "arrays": arrays,
    }
    little = (array.astype(array.dtype.newbyteorder("<")) for array in stored.values())
    return header, b"".join(array.tobytes() for array in little)


def _arrays_of(weights: Array, look: Appearance) -> dict[str, Array]:
    """Return the arrays of an expression, with those in half precision that may be."""
    found: dict[str, Array] = {
        "template": np.moveaxis(look.template, 2, 0),
        "variation": np.moveaxis(look.variation, 2, 0),
        "motion": look.motion,
        "shape": look.shape,
        "face": look.face,
    }
    left = HALF_ERROR
    for name, array, factor in (
        ("weights", weights, 1.0),
        ("mean", look.mean[:, None], 1.0),
        ("spread", look.spread[:, None], MOST_STYLE),
        ("share", look.share[None, None], MOST_STYLE),
    ):
        with np.errstate(over="ignore", invalid="ignore"):
            half = array.astype(np.float16)
            error = factor * float(np.abs(array - half).sum(axis=1).max())
        short = error <= left
        left -= error if short else 0.0
        found[name] = (half if short else array).reshape(-1, *array.shape[2:])
    return found
