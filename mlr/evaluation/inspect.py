"""Plots and figures of what a model has learnt; needs the extra ``plot``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt

from mlr._version import install
from mlr.core.model import Model
from mlr.core.registration.fields import warp
from mlr.core.registration.synthesis import Appearance
from mlr.errors import MlrError
from mlr.evaluation import maps
from mlr.evaluation.maps import MeanFace
from mlr.io.files import check_free, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
CELLS = 16  # of the warped grid, along each side
FEATURES = ("local luminance", "local redness")

Floats = npt.NDArray[np.float32]


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
    output : path
        Folder for the pictures.
    at : (x, y), optional
        Draw the receptive field of this pixel alone.
    target, force
        As for `mlr.evaluate`.

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
        import_module("matplotlib.figure")
    except ImportError as error:
        raise MlrError(f"drawing needs Matplotlib: {install('plot')}") from error
    expressions = target or model.expressions
    figures: dict[Path, Figure] = {}
    for name in expressions:
        if at is None:
            drawn = draw_model(model, name)
        else:
            drawn = {f"at-{at[0]}-{at[1]}": draw_pixel(model, name, *at)}
        figures |= {Path(output) / f"{name}-{what}.png": each for what, each in drawn.items()}
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


def preview(model: Model) -> bytes | None:
    """Return a PNG of the mean face and its expressions side by side, None without registration."""
    faces = [maps.mean_face(model, name) for name in model.expressions]
    planes = [face.outputs[None] for face in faces if face is not None]
    if faces[0] is None:
        return None
    pictures = np.concatenate([faces[0].source, *planes], axis=2).transpose(1, 2, 0)
    pixels = np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return bytes(iio.imwrite("<bytes>", pixels, plugin="pillow", extension=".png"))


def summarize(model: Model, expression: str) -> dict[str, float]:
    """Return the figures of an expression that `inspect` describes."""
    face = maps.mean_face(model, expression)
    return {
        "change": float(maps.change(model, expression).mean()),
        "bias": float(np.abs(maps.bias(model, expression)).mean()),
        "sharpness": float(maps.sharpness(model, expression).mean()),
        "farthest": 0.0 if face is None else float(np.hypot(*face.motion).max()),
    }


def draw_model(model: Model, expression: str) -> dict[str, Figure]:
    """Return the figures of an expression, by what they show."""
    sharpness, axes = _figure(1, 1)
    title = f"{expression}: gain of the finest detail (1 keeps it)"
    gain = maps.sharpness(model, expression)
    _show(axes[0, 0], gain, title, **_signed(gain, middle=1.0))
    figures = {"sharpness": sharpness, "taps": _taps(model, expression)}
    appearance, face = maps.appearance_of(model, expression), maps.mean_face(model, expression)
    if appearance is None or face is None or model.registered is None:
        change, axes = _figure(1, 1)
        title = f"{expression}: expected change of the input, in intensities"
        _show(axes[0, 0], maps.change(model, expression), title)
        bias = _channel_maps(expression, {"bias": maps.bias(model, expression)})
        return figures | {"change": change, "bias": bias}
    residuals = {"residual b at style 0": appearance.mean, "residual c by style": appearance.spread}
    return figures | {
        "styles": _styles(expression, appearance, face),
        "motion": _motion(expression, face),
        "templates": _templates(expression, model.registered.source, appearance),
        "residual": _channel_maps(expression, residuals),
    }


def draw_pixel(model: Model, expression: str, x: int, y: int) -> Figure:
    """Return a figure of the receptive field of one pixel, a window for each channel."""
    found = maps.at(model, expression, x, y)
    channels, colours = len(found["weights"]), _signed(found["weights"])
    figure, axes = _figure(1, channels, 5.2, 4.8)
    for ax, weights, bias, name in zip(
        axes[0], found["weights"], found["bias"], _channels(channels), strict=True
    ):
        title = f"{expression} at {x},{y}, {name}: bias {bias:.3f}"
        for what, key in (("b", "mean"), ("c", "spread")):
            if key in found:
                title += f"\n{what} of the residual: {', '.join(f'{v:.3f}' for v in found[key])}"
        _number_taps(_show(ax, maps.as_window(model, weights), title, **colours))
    return figure


def _taps(model: Model, expression: str) -> Figure:
    """Return a figure of the receptive field: mean weight and mean absolute weight of each tap."""
    mean, size = (maps.as_window(model, each) for each in maps.tap_weights(model, expression))
    figure, axes = _figure(1, 2)
    left, right = axes[0]
    _number_taps(_show(left, mean, f"{expression}: mean weight of each tap", **_signed(mean)))
    _number_taps(_show(right, size, f"{expression}: mean absolute weight"))
    return figure


def _channel_maps(expression: str, planes: Mapping[str, npt.NDArray[Any]]) -> Figure:
    """Return a figure of maps (channels, height, width): a row for each, all on one scale."""
    channels = len(next(iter(planes.values())))
    colours = _signed(np.array(list(planes.values())))
    figure, axes = _figure(len(planes), channels)
    for row, (what, each) in zip(axes, planes.items(), strict=True):
        for ax, values, name in zip(row, each, _channels(channels), strict=True):
            _show(ax, values, f"{expression}: {what}, {name}, in intensities", **colours)
    return figure


def _styles(expression: str, appearance: Appearance, face: MeanFace) -> Figure:
    """Return a figure of the mean source face, its outputs by style, and their differences."""
    shown = {"mean source face": face.source}
    for style, output in face.outputs.items():
        if style is not None:
            shown[f"style {style:g}"] = output
        elif appearance.style not in face.outputs:
            title = f"default style {appearance.style:.2f}" if appearance.styled else "output"
            shown[title] = output
    figure, axes = _figure(2, len(shown), 2.6 + 0.8 / len(shown), 2.8)
    figure.suptitle(f"{expression}: outputs, and their change in intensities", parse_math=False)
    changes = {title: maps.difference(face.source, image) for title, image in shown.items()}
    limit = max(float(change.max()) for change in changes.values())
    for (above, below), (title, image) in zip(axes.T, shown.items(), strict=True):
        _show_image(above, image, title)
        below.set_axis_off()
        if image is not face.source:
            drawn = below.imshow(changes[title], cmap="viridis", vmin=0, vmax=limit)
    figure.colorbar(drawn, ax=axes[1], shrink=0.9)
    return figure


def _motion(expression: str, face: MeanFace) -> Figure:
    """Return a figure of the mean source face with a grid, and of both warped."""
    height, width = face.motion.shape[1:]
    figure, axes = _figure(1, 2, 5.2, 5.2)
    left, right = axes[0]
    farthest = np.hypot(*face.motion).max()
    _show_image(left, face.source, f"{expression}: mean source face")
    moved = warp(face.source, face.motion)
    _show_image(right, moved, f"moved by up to {farthest:.1f} px, without other changes")
    positions = np.indices((height, width))
    for ax, sources in ((left, positions), (right, positions + face.motion)):
        for values, side in zip(sources, (height, width), strict=True):
            lines = np.arange(0.5, 1, 1 / CELLS) * side  # from the middle outwards
            levels = np.concatenate([side - lines[:0:-1], lines])
            ax.contour(values, levels=levels, colors="white", linewidths=0.7, alpha=0.8)
    return figure


def _templates(expression: str, source: Floats, appearance: Appearance) -> Figure:
    """Return a figure of the features of the templates: a row for luminance, one for redness."""
    variation = f"{expression}, by style"
    shown = {"sources": source, expression: appearance.template, variation: appearance.variation}
    figure, axes = _figure(2, len(shown), 3.7, 3.4)
    for index, row in enumerate(axes):
        for ax, (what, planes) in zip(row, shown.items(), strict=True):
            values = planes[..., index]
            _show(ax, values, f"{what}: {FEATURES[index]}", **_signed(values))
    return figure


def _figure(rows: int, columns: int, width: float = 5.6, height: float = 4.8) -> tuple[Figure, Any]:
    """Return a figure and a 2-d array of its axes, each ``width`` x ``height`` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(ax: Any, values: npt.NDArray[Any], title: str, **colours: Any) -> Any:
    """Show a map with its colour bar; return the drawn image."""
    image = ax.imshow(values, **{"cmap": "viridis"} | colours)
    ax.set_title(title, fontsize=10, parse_math=False)  # names may contain "$"
    ax.figure.colorbar(image, ax=ax, shrink=0.9)
    return image


