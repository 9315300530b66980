"""Evaluation: how close a model's outputs are to the targets of held-out subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlr.core.accumulate import pair_digest
from mlr.core.model import Model
from mlr.core.statistics import hexdigest
from mlr.errors import DataError, ImageError
from mlr.evaluation.report import ReportWriter, Style, check_report
from mlr.evaluation.scores import PairScores, by_expression, identity_distance, score, summarize
from mlr.io.files import located
from mlr.io.images import Image, read_image
from mlr.io.model_file import load_model
from mlr.io.pairs import Subject, find_pairs
from mlr.photo.detect import NEEDS
from mlr.utils.executor import Executor, map_items
from mlr.utils.progress import Report, reporting
from mlr.utils.threads import limited

BATCH = 32  # subjects of a task


def evaluate(
    model: Model | str | Path,
    data: str | Path,
    *,
    source: str | None = None,
    target: Sequence[str] = (),
    style: Style = None,
    executor: Executor | None = None,
    threads: int | None = None,
    report_dir: str | Path | None = None,
    force: bool = False,
    progress: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Compare a model's outputs, rounded as in files, with the targets.

    Parameters
    ----------
    model : Model, path or str
        A model, or its file, which the report names.
    data, source : path, str
        Folder of pairs, as for `mlr.train`, with ``testA``/``testB`` preferred; and its folder of
        source images, by default as in training.
    target : sequence of str
        Expressions to evaluate; by default all that both the model and the data have.
    style : float or mapping of str to float, optional
        Style of the outputs, as for `Model.synthesize`; by default the one that training chose.
    executor, threads, force, progress, report
        As for `mlr.train`; the processes of an executor see the same folder.
    report_dir : path, optional
        Folder for contact sheets of the worst, median and best pairs, for ``overview.png`` with all
        expressions of a few subjects, and for ``report.html``, a page with all pairs.

    Returns
    -------
    dict
        ``{"pairs": n, "targets": {expression: {"mse", "psnr", "ssim", "sharpness", "face": {"mse",
        "ssim", "sharpness"}, "mouth": {the same three}, "same_person", "copy_input": {all of
        these}, "fitted", "interval": {all means}}}}``: means over the pairs, intensities in [0, 1],
        see `mlr.core.metrics.scores`. ``same_person`` is the distance of dlib's face embeddings of
        output and input; None without the extra ``align``. ``copy_input`` scores the unchanged
        input. ``fitted`` is the share of inputs, 0 to 1, that fit the faces learnt from: others
        stay as they are. It is None for the recipe paper, which changes every image. ``interval``
        has the 95 % confidence interval of each mean, ``[low, high]``, under the same names, see
        `mlr.evaluation.scores.mean_interval`. A mean that is not finite, such as the PSNR of a
        perfect copy, is None, and so is its interval. ``style`` is present if it was given.

    Raises
    ------
    DataError
        If no pair can be evaluated.
    ModelError, OptionError
        If the model does not have the style.
    """
    report = reporting(report, progress)
    files: dict[str, object] = {}
    if not isinstance(model, Model):
        files["model"] = Path(model).name
        model = load_model(model)
    model.styles_of(style, model.expressions)  # raises if there is no such style
    data = located(data) if executor is None else located(data).absolute()
    source = source or model.info.source or "neutral"
    pairs = find_pairs(data, source=source, target=target, split="test")
    for note in pairs.notes:
        report.note(note)
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    expressions = [name for name in pairs.expressions if name in model.expressions]
    if not expressions:
        raise DataError(
            f"{data}: shows {', '.join(pairs.expressions)}, but the model was trained for "
            f"{', '.join(model.expressions)}"
        )
    if report_dir is not None:
        check_report(Path(report_dir), expressions, force=force)
    scored: list[PairScores] = []
    with limited(threads):
        task = (model, style, expressions)
        results = map_items(executor, _score_subject, pairs.subjects, task, BATCH)
        for found, failures in report.progress(results, len(pairs.subjects), "evaluating"):
            scored += found
            for path, cause in failures:
                report.fail(path, cause)
    if not scored:
        raise DataError(f"{data}: no pair could be evaluated")
    if hexdigest(pair.digest for pair in scored) == model.info.digest:
        report.note("note: the model was trained on these pairs; others have larger errors")
    report.done += len(scored)
    means = {name: summarize(its_pairs) for name, its_pairs in by_expression(scored).items()}
    if any(scores["same_person"] is None for scores in means.values()):
        report.note(f"note: measuring the identity of outputs {NEEDS}")
    if report_dir is not None:
        subjects = {subject.name: subject for subject in pairs.subjects}
        title = f"Evaluation of {files.get('model', 'a model')} on {data.resolve().name}"
        files["data"] = str(data)
        writer = ReportWriter(Path(report_dir), model, style, subjects, files, force)
        with limited(threads):
            for path in writer.write(title, scored):
                report.note(f"wrote {path}")
    return {"pairs": len(scored), "targets": means, **({} if style is None else {"style": style})}


def _score_subject(
    subject: Subject, task: tuple[Model, Style, Sequence[str]]
) -> tuple[list[PairScores], list[tuple[Path, str]]]:
    """Return the scores of a subject's expressions, and the images that failed with the cause."""
    scored: list[PairScores] = []
    failures: list[tuple[Path, str]] = []
    model, style, expressions = task
    path = subject.source
    try:
        source = _read(path, model.shape[1:])
    except ImageError as error:
        return [], [(path, str(error))]
    distance = identity_distance(source.pixels)
    for name, path in subject.targets.items():
        if name in expressions:
            try:
                target = _read(path, model.shape[1:])
            except ImageError as error:
                failures.append((path, str(error)))
                continue
            change = model.changer(source.pixels, name, style)
            output = change(1)
            fit = change.fits[0] if change.fits else None
            fits = (None, None) if fit is None else (fit.value, not fit.unlike)
            scores = score(output, target.pixels), score(source.pixels, target.pixels)
            digest = pair_digest(source.digest, target.digest, name)
            identity = distance(output)
            scored.append(PairScores(subject.name, name, *scores, identity, digest, *fits))
    return scored, failures


def _read(path: Path, size: tuple[int, int]) -> Image:
    """Read an image of the model's size."""
    image = read_image(path)
    height, width, _ = image.pixels.shape
    if (height, width) != size:
        raise ImageError(f"is {width}x{height} px, but the model works on {size[1]}x{size[0]} px")
    return image
