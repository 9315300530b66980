"""The command line: each command reads its options, calls one function and prints."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from mlr.cli.align import align
from mlr.cli.bench import bench
from mlr.cli.evaluate import evaluate
from mlr.cli.info import info
from mlr.cli.sample import sample
from mlr.cli.statistics import statistics
from mlr.cli.synthesize import synthesize
from mlr.cli.train import train
from mlr.cli.warmup import warmup
from mlr.errors import MlrError, OptionError
from mlr.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlr", message="%(prog)s %(version)s")
def cli() -> None:
    """Change the expression of faces with masked linear regression.

    \b
    mlr sample faces/                   draw faces to play with
    mlr train faces/ -o model.npz       learn from pairs of images
    mlr align photos/ -o faces/         make aligned crops of photographs
    mlr synthesize model.npz photos/    change the expression of faces
    mlr evaluate model.npz test/        measure the error on other people
    mlr statistics faces/ -o sums.npz   keep what training needs to know of the pairs
    """


for command in (
    train,
    statistics,
    align,
    synthesize,
    evaluate,
    bench,
    sample,
    info,
    warmup,
):
    cli.add_command(command)


class Terminated(BaseException):
    """The process was asked to end: what is half done is cleared away on the way out."""


def main(args: Sequence[str] | None = None, prog_name: str = "mlr") -> None:
    """Run the program and exit.

    The exit code is 0 if all was done, 1 if something failed, 2 for wrong usage, 130 if
    interrupted and 143 if terminated.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(args, prog_name=prog_name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except OptionError as error:
        code = _failed(str(error), 2)
    except (MlrError, OSError) as error:  # OSError: of no input or output, but of a full stdout
        code = _failed(str(error))
    except MemoryError:
        code = _failed("not enough memory")
    except (click.Abort, KeyboardInterrupt):
        click.echo("mlr: interrupted", err=True)
        code = 130
    except Terminated:
        click.echo("mlr: terminated", err=True)
        code = 143
    sys.exit(code if isinstance(code, int) else 0)


def _failed(cause: str, code: int = 1) -> int:
    """Say why nothing more can be done, and return the exit code."""
    from mlr.report import printable

    click.echo(printable(f"mlr: error: {cause}"), err=True)
    return code


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated
