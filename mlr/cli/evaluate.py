"""``mlr evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("model", type=options.FILE)
@click.argument("data", type=options.PLACE)
@click.option("--source", metavar="NAME", help="Folder of the inputs.  [default: as in training]")
@options.target("Expression to evaluate; may be repeated.  [default: all]")
@click.option(
    "--report",
    "report_dir",
    type=options.OUTPUT,
    help="Folder for report.html, a page to look at all pairs, and for pictures: the worst, "
    "median and best pairs, and an overview.",
)
@options.cluster
@options.threads
@options.force
@options.as_json
@options.verbosity
def evaluate(
    model: Path,
    data: Path,
    source: str | None,
    target: tuple[str, ...],
    report_dir: Path | None,
    cluster: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Measure the error of MODEL on the pairs of images in DATA, laid out as for training."""
    from mlr.evaluation import evaluate as evaluation
    from mlr.model import load
    from mlr.running.report import counted

    report = options.console(quiet, verbose)
    result = evaluation.evaluate(
        load(model),
        data,
        source=source,
        target=target,
        cluster=cluster,
        threads=threads,
        report_dir=report_dir,
        force=force,
        report=report,
    )
    if not as_json:
        click.echo(_table(result))
    what = f"{counted(result['pairs'], 'pair')} evaluated"
    return options.finish(report, result if as_json else None, what)


def _table(result: dict[str, Any]) -> str:
    """Return the scores as lines of text: for each expression the model, then the input itself."""
    lines = [f"{'':24}{'MSE':>9}{'PSNR':>9}{'SSIM':>9}{'sharpness':>11}"]
    for name, scores in result["targets"].items():
        lines.append(_row(name, scores))
        lines.append(_row("  copy of the input", scores["copy_input"]))
    return "\n".join(lines)


def _row(name: str, scores: dict[str, float | None]) -> str:
    cells = (("mse", 9, 5), ("psnr", 9, 2), ("ssim", 9, 3), ("sharpness", 11, 2))
    return f"{name:24}" + "".join(
        f"{'-':>{width}}" if scores[key] is None else f"{scores[key]:{width}.{digits}f}"
        for key, width, digits in cells
    )
