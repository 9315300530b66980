"""``mlr train`` and ``mlr statistics``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options
from mlr.recipes.options import OPTIONS, StatisticsOptions
from mlr.training.settings import RunSettings


@click.command()
@options.training_data("Model file to write.")
@options.of_settings(*OPTIONS.values(), RunSettings)
@options.force
@options.reported
def train(data: tuple[Path, ...], output: Path, run: options.Run, **keywords: Any) -> int:
    """Train a model on the image pairs in DATA: folders, and files written by mlr statistics.

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
    summary = {"model": str(output), "seconds": run.seconds} | model.summary()
    names, pairs = ", ".join(model.expressions), counted(sum(model.info.pairs.values()), "pair")
    return run.finish(summary, f"{output}: {names} from {pairs} in {run.seconds:.1f} s")


@click.command()
@options.training_data("Statistics file to write.")
@options.of_settings(StatisticsOptions, RunSettings)
@options.force
@options.reported
def statistics(data: tuple[Path, ...], output: Path, run: options.Run, **keywords: Any) -> int:
    """Accumulate statistics of the image pairs in DATA, from which mlr train computes models.

    DATA is as for mlr train. The statistics of a single pair reveal its two images: protect the
    file like the images.

    The recipe best registers faces to templates. These are computed from the pairs, or taken from
    another statistics file with --like. Only statistics with the same templates can be added.
    """
    from mlr.training.train import statistics
    from mlr.utils.progress import counted

    found = statistics(data, output, report=run.report, **keywords)
    summary = {"statistics": str(output), "seconds": run.seconds} | found.summary()
    names, pairs = ", ".join(found.expressions), counted(sum(found.pairs.values()), "pair")
    return run.finish(summary, f"{output}: {names}, {pairs} accumulated in {run.seconds:.1f} s")
