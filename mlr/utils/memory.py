"""The memory that a run may use."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from mlr.errors import OptionError

SHARE = 0.5  # of the available memory, the default limit
UNKNOWN = 2 << 30  # bytes available where the system does not say

LARGE = 4 << 20  # bytes of an array whose memory is returned when it is freed
_MMAP_THRESHOLD = -3  # in glibc's malloc.h

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def memory_limit(amount: int | float | str | None) -> int:
    """Return an amount of memory in bytes, by default a share of what is available.

    Parameters
    ----------
    amount : int, float or str, optional
        Bytes, or text such as "2GB", "512 MB" or "1.5GiB".

    Raises
    ------
    OptionError
        If it cannot be read, or is not positive.
    """
    if amount is None:
        return int(SHARE * available())
    if isinstance(amount, str):
        found = _AMOUNT.fullmatch(amount)
        if found is None:
            raise OptionError(f"memory {amount!r}: expected bytes, or an amount such as 2GB")
        unit = (found[2] or "").lower()
        amount = float(found[1]) * (_UNITS | _BINARY)[unit]
    if not 0 < amount < 1 << 60:
        raise OptionError(f"the memory must be a positive number of bytes, not {amount}")
    return int(amount)


def format_bytes(amount: float) -> str:
    """Return an amount of memory in kB or MB, rounded up."""
    unit, name = (10**6, "MB") if amount >= 10**7 else (10**3, "kB")
    return f"{max(1, -int(-amount // unit))}{name}"


def return_freed_memory() -> None:
    """Return the memory of large arrays to the system when they are freed.

    By default, glibc keeps arrays smaller than the largest one freed so far, up to 32 MB: bands for
    60 MB then took 81.
    """
    import ctypes  # slow to import

    with suppress(OSError, AttributeError, TypeError):  # another system, another C library
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # raises where it is not glibc
        library.mallopt(_MMAP_THRESHOLD, LARGE)


def trim_memory() -> None:
    """Return all memory that is free in this process to the system."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available() -> int:
    """Return the bytes that this process can use without swapping, as far as is known."""
    amounts = [_system(), *_groups(), _limit()]
    return min((amount for amount in amounts if amount is not None), default=UNKNOWN)


def _system() -> int | None:
    """Return the memory that the system calls available, or all of it."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _groups() -> list[int]:
    """Return the memory left in each control group."""
    left = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        with suppress(OSError, ValueError):
            left.append(int((folder / limit).read_text()) - int((folder / used).read_text()))
    return [amount for amount in left if amount > 0]


def _limit() -> int | None:
    """Return what is left of the limit on addresses, if there is one."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            return max(1, most - taken)
    return None
