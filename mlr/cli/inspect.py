"""``mlr inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("model", type=options.FILE)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder for pictures.")
@click.option("--at", metavar="X,Y", help="Draw the receptive field of this pixel alone.")
@options.target("Expression to draw; may be repeated.  [default: all]")
@options.force
@options.as_json
@options.verbosity
def inspect(
    model: Path,
    output: Path,
    at: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **keywords: Any,
) -> int:
    """Draw what MODEL has learnt: the mean face at several styles, its motion, templates, taps.

    A model of the recipe paper has neither styles nor motion; where it changes a face and its bias
    are drawn instead. Needs mlr[plot].
    """
    from mlr.evaluation.inspect import inspect as inspect_model
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    result = inspect_model(load_model(model), output, at=_pixel(at), **keywords)
    what = f"{counted(len(result['pictures']), 'picture')} written to {output}"
    return options.finish(report, result if as_json else None, what)


def _pixel(text: str | None) -> tuple[int, int] | None:
    """Return the pixel that the user names."""
    if text is None:
        return None
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected X,Y as 64,40, not {text!r}", param_hint="--at"
        ) from error
    return x, y
