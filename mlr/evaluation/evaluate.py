"""Evaluation: how close a model's outputs come to the targets of subjects it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlr.core import metrics
from mlr.core.metrics import Scores
from mlr.core.model import Model
from mlr.errors import DataError, ImageError
from mlr.evaluation.report_page import PairScores, write_report_page
from mlr.evaluation.sheet import PairPicture, as_rgb8, draw_sheet, write_contact_sheet
from mlr.io.files import check_free, located
from mlr.io.images import Image, Pixels, read_image, write_image
from mlr.io.pairs import Subject, find_pairs
from mlr.io.provenance import Record, new_record, to_exif
from mlr.photo.detect import NEEDS, installed
from mlr.training.decode import as_channels
from mlr.utils.executor import Executor, map_items
from mlr.utils.progress import Report
from mlr.utils.threads import limited, thread_count

Style = float | Mapping[str, float] | None  # as `Model.synthesize` takes it

MEASURES = ("mse", "psnr", "ssim", "sharpness")  # of the whole image
REGIONS = ("face", "mouth")
REGION_MEASURES = ("mse", "ssim", "sharpness")
PAGE = "report.html"
FACTS = ("size", "recipe", "receptive_field", "penalty", "parameters", "version", "sha256")
SHOWN = 3  # pairs of each kind on a contact sheet: worst, median, best


def evaluate(
    model: Model,
    data: str | Path,
    *,
    source: str | None = None,
    target: Sequence[str] = (),
    style: Style = None,
    executor: Executor | None = None,
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
    style : float or mapping of str to float, optional
        Style of the outputs, as for `Model.synthesize`; by default what training chose.
    executor : Executor, optional
        Who does it, as for `mlr.training.train.train`; all see the same folder.
    threads : int, optional
        By default one for each processor.
    report_dir : path, optional
        Folder for a contact sheet of each expression, worst, median and best pairs, for
        ``overview.png``, all expressions of a few subjects, and for ``report.html``, a page to look
        at all pairs.
    force : bool
        Overwrite what is in that folder.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    dict
        ``{"pairs": n, "targets": {expression: {"mse", "psnr", "ssim", "sharpness", "face": {"mse",
        "ssim", "sharpness"}, "mouth": {the same three}, "same_person", "copy_input": {all of
        these}}}}``: means over the pairs, intensities in [0, 1], see `mlr.core.metrics.scores`.
        ``same_person`` is the distance of dlib's embeddings of output and input; None without
        ``mlr[align]``. ``copy_input`` scores the unchanged input. A mean that is not finite, as the
        PSNR of a perfect copy, is None too. ``"style"`` is the style, if one is given.

    Raises
    ------
    DataError
        If no pair can be evaluated.
    ModelError, OptionError
        If the model has no such style.
    """
    report = report or Report()
    model.styles_of(style, model.expressions)
    pairs = find_pairs(
        data if executor is None else located(data).absolute(),
        source=source or model.info.source or "neutral",
        target=target,
        split="test",
    )
    for note in pairs.notes:
        report.note(note)
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    shared = [name for name in pairs.expressions if name in model.expressions]
    if not shared:
        raise DataError(
            f"{data}: shows {', '.join(pairs.expressions)}, but the model was trained for "
            f"{', '.join(model.expressions)}"
        )
    if report_dir is not None:
        for name in (*(f"{each}.png" for each in (*shared, "overview")), PAGE):
            check_free(Path(report_dir) / name, force=force)  # before the work, not after
    with limited(threads):
        wanted = _Wanted(model, shared, style)
        results = map_items(executor, _measured, pairs.subjects, wanted, BATCH)
        found = _entries(pairs.subjects, results, report)
    if not found:
        raise DataError(f"{data}: not one pair could be evaluated")
    count = sum(len(pairs_of) for pairs_of in found.values())
    report.done += count
    means = {name: _means(entries) for name, entries in sorted(found.items())}
    if any(scores["same_person"] is None for scores in means.values()):
        report.note(f"note: telling whether an output shows the same person {NEEDS}")
    if report_dir is not None:
        for path in _write_pictures(Path(report_dir), wanted, found, force):
            report.note(f"wrote {path}")
        page = Path(report_dir) / PAGE
        _write_page(page, wanted, located(data), found, means, thread_count(threads), force)
        report.note(f"wrote {page}")
    return {"pairs": count, "targets": means, **({} if style is None else {"style": style})}


