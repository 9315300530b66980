"""Options and output that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mlr.utils.executor import Executor
    from mlr.utils.options import Option
    from mlr.utils.progress import ConsoleReport

Command = TypeVar("Command", bound=Callable[..., Any])

EXISTING = click.Path(exists=True, path_type=Path)


class _Location(click.Path):
    """An existing path, or an address, which is not checked here."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path, or the address as it is."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, parameter, context)


LOCATION = _Location(exists=True, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(path_type=Path)


cluster = click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Use a Dask cluster, tcp://HOST:PORT, or N processes here, local:N; needs mlr[cluster].",
)
threads = click.option(
    "--threads", type=click.IntRange(1), help="Threads to use.  [default: one for each processor]"
)
force = click.option("--force", is_flag=True, help="Overwrite existing files.")
skip_existing = click.option("--skip-existing", is_flag=True, help="Skip existing outputs.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
quality = click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="Of JPEG and WebP files; with 100 WebP keeps every pixel.",
)
png_level = click.option(
    "--png-level",
    type=click.IntRange(0, 9),
    default=4,
    show_default=True,
    help="Compression level of PNG files: 1 is quick, 9 small.",
)
eyes = click.option(
    "--eyes",
    type=FILE,
    metavar="CSV",
    help="Table of eyes: file,left_eye_x,left_eye_y,right_eye_x,right_eye_y, in pixels; left is "
    "the viewer's.  [default: detected with mlr[align]]",
)


class _Face(click.ParamType):  # type: ignore[type-arg]  # older versions take none
    """all, largest, or the rank of a face in size."""

    name = "face"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> str | int:
        if value in ("all", "largest") or isinstance(value, int):
            return str(value) if isinstance(value, str) else value
        if str(value).isdecimal() and int(value) >= 1:
            return int(value)
        self.fail(f"{value!r}: expected all, largest, or a number from 1", parameter, context)


def face(default: str) -> Callable[[Command], Command]:
    """Return the option ``--face``."""
    return click.option(
        "--face",
        type=_Face(),
        default=default,
        show_default=True,
        metavar="all|largest|N",
        help="Which of several faces in a photograph; N: the Nth largest.",
    )


def target(help: str) -> Callable[[Command], Command]:
    """Return the option ``--target``, which may be given several times."""
    return click.option("--target", multiple=True, metavar="NAME", help=help)


def _styles(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | dict[str, float] | None:
    """Return one style for all expressions, or styles by expression."""
    if value is None:
        return None
    if "=" in value:
        return shares_of(value)
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected a number, or NAME=NUMBER,...") from None


def shares_of(text: str) -> dict[str, float]:
    """Read ``NAME=NUMBER,NAME=NUMBER...``."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = (word.strip() for word in part.partition("="))
        if not (name and equals):
            raise click.BadParameter(f"{text!r}: expected NAME, or NAME=NUMBER,NAME=NUMBER...")
        if name in shares:
            raise click.BadParameter(f"{text!r}: {name} is in it twice")
        try:
            shares[name] = float(share)
        except ValueError:
            raise click.BadParameter(f"{text!r}: {share!r} is not a number") from None
    return shares


style = click.option(
    "--style",
    callback=_styles,
    metavar="S|NAME=S,...",
    help="Standard deviations along the main variation of the expression, such as teeth shown or "
    "not; 0: the mean.  [default: chosen by training, see mlr info]",
)


def of_settings(*settings: type) -> Callable[[Command], Command]:
    """Return the options of some dataclasses; those of the same name are one option."""
    from mlr.utils.options import options_of

    def decorate(command: Command) -> Command:
        found: dict[str, list[tuple[Option, str]]] = {}
        for one in settings:
            owner = one.__name__.removesuffix("Options").lower()
            for name, (known, default) in options_of(one).items():
                text = known.default or ("" if default is None else f"{owner} {default:g}")
                found.setdefault(name, []).append((known, text))
        for name, several in reversed(found.items()):
            command = _option(name, several)(command)
        return command

    return decorate


def _option(name: str, several: list[tuple[Option, str]]) -> Callable[[Command], Command]:
    first = several[0][0]
    default = ", ".join(dict.fromkeys(text for _, text in several if text))
    known_types = {int: click.IntRange(first.least), Path: OUTPUT}  # other ranges need the recipe
    return click.option(
        f"--{name.replace('_', '-')}",
        type=known_types.get(first.type, first.type),
        metavar=first.metavar,
        help=first.help + (f"  [default: {default}]" if default else ""),
    )


def training_data(output: str) -> Callable[[Command], Command]:
    """Return DATA, the output file and the options that say which statistics are wanted."""
    decorators = [
        click.argument("data", type=LOCATION, nargs=-1, required=True),
        click.option("-o", "--output", type=OUTPUT, required=True, help=output),
        click.option(
            "--remove",
            type=LOCATION,
            multiple=True,
            metavar="DATA",
            help="Folder or statistics file of pairs to take out again; may be repeated.",
        ),
        click.option(
            "--recipe",
            type=click.Choice(["best", "paper"]),
            help="best: registers faces first, so that mouths stay sharp. paper: Khan et al. 2020, "
            "no registration, 3x3 window, penalty 0.4.  [default: that of the statistics files, or "
            "best]",
        ),
        click.option(
            "--like",
            type=LOCATION,
            metavar="FILE",
            help="best: statistics file whose templates to register faces to.  [default: the first "
            "statistics file in DATA, or new templates]",
        ),
        click.option("--source", metavar="NAME", help="Folder of the inputs.  [default: neutral]"),
        target("Expression to learn; may be repeated.  [default: all]"),
        cluster,
    ]

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


@contextmanager
def executor(
    cluster: str | None, report: ConsoleReport, memory: str | None = None
) -> Iterator[Executor | None]:
    """Yield the executor that ``--cluster`` asks for, or None."""
    if cluster is None:
        yield None
        return
    from mlr.cluster import connect
    from mlr.utils.memory import memory_limit

    with connect(cluster, report, None if memory is None else memory_limit(memory)) as found:
        yield found


def verbosity(command: Command) -> Command:
    """Add ``-q`` and ``-v``."""
    command = click.option("-q", "--quiet", is_flag=True, help="Print failures alone.")(command)
    return click.option("-v", "--verbose", is_flag=True, help="Print details too.")(command)


def console(quiet: bool, verbose: bool) -> ConsoleReport:
    """Return a report that writes to stderr."""
    import warnings

    from mlr.utils.progress import ConsoleReport

    warnings.filterwarnings("ignore", module="PIL")  # odd metadata
    return ConsoleReport(0 if quiet else 2 if verbose else 1)


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    import json  # here, for every help would wait for it

    click.echo(json.dumps(result))


def finish_writing(
    report: ConsoleReport, written: Sequence[Path], seconds: float, what: str, as_json: bool
) -> int:
    """`finish` a command that wrote files."""
    if report.verbosity > 1:
        for path in written:
            report.note(f"wrote {path}")
    result = {
        "written": [str(path) for path in written],
        "skipped": report.skipped,
        "seconds": seconds,
        **({"faces": report.faces} if report.faces else {}),
    }
    return finish(report, result if as_json else None, what)


def finish(report: ConsoleReport, result: dict[str, Any] | None, what: str) -> int:
    """Print the result as JSON if there is one, the summary to stderr, and return the exit code."""
    if result is not None:
        result["failures"] = [{"path": str(p), "cause": c} for p, c in report.failures]
        print_json(result)
    report.note(what + report.failure_summary())
    return 1 if report.failures else 0
