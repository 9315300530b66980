"""``mlr align`` and ``mlr sample``."""

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
@click.option(
    "--dataset",
    metavar="NAME",
    help="Sort the crops into folders of expressions by the file names of a data set: kdef, rafd, "
    "fei, ck, jaffe, cfd, london or mug.",
)
@click.option(
    "--names",
    metavar="PATTERN",
    help="The same for other names, such as '{subject}_{expression}.jpg'; * is anything.",
)
@options.quality
@options.png_level
@options.metadata("Keep date, author, resolution and gamma.  [default: yes]")
@options.threads
@options.skip_existing
@options.force
@options.reported
def align(output: Path, run: options.Run, **keywords: Any) -> int:
    """Find the faces in PHOTOS, files or folders, and write aligned crops.

    Names and subfolders are kept, so that photographs in a folder for each expression become
    training data. So do files such as ann_neutral.jpg and ann_happy.jpg in one folder. The table
    alignment.csv in the output folder lists the eyes in the photographs.
    """
    from mlr.photo.align import align
    from mlr.utils.progress import counted

    written = align(output=output, report=run.report, **keywords)
    what = f"{len(written)} crops written to {output}"
    if len(written) == 1:
        what = f"{written[0]} written"
    message = f"{what} in {run.seconds:.1f} s"
    if skipped := run.report.skipped:
        message += f"; {counted(skipped, 'photograph')} skipped, as their crops exist"
    return run.finish_writing(written, message)


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
    """Draw faces of invented subjects, with seven expressions, as training data in DIR."""
    from mlr.samples import sample
    from mlr.utils.progress import counted

    written = sample(folder, pairs=pairs, report=run.report, **keywords)
    if run.as_json:
        options.print_json({"folder": str(folder), "images": len(written)})
    run.report.note(f"{folder}: {len(written)} images of {counted(pairs, 'subject')}")
    return 0
