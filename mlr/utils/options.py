"""Options as fields of frozen dataclasses: command line, validation and help derive from them."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any, NamedTuple

from mlr.errors import OptionError


class Option(NamedTuple):
    """What is known of an option.

    Attributes
    ----------
    help : str
        A sentence for users.
    type : type
        Of its value on the command line.
    metavar : str, optional
        Stands for the value in the help.
    least, most : int, optional
        Range of the value.
    default : str, optional
        Default value in words, where it is None.
    """

    help: str
    type: type = str
    metavar: str | None = None
    least: int | None = None
    most: int | None = None
    default: str | None = None


def option(help: str, **known: Any) -> dict[str, Option]:
    """Return the metadata of a dataclass field that is an option; takes what `Option` does."""
    return {"option": Option(help, **known)}


def options_of(settings: type) -> dict[str, tuple[Option, Any]]:
    """Return the options of a dataclass by name, with their defaults."""
    known: list[Field[Any]] = [f for f in fields(settings) if "option" in f.metadata]
    return {f.name: (f.metadata["option"], f.default) for f in known}


def check_options(settings: Any) -> None:
    """Raise unless all options of an instance are in their range."""
    for name, (known, _) in options_of(type(settings)).items():
        value, words = getattr(settings, name), name.replace("_", " ")
        if value is None or known.least is None:
            continue
        if not known.least <= value < float("inf"):
            raise OptionError(f"the {words} must be a number from {known.least:g}, not {value}")
        if known.most is not None and value > known.most:
            raise OptionError(
                f"the {words} must lie between {known.least:g} and {known.most:g}, not {value}"
            )
