"""Pictures and figures of what a model has learnt; needs the extra ``mlr[plot]``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlr.core.model import Model
from mlr.errors import MlrError
from mlr.evaluation import maps
from mlr.io.files import check_free, replacing

DPI = 150


def inspect(
    model: Model,
    output: str | Path,
    *,
    at: tuple[int, int] | None = None,
    target: Sequence[str] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Draw what a model has learnt, as ``<expression>-<what>.png``.

    Parameters
    ----------
    model : Model
        The model to draw.
    output : path
        Folder for the pictures.
    at : (x, y), optional
        Draw the receptive field of this pixel alone.
    target : sequence of str
        Expressions; by default all.
    force : bool
        Overwrite existing files.

    Returns
    -------
    dict
        ``pictures``: paths. ``expressions``: for each the means over the pixels of ``change``
        (RMS, in intensities), ``bias`` (absolute) and ``sharpness`` (1 keeps the input's), and
        ``farthest``, the largest motion in pixels.

    Raises
    ------
    MlrError
        If matplotlib is missing, the model has no such expression or pixel, or a file exists and
        ``force`` is false.
    """
    try:
        from mlr.evaluation.plots import draw_model, draw_pixel
    except ImportError as error:
        raise MlrError("drawing needs mlr[plot]: pip install 'mlr[plot]'") from error
    expressions = target or model.expressions
    figures = {
        Path(output) / f"{name}-{what}.png": figure
        for name in expressions
        for what, figure in (
            draw_model(model, name)
            if at is None
            else {f"at-{at[0]}-{at[1]}": draw_pixel(model, name, *at)}
        ).items()
    }
    for path in figures:
        check_free(path, force=force)
    for path, figure in figures.items():
        with replacing(path, force=force) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the font lacks a name's letters
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": "mlr"})
    return {
        "pictures": [str(path) for path in figures],
        "expressions": {name: summarize(model, name) for name in expressions},
    }


def summarize(model: Model, expression: str) -> dict[str, float]:
    """Return the figures of an expression that `inspect` describes."""
    face = maps.mean_face(model, expression)
    return {
        "change": float(maps.change(model, expression).mean()),
        "bias": float(np.abs(maps.bias(model, expression)).mean()),
        "sharpness": float(maps.sharpness(model, expression).mean()),
        "farthest": 0.0 if face is None else float(np.hypot(*face.motion).max()),
    }
