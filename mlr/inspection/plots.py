"""Pictures of what a model has learnt; needs the extra ``mlr[plot]``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.files import check_free, replacing
from mlr.errors import MlrError
from mlr.inspection import arrays as inspection
from mlr.model import Model

DPI = 150
Float = npt.NDArray[np.float64]


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
    departure = inspection.departure(model, expression)
    sharpness = inspection.sharpness(model, expression)
    figures = {
        "departure": _one(
            new, departure, f"{expression}: departure from the input, in intensities", "viridis"
        ),
        "sharpness": _one(
            new,
            sharpness,
            f"{expression}: gain of the finest detail (1 keeps it)",
            "RdBu_r",
            signed=True,
            middle=1.0,
        ),
        "bias": _bias(new, model, expression),
        "taps": _taps(new, model, expression),
    }
    moved = inspection.displacement(model, expression)
    if moved is not None:
        figures["displacement"] = _arrows(
            new, moved, f"{expression}: displacement in pixels, arrows doubled"
        )
    penalties = inspection.penalties(model, expression)
    if penalties is not None:
        figures["penalty"] = _penalty(new, model, expression, penalties)
    return figures


def _bias(new: Any, model: Model, expression: str) -> Any:
    """Return a figure of the bias, one map for each channel that has its own."""
    bias = inspection.bias(model, expression)
    figure = new(figsize=(5.6 * len(bias), 4.8), layout="constrained")
    limit = float(np.abs(bias).max()) or 1.0
    for axes, values, name in zip(
        figure.subplots(1, len(bias), squeeze=False)[0], bias, _channels(len(bias)), strict=True
    ):
        title = f"{expression}: bias of {name}, in intensities"
        _show(figure, axes, values, title, "RdBu_r", signed=True, limit=limit)
    return figure


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


def _arrows(new: Any, moved: Float, title: str) -> Any:
    """Return a figure of how far the input moves, with arrows to where a pixel's content goes."""
    figure = new(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    _show(figure, axes, np.hypot(*moved), title, "viridis")
    step = max(1, moved.shape[1] // 24)
    y, x = np.indices(moved.shape[1:])[:, ::step, ::step]
    dy, dx = -moved[:, ::step, ::step]  # the content comes from p + u, and so goes by -u
    kind = {"angles": "xy", "scale_units": "xy", "scale": 0.5, "pivot": "tip", "width": 0.003}
    axes.quiver(x, y, dx, dy, color="white", **kind)
    return figure


def _penalty(new: Any, model: Model, expression: str, penalties: Float) -> Any:
    """Return a figure of the penalty by tap, by pixel, and of the errors that it was chosen by."""
    tried = inspection.tried(model, expression)
    cost = inspection.penalty_cost(model, expression)
    count = 1 + (cost is not None) + bool(tried)
    figure = new(figsize=(0.8 + 4.8 * count, 4.8), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    window = inspection.as_window(model, penalties)
    _show(figure, axes[0], window, f"{expression}: penalty of changing a tap", "viridis", True)
    if cost is not None:
        title = "cost of the penalty by pixel, in squared error x 1000"
        _show(figure, axes[1], 1000 * cost, title, "viridis")
    if tried:
        chosen = inspection.penalty(model, expression)
        kinds = sorted({(mirrored, blur) for mirrored, blur, _, _ in tried}, reverse=True)
        for mirrored, blur in kinds:
            curve = sorted(
                (penalty, 1000 * mse)
                for *kind, penalty, mse in tried
                if tuple(kind) == (mirrored, blur)
            )
            label = f"{'mirrored' if mirrored else 'not mirrored'}, blur {blur:g} px"
            axes[-1].plot(*zip(*curve, strict=True), "o-", label=label)
        axes[-1].axvline(chosen, color="grey", linestyle="--", label=f"chosen: {chosen:g}")
        axes[-1].set_xscale("log")
        axes[-1].set_xlabel("penalty of the middle tap")
        axes[-1].set_title("error x 1000 of people left out", fontsize=10)
        axes[-1].legend(fontsize=8)
    return figure


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
        if found["displacement"] is not None:
            dy, dx = found["displacement"]
            title += f"\nseen {dy:+.1f} px down, {dx:+.1f} px right"
        window = inspection.as_window(model, weights)
        _show(figure, axes, window, title, "RdBu_r", numbers=True, signed=True, limit=limit)
    return figure
