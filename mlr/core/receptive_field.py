"""The receptive field: the input pixels that an output pixel is regressed on."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlr.errors import OptionError

Offset = tuple[int, int]

FARTHEST = 32767  # pixels of an offset; model files hold int16
MOST_TAPS = 2048  # tables of lags grow with its square

#: Named receptive fields, as offsets (dy, dx).
PRESETS: dict[str, tuple[Offset, ...]] = {
    "plus": ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0)),
    "disc": tuple(
        (dy, dx) for dy in range(-3, 4) for dx in range(-3, 4) if dy * dy + dx * dx <= 3 * 3
    ),
}


@dataclass(frozen=True)
class LagTable:
    """Positions of the entries of Gram matrices in the lag planes.

    With C_d(q) = sum_n x_n(q) x_n(q + d), the entry for taps a and b at pixel p is
    ``G(p)[a, b] = C_d(p + o)`` where ``d = lags[lag_of[a, b]]`` and
    ``o = taps[base_of[a, b]]``. Both tables are symmetric.

    Of a lag and its opposite only the one with dy > 0, or dy == 0 and dx >= 0, is listed; lags are
    in ascending order.
    """

    lags: npt.NDArray[np.int64]  #: (lags, 2), distinct differences (dy, dx) of two taps
    lag_of: npt.NDArray[np.int64]  #: (taps, taps), indices into the lags
    base_of: npt.NDArray[np.int64]  #: (taps, taps): the tap from which the lag points to the other


@dataclass(frozen=True)
class ReceptiveField:
    """An ordered list of distinct taps, each an offset from the output pixel.

    Raises an `OptionError` if there are no taps or too many, one occurs twice or is too far away.
    """

    offsets: tuple[Offset, ...]  #: (dy, dx) in pixels; dy points down and dx to the right

    def __post_init__(self) -> None:
        if not self.offsets:
            raise OptionError("a receptive field needs at least one tap")
        if len(self.offsets) > MOST_TAPS:
            raise OptionError(f"a receptive field may have up to {MOST_TAPS} taps")
        if len(set(self.offsets)) != len(self.offsets):
            raise OptionError("a receptive field may not hold the same tap twice")
        if max(abs(d) for offset in self.offsets for d in offset) > FARTHEST:
            raise OptionError(f"a tap may lie at most {FARTHEST} pixels away")

    @classmethod
    def square(cls, side: int) -> ReceptiveField:
        """Return the square window of ``side`` x ``side`` taps, row by row.

        Raises an `OptionError` if the side is not odd and positive, or too large.
        """
        if side < 1 or side % 2 == 0:
            raise OptionError(f"the side of a receptive field must be odd and positive, not {side}")
        if side**2 > MOST_TAPS:
            raise OptionError(
                f"a receptive field may have up to {MOST_TAPS} taps, not {side}x{side}"
            )
        reach = range(-(side // 2), side // 2 + 1)
        return cls(tuple((dy, dx) for dy in reach for dx in reach))

    @classmethod
    def of(cls, spec: ReceptiveField | int | str | Iterable[Offset]) -> ReceptiveField:
        """Return the receptive field of a description.

        It is the field itself, the odd side of a square window (a number or text), the name of a
        preset, or the taps. Anything else raises an `OptionError`.
        """
        if isinstance(spec, ReceptiveField):
            return spec
        if isinstance(spec, int | np.integer):
            return cls.square(int(spec))
        if isinstance(spec, str):
            if spec in PRESETS:
                return cls(PRESETS[spec])
            if spec.isascii() and spec.isdigit():
                if len(spec) > 9:  # Python refuses to read thousands of digits
                    raise OptionError(f"a receptive field may have up to {MOST_TAPS} taps")
                return cls.square(int(spec))
            names = ", ".join(PRESETS)
            raise OptionError(
                f"unknown receptive field {spec!r}: give an odd side of a square, or {names}"
            )
        return cls(tuple((operator.index(dy), operator.index(dx)) for dy, dx in spec))

    def __len__(self) -> int:
        return len(self.offsets)

    def __str__(self) -> str:
        for name, offsets in PRESETS.items():
            if offsets == self.offsets:
                return name
        side = round(len(self) ** 0.5)
        if side % 2 and self == ReceptiveField.square(side):
            return f"{side}x{side}"
        return f"{len(self)} taps"

    @cached_property
    def taps(self) -> npt.NDArray[np.int64]:
        """The offsets as an int64 array of shape (taps, 2)."""
        return np.array(self.offsets, dtype=np.int64)

    @cached_property
    def lag_table(self) -> LagTable:
        """The lags, and the lag of each pair of taps."""
        taps = self.taps
        difference = taps[None, :] - taps[:, None]  # [a, b] = o_b - o_a
        dy, dx = difference[..., 0], difference[..., 1]
        backward = (dy < 0) | ((dy == 0) & (dx < 0))
        forward = np.where(backward[..., None], -difference, difference)
        lags, lag_of = np.unique(forward.reshape(-1, 2), axis=0, return_inverse=True)
        a, b = np.indices(backward.shape)
        return LagTable(
            lags=lags,
            lag_of=lag_of.reshape(backward.shape).astype(np.int64),
            base_of=np.where(backward, b, a).astype(np.int64),
        )
