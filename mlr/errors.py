"""Errors that are the input's fault, each with one helpful line."""

from __future__ import annotations

from collections.abc import Iterable


class MlrError(Exception):
    """Base of all errors: one line that says what was found, what was expected and what to do."""


class OptionError(MlrError, ValueError):
    """An option or parameter that is out of range or makes no sense: wrong usage."""


class DataError(MlrError, ValueError):
    """Training or evaluation data that cannot be used."""


class ModelError(MlrError, ValueError):
    """A model or statistics file that cannot be read, or does not fit the images."""


class NotFittedError(MlrError, ValueError, AttributeError):
    """An estimator that is used before it is fitted."""


class ImageError(MlrError, OSError):
    """An image file that cannot be read or written."""


class OutputExistsError(MlrError, FileExistsError):
    """An output that exists, and overwriting it was not asked for."""


class MlrWarning(UserWarning):
    """A file that is skipped."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a hint for an error if a word is like one that is known, or an empty string."""
    import difflib  # here, as only errors need it

    names = {name.casefold(): name for name in reversed(list(known))}
    close = difflib.get_close_matches(str(word).casefold(), names, 1)
    return f"; did you mean {names[close[0]]!r}?" if close else ""
