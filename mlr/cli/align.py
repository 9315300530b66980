"""``mlr align``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("photos", nargs=-1, required=True, type=options.EXISTING)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder to write to.")
@click.option(
    "--size",
    type=click.IntRange(16),
    default=128,
    show_default=True,
    help="Side of the crops, in pixels.",
)
@options.eyes
@options.face("largest")
@options.quality
@options.png_level
@options.threads
@options.skip_existing
@options.force
@options.as_json
@options.verbosity
def align(output: Path, as_json: bool, quiet: bool, verbose: bool, **keywords: Any) -> int:
    """Find the faces in PHOTOS, files or folders, and write aligned crops.

    Names and subfolders are kept, so that photographs in a folder for each expression become
    training data. The table alignment.csv in the output folder lists the eyes in the photographs.
    """
    from mlr.photo.align import align
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    written = align(output=output, report=report, **keywords)
    seconds = time.perf_counter() - start
    what = f"{counted(len(written), 'crop')} written to {output} in {seconds:.1f} s"
    if report.skipped:
        what += f"; {counted(report.skipped, 'photograph')} skipped, as their crops exist"
    return options.finish_writing(report, written, seconds, what, as_json)
