"""The command line: each command reads its options, calls one function and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mlr import __version__
from mlr.cli.bench import bench
from mlr.cli.evaluate import evaluate
from mlr.cli.info import info
from mlr.cli.sample import sample
from mlr.cli.synthesize import synthesize
from mlr.cli.train import train
from mlr.errors import MlrError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlr", message="%(prog)s %(version)s")
def cli() -> None:
    r"""Change the expression of faces with masked linear regression.

    \b
    mlr sample faces/                   draw faces to play with
    mlr train faces/ -o model.npz       learn from pairs of images
    mlr synthesize model.npz photos/    change the expression of aligned faces
    mlr evaluate model.npz test/        measure the error on other people
    """


for command in (train, synthesize, evaluate, bench, sample, info):
    cli.add_command(command)


def main(args: Sequence[str] | None = None, prog_name: str = "mlr") -> None:
    """Run the program and exit: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted."""
    try:
        code = cli.main(args, prog_name=prog_name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except MlrError as error:
        click.echo(f"mlr: error: {error}", err=True)
        code = 1
    except MemoryError:
        click.echo("mlr: error: not enough memory", err=True)
        code = 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("mlr: interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
