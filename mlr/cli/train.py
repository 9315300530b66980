"""``mlr train``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mlr.cli import options


@click.command()
@click.argument("data", type=options.EXISTING)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Model file to write.")
@click.option(
    "--recipe",
    type=click.Choice(["paper"]),
    default="paper",
    show_default=True,
    help="paper: Khan et al. 2020, 3x3 window, penalty 0.4.",
)
@click.option(
    "--receptive-field",
    metavar="SIDE|NAME",
    help="Odd side of a square window, or plus.  [default: the recipe's]",
)
@click.option("--penalty", type=float, help="Ridge penalty.  [default: the recipe's]")
@click.option(
    "--source", default="neutral", show_default=True, metavar="NAME", help="Folder of the inputs."
)
@options.target("Expression to learn; may be repeated.  [default: all]")
@options.threads
@options.force
@options.as_json
@options.verbosity
def train(
    data: Path,
    output: Path,
    recipe: str,
    receptive_field: str | None,
    penalty: float | None,
    source: str,
    target: tuple[str, ...],
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Learn from the pairs of images in DATA.

    \b
    DATA holds one of
      neutral/ann.png, happy/ann.png, sad/ann.png ...    a folder for each expression
      trainA/1.png, trainB/1.png                         two sides, or A/ and B/
      pairs.csv                                          columns source,target[,expression]
    """
    from mlr import training

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    model = training.train(
        data,
        output,
        recipe=recipe,
        receptive_field=receptive_field,
        penalty=penalty,
        source=source,
        target=target,
        threads=threads,
        force=force,
        report=report,
    )
    seconds = time.perf_counter() - start
    summary = {"model": str(output), "seconds": seconds} | model.summary()
    pairs = sum(model.meta["pairs"].values())
    what = f"{output}: {', '.join(model.expressions)} from {pairs} pairs in {seconds:.1f} s"
    return options.finish(report, summary if as_json else None, what)
