"""``mlr info``."""

from __future__ import annotations

from pathlib import Path

import click

from mlr.cli import options


@click.command()
@click.argument("file", type=options.FILE)
@options.as_json
def info(file: Path, as_json: bool) -> int:
    """Say what is in FILE, a model or statistics, and how it was made."""
    from mlr.data.npz import meta_of
    from mlr.folds import Folds
    from mlr.model import load
    from mlr.report import printable

    read = Folds.load if meta_of(file).get("kind") == "statistics" else load
    summary = read(file).summary()
    if as_json:
        options.print_json(summary)
        return 0
    for name, value in summary.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        click.echo(printable(f"{name:16}{value}"))
    return 0
