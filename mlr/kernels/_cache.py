"""Compiled code on disk: the only module that uses private parts of Numba.

Numba's own ``cache=True`` notices changes of a kernel, but not of functions that it calls in other
files, and fails if a file is damaged or the disk is full. Before it loads anything, it also imports
what only compiling needs, SciPy included: one face from a new process took 1.1 s instead of 0.75 s.
"""

import pickle
from contextlib import suppress

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime import rtsys

# What loads without that, or else what is public.
_load = getattr(FunctionCache, "_load_overload", FunctionCache.load_overload)
_DAMAGED = (OSError, EOFError, pickle.UnpicklingError)  # what unusable files raise


class _Cache(FunctionCache):  # type: ignore[misc]
    """A cache that ignores full and read-only folders, and damaged files."""

    kept = True

    def __init__(self, function, key):
        super().__init__(function)
        # The key is in all names and in the index, so that files of different kernels are never
        # confused, even if a program was killed between writing two of them.
        name = f"{self._impl.filename_base}-{key}"
        self._cache_file = IndexDataCacheFile(self.cache_path, name, source_stamp=key)

    def load_overload(self, sig, target_context):
        with suppress(*_DAMAGED):
            rtsys.initialize(target_context)  # compiled code calls Numba's allocator
            return _load(self, sig, target_context)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except _DAMAGED:
            self.kept = False


def attach(kernel, key):
    """Cache the code of an `njit` function on disk, under a key of everything it depends on.

    Returns the cache, or None if there is no folder for it.
    """
    try:
        kernel._cache = _Cache(kernel.py_func, key)
    except (RuntimeError, AttributeError, TypeError):  # no folder to write to; another Numba
        return None
    return kernel._cache
