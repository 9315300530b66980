"""Pictures of what a model has learnt; needs the extra ``mlr[plot]``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.model import Model
from mlr.core.registration.fields import warp
from mlr.core.registration.synthesis import Appearance
from mlr.errors import MlrError
from mlr.evaluation import inspect as inspection
from mlr.evaluation.inspect import MeanFace
from mlr.io.files import check_free, replacing

DPI = 150
CELLS = 16  # of the grid that is moved, along each side
FEATURES = ("local luminance", "local redness")

Float = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


def draw_model(
    model: Model,
    folder: str | Path,
    *,
    pixel: tuple[int, int] | None = None,
    target: Sequence[str] = (),
    force: bool = False,
) -> list[Path]:
    """Write pictures of a model, named ``<expression>-<what>.png``.

    Parameters
    ----------
    model : Model
        What to draw.
    folder : path
        Where to.
    pixel : (x, y), optional
        Draw the receptive field of this pixel alone.
    target : sequence of str
        Expressions; none means all.
    force : bool
        Overwrite existing files.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    MlrError
        If matplotlib is missing, an expression or pixel is not there, or a file exists.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MlrError("drawing needs mlr[plot]: pip install 'mlr[plot]'") from error
    figures: dict[Path, Any] = {}
    for expression in target or model.expressions:
        model.require(expression)
        drawn = (
            _maps(model, expression, Figure)
            if pixel is None
            else {f"at-{pixel[0]}-{pixel[1]}": _pixel(model, expression, pixel, Figure)}
        )
        for what, figure in drawn.items():
            figures[Path(folder) / f"{expression}-{what}.png"] = figure
    for path in figures:
        check_free(path, force=force)
    for path, figure in figures.items():
        with replacing(path, force=force) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the font lacks a name's letters
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": "mlr"})
    return list(figures)


def _maps(model: Model, expression: str, new: Any) -> dict[str, Any]:
    """Return the figures of a whole model."""
    sharpness = inspection.sharpness(model, expression)
    title = f"{expression}: gain of the finest detail (1 keeps it)"
    figures = {
        "sharpness": _one(new, sharpness, title, "RdBu_r", signed=True, middle=1.0),
        "taps": _taps(new, model, expression),
    }
    look = inspection.look_of(model, expression)
    face = inspection.mean_face(model, expression)
    if look is None or face is None or model.registered is None:
        change = inspection.change(model, expression)
        title = f"{expression}: expected change of the input, in intensities"
        biases = {"bias": inspection.bias(model, expression)}
        return figures | {
            "change": _one(new, change, title, "viridis"),
            "bias": _channel_maps(new, expression, biases),
        }
    residuals = {
        "residual b at style 0": look.mean,
        "residual c by style": look.spread,
    }
    return figures | {
        "styles": _styles(new, expression, look, face),
        "motion": _motion(new, expression, face),
        "templates": _templates(new, expression, model.registered.source, look),
        "residual": _channel_maps(new, expression, residuals),
    }


def _styles(new: Any, expression: str, look: Appearance, face: MeanFace) -> Any:
    """Return a figure of the mean source face, its outputs by style, and how they differ."""
    shown = {"mean source face": face.source}
    for style, output in face.outputs.items():
        if style is not None:
            shown[f"style {style:g}"] = output
        elif look.style not in face.outputs:
            shown[f"default style {look.style:.2f}" if look.styled else "output"] = output
    figure = new(figsize=(0.8 + 2.6 * len(shown), 5.6), layout="constrained")
    figure.suptitle(f"{expression}: outputs, and their change in intensities", parse_math=False)
    axes = figure.subplots(2, len(shown))
    limit = max(float(inspection.difference(face.source, each).max()) for each in shown.values())
    for (above, below), (title, image) in zip(axes.T, shown.items(), strict=True):
        _picture(above, image, title)
        below.set_axis_off()
        if image is not face.source:
            change = inspection.difference(face.source, image)
            drawn = below.imshow(change, cmap="viridis", vmin=0, vmax=limit)
    figure.colorbar(drawn, ax=axes[1], shrink=0.9)
    return figure


