"""Arrays in temporary files."""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError


def temporary_file(folder: Path | None) -> IO[bytes]:
    """Open an unnamed file: it is gone when it is closed, or the program is killed."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder, prefix=".mlr-")
    except OSError as error:
        where = folder or Path(tempfile.gettempdir())
        raise MlrError(
            f"{where}: no temporary file can be made there: {error.strerror or error}"
        ) from error


def mapped_zeros(
    shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path | None
) -> npt.NDArray[Any]:
    """Return zeros in a temporary file."""
    dtype = np.dtype(dtype)
    size = max(1, math.prod(shape) * dtype.itemsize)
    with temporary_file(folder) as file:
        try:
            file.truncate(size)
            _reserve(file, size)
            memory = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise no_room(folder, size, error) from error
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


def _reserve(file: IO[bytes], size: int) -> None:
    """Reserve the bytes now: a full disk would kill the program later, when a page is written."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not in this file system
                raise


def no_room(folder: Path | None, size: int, error: OSError) -> MlrError:
    """Return the error for a temporary file that does not fit."""
    where = folder or Path(tempfile.gettempdir())
    return MlrError(
        f"{where}: no room for a temporary file of {size >> 20} MiB: {error.strerror or error}; "
        "give more --memory, or set TMPDIR"
    )


def release(array: npt.NDArray[Any]) -> None:
    """Free the memory of an array in a file; its numbers stay in the file."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
