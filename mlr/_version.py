"""The version, for all to import: the package and whatever writes it into a file."""

__version__ = "0.1.0"
