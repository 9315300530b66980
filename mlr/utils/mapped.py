"""Arrays that are kept in a file and not in memory: they come and go as they are used."""

from __future__ import annotations

import errno
import math
import mmap
import os
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError

ALIGNED = 64  # bytes


def temporary_file(folder: Path | None) -> IO[bytes]:
    """Open a file that has no name any more: it is gone when it is closed, or we are killed.

    Parameters
    ----------
    folder : Path, optional
        Where it takes up room; by default the system's folder for temporary files.

    Raises
    ------
    MlrError
        If it cannot be made.
    """
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
    """Return zeros in a temporary file.

    Raises
    ------
    MlrError
        If there is no room for them.
    """
    dtype = np.dtype(dtype)
    size = max(1, math.prod(shape) * dtype.itemsize)
    with reserved_file(size, folder) as file:
        try:
            memory = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise no_room(folder, size, error) from error
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


def reserved_file(size: int, folder: Path | None) -> IO[bytes]:
    """Open a file as `temporary_file` does, of so many bytes that there is room for.

    Raises
    ------
    MlrError
        If there is none.
    """
    file = temporary_file(folder)
    try:
        file.truncate(size)
        _reserve(file, size)
    except OSError as error:
        file.close()
        raise no_room(folder, size, error) from error
    return file


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the room now: a full disk would kill us later, when a page is written."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not in this file system
                raise


def no_room(folder: Path | None, size: int, error: OSError) -> MlrError:
    """Return the error that a temporary file does not fit."""
    where = folder or Path(tempfile.gettempdir())
    return MlrError(
        f"{where}: no room for a temporary file of {size >> 20} MiB: {error.strerror or error}; "
        "give more --memory, or set TMPDIR"
    )


class Results:
    """Arrays that are filled in band by band, in memory or, if there is much of them, on the disk.

    Parameters
    ----------
    folder : Path, optional
        Where they take up room.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._mapped: list[npt.NDArray[Any]] = []
        self._kept = 0  # bytes of those in memory

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike, most: float) -> npt.NDArray[Any]:
        """Return zeros, which lie on the disk if all in memory would have more bytes than that."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._kept + size <= most:
            self._kept += size
            return np.zeros(shape, dtype)
        self._mapped.append(mapped_zeros(shape, dtype, self._folder))
        return self._mapped[-1]

    def release(self) -> None:
        """Let go of what those on the disk have taken of the memory."""
        for array in self._mapped:
            release(array)


class Lent:
    """Anything with large arrays, written to a file for other processes here, who map it.

    Parameters
    ----------
    what : object
        Whatever can be pickled; its arrays become read-only.
    path : Path
        A file that exists.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, what: Any, path: Path) -> None:
        self._path = path
        buffers: list[pickle.PickleBuffer] = []
        self._rest = pickle.dumps(what, protocol=5, buffer_callback=buffers.append)
        self._places: list[slice] = []
        end = 0
        with path.open("r+b") as file:
            for buffer in buffers:
                raw = buffer.raw()
                file.seek(end)
                file.write(raw)
                self._places.append(slice(end, end + raw.nbytes))
                end += raw.nbytes + -raw.nbytes % ALIGNED

    def mapped(self) -> Any:
        """Return what was written, with its arrays in the file."""
        if not self._places:
            return pickle.loads(self._rest)
        with self._path.open("rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return pickle.loads(self._rest, buffers=[memory[place] for place in self._places])


def release(array: npt.NDArray[Any]) -> None:
    """Let go of the memory that an array in a file has taken; its numbers stay in the file."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
