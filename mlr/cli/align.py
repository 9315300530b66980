"""``mlr align``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlr.cli import options


@click.command()
@click.argument("photos", nargs=-1, required=True, type=options.EXISTING)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder to write to.")
@click.option(
    "--size", type=click.IntRange(16), default=128, show_default=True, help="Side of the crops."
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
def align(
    photos: tuple[Path, ...],
    output: Path,
    size: int,
    eyes: Path | None,
    face: str | int,
    quality: int,
    png_level: int,
    threads: int | None,
    skip_existing: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Find the faces in PHOTOS, files or folders, and write aligned crops of them.

    Names and subfolders are kept, so that folders of photographs for each expression become
    training data. alignment.csv beside the crops says where the eyes are in the photographs.
    """
    from mlr.photo.align import align_files
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    crops = align_files(
        photos,
        output,
        size=size,
        eyes=eyes,
        face=face,
        quality=quality,
        png_level=png_level,
        threads=threads,
        skip_existing=skip_existing,
        force=force,
        report=report,
    )
    seconds = time.perf_counter() - start
    if verbose:
        for crop in crops:
            report.note(f"wrote {crop.path}")
    written, skipped = [str(crop.path) for crop in crops], report.skipped
    result = {"written": written, "skipped": skipped, "seconds": seconds}
    what = f"{counted(len(crops), 'crop')} written to {output} in {seconds:.1f} s"
    if skipped:
        what += f"; {counted(skipped, 'photograph')} skipped, as their crops exist"
    return options.finish(report, result if as_json else None, what)
