"""``mlr sample``."""

from __future__ import annotations

from pathlib import Path

import click

from mlr.cli import options


@click.command()
@click.argument("folder", type=options.OUTPUT, metavar="DIR")
@click.option("--pairs", type=click.IntRange(1), default=200, show_default=True, help="People.")
@click.option(
    "--size", type=click.IntRange(16, 8192), default=128, show_default=True, help="Pixels."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Other people.")
@options.target("Expression to draw; may be repeated.  [default: all six]")
@options.threads
@options.force
@options.as_json
@options.verbosity
def sample(
    folder: Path,
    pairs: int,
    size: int,
    seed: int,
    target: tuple[str, ...],
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Draw faces of subjects who do not exist, with seven expressions, as training data in DIR."""
    from mlr.samples.folder import write_samples
    from mlr.utils.progress import counted

    report = options.console(quiet, verbose)
    written = write_samples(
        folder,
        pairs=pairs,
        size=size,
        seed=seed,
        target=target,
        threads=threads,
        force=force,
        report=report,
    )
    if as_json:
        options.print_json({"folder": str(folder), "images": written})
    report.note(f"{folder}: {written} images of {counted(pairs, 'subject', 'subjects')}")
    return 0
