"""Memory limits, and arrays in temporary files."""

from __future__ import annotations

import errno
import math
import mmap
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError, OptionError

SHARE = 0.5  # of the available memory, the default limit
UNKNOWN = 2 << 30  # bytes that are assumed where the available memory is unknown

LARGE = 4 << 20  # bytes from which the memory of freed arrays is returned to the system
_MMAP_THRESHOLD = -3  # in glibc's malloc.h

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE)
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def memory_limit(amount: int | float | str | None) -> int:
    """Return an amount of memory in bytes, by default a share of the available memory."""
    if amount is None:
        return int(SHARE * available())
    if isinstance(amount, str):
        found = _AMOUNT.fullmatch(amount)
        if found is None:
            raise OptionError(f"memory {amount!r}: expected bytes, or an amount such as 2GB")
        power = " kmgt".index((found[2] or " ").lower())
        amount = float(found[1]) * (1024.0 if found[3] else 1000.0) ** power
    if not 0 < amount < 1 << 60:
        raise OptionError(f"the memory must be a positive number of bytes, not {amount}")
    return int(amount)


def format_bytes(amount: float) -> str:
    """Return an amount of memory in kB or MB, rounded up."""
    unit, name = (10**6, "MB") if amount >= 10**7 else (10**3, "kB")
    return f"{max(1, -int(-amount // unit))}{name}"


def return_freed_memory() -> None:
    """Return the memory of large arrays to the system when they are freed.

    By default, glibc keeps arrays smaller than the largest one freed so far, up to 32 MB: a run
    with a limit of 60 MB then took 81.
    """
    import ctypes  # slow to import

    with suppress(OSError, AttributeError, TypeError):  # another system, another C library
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # raises where it is not glibc
        library.mallopt(_MMAP_THRESHOLD, LARGE)


def trim_memory() -> None:
    """Return all free memory of this process to the system."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available() -> int:
    """Return the bytes that this process can use without swapping, as far as is known."""
    group = _left_in_group("memory.max", "memory.current")
    older = _left_in_group("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    return min(filter(None, [_system(), group, older, _left_of_addresses()]), default=UNKNOWN)


def _system() -> int | None:
    """Return the memory that the system calls available, or all of it."""
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_group(limit: str, used: str) -> int | None:
    with suppress(OSError, ValueError):
        limit, used = ((_CONTROL_GROUPS / name).read_text() for name in (limit, used))
        return max(0, int(limit) - int(used))
    return None


def _left_of_addresses() -> int | None:
    """Return the remaining bytes of the limit on the address space, if there is one."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return max(1, most - taken)
    return None


def temporary_file(folder: Path | None) -> IO[bytes]:
    """Open an unnamed file, which is gone when it is closed or the program is killed."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder, prefix=".mlr-")
    except OSError as error:
        where = folder or Path(tempfile.gettempdir())
        raise MlrError(
            f"{where}: cannot create a temporary file: {error.strerror or error}"
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
    """Reserve the bytes now; otherwise a full disk kills the program when a page is written."""
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
    """Free the memory of an array that is mapped to a file; the file keeps the values."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
