"""How the kernels are compiled: the only place with Numba's flags.

No kernel declares a signature, for its only caller always passes the same types. Compiled code is
kept in a cache folder, or compiled anew in every process where no folder can be written to.
"""

import os
from contextlib import suppress

import numba
from numba.core.caching import FunctionCache

_FLAGS = {"nogil": True, "error_model": "numpy", "boundscheck": False}

#: Use loops without vector instructions (slowly; 8-bit sums are the same bits): set by the
#: environment variable ``MLR_PLAIN_KERNELS=1``, and always where Numba's compiler is switched off.
PLAIN_KERNELS = os.environ.get("MLR_PLAIN_KERNELS", "0") not in ("", "0") or bool(
    numba.config.DISABLE_JIT
)


def serial(function):
    """Compile a function; `parallel.share_out` runs it in several threads."""
    return _compile(function)


def serial_sum(function):
    """Like `serial`, but the compiler chooses the (fixed) order of a floating-point sum."""
    return _compile(function, fastmath={"reassoc", "nsz"})


def inlined(function):
    """Compile a function as part of those that call it: a call would cost more than its work.

    Python cannot call it, which saves half of the time to compile it.
    """
    private = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(forceinline=True, **private)(function)


class _Cache(FunctionCache):  # type: ignore[misc]
    """A cache that does without where its folder is full or read-only."""

    def save_overload(self, sig, data):
        with suppress(OSError):
            super().save_overload(sig, data)


def _compile(function, **flags):
    kernel = numba.njit(**_FLAGS, **flags)(function)
    if not numba.config.DISABLE_JIT:
        with suppress(RuntimeError):  # there is no folder for it at all
            kernel._cache = _Cache(function)  # what cache=True does, with Numba's own class
    return kernel
