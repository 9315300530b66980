"""``mlr sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("folder", type=options.OUTPUT, metavar="DIR")
@click.option("--pairs", type=click.IntRange(1), default=200, show_default=True, help="Subjects.")
@click.option(
    "--size",
    type=click.IntRange(16, 8192),
    default=128,
    show_default=True,
    help="Side of the images, in pixels.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Other seeds give other subjects.",
)
@options.target("Expression to draw; may be repeated.  [default: all six]")
@options.threads
@options.force
@options.as_json
@options.verbosity
def sample(
    folder: Path, pairs: int, as_json: bool, quiet: bool, verbose: bool, **keywords: Any
) -> int:
    """Draw faces of subjects who do not exist, with seven expressions, as training data in DIR."""
    from mlr.samples.folder import sample
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    written = sample(folder, pairs=pairs, report=report, **keywords)
    if as_json:
        options.print_json({"folder": str(folder), "images": len(written)})
    report.note(f"{folder}: {len(written)} images of {counted(pairs, 'subject')}")
    return 0
