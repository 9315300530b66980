"""Writing files so that a reader only ever sees the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mlr.errors import MlrError, OutputExistsError


def check_free(path: Path, *, force: bool) -> None:
    """Raise unless ``path`` may be written.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it is a folder.
    """
    if path.is_dir():
        raise MlrError(f"{path}: is a folder, and a file is to be written there")
    if not force and path.exists():
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
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        check_free(path, force=force)
        temporary.replace(path)
    except OSError as error:
        raise MlrError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone after success, never made where the folder is read-only
            temporary.unlink()
