"""``mlr bench``, ``mlr completion`` and ``mlr warmup``."""

from __future__ import annotations

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
@options.number("--pairs", 1, default=200, help="Training pairs.")
@click.option(
    "--receptive-field",
    metavar="SIDE|NAME",
    help="Odd side of a square window, or a name: plus, disc.  "
    "[default: 3; without --size also 5 at 128 pixels]",
)
@options.threads
@options.number("--repeat", 1, default=5, help="Runs of each stage.")
@options.reported
def bench(run: options.Run, **keywords: Any) -> int:
    """Time every stage on this machine, with generated faces."""
    from mlr import bench as benchmark

    result = benchmark.bench(report=run.report, **keywords)
    message = f"all results agree with plain NumPy's; {run.seconds:.0f} s"
    if not run.as_json:
        click.echo(benchmark.table(result))
    return run.finish(result, message)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands and options of mlr in SHELL.

    \b
    bash   echo 'eval "$(mlr completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(mlr completion zsh)"' >> ~/.zshrc
    fish   mlr completion fish > ~/.config/fish/completions/mlr.fish
    """
    from click.shell_completion import get_completion_class

    from mlr.cli import COMPLETE, cli

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "mlr", COMPLETE).source())


@click.command()
@options.reported
def warmup(run: options.Run) -> int:
    """Compile the kernels ahead of time, rather than in the first training."""
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
