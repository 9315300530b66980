"""``mlr synthesize``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlr.cli import options


def _targets(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str | Mapping[str, float], ...]:
    """Return each value as the name of an expression or, of a mix, the share of each name."""
    return tuple(options.shares_of(value) if {"=", ","} & set(value) else value for value in values)


@click.command()
@click.argument("model", type=options.FILE)
@click.argument("inputs", nargs=-1, required=True, type=options.EXISTING, metavar="FACES...")
@click.option(
    "-o",
    "--output",
    type=options.OUTPUT,
    help="Folder to write to, or a file for one face.  [default: FOLDER-EXPRESSION next to it]",
)
@click.option(
    "--target",
    multiple=True,
    callback=_targets,
    metavar="NAME|NAME=SHARE,...",
    help="Expression to synthesize, or a mix as happy=0.6,surprised=0.4; may be repeated.  "
    "[default: all of the model]",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 2),
    default=1.0,
    show_default=True,
    help="0: the input, 1: the model's output, 2: twice the change. Teeth, or the like, come last "
    "unless --style fixes them.",
)
@options.style
@click.option(
    "--resize",
    is_flag=True,
    help="Resize images to the model's size: they are aligned faces of another size.",
)
@click.option(
    "--align",
    is_flag=True,
    help="Treat every image as a photograph, even one of the model's size.",
)
@options.eyes
@options.face("all")
@click.option(
    "--animate",
    is_flag=True,
    help="Write animations from the face to the expression and back.",
)
@click.option(
    "--format",
    metavar="SUFFIX",
    help="Suffix of the images to write, as jpg; with --animate gif, webp, png or frames, a "
    "folder of PNG files.  "
    "[default: that of each face; gif]",
)
@options.quality
@options.png_level
@click.option(
    "--metadata/--no-metadata",
    default=True,
    help="Record in each file how it was made, for mlr info to read.  [default: yes]",
)
@options.cluster
@options.threads
@options.skip_existing
@options.force
@options.as_json
@options.verbosity
def synthesize(
    model: Path, cluster: str | None, as_json: bool, quiet: bool, verbose: bool, **keywords: Any
) -> int:
    """Change the expression of the faces in FACES, files or folders.

    An image of the model's size is an aligned face, and so is any with --resize. Every other one is
    a photograph: its faces are found and changed where they are, and all else is kept as it is.
    Clips come out as clips, with their sound, and need mlr[video]; their faces are followed from
    frame to frame, or stay where --eyes says.
    """
    from mlr.io.model_file import load_model
    from mlr.synthesis.files import synthesize
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    with options.executor(cluster, report) as executor:
        written = synthesize(load_model(model), executor=executor, report=report, **keywords)
    seconds = time.perf_counter() - start
    folders = sorted({str(path.parent) for path in written})
    more = f" and {len(folders) - 1} more" if folders[1:] else ""
    where = f" to {folders[0]}{more}" if folders else ""
    what = f"{counted(len(written), 'image')} written{where} in {seconds:.1f} s"
    if report.skipped:
        what += f"; {report.skipped} skipped, as they exist"
    return options.finish_writing(report, written, seconds, what, as_json)