def _signed(values: npt.NDArray[Any], middle: float = 0.0) -> dict[str, Any]:
    """Return a colour map and limits, symmetric about the middle."""
    limit = float(np.nanmax(np.abs(values - middle))) or 1.0
    return {"cmap": "RdBu_r", "vmin": middle - limit, "vmax": middle + limit}


def _show_image(ax: Any, image: Floats, title: str) -> None:
    """Show an image (channels, height, width) in [0, 1]."""
    ax.imshow(np.clip(image, 0, 1).transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    ax.set_title(title, fontsize=10, parse_math=False)
    ax.set_axis_off()


def _number_taps(image: Any) -> None:
    """Label a window with the offsets of its taps, and small ones with the values."""
    ax, values = image.axes, image.get_array().filled(np.nan)
    reach = len(values) // 2
    ax.set_xticks(range(len(values)), range(-reach, reach + 1))
    ax.set_yticks(range(len(values)), range(-reach, reach + 1))
    ax.set_xlabel("dx"), ax.set_ylabel("dy")
    if values.size <= 81:
        for y, x in np.argwhere(np.isfinite(values)).tolist():
            red, green, blue, _ = image.cmap(image.norm(values[y, x]))
            colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
            ax.text(x, y, f"{values[y, x]:.2g}", ha="center", va="center", color=colour)


def _channels(count: int) -> tuple[str, ...]:
    return ("red", "green", "blue") if count == 3 else ("all channels",)
