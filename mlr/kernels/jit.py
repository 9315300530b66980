"""Compiling the kernels: the only module with Numba's flags.

No kernel declares a signature, because its only caller always passes the same types. Compiled code
is kept in a cache folder if there is one, see `mlr.kernels._cache`.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding
import numba
from numba.core import event
from numba.core.cpu import CPUTargetOptions

try:  # parts of Numba that may change with any release; without them nothing is cached
    from mlr.kernels import _cache
except (ImportError, AttributeError):
    _cache = None  # type: ignore[assignment]

F = TypeVar("F", bound=Callable[..., Any])

#: Use loops without vector instructions, which are slow; sums of 8-bit pixels have the same bits.
#: Set by the environment variable ``MLR_PLAIN_KERNELS=1``, and if Numba's compiler is disabled.
PLAIN_KERNELS = os.environ.get("MLR_PLAIN_KERNELS", "0") not in ("", "0") or bool(
    numba.config.DISABLE_JIT
)


def _known(**flags: Any) -> dict[str, Any]:
    """Return the flags that this version of Numba has; none of them is documented."""
    return {name: value for name, value in flags.items() if hasattr(CPUTargetOptions, name)}


# Nothing calls kernels from C; without wrappers for C, compiling takes a tenth less.
_FLAGS = {"nogil": True, "error_model": "numpy", **_known(no_cfunc_wrapper=True)}
_PRIVATE = _known(no_cpython_wrapper=True)
# Helpers allocate no arrays and count no references to their arguments, which took an eighth of the
# time to solve 3x3.
_NO_ARRAYS = _known(_nrt=False)
_caches: list[Any] = []  # of each kernel; None without a folder


def serial(function: F) -> F:
    """Compile a function; `parallel.parallel_for` runs it in several threads."""
    kernel = numba.njit(**_FLAGS)(function)
    if not numba.config.DISABLE_JIT:
        _caches.append(_cache and _cache.attach(kernel, _key()))
    return kernel


def helper(function: F, **flags: Any) -> F:
    """Compile a function that only kernels call, and that does not allocate arrays.

    Python cannot call it, which makes the first training an eighth shorter, and it is cached with
    the kernels that call it.
    """
    return numba.njit(**_FLAGS, **_PRIVATE, **_NO_ARRAYS, **flags)(function)


def maker(function: F) -> F:
    """Like `helper`, but it can allocate arrays."""
    return numba.njit(**_FLAGS, **_PRIVATE)(function)


def helper_sum(function: F) -> F:
    """Like `helper`, but the compiler chooses the (fixed) order of a floating-point sum."""
    return helper(function, fastmath={"reassoc", "nsz"})


def inlined(function: F) -> F:
    """Like `helper`, but inlined, because a call would take longer than the function itself."""
    flags = _known(forceinline=True, no_cfunc_wrapper=True)
    return numba.njit(**_PRIVATE, **_NO_ARRAYS, **flags)(function)


class _Announcement(event.Listener):  # type: ignore[misc]
    """Calls a function when Numba first compiles something."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._pending = [announce]

    def on_start(self, event: Any) -> None:
        while self._pending:
            self._pending.pop()()

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def announced(announce: Callable[[], None]) -> Iterator[None]:
    """Call a function once, before the first kernel is compiled in the block.

    It is not called if all kernels are found in the cache.
    """
    with event.install_listener("numba:compile", _Announcement(announce)):
        yield


def cache_folder() -> Path | None:
    """Return the folder with compiled code, or None if there is none."""
    kept = bool(_caches) and all(cache is not None and cache.kept for cache in _caches)
    return Path(_caches[0].cache_path) if kept else None


def processor_has(feature: str) -> bool:
    """Return whether the processor that kernels are compiled for has a feature of LLVM."""
    if numba.config.CPU_FEATURES is not None:
        return f"+{feature}" in numba.config.CPU_FEATURES.split(",")
    if feature.startswith("avx") and not numba.config.ENABLE_AVX:
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get(feature))


def version() -> str:
    """Return a line of text that identifies everything that compiled code depends on."""
    host = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_process_triple()}"
    return f"{_key()} {numba.__version__} {sys.version} {host}"


def _key() -> str:
    """Return a key of the source code of all kernels."""
    return f"{_SOURCES}{'-plain' * PLAIN_KERNELS}"


_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()[:16]
