"""``mlr statistics``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlr.cli import options


@click.command()
@options.training_data("Statistics file to write.")
@options.threads
@options.force
@options.as_json
@options.verbosity
def statistics(
    data: tuple[Path, ...],
    output: Path,
    remove: tuple[Path, ...],
    recipe: str | None,
    receptive_field: str | None,
    like: Path | None,
    source: str | None,
    target: tuple[str, ...],
    checkpoint: Path | None,
    shard: int | None,
    cluster: str | None,
    memory: str | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Sum up the pairs of images in DATA: all that mlr train needs to know of them.

    DATA is as for mlr train. The found of a single pair are its two images: keep the file as you
    keep the images.

    The recipe best registers faces to templates. These are made of the pairs, or taken from another
    statistics file with --like. Only statistics with the same templates add up.
    """
    from mlr.training.train import statistics as statistics_of
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    with options.executor(cluster, report, memory) as executor:
        found = statistics_of(
            data,
            output,
            remove=remove,
            recipe=recipe,
            receptive_field=receptive_field,
            like=like,
            source=source,
            target=target,
            checkpoint=checkpoint,
            shard=shard,
            executor=executor,
            memory=memory,
            threads=threads,
            force=force,
            report=report,
        )
    seconds = time.perf_counter() - start
    summary = {"statistics": str(output), "seconds": seconds} | found.summary()
    pairs = sum(found.pairs.values())
    names = ", ".join(found.expressions)
    what = f"{output}: {names}, {counted(pairs, 'pair')} accumulated in {seconds:.1f} s"
    return options.finish(report, summary if as_json else None, what)