def _motion(new: Any, expression: str, face: MeanFace) -> Any:
    """Return a figure of the mean source face under a grid, and of both moved."""
    height, width = face.motion.shape[1:]
    figure = new(figsize=(10.4, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    farthest = np.hypot(*face.motion).max()
    _picture(left, face.source, f"{expression}: mean source face")
    _picture(right, warp(face.source, face.motion), f"its motion alone, by up to {farthest:.1f} px")
    places = np.indices((height, width))
    for axes, sources in ((left, places), (right, places + face.motion)):
        for values, side in zip(sources, (height, width), strict=True):
            lines = np.arange(0.5, 1, 1 / CELLS) * side  # from the middle on
            levels = np.concatenate([side - lines[:0:-1], lines])
            axes.contour(values, levels=levels, colors="white", linewidths=0.7, alpha=0.8)
    return figure


def _templates(new: Any, expression: str, source: Floats, look: Appearance) -> Any:
    """Return a figure of the features of the templates: a row for luminance, one for redness."""
    shown = {
        "sources": source,
        expression: look.template,
        f"{expression}, by style": look.variation,
    }
    figure = new(figsize=(11.2, 6.8), layout="constrained")
    for index, row in enumerate(figure.subplots(2, len(shown))):
        for axes, (what, planes) in zip(row, shown.items(), strict=True):
            values = planes[..., index].astype(np.float64)
            _show(figure, axes, values, f"{what}: {FEATURES[index]}", "RdBu_r", signed=True)
    return figure


def _channel_maps(new: Any, expression: str, maps: dict[str, Any]) -> Any:
    """Return a figure of maps (channels, height, width): a row for each, all on one scale."""
    channels = len(next(iter(maps.values())))
    figure = new(figsize=(5.6 * channels, 4.8 * len(maps)), layout="constrained")
    limit = max(float(np.abs(values).max()) for values in maps.values()) or 1.0
    rows = figure.subplots(len(maps), channels, squeeze=False)
    for row, (what, planes) in zip(rows, maps.items(), strict=True):
        for axes, values, name in zip(row, planes, _channels(channels), strict=True):
            title = f"{expression}: {what}, {name}, in intensities"
            _show(figure, axes, values, title, "RdBu_r", signed=True, limit=limit)
    return figure


def _picture(axes: Any, image: Floats, title: str) -> None:
    """Show an image (channels, height, width) in [0, 1]."""
    axes.imshow(np.clip(image, 0, 1).transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_axis_off()


def _taps(new: Any, model: Model, expression: str) -> Any:
    """Return a figure of the receptive field: the mean weight of each tap, and of its size."""
    mean, size = inspection.tap_weights(model, expression)
    figure = new(figsize=(11.2, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    window = inspection.as_window(model, mean)
    _show(figure, left, window, f"{expression}: mean weight of each tap", "RdBu_r", True, True)
    window = inspection.as_window(model, size)
    _show(figure, right, window, f"{expression}: mean absolute weight", "viridis", True)
    return figure


def _channels(count: int) -> tuple[str, ...]:
    """Return what channels are called."""
    return ("red", "green", "blue") if count == 3 else ("all channels",)


def _one(
    new: Any,
    values: Float,
    title: str,
    colours: str,
    numbers: bool = False,
    signed: bool = False,
    middle: float = 0.0,
) -> Any:
    """Return a figure of one map with its colour bar."""
    figure = new(figsize=(5.6, 4.8), layout="constrained")
    _show(figure, figure.subplots(), values, title, colours, numbers, signed, middle=middle)
    return figure


def _show(
    figure: Any,
    axes: Any,
    values: Float,
    title: str,
    colours: str,
    numbers: bool = False,
    signed: bool = False,
    limit: float | None = None,
    middle: float = 0.0,
) -> None:
    if limit is None:
        limit = float(np.nanmax(np.abs(values - middle))) or 1.0
    scale = {"vmin": middle - limit, "vmax": middle + limit} if signed else {}
    image = axes.imshow(values, cmap=colours, **scale)
    axes.set_title(title, fontsize=10, parse_math=False)  # "$" is a letter of a name
    figure.colorbar(image, ax=axes, shrink=0.9)
    if not numbers:
        return
    reach = values.shape[0] // 2
    axes.set_xticks(range(values.shape[1]), range(-reach, reach + 1))
    axes.set_yticks(range(values.shape[0]), range(-reach, reach + 1))
    axes.set_xlabel("dx"), axes.set_ylabel("dy")
    if values.size <= 81:
        for y, x in np.argwhere(np.isfinite(values)).tolist():
            shade = image.cmap(image.norm(values[y, x]))
            dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.5
            colour = "white" if dark else "black"
            axes.text(x, y, f"{values[y, x]:.2g}", ha="center", va="center", color=colour)


def _pixel(model: Model, expression: str, pixel: tuple[int, int], new: Any) -> Any:
    """Return a figure of the receptive field of one pixel, one window for each channel."""
    found = inspection.at(model, expression, *pixel)
    channels = len(found["weights"])
    limit = float(np.abs(found["weights"]).max()) or 1.0
    figure = new(figsize=(5.2 * channels, 4.8), layout="constrained")
    for axes, weights, bias, name in zip(
        figure.subplots(1, channels, squeeze=False)[0],
        found["weights"],
        found["bias"],
        _channels(channels),
        strict=True,
    ):
        title = f"{expression} at {pixel[0]},{pixel[1]}, {name}: bias {bias:.3f}"
        for what, key in (("b", "mean"), ("c", "spread")):
            if key in found:
                title += f"\n{what} of the residual: {', '.join(f'{v:.3f}' for v in found[key])}"
        window = inspection.as_window(model, weights)
        _show(figure, axes, window, title, "RdBu_r", numbers=True, signed=True, limit=limit)
    return figure
