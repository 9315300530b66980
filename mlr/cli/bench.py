"""``mlr bench``."""

import click


@click.command()
def bench() -> int:
    """Time every stage on this machine."""
    return 0
