"""``mlr synthesize``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlr.cli import options


def _start(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | Mapping[str, float] | None:
    """Return the expression or mix that animations begin with."""
    return None if value is None else options.targets_of(context, parameter, (value,))[0]


def _grid(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, tuple[float, ...]] | None:
    """Return what varies along the rows of a grid, and its values, if any."""
    if value is None:
        return None
    axis, equals, numbers = value.partition("=")
    try:
        return axis.strip(), tuple(map(float, numbers.split(","))) if equals else ()
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected numbers, as strength=0.5,1") from None


@click.command()
@click.argument("model", type=options.MODEL)
@click.argument("inputs", nargs=-1, required=True, type=options.EXISTING, metavar="FACES...")
@click.option(
    "-o",
    "--output",
    type=options.OUTPUT,
    help="Folder to write to, or a file for one face.  [default: FOLDER-EXPRESSION next to it]",
)
@options.expressions(
    "Expression to synthesize, or a mix as happy=0.6,surprised=0.4; may be repeated.  "
    "[default: all of the model]"
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 2),
    default=1.0,
    show_default=True,
    help="0: the input, 1: the model's output, 2: twice the change. Teeth and the like appear at "
    "high strengths only, unless --style is given.",
)
@options.style
@options.regions("Part of the face to change; may be repeated.  [default: all of it]")
@click.option(
    "--resize",
    is_flag=True,
    help="Treat images as aligned faces, and resize them to the model's size.",
)
@click.option(
    "--align",
    is_flag=True,
    help="Treat images as photographs, even those of the model's size.",
)
@options.eyes
@options.face("all")
@click.option(
    "--animate",
    is_flag=True,
    help="Write animations from the input to the expression and back.",
)
@click.option(
    "--start",
    metavar="NAME|NAME=SHARE,...",
    callback=_start,
    help="Expression, or mix, that animations begin with.  [default: the input]",
)
@click.option(
    "--styles",
    nargs=2,
    type=float,
    metavar="FROM TO",
    help="Styles that animations go through, at full strength, such as -1 2.",
)
@click.option(
    "--grid",
    metavar="strength|style[=N,...]",
    callback=_grid,
    help="Write one labelled picture per image, NAME-grid.png: a row for each expression, the "
    "input and these strengths or styles as columns.  [default: 0.25,0.5,0.75,1; -1,0,1,2]",
)
@click.option(
    "--format",
    metavar="SUFFIX",
    help="Suffix of the images to write, such as jpg; with --animate gif, webp, png, frames "
    "for a folder of PNG files, or sheet for a folder with a sprite sheet and its JSON.  "
    "[default: that of each face; gif]",
)
@options.quality
@options.png_level
@options.metadata(
    "Record model and options in each file, where mlr info reads them, and keep date, author, "
    "resolution and gamma.  [default: yes]"
)
@options.cluster
@options.threads
@options.skip_existing
@options.force
@options.reported
def synthesize(model: Path, run: options.Run, **keywords: Any) -> int:
    """Change the expression of the faces in FACES, files or folders.

    MODEL is a file, or the name of a model that comes with the program, such as smile.
    Images of the model's size, and all with --resize, are aligned faces. Others are photographs:
    their faces are detected and changed, other pixels stay the same. Clips need the extra video and
    are written as clips with their sounds and subtitles; faces are followed through them, unless
    --eyes lists them.
    """
    from mlr.io.model_file import load_model
    from mlr.synthesis.files import synthesize

    written = synthesize(load_model(model), report=run.report, **keywords)
    folders = sorted({str(path.parent) for path in written})
    more = f" and {len(folders) - 1} more" if folders[1:] else ""
    where = f" to {folders[0]}{more}" if folders else ""
    what = str(written[0]) if len(written) == 1 else f"{len(written)} images"
    where = "" if len(written) == 1 else where
    message = f"{what} written{where} in {run.seconds:.1f} s"
    if run.report.skipped:
        message += f"; {run.report.skipped} skipped, as they exist"
    return run.finish_writing(written, message)
