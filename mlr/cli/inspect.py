"""``mlr inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


def _pixel(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        hint = "--at"
        raise click.BadParameter(f"expected X,Y as 64,40, not {text!r}", param_hint=hint) from error
    return x, y


@click.command()
@click.argument("model", type=options.FILE)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder for pictures.")
@click.option(
    "--at", metavar="X,Y", callback=_pixel, help="Draw the receptive field of this pixel alone."
)
@options.target("Expression to draw; may be repeated.  [default: all]")
@options.force
@options.reported
def inspect(model: Path, output: Path, run: options.Run, **keywords: Any) -> int:
    """Draw what MODEL has learnt: the mean face at several styles, its motion, templates, taps.

    A model of the recipe paper has neither styles nor motion; where it changes a face and its bias
    are drawn instead. Needs mlr[plot].
    """
    from mlr.evaluation.inspect import inspect
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    result = inspect(load_model(model), output, **keywords)
    what = f"{counted(len(result['pictures']), 'picture')} written to {output}"
    return run.finish(result, what)
