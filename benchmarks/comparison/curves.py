"""Curves of training losses: a row for each method, a small chart for each of its losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlr.io.files import replacing

History = Sequence[tuple[int, Mapping[str, float]]]


def thinned(history: History, points: int = 100) -> list[dict[str, float]]:
    """Return a history as means over up to ``points`` equal parts of it.

    Returns
    -------
    list of dict
        ``step``, the last one of the part, and the mean of each loss in it.
    """
    length = max(1, math.ceil(len(history) / points))
    parts = [history[start : start + length] for start in range(0, len(history), length)]
    result = []
    for part in parts:
        found: dict[str, list[float]] = {}
        for _, losses in part:
            for name, value in losses.items():
                found.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        result.append({"step": part[-1][0]} | means)
    return result


def draw_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path, *, force: bool
) -> None:
    """Draw the losses of each method against its steps; histories are from `thinned`."""
    from matplotlib.figure import Figure

    names = {
        title: [name for name in dict.fromkeys(key for part in history for key in part)
                if name != "step"]
        for title, history in histories.items()
    }  # fmt: skip
    columns = max(1, *map(len, names.values()))
    figure = Figure(figsize=(2.6 * columns, 1.7 * len(names)), layout="constrained")
    rows = figure.subplots(len(names), columns, squeeze=False)
    for row, (title, history) in zip(rows, histories.items(), strict=True):
        row[0].set_ylabel(title)
        for ax, name in zip(row, names[title], strict=False):
            points = [(part["step"], part[name]) for part in history if name in part]
            ax.plot(*zip(*points, strict=True), linewidth=1)
            ax.set_title(name, fontsize=9)
            ax.tick_params(labelsize=7)
        for ax in row[max(1, len(names[title])) :]:
            ax.set_axis_off()
    with replacing(path, force=force) as file:
        figure.savefig(file, format="png", dpi=100)
