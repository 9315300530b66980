"""``mlr evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("model", type=options.FILE)
@click.argument("data", type=options.LOCATION)
@click.option("--source", metavar="NAME", help="Folder of the inputs.  [default: as in training]")
@options.target("Expression to evaluate; may be repeated.  [default: all]")
@options.style
@click.option(
    "--report",
    "report_dir",
    type=options.OUTPUT,
    help="Folder for report.html, which shows all pairs, and for pictures: the worst, median and "
    "best pairs, and an overview.",
)
@options.cluster
@options.threads
@options.force
@options.as_json
@options.verbosity
def evaluate(
    model: Path,
    data: Path,
    cluster: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **keywords: Any,
) -> int:
    """Measure the error of MODEL on the pairs of images in DATA, laid out as for training.

    Prints MSE, PSNR, SSIM and sharpness of the whole image, of the face and of the mouth, also for
    the unchanged input; with mlr[align] also the identity, the distance of the face embeddings of
    output and input, which is mostly below 0.6 if both show the same subject.
    """
    from mlr.evaluation import evaluate as evaluation
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    with options.executor(cluster, report) as executor:
        loaded = load_model(model)
        result = evaluation.evaluate(loaded, data, executor=executor, report=report, **keywords)
    if not as_json:
        click.echo(_table(result))
    what = f"{counted(result['pairs'], 'pair')} evaluated"
    return options.finish(report, result if as_json else None, what)


_WHOLE = (("mse", "MSE", 8, 5), ("psnr", "PSNR", 7, 2), ("ssim", "SSIM", 6, 3))
_PART = (("mse", "MSE", 9, 5), ("ssim", "SSIM", 6, 3))
_SHARPNESS = ("sharpness", "sharp", 6, 2)
#: Columns by region, "" for the whole image: measure, title, width, digits.
_COLUMNS = {
    "": (*_WHOLE, _SHARPNESS),
    "face": (*_PART, _SHARPNESS),
    "mouth": (*_PART, _SHARPNESS),
}
_IDENTITY = 9  # width


def _table(result: dict[str, Any]) -> str:
    """Return a table of the scores: for each expression the outputs, then the unchanged inputs.

    A line has 99 columns, or more if the name of an expression needs more than 21.
    """
    regions, titles = "", ""
    for region, columns in _COLUMNS.items():
        regions += f"{region or 'whole image':>{sum(width for _, _, width, _ in columns)}}"
        titles += "".join(f"{title:>{width}}" for _, title, width, _ in columns)
    lines = [f"{'':21}{regions}", f"{'':21}{titles}{'identity':>{_IDENTITY}}"]
    for name, scores in result["targets"].items():
        lines.append(_row(name, scores))
        lines.append(_row("  copy of the input", scores["copy_input"]))
    return "\n".join(lines)


def _row(name: str, scores: dict[str, Any]) -> str:
    cells = [
        _cell((scores[region] if region else scores)[measure], width, digits)
        for region, columns in _COLUMNS.items()
        for measure, _, width, digits in columns
    ]
    return f"{name:21}{''.join(cells)}{_cell(scores['same_person'], _IDENTITY, 2)}"


def _cell(score: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if score is None else f"{score:{width}.{digits}f}"