BATCH = 32  # subjects of a task


class _Wanted(NamedTuple):
    """What to evaluate, the same for every subject."""

    model: Model
    expressions: Sequence[str]
    style: Style

    def output(self, source: Pixels, expression: str) -> Pixels:
        """Return the output for a source image."""
        return self.model.synthesize(source, expression, style=self.style)

    def record(self, expression: str) -> Record:
        """Return what a picture of outputs says of itself."""
        return new_record(expression, 1, self.model.sha256, self.style)


class _Measures(NamedTuple):
    """The scores of a pair; ``same_person`` is None without ``mlr[align]``."""

    ours: Scores
    copied: Scores
    same_person: float | None


class _Entry(NamedTuple):
    """One evaluated pair: whose, and its scores."""

    subject: Subject
    measures: _Measures


_Measured = tuple[list[tuple[str, _Measures]], list[tuple[Path, str]]]  # by expression; failures


def _entries(
    subjects: Sequence[Subject], results: Iterator[_Measured], report: Report
) -> dict[str, list[_Entry]]:
    """Return the pairs of each expression, in the order of the subjects."""
    found: dict[str, list[_Entry]] = {}
    progress = report.progress(results, len(subjects), "evaluating")
    for subject, (measured, failures) in zip(subjects, progress, strict=True):
        for path, cause in failures:
            report.fail(path, cause)
        for name, measures in measured:
            found.setdefault(name, []).append(_Entry(subject, measures))
    return found


def _measured(subject: Subject, wanted: _Wanted) -> _Measured:
    """Return the scores of a subject's expressions, and what could not be read."""
    model = wanted.model
    try:
        source = _read(subject.source, model)
    except ImageError as error:
        return [], [(subject.source, str(error))]
    distance = distance_from(source.pixels)
    measured: list[tuple[str, _Measures]] = []
    failures: list[tuple[Path, str]] = []
    for name in wanted.expressions:
        if name not in subject.targets:
            continue
        try:
            target = _read(subject.targets[name], model)
        except ImageError as error:
            failures.append((subject.targets[name], str(error)))
            continue
        output = wanted.output(source.pixels, name)
        channels = max(source.pixels.shape[2], target.pixels.shape[2])
        goal = as_channels(_unit(target.pixels), channels)
        ours, copied = (
            metrics.scores(as_channels(_unit(pixels), channels), goal)
            for pixels in (output, source.pixels)
        )
        measured.append((name, _Measures(ours, copied, distance(output))))
    return measured, failures


def distance_from(source: Pixels) -> Callable[[Pixels], float | None]:
    """Return a function for the distance of an output's embedding from that of its input."""
    if not installed():
        return lambda output: None
    from mlr.evaluation.identity import embedding

    origin = embedding(as_rgb8(source))
    return lambda output: float(np.linalg.norm(embedding(as_rgb8(output)) - origin))


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


def _means(entries: Sequence[_Entry]) -> dict[str, Any]:
    """Return the mean scores of an expression, and those of its unchanged inputs."""
    distances = [entry.measures.same_person for entry in entries]
    known = None not in distances
    return {
        **mean_scores([entry.measures.ours for entry in entries]),
        "same_person": _mean(distances) if known else None,
        "copy_input": {
            **mean_scores([entry.measures.copied for entry in entries]),
            "same_person": 0.0 if known else None,
        },
    }


