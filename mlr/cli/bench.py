"""``mlr bench``."""

from __future__ import annotations

import time
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(16, 8192),
    multiple=True,
    help="Side of the images in pixels; may be repeated.  [default: 64, 128, 256]",
)
@click.option(
    "--pairs", type=click.IntRange(1), default=200, show_default=True, help="Training pairs."
)
@click.option(
    "--receptive-field",
    metavar="SIDE|NAME",
    help="Odd side of a square window, or a name: plus, disc.  "
    "[default: 3; without --size also 5 at 128 pixels]",
)
@options.threads
@click.option(
    "--repeat", type=click.IntRange(1), default=5, show_default=True, help="Runs of each stage."
)
@options.as_json
@options.verbosity
def bench(as_json: bool, quiet: bool, verbose: bool, **keywords: Any) -> int:
    """Time every stage on this machine, with generated faces."""
    from mlr import bench as benchmark
    from mlr.bench.table import table

    report = options.console(quiet, verbose)
    start = time.perf_counter()
    result = benchmark.bench(report=report, **keywords)
    seconds = time.perf_counter() - start
    if not as_json:
        click.echo(table(result))
    what = f"all results agree with plain NumPy's; {seconds:.0f} s"
    return options.finish(report, result if as_json else None, what)
