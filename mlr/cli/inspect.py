"""``mlr inspect``."""

from __future__ import annotations

from pathlib import Path

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
    target: tuple[str, ...],
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Draw what MODEL has learnt: the mean face at several styles, its motion, templates, taps.

    A model of the recipe paper has neither styles nor motion; where it changes a face and its bias
    are drawn instead. Needs mlr[plot].
    """
    from mlr.evaluation import inspect as inspection
    from mlr.evaluation import plots
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    loaded = load_model(model)
    written = plots.draw_model(loaded, output, pixel=_pixel(at), target=target, force=force)
    summary = {
        "pictures": [str(path) for path in written],
        "expressions": {
            name: inspection.summary(loaded, name) for name in target or loaded.expressions
        },
    }
    what = f"{counted(len(written), 'picture')} written to {output}"
    return options.finish(report, summary if as_json else None, what)


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
