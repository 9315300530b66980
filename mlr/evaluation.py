"""Evaluation: how close a model's outputs come to the targets of people it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr import metrics
from mlr.data.images import Image, Pixels, read_image
from mlr.data.pairs import Person, find_pairs
from mlr.data.stream import as_channels, ordered_map
from mlr.errors import DataError, ImageError
from mlr.model import Model
from mlr.report import Report
from mlr.sheet import PairPicture, write_contact_sheet
from mlr.threads import thread_count

MEASURES = ("mse", "psnr", "ssim", "sharpness")
SHOWN = 3  # pairs of each kind on a contact sheet: worst, median, best


def evaluate(
    model: Model,
    data: str | Path,
    *,
    source: str | None = None,
    target: Sequence[str] = (),
    threads: int | None = None,
    report_dir: str | Path | None = None,
    force: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Compare a model's outputs, as they would be written, with the targets.

    Parameters
    ----------
    model : Model
        What to evaluate.
    data : path
        Folder of pairs in any of the layouts; ``testA``/``testB`` are preferred.
    source : str, optional
        Folder of the source images; by default that of the training.
    target : sequence of str
        Expressions to evaluate; none means all that both the model and the data have.
    threads : int, optional
        By default one for each processor.
    report_dir : path, optional
        Folder for a contact sheet of each expression: worst, median and best pairs.
    force : bool
        Overwrite contact sheets.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    dict
        ``{"pairs": n, "targets": {expression: {"mse", "psnr", "ssim", "sharpness", "copy_input":
        {the same four}}}}``: means over the pairs, intensities in [0, 1]. ``copy_input`` scores the
        unchanged input. None stands for what is not finite, as the PSNR of a perfect copy.

    Raises
    ------
    DataError
        If no pair can be evaluated.
    """
    report = report or Report()
    pairs = find_pairs(
        data, source=source or model.meta.get("source", "neutral"), target=target, split="test"
    )
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    shared = [name for name in pairs.expressions if name in model.expressions]
    if not shared:
        raise DataError(
            f"{data}: shows {', '.join(pairs.expressions)}, but the model was trained for "
            f"{', '.join(model.expressions)}"
        )
    found: dict[str, list[tuple[Person, dict[str, float], dict[str, float]]]] = {}

    def measure(person: Person) -> tuple[list[tuple[str, _Scores]], list[tuple[Path, str]]]:
        return _measured(model, person, shared)

    results = ordered_map(measure, pairs.people, thread_count(threads))
    progress = report.progress(results, len(pairs.people), "evaluating")
    for person, (measured, failures) in zip(pairs.people, progress, strict=True):
        for path, cause in failures:
            report.fail(path, cause)
        for name, (ours, copied) in measured:
            found.setdefault(name, []).append((person, ours, copied))
    if not found:
        raise DataError(f"{data}: not one pair could be evaluated")
    count = sum(len(pairs_of) for pairs_of in found.values())
    report.done += count
    if report_dir is not None:
        for name, entries in sorted(found.items()):
            ranked = sorted(entries, key=lambda entry: -entry[1]["mse"])
            path = Path(report_dir) / f"{name}.png"
            _write_sheet(path, model, name, ranked, force)
            report.note(f"contact sheet: {path}")
    return {
        "pairs": count,
        "targets": {
            name: _mean([ours for _, ours, _ in entries])
            | {"copy_input": _mean([copied for _, _, copied in entries])}
            for name, entries in sorted(found.items())
        },
    }


_Scores = tuple[dict[str, float], dict[str, float]]  # the model's, the unchanged input's


def _measured(
    model: Model, person: Person, expressions: Sequence[str]
) -> tuple[list[tuple[str, _Scores]], list[tuple[Path, str]]]:
    """Return the scores of a person's expressions, and what could not be read."""
    try:
        source = _read(person.source, model)
    except ImageError as error:
        return [], [(person.source, str(error))]
    measured: list[tuple[str, _Scores]] = []
    failures: list[tuple[Path, str]] = []
    for name in expressions:
        if name not in person.targets:
            continue
        try:
            target = _read(person.targets[name], model)
        except ImageError as error:
            failures.append((person.targets[name], str(error)))
            continue
        output = model.synthesize(source.pixels, name)
        wanted = _unit(target.pixels)
        channels = max(source.pixels.shape[2], target.pixels.shape[2])
        wanted = as_channels(wanted, channels)
        ours, copied = (
            metrics.scores(as_channels(_unit(pixels), channels), wanted)
            for pixels in (output, source.pixels)
        )
        measured.append((name, (ours, copied)))
    return measured, failures


def _read(path: Path, model: Model) -> Image:
    """Read an image of the model's size."""
    image = read_image(path)
    height, width, _ = image.pixels.shape
    if (height, width) != model.shape[1:]:
        raise ImageError(
            f"is {width}x{height} px, but the model works on {model.shape[2]}x{model.shape[1]} px"
        )
    return image


def _unit(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return intensities in [0, 1]."""
    return pixels / float(np.iinfo(pixels.dtype).max)


def _mean(entries: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Return the mean of each measure, None where it is not finite."""
    means = {name: float(np.mean([entry[name] for entry in entries])) for name in MEASURES}
    return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}


def _write_sheet(
    path: Path,
    model: Model,
    expression: str,
    ranked: Sequence[tuple[Person, dict[str, float], dict[str, float]]],
    force: bool,
) -> None:
    """Write the contact sheet of one expression; ``ranked`` is sorted, the worst pair first."""
    rows: list[PairPicture] = []
    for place, index in _shown(len(ranked)):
        person, ours, _ = ranked[index]
        source, target = read_image(person.source), read_image(person.targets[expression])
        rows.append(
            PairPicture(
                caption=f"{place}: {person.name}, MSE {ours['mse']:.4f}",
                source=source.pixels,
                output=model.synthesize(source.pixels, expression),
                target=target.pixels,
            )
        )
    write_contact_sheet(path, expression, rows, force=force)


def _shown(count: int) -> list[tuple[str, int]]:
    """Return the places of the worst, median and best pairs in a list of so many, each once."""
    shown = min(SHOWN, -(-count // 3))
    middle = (count - shown) // 2
    places = dict.fromkeys(range(middle, middle + shown), "median")
    places |= dict.fromkeys(range(count - shown, count), "best")
    places |= dict.fromkeys(range(shown), "worst")
    return [(places[index], index) for index in sorted(places)]
