"""The command line: each command reads its options, calls one function and prints."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from mlr._version import __version__, install
from mlr.errors import MlrError, OptionError, did_you_mean
from mlr.io.files import discard_unfinished

#: Commands, their modules, and what they do, for the help.
COMMANDS = {
    "align": ("data", "Find faces in photographs, and write aligned crops of them."),
    "bench": ("machine", "Time every stage on this machine, with drawn faces."),
    "completion": ("machine", "Print a script that completes commands and options in a shell."),
    "evaluate": ("models", "Measure the error of a model on pairs of images."),
    "export": ("models", "Make a page of a model for browsers, or a graph for other programs."),
    "info": ("models", "Describe a file."),
    "inspect": ("models", "Draw what a model has learnt."),
    "models": ("models", "List the models that come with the program."),
    "sample": ("data", "Draw faces of subjects who do not exist, as training data."),
    "serve": ("models", "Serve the page of a model to the browser on this machine."),
    "statistics": ("training", "Accumulate statistics of pairs of images, for training."),
    "synthesize": ("synthesize", "Change the expression of faces in files and folders."),
    "train": ("training", "Learn from pairs of images."),
    "warmup": ("machine", "Compile the kernels ahead of time."),
}

COMPLETE = "_MLR_COMPLETE"  # environment variable with which shells ask for completions

#: After the commands in the help.
NOTES = f"""\b
Extras: {install("align")} finds faces in photographs;
video, deep, cluster and plot are others, as in [align,video].
Where `mlr` is another program, such as Miller: python -m mlr."""


class _Commands(click.Group):
    """Imports a command when it is run; importing all took a quarter of the start-up time."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"mlr.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail with one of a similar name."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            message = error.message.removesuffix(".") + did_you_mean(args[0], COMMANDS)
            raise click.UsageError(message, error.ctx) from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    epilog=NOTES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="mlr", message="%(prog)s %(version)s")
def cli() -> None:
    """Change the expression of faces with masked linear regression.

    \b
    mlr sample faces/                   draw sample faces
    mlr train faces/ -o model.npz       learn from pairs of images
    mlr align photos/ -o faces/         make aligned crops of photographs
    mlr synthesize model.npz photos/    change the expression of faces
    mlr synthesize smile party.jpg      with a model that comes with the program
    mlr evaluate model.npz test/        measure the error on other subjects
    mlr inspect model.npz -o pictures/  draw what the model has learnt
    mlr export model.npz -o face.html   make a page, or a graph: .onnx, for other programs
    mlr serve                           open such a page, with the model smile
    mlr statistics faces/ -o s.npz      keep statistics instead of images
    """


#: Signals that end the program, and the message.
ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    ENDINGS[signal.SIGHUP] = "hung up"


def main(args: Sequence[str] | None = None, program: str = "mlr") -> None:
    """Run the program, which was called by this name, and exit.

    The exit code is 0 on success, 1 if something failed, 2 for wrong usage, and 128 plus its
    number for a signal: 130 if interrupted and 143 if terminated.
    """
    try:
        with _ended_by_signals():
            code = cli.main(args, program, COMPLETE, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except OptionError as error:
        code = _failed(str(error), 2)
    except (MlrError, OSError) as error:  # OSError: a full stdout, for example
        code = _failed(str(error))
    except MemoryError:
        code = _failed("not enough memory")
    except SystemError as error:  # Python itself, where memory ends while it imports
        code = _failed(f"Python cannot continue, probably out of memory: {error}")
    except ImportError as error:  # out of memory or files; the cause is last
        code = _failed(f"a library cannot be loaded: {str(error).strip().splitlines()[-1]}")
    sys.exit(code if isinstance(code, int) else 0)


def _failed(cause: str, code: int = 1) -> int:
    """Print an error and return the exit code."""
    from mlr.utils.progress import printable

    click.echo(printable(f"mlr: error: {cause}"), err=True)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end the program in the block, unless they are ignored."""
    before = {
        number: signal.signal(number, _end)
        for number in ENDINGS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Delete unfinished files, print a line, and exit at once.

    An exception would be raised anywhere: Python drops it in finalisers and callbacks, compiled
    modules turn it into other errors, and threads blocked on a slow disk would have to be joined.
    """
    try:
        for each in ENDINGS:  # a second signal must not start this again
            signal.signal(each, signal.SIG_IGN)
        discard_unfinished()
        os.write(2, f"\nmlr: {ENDINGS[signal.Signals(number)]}\n".encode())
    finally:  # even where memory is gone
        os._exit(128 + number)
