"""``mlr align``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("photos", nargs=-1, required=True, type=options.EXISTING)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder to write to.")
@options.number("--size", 16, default=128, help="Side of the crops, in pixels.")
@options.eyes
@options.face("largest")
@options.quality
@options.png_level
@options.threads
@options.skip_existing
@options.force
@options.reported
def align(output: Path, run: options.Run, **keywords: Any) -> int:
    """Find the faces in PHOTOS, files or folders, and write aligned crops.

    Names and subfolders are kept, so that photographs in a folder for each expression become
    training data. The table alignment.csv in the output folder lists the eyes in the photographs.
    """
    from mlr.photo.align import align
    from mlr.utils.progress import counted

    written = align(output=output, report=run.report, **keywords)
    what = f"{counted(len(written), 'crop')} written to {output} in {run.seconds:.1f} s"
    if skipped := run.report.skipped:
        what += f"; {counted(skipped, 'photograph')} skipped, as their crops exist"
    return run.finish_writing(written, what)