def mean_scores(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each measure, of the whole image and of its regions.

    Parameters
    ----------
    entries : sequence of mapping
        `mlr.core.metrics.Scores` of pairs, at least one.

    Returns
    -------
    dict
        As `mlr.core.metrics.Scores`; None stands for a mean that is not finite.
    """
    means: dict[str, Any] = {name: _mean([entry[name] for entry in entries]) for name in MEASURES}
    for region in REGIONS:
        means[region] = {
            name: _mean([entry[region][name] for entry in entries]) for name in REGION_MEASURES
        }
    return means


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where it is not finite."""
    mean = float(np.mean(np.array(values, dtype=np.float64)))
    return mean if math.isfinite(mean) else None


def _write_pictures(
    folder: Path, wanted: _Wanted, found: dict[str, list[_Entry]], force: bool
) -> Iterator[Path]:
    """Write a contact sheet of each expression and the overview; yield their paths."""
    for name, entries in sorted(found.items()):
        ranked = sorted(entries, key=lambda entry: -entry.measures.ours["mse"])
        rows = [
            _pair_picture(wanted, name, place, ranked[index])
            for place, index in _shown(len(ranked))
        ]
        title = name if wanted.style is None else f"{name}, style {_style_of(wanted, name)}"
        exif = to_exif(wanted.record(name))
        write_contact_sheet(folder / f"{name}.png", title, rows, exif=exif, force=force)
        yield folder / f"{name}.png"
    subjects = {entry.subject.name: entry.subject for entry in next(iter(found.values()))}
    sources = [read_image(subjects[name].source).pixels for name in sorted(subjects)[:SHOWN]]
    pictures = [[x, *(wanted.output(x, name) for name in sorted(found))] for x in sources]
    rows_of = [("", [as_rgb8(picture) for picture in row]) for row in pictures]
    overview = draw_sheet(["input", *sorted(found)], rows_of)
    exif = to_exif(wanted.record(", ".join(sorted(found))))
    write_image(folder / "overview.png", overview, exif=exif, force=force)
    yield folder / "overview.png"


def _write_page(
    path: Path,
    wanted: _Wanted,
    data: Path,
    found: dict[str, list[_Entry]],
    means: dict[str, dict[str, Any]],
    threads: int,
    force: bool,
) -> None:
    """Write the page of all pairs."""
    subjects = {entry.subject.name: entry for entries in found.values() for entry in entries}

    def picture(pair: PairScores) -> PairPicture:
        return _pair_picture(wanted, pair.expression, "", subjects[pair.subject])

    summary = wanted.model.summary()
    facts = {name.replace("_", " "): summary[name] for name in FACTS if name in summary}
    if wanted.style is not None:
        facts["style"] = wanted.style
    pairs = [
        PairScores(entry.subject.name, name, *entry.measures)
        for name, entries in found.items()
        for entry in entries
    ]
    title = f"Evaluation on {data.resolve().name}"
    write_report_page(path, title, facts, means, pairs, picture, threads=threads, force=force)


def _pair_picture(wanted: _Wanted, expression: str, place: str, entry: _Entry) -> PairPicture:
    """Return a row of a contact sheet."""
    source = read_image(entry.subject.source).pixels
    return PairPicture(
        caption=f"{place}: {entry.subject.name}, MSE {entry.measures.ours['mse']:.4f}",
        source=source,
        output=wanted.output(source, expression),
        target=read_image(entry.subject.targets[expression]).pixels,
    )


def _style_of(wanted: _Wanted, name: str) -> str:
    """Return the style of an expression, for a heading."""
    chosen = wanted.model.styles_of(wanted.style, [name])[name]
    return "by default" if chosen is None else f"{chosen:g}"


def _shown(count: int) -> list[tuple[str, int]]:
    """Return the places of the worst, median and best pairs in a list of so many, each once."""
    shown = min(SHOWN, -(-count // 3))
    middle = (count - shown) // 2
    places = dict.fromkeys(range(middle, middle + shown), "median")
    places |= dict.fromkeys(range(count - shown, count), "best")
    places |= dict.fromkeys(range(shown), "worst")
    return [(places[index], index) for index in sorted(places)]
