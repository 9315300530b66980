"""Options and output that several commands share."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlr.errors import MlrError, did_you_mean

if TYPE_CHECKING:
    from mlr.utils.options import Option

PER_CENT = 5  # a share from here to 100 is taken for per cent

Command = TypeVar("Command", bound=Callable[..., Any])


class _Existing(click.Path):
    """An existing path; if there is none, the error names a similar one."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path."""
        with suppress(OSError):
            path = Path(value)
            if not path.exists():
                near = did_you_mean(path.name, [each.name for each in path.parent.iterdir()])
                if near:
                    self.fail(f"{str(path)!r} does not exist{near}", parameter, context)
        return super().convert(value, parameter, context)


class _Location(_Existing):
    """An existing path, or an address, which is not checked here."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path, or the address as it is."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, parameter, context)


class _Model(_Existing):
    """A model file, or the name of a model that comes with the program."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path; a file wins."""
        from mlr.io.model_file import model_path

        try:
            return super().convert(model_path(value), parameter, context)
        except click.BadParameter as error:
            hint = "mlr models lists those that come with the program."
            self.fail(f"{error.message} {hint}", parameter, context)


EXISTING = _Existing(exists=True, path_type=Path)
LOCATION = _Location(exists=True, path_type=Path)
FILE = _Existing(exists=True, dir_okay=False, path_type=Path)
MODEL = _Model(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(path_type=Path)


def number(
    name: str, least: int, most: int | None = None, *, default: int, help: str
) -> Callable[[Command], Command]:
    """Return an option that is an integer from ``least`` to ``most``."""
    limits = click.IntRange(least, most)
    return click.option(name, type=limits, default=default, show_default=True, help=help)


cluster = click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Use a Dask cluster, tcp://HOST:PORT, or N processes here, local:N; needs the "
    "extra cluster.",
)
threads = click.option(
    "--threads", type=click.IntRange(1), help="Threads to use.  [default: one for each processor]"
)
force = click.option("--force", is_flag=True, help="Overwrite existing files.")
skip_existing = click.option("--skip-existing", is_flag=True, help="Skip existing outputs.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
quality = number(
    "--quality", 1, 100, default=95, help="Of JPEG and WebP files; with 100 WebP keeps every pixel."
)
png_level = number(
    "--png-level", 0, 9, default=4, help="Compression level of PNG files: 1 is quick, 9 small."
)
eyes = click.option(
    "--eyes",
    type=FILE,
    metavar="CSV",
    help="Table of eyes: file,left_eye_x,left_eye_y,right_eye_x,right_eye_y, in pixels; left is "
    "the viewer's.  [default: detected with the extra align]",
)


def _face(context: click.Context, parameter: click.Parameter, value: str) -> str | int:
    if value in ("all", "largest"):
        return value
    if value.isdecimal() and int(value) >= 1:
        return int(value)
    raise click.BadParameter(f"{value!r}: expected all, largest, or a number from 1")


def face(default: str) -> Callable[[Command], Command]:
    """Return the option ``--face``."""
    return click.option(
        "--face",
        callback=_face,
        default=default,
        show_default=True,
        metavar="all|largest|N",
        help="Which of several faces in a photograph; N: the Nth largest.",
    )


def metadata(help: str) -> Callable[[Command], Command]:
    """Return the option ``--metadata``."""
    return click.option("--metadata/--no-metadata", default=True, help=help)


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


def targets_of(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str | Mapping[str, float], ...]:
    """Return the names of expressions, in NFC as folders' are; mixes as the share of each name."""
    values = tuple(unicodedata.normalize("NFC", value) for value in values)
    targets = [shares_of(value) if {"=", ","} & set(value) else value for value in values]
    for shares in targets:
        for name, share in shares.items() if isinstance(shares, Mapping) else ():
            if PER_CENT <= share <= 100:
                raise click.BadParameter(
                    f"{name}={share:g}: shares are not in per cent, 1 is all of an expression; "
                    f"did you mean {name}={share / 100:g}?"
                )
    return tuple(targets)


def expressions(help: str) -> Callable[[Command], Command]:
    """Return the option ``--target`` for expressions and mixes; it may be repeated."""
    return click.option(
        "--target", multiple=True, callback=targets_of, metavar="NAME|NAME=SHARE,...", help=help
    )


def regions(help: str) -> Callable[[Command], Command]:
    """Return the option ``--region``; it may be repeated."""
    names = click.Choice(["mouth", "eyes", "brows", "lower", "upper"])
    return click.option("--region", multiple=True, type=names, help=help)


style = click.option(
    "--style",
    callback=_styles,
    metavar="S|NAME=S,...",
    help="Standard deviations along the main variation of the expression, such as teeth shown or "
    "not; 0: the mean.  [default: chosen by training, see mlr info]",
)


def of_settings(*settings: type) -> Callable[[Command], Command]:
    """Return the options of dataclasses; fields of the same name become one option."""
    from mlr.utils.options import options_of

    known: dict[str, Option] = {}
    defaults: dict[str, list[str]] = {}
    for one in settings:
        owner = one.__name__.removesuffix("Options").lower()
        for name, (option, default) in options_of(one).items():
            known.setdefault(name, option)
            text = option.default or ("" if default is None else f"{owner} {default:g}")
            defaults.setdefault(name, []).append(text)

    found = []
    for name, option in known.items():
        default = ", ".join(dict.fromkeys(filter(None, defaults[name])))
        types = {int: click.IntRange(option.least), Path: OUTPUT}  # other ranges need the recipe
        decorator = click.option(
            f"--{name.replace('_', '-')}",
            type=types.get(option.type, option.type),
            metavar=option.metavar,
            help=option.help + (f"  [default: {default}]" if default else ""),
        )
        found.append(decorator)
    return _all_of(*found)


def _all_of(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def training_data(output: str) -> Callable[[Command], Command]:
    """Return DATA, the output file and the options that say which statistics are wanted."""
    return _all_of(
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
    )


class Run:
    """A run of a command: its report, its duration, and how it ends."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        import warnings

        from mlr.utils.progress import ConsoleReport

        warnings.filterwarnings("ignore", module="PIL")  # odd metadata
        self.as_json = as_json
        self.report = ConsoleReport(0 if quiet else 2 if verbose else 1)
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def finish(self, result: dict[str, Any], message: str) -> int:
        """Print the result if JSON is wanted, the summary to stderr; return the exit code."""
        failures = self.report.failures
        if self.as_json:
            result["failures"] = [{"path": str(path), "cause": cause} for path, cause in failures]
            report = self.report
            more = {"faces": report.faces, "lost": report.lost, "others": report.others}
            result |= {name: value for name, value in more.items() if value}
            print_json(result)
        self.report.show_more()
        self.report.note(message + self.report.failure_summary())
        return 1 if failures else 0

    def finish_writing(self, written: Sequence[Path], message: str) -> int:
        """`finish` a command that wrote files."""
        if self.report.verbosity > 1:
            for path in written:
                self.report.note(f"wrote {path}")
        paths = [str(path) for path in written]
        result = {"written": paths, "skipped": self.report.skipped, "seconds": self.seconds}
        return self.finish(result, message)


def reported(function: Callable[..., int]) -> Callable[..., int]:
    """Add ``--json``, ``-q`` and ``-v``; pass a `Run`, and with ``--cluster`` its executor."""

    @click.option("-v", "--verbose", is_flag=True, help="Print details too.")
    @click.option("-q", "--quiet", is_flag=True, help="Print failures alone.")
    @wraps(function)
    def command(*, as_json: bool, quiet: bool, verbose: bool, **keywords: Any) -> int:
        run = Run(as_json, quiet, verbose)
        try:
            return on_cluster(run, **keywords)
        except MlrError:
            run.report.show_more()
            raise

    def on_cluster(run: Run, **keywords: Any) -> int:
        if (cluster := keywords.pop("cluster", None)) is None:
            return function(run=run, **keywords)
        from mlr.cluster import connect
        from mlr.utils.memory import memory_limit

        memory = keywords.get("memory")
        limit = None if memory is None else memory_limit(memory)
        with connect(cluster, run.report, limit) as executor:
            return function(run=run, executor=executor, **keywords)

    return as_json(command)


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    import json  # here, for every help would wait for it

    click.echo(json.dumps(result))
