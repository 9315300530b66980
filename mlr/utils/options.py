"""Options as fields of frozen dataclasses, with validation; the command line derives from them."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, NamedTuple

from mlr.errors import OptionError


class Option(NamedTuple):
    """Help text, type and range of an option."""

    help: str
    type: type = str  # of its value on the command line
    metavar: str | None = None
    least: int | None = None
    most: int | None = None
    default: str | None = None  # what None means, in words


def option(value: Any, help: str, **known: Any) -> Any:
    """Return a dataclass field that is an option, with its default value and `Option` fields."""
    return field(default=value, metadata={"option": Option(help, **known)})


def options_of(settings: type) -> dict[str, tuple[Option, Any]]:
    """Return the options of a dataclass by name, with their defaults."""
    known = [each for each in fields(settings) if "option" in each.metadata]
    return {each.name: (each.metadata["option"], each.default) for each in known}


def check_options(settings: Any) -> None:
    """Raise `OptionError` unless all options of an instance are in their range."""
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
