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
@options.reported
def evaluate(model: Path, run: options.Run, **keywords: Any) -> int:
    """Measure the error of MODEL on the pairs of images in DATA, laid out as for training.

    Prints MSE, PSNR, SSIM and sharpness of the whole image, of the face and of the mouth, also for
    the unchanged input; with mlr[align] also the identity, the distance of the face embeddings of
    output and input, which is mostly below 0.6 if both show the same subject.
    """
    from mlr.evaluation.evaluate import evaluate
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    result = evaluate(load_model(model), report=run.report, **keywords)
    if not run.as_json:
        click.echo(_table(result))
    return run.finish(result, f"{counted(result['pairs'], 'pair')} evaluated")


_SHARPNESS = ("sharpness", "sharp", 6, 2)
_PART = (("mse", "MSE", 9, 5), ("ssim", "SSIM", 6, 3), _SHARPNESS)
#: Columns by region: measure, title, width, digits.
_COLUMNS = {
    "whole image": (
        ("mse", "MSE", 8, 5),
        ("psnr", "PSNR", 7, 2),
        ("ssim", "SSIM", 6, 3),
        _SHARPNESS,
    ),
    "face": _PART,
    "mouth": _PART,
    "": (("same_person", "identity", 9, 2),),
}


def _table(result: dict[str, Any]) -> str:
    """Return a table of the scores: for each expression the outputs, then the unchanged inputs.

    A line has 99 columns, or more if the name of an expression needs more than 21.
    """
    regions, titles = " " * 21, " " * 21
    for region, columns in _COLUMNS.items():
        regions += f"{region:>{sum(width for _, _, width, _ in columns)}}"
        titles += "".join(f"{title:>{width}}" for _, title, width, _ in columns)
    lines = [regions.rstrip(), titles]
    for name, scores in result["targets"].items():
        lines.append(_row(name, scores))
        lines.append(_row("  copy of the input", scores["copy_input"]))
    return "\n".join(lines)


def _row(name: str, scores: dict[str, Any]) -> str:
    line = f"{name:21}"
    for region, columns in _COLUMNS.items():
        for measure, _, width, digits in columns:
            score = scores.get(region, scores)[measure]
            line += f"{'-':>{width}}" if score is None else f"{score:{width}.{digits}f}"
    return line
