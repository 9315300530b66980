"""The version, and how extras are installed."""

__version__ = "0.1.0"

DISTRIBUTION = "masked-linear-regression"  # on the package index, where `mlr` is another program


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
