"""``mlr warmup``."""

from __future__ import annotations

import click

from mlr.cli import options


@click.command()
@options.reported
def warmup(run: options.Run) -> int:
    """Compile the kernels ahead of time; otherwise the first training does."""
    from mlr.training.warmup import warm_up

    result = warm_up(run.report)
    if run.as_json:
        options.print_json(result)
    done = "compiled" if result["compiled"] else "loaded from the cache"
    where = f"kept in {result['folder']}"
    if result["folder"] is None:
        where = "but there is no folder to keep them in: set NUMBA_CACHE_DIR"
    run.report.note(f"kernels {done} in {result['seconds']:.1f} s, {where}")
    return 0
