"""How the kernels are compiled: the only place with Numba's flags.

``serial`` and ``parallel`` decorate the kernels.  Compiled code is kept in a cache folder, or
compiled anew in every process if the machine has no folder to write to.  No kernel declares a
signature: its only caller always passes the same types.
"""

import os

import numba

FLAGS = {"nogil": True, "error_model": "numpy", "boundscheck": False}

#: Use loops without vector intrinsics (the same results, slowly): set by the environment variable
#: ``MLR_PLAIN_KERNELS=1``, and always when Numba's compiler is switched off.
PLAIN_KERNELS = os.environ.get("MLR_PLAIN_KERNELS", "0") not in ("", "0") or bool(
    numba.config.DISABLE_JIT
)


def serial(function):
    """Compile a function that runs in the thread that calls it."""
    return _compile(function, **FLAGS)


def parallel(function):
    """Compile a function whose ``prange`` loops are shared out among Numba's threads."""
    return _compile(function, parallel=True, **FLAGS)


def _compile(function, **flags):
    """Compile with a cache if a folder for it can be found, without one otherwise."""
    try:
        return numba.njit(cache=True, **flags)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(**flags)(function)
