"""How the kernels are compiled: the only place with Numba's flags.

No kernel declares a signature, for its only caller always passes the same types. Compiled code is
kept in a cache folder, or compiled anew in every process where no folder can be written to.
"""

import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import llvmlite.binding
import numba
from numba.core.caching import FunctionCache, NullCache
from numba.core.registry import cpu_target

# Nobody calls kernels from C: without the wrappers for that, compiling takes a tenth less.
_FLAGS = {"nogil": True, "error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}
_PRIVATE = {"no_cpython_wrapper": True}

#: Use loops without vector instructions (slowly; 8-bit sums are the same bits): set by the
#: environment variable ``MLR_PLAIN_KERNELS=1``, and always where Numba's compiler is switched off.
PLAIN_KERNELS = os.environ.get("MLR_PLAIN_KERNELS", "0") not in ("", "0") or bool(
    numba.config.DISABLE_JIT
)

# Helpers make no arrays (those of the plain kernels do) and count no references to those that they
# are given: that took a third of the time to solve 3x3.
_NO_ARRAYS = {"_nrt": PLAIN_KERNELS}

_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)  # what unusable files of a cache raise

_caches: list["_Cache | _NoCache"] = []
_announcements: list[Callable[[], None]] = []  # to be called before something is compiled


def serial(function):
    """Compile a function; `parallel.share_out` runs it in several threads."""
    kernel = numba.njit(**_FLAGS)(function)
    if not numba.config.DISABLE_JIT:
        try:
            kernel._cache = _Cache(function)  # what cache=True does, with Numba's own class
        except RuntimeError:
            kernel._cache = _NoCache()
        _caches.append(kernel._cache)
    return kernel


def helper(function, **flags):
    """Compile a function that only kernels call.

    Python cannot call it, which makes the first training an eighth shorter; and it is kept with
    the kernels that call it instead of in files of its own. It cannot make arrays.
    """
    return numba.njit(**_FLAGS, **_PRIVATE, **_NO_ARRAYS, **flags)(function)


def maker(function):
    """Like `helper`, but it can make arrays."""
    return numba.njit(**_FLAGS, **_PRIVATE)(function)


def helper_sum(function):
    """Like `helper`, but the compiler chooses the (fixed) order of a floating-point sum."""
    return helper(function, fastmath={"reassoc", "nsz"})


def inlined(function):
    """Like `helper`, as part of those that call it: a call would cost more than its work."""
    flags = {**_PRIVATE, **_NO_ARRAYS, "no_cfunc_wrapper": True}
    return numba.njit(forceinline=True, **flags)(function)


@contextmanager
def announced(announce):
    """Call a function once, before the first kernel that is compiled in the block.

    It is not called if the code of all kernels is found in the cache.
    """
    _announcements.append(announce)
    try:
        yield
    finally:
        with suppress(ValueError):  # it was called
            _announcements.remove(announce)


def cache_folder():
    """Return the folder that compiled code is kept in, or None if there is none."""
    folders = [cache.cache_path for cache in _caches if cache.kept]
    return Path(folders[0]) if folders and len(folders) == len(_caches) else None


class _Cache(FunctionCache):  # type: ignore[misc]
    """A cache that does without where its folder is full or read-only, or a file is damaged."""

    kept = True

    def __init__(self, function):
        super().__init__(function)
        self._pattern = self._cache_file._data_name_pattern

    def load_overload(self, sig, target_context):
        data = None
        with suppress(*_DAMAGED):
            data = super().load_overload(sig, target_context)
        if data is None:
            _announce()
        return data

    def save_overload(self, sig, data):
        # Numba names a file in the index before it writes it, and counts from 1 again where the
        # index is out of date: a program that is killed in between would leave the new name to an
        # old file, whose code would then be run. So every file has a name of its own; a process
        # would not do, for what is forked from it begins with the same.
        own = f"{os.urandom(4).hex()}.{{"
        self._cache_file._data_name_pattern = self._pattern.replace("{", own, 1)
        try:
            super().save_overload(sig, data)
        except _DAMAGED:
            self.kept = False

    def _index_key(self, sig, codegen):
        """Tell versions of the kernels apart by all of their text.

        Numba looks at the function, and at the time and size of its file: not at what it calls in
        other files.
        """
        return (*super()._index_key(sig, codegen), _SOURCES, PLAIN_KERNELS)


class _NoCache(NullCache):  # type: ignore[misc]
    """No cache: there is no folder to write to."""

    kept = False

    def load_overload(self, sig, target_context):
        _announce()


def _announce():
    while _announcements:
        _announcements.pop()()


def _digest_of_sources():
    """Return a digest of this folder's modules."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def processor_has(feature):
    """Tell whether the processor that kernels are compiled for has what LLVM calls by that name."""
    return f"+{feature}" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def version():
    """Return what compiled code depends on, as a line of text."""
    host = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_process_triple()}"
    return f"{_SOURCES} {PLAIN_KERNELS} {numba.__version__} {sys.version} {host}"


_SOURCES = _digest_of_sources()
