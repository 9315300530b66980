"""Writing files so that a reader only ever sees the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mlr.errors import MlrError, OutputExistsError


def is_folder_name(name: str) -> bool:
    """Tell whether a folder in plain sight can be called so, in any other folder and system."""
    return name.isprintable() and name[:1] not in ("", ".") and not {"/", "\\"} & set(name)


def check_free(path: Path, *, force: bool) -> None:
    """Raise unless ``path`` may be written.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it is a folder, a device or a name that no file can have.
    """
    with _writing(path):
        if path.is_dir():
            raise MlrError(f"{path}: is a folder, and a file is to be written there")
        if not path.exists():
            return
        if not path.is_file():  # renaming a file over /dev/null would do away with it
            raise MlrError(f"{path}: is not a regular file; give another name")
        if not force:
            raise OutputExistsError(f"{path}: exists already; give --force to overwrite it")


@contextmanager
def replacing(path: Path, *, force: bool, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    Parameters
    ----------
    path : Path
        Where the file shall be. Missing folders are made.
    force : bool
        Replace an existing file.
    durable : bool
        Wait until the bytes are on the disk before renaming: for results that took long.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written; what was there before still is.
    """
    check_free(path, force=force)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            check_free(path, force=force)
            temporary.replace(path)
    finally:
        with suppress(OSError):  # gone after success, never made where the folder is read-only
            temporary.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the file system says into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise MlrError(f"{path}: cannot be written: {error.strerror or error}") from error
