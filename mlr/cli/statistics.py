"""``mlr statistics``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mlr.cli import options
from mlr.recipes.options import StatisticsOptions
from mlr.training.settings import RunSettings


@click.command()
@options.training_data("Statistics file to write.")
@options.of_settings(StatisticsOptions, RunSettings)
@options.force
@options.as_json
@options.verbosity
def statistics(
    data: tuple[Path, ...],
    output: Path,
    cluster: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **keywords: Any,
) -> int:
    """Accumulate statistics of the pairs of images in DATA: all that mlr train needs to know.

    DATA is as for mlr train. The statistics of a single pair reveal its two images: keep the file
    as you keep the images.

    The recipe best registers faces to templates. These are made of the pairs, or taken from another
    statistics file with --like. Only statistics with the same templates add up.
    """
    from mlr.training.train import statistics as accumulate
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    with options.executor(cluster, report, keywords["memory"]) as executor:
        found = accumulate(data, output, executor=executor, report=report, **keywords)
    seconds = time.perf_counter() - start
    summary = {"statistics": str(output), "seconds": seconds} | found.summary()
    pairs = sum(found.pairs.values())
    names = ", ".join(found.expressions)
    what = f"{output}: {names}, {counted(pairs, 'pair')} accumulated in {seconds:.1f} s"
    return options.finish(report, summary if as_json else None, what)
