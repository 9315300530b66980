"""What can go wrong for a user, as exceptions whose text is one helpful line."""


class MlrError(Exception):
    """Base of every error that is the input's fault and not the program's.

    The message is one line: what was found, what was expected, what to do.
    """


class OptionError(MlrError):
    """An option or parameter that makes no sense, whatever the data: wrong usage."""


class DataError(MlrError):
    """Training or evaluation data that cannot be used."""


class ImageError(MlrError):
    """An image file that cannot be read or written."""


class ModelError(MlrError):
    """A model or statistics file that cannot be read, or does not fit the images."""


class OutputExistsError(MlrError):
    """An output is there already, and overwriting it was not asked for."""


class MlrWarning(UserWarning):
    """A file was left out; the rest went on."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or what it is called if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
