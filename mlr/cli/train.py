"""``mlr train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options
from mlr.recipes.options import OPTIONS
from mlr.training.settings import RunSettings


@click.command()
@options.training_data("Model file to write.")
@options.of_settings(*OPTIONS.values(), RunSettings)
@options.force
@options.reported
def train(data: tuple[Path, ...], output: Path, run: options.Run, **keywords: Any) -> int:
    """Learn from the pairs of images in DATA: folders, and files that mlr statistics wrote.

    \b
    A folder holds one of
      neutral/ann.png, happy/ann.png, sad/ann.png ...    a folder for each expression
      trainA/1.png, trainB/1.png                         two sides, or A/ and B/
      pairs.csv                                          columns source,target[,expression]

    The pairs of several DATA are different pairs, even if their files have the same names; a pair
    given twice counts twice.
    """
    from mlr.training.train import train
    from mlr.utils.progress import counted

    model = train(data, output, report=run.report, **keywords)
    seconds = run.seconds
    summary = {"model": str(output), "seconds": seconds} | model.summary()
    pairs = sum(model.info.pairs.values())
    names = ", ".join(model.expressions)
    what = f"{output}: {names} from {counted(pairs, 'pair')} in {seconds:.1f} s"
    return run.finish(summary, what)
