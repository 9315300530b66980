"""``mlr sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("folder", type=options.OUTPUT, metavar="DIR")
@options.number("--pairs", 1, default=200, help="Subjects.")
@options.number("--size", 16, 8192, default=128, help="Side of the images, in pixels.")
@options.number("--seed", 0, default=0, help="Other seeds give other subjects.")
@options.target("Expression to draw; may be repeated.  [default: all six]")
@options.threads
@options.force
@options.reported
def sample(folder: Path, pairs: int, run: options.Run, **keywords: Any) -> int:
    """Draw faces of subjects who do not exist, with seven expressions, as training data in DIR."""
    from mlr.samples.folder import sample
    from mlr.utils.progress import counted

    written = sample(folder, pairs=pairs, report=run.report, **keywords)
    if run.as_json:
        options.print_json({"folder": str(folder), "images": len(written)})
    run.report.note(f"{folder}: {len(written)} images of {counted(pairs, 'subject')}")
    return 0
