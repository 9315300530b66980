"""``mlr train``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlr.cli import options


@click.command()
@options.training_data("Model file to write.")
@click.option("--penalty", type=float, help="Ridge penalty.  [default: 0.006; paper: 0.4]")
@click.option(
    "--blur",
    type=float,
    metavar="PIXELS",
    help="best: blur of the statistics, by which neighbouring pixels share their samples.  "
    "[default: 1.6 % of the shorter side]",
)
@options.threads
@options.force
@options.as_json
@options.verbosity
def train(
    data: tuple[Path, ...],
    output: Path,
    remove: tuple[Path, ...],
    recipe: str | None,
    receptive_field: str | None,
    like: Path | None,
    source: str | None,
    target: tuple[str, ...],
    penalty: float | None,
    blur: float | None,
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
    """Learn from the pairs of images in DATA: folders, and files that mlr statistics wrote.

    \b
    A folder holds one of
      neutral/ann.png, happy/ann.png, sad/ann.png ...    a folder for each expression
      trainA/1.png, trainB/1.png                         two sides, or A/ and B/
      pairs.csv                                          columns source,target[,expression]

    The pairs of several DATA are different pairs, even if their files are called the same; the very
    same pair given twice counts twice.
    """
    from mlr.training.train import train as train_model
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    model = train_model(
        data,
        output,
        remove=remove,
        recipe=recipe,
        receptive_field=receptive_field,
        like=like,
        penalty=penalty,
        blur=blur,
        source=source,
        target=target,
        checkpoint=checkpoint,
        shard=shard,
        cluster=cluster,
        memory=memory,
        threads=threads,
        force=force,
        report=report,
    )
    seconds = time.perf_counter() - start
    summary = {"model": str(output), "seconds": seconds} | model.summary()
    pairs = sum(model.info.pairs.values())
    names = ", ".join(model.expressions)
    what = f"{output}: {names} from {counted(pairs, 'pair')} in {seconds:.1f} s"
    return options.finish(report, summary if as_json else None, what)
