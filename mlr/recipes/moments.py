"""Second moments of pairs, one channel or all channels pooled, as real numbers.

They are what remains of `Statistics` once it is settled which taps a model has and how its input is
moved: enough to solve for the weights and to know the error of any weights on these pairs. What
sharing between neighbours or mirroring does to the images, `blurred` and `with_mirrored` do to the
sums.
Expressions that the same people show, and whose inputs are moved alike, share all that is known of
the inputs, and so one Gram matrix and one factorisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from mlr.kernels.blur import blur, radius_of
from mlr.kernels.cholesky import NormalEquations, solve_pixels
from mlr.kernels.parallel import share_out
from mlr.kernels.residual import squared_errors
from mlr.receptive_field import LagTable, ReceptiveField
from mlr.singular import solve_singular

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over samples in a frame that extends some pixels beyond the image on each side.

    With x the input, whose edge pixels repeat outside the image, and t_e the targets,

        lags[d](q)  = sum_n x_n(q) x_n(q + d)      cross[e, k](p) = sum_n x_n(p + o_k) t_en(p)
        source_sums = sum_n x_n,   target_sums[e] = sum_n t_en,   squares[e] = sum_n t_en^2

    for intensities in [0, 1].

    Attributes
    ----------
    receptive_field : ReceptiveField
        The taps o_k.
    margin : int
        How far the frame extends beyond the image, in pixels; at least as far as the taps.
    expressions : tuple of str
        Names of the targets.
    samples : float
        Number of samples.
    planes : ndarray of float64, shape (`planes_of`, height, width)
        All of them, one after the other: what is done to each is done in one go.
    """

    receptive_field: ReceptiveField
    margin: int
    expressions: tuple[str, ...]
    samples: float
    planes: Float

    @property
    def lags(self) -> Float:
        """lags[d], (lags, height, width), in the order of `lags_of`."""
        return self._part(0)

    @property
    def source_sums(self) -> Float:
        """source_sums, (height, width)."""
        sums: Float = self._part(1)[0]
        return sums

    @property
    def cross(self) -> Float:
        """cross[e, k], (expressions, taps, height, width)."""
        planes, each = self._part(2), len(self.expressions)
        return planes.reshape(each, len(self.receptive_field), *planes.shape[1:])

    @property
    def target_sums(self) -> Float:
        """target_sums[e], (expressions, height, width)."""
        return self._part(3)

    @property
    def squares(self) -> Float:
        """squares[e], (expressions, height, width)."""
        return self._part(4)

    def _part(self, kind: int) -> Float:
        ends = _ends(self.receptive_field, len(self.expressions))
        return self.planes[ends[kind] : ends[kind + 1]]

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take."""
        return self.planes.nbytes

    def only(self, expressions: Sequence[str]) -> Moments:
        """Return the moments of some expressions."""
        if tuple(expressions) == self.expressions:
            return self
        some = [self.expressions.index(name) for name in expressions]
        targets = (p[some] for p in (self.cross, self.target_sums, self.squares))
        flat = (planes.reshape(-1, *self.planes.shape[1:]) for planes in targets)
        planes = np.concatenate([self._part(0), self._part(1), *flat])
        return replace(self, expressions=tuple(expressions), planes=planes)

    def cut(self, first: int, end: int) -> Moments:
        """Return a copy of the rows first, ..., end - 1 of the frame."""
        return replace(self, planes=np.ascontiguousarray(self.planes[:, first:end]))

    @staticmethod
    def stacked(parts: Sequence[Moments]) -> Moments:
        """Return the moments of rows that follow each other, all of the same samples."""
        return replace(parts[0], planes=np.concatenate([part.planes for part in parts], axis=1))

    @staticmethod
    def total(parts: Iterable[Moments]) -> Moments:
        """Return the moments of all sets of samples together, of which there is at least one."""
        each = iter(parts)
        total = next(each)
        room: Float | None = None
        for part in each:
            planes = _each(np.add, total.planes, part.planes, room)
            total = replace(total, samples=total.samples + part.samples, planes=planes)
            room = planes
        return total

    def without(self, other: Moments) -> Moments:
        """Return the moments without the other samples, up to rounding, in the place of those."""
        planes = _each(np.subtract, self.planes, other.planes, other.planes)
        return replace(self, samples=self.samples - other.samples, planes=planes)

    def with_mirrored(self) -> Moments:
        """Return the moments of the same images, and of them mirrored left to right, together.

        They take the place of these.
        """
        _add_mirrored(self.planes, _mirrored(self.receptive_field, len(self.expressions)))
        return replace(self, samples=2 * self.samples)

    def blurred(self, sigma: float) -> Moments:
        """Return the moments in which every pixel shares the samples of its neighbours.

        Their weights are a Gaussian, so the number of samples stays. The frame shrinks to the
        margin that the taps need: nothing is known of neighbours farther out.

        Parameters
        ----------
        sigma : float
            Standard deviation in pixels; the margin must be `margin_for` it.
        """
        left = margin_for(self.receptive_field, 0)
        return replace(self, margin=left, planes=blur(self.planes, sigma, self.margin - left))

    def solve(self, penalty: Float, prior: Float) -> Float:
        """Return w_e(p) = argmin sum_n (w . z_n - t_en)^2 + (w - prior)' penalty (w - prior).

        Each pixel's matrix is factored once, for all expressions.

        Parameters
        ----------
        penalty : ndarray of float64, shape (taps + 1, taps + 1)
            Symmetric; the bias is last.
        prior : ndarray of float64, shape (taps + 1,)

        Returns
        -------
        ndarray of float64, shape (expressions, taps + 1, height, width)
            Of the image's pixels.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a matrix is singular and close to the end of the range of numbers.
        """
        field = self.receptive_field
        table = _table(field)
        size = (side - 2 * self.margin for side in self.source_sums.shape)
        weights = np.empty((len(self.expressions), len(field) + 1, *size))
        equations = NormalEquations(
            lags=self.lags,
            source_sums=self.source_sums,
            samples=self.samples,
            cross=self.cross,
            target_sums=self.target_sums,
            taps=field.taps,
            lag_of=table.lag_of,
            base_of=table.base_of,
            penalty=penalty,
            prior=prior,
            scale=1.0,
            margin=self.margin,
        )
        solve_singular(equations, weights, solve_pixels(equations, weights))
        return weights

    def errors(self, weights: Float) -> Float:
        """Return the squared errors of weights on these samples, summed over each row of the image.

        They are the sums of sum t^2 - 2 w'b + w'Gw over the pixels.

        Parameters
        ----------
        weights : ndarray of float64, shape (expressions, taps + 1, height, width)
            Of the image's pixels.

        Returns
        -------
        ndarray of float64, shape (expressions, height)
        """
        field = self.receptive_field
        table = _table(field)
        errors = [
            squared_errors(
                self.lags,
                self.source_sums,
                self.samples,
                self.cross[e],
                self.target_sums[e],
                self.squares[e],
                field.taps,
                table.lag_of,
                table.base_of,
                weights[e],
                self.margin,
            )
            for e in range(len(self.expressions))
        ]
        return np.stack(errors).sum(axis=2)


def margin_for(field: ReceptiveField, sigma: float) -> int:
    """Return how far beyond the image a blur of this width looks, and taps from there."""
    return int(np.abs(field.taps).max()) + radius_of(sigma)


def planes_of(field: ReceptiveField, expressions: int) -> int:
    """Return how many planes moments have in all."""
    return _ends(field, expressions)[-1]


@cache
def _ends(field: ReceptiveField, expressions: int) -> tuple[int, ...]:
    """Return where the planes of each kind begin, and where all end."""
    counts = len(lags_of(field)), 1, expressions * len(field), expressions, expressions
    return (0, *accumulate(counts))


@cache
def _mirrored(field: ReceptiveField, expressions: int) -> tuple[int, ...]:
    """Return which plane each becomes if the images are mirrored left to right."""
    lags, taps = lags_of(field).tolist(), field.offsets
    lag_of = [lags.index([dy, -dx]) for dy, dx in lags]
    tap_of = [taps.index((dy, -dx)) for dy, dx in taps]
    cross = [e * len(taps) + tap for e in range(expressions) for tap in tap_of]
    first = _ends(field, expressions)
    rest = range(first[3], first[5])
    return (*lag_of, first[1], *(first[2] + plane for plane in cross), *rest)


@cache
def lags_of(field: ReceptiveField) -> npt.NDArray[np.int64]:
    """Return the lags that moments keep planes of: those of the taps, and their mirror images.

    Returns
    -------
    ndarray of int64, shape (lags, 2)
        Ascending; both of (0, dx) and (0, -dx), so that mirroring permutes them.
    """
    lags = field.lag_table.lags
    both = np.concatenate([lags, lags * [1, -1]])
    unique: npt.NDArray[np.int64] = np.unique(both, axis=0)
    return unique


def _each(operation: np.ufunc, a: Float, b: Float, result: Float | None = None) -> Float:
    """Return an operation on planes, in all threads; the result may be one of them."""
    result = np.empty(a.shape) if result is None else result

    def fill(begin: int, end: int) -> None:
        operation(a[begin:end], b[begin:end], out=result[begin:end])

    share_out(fill, len(result))
    return result


def _add_mirrored(planes: Float, others: Sequence[int]) -> None:
    """Add to each plane of (N, H, W) its other one, mirrored; in all threads."""

    def add(begin: int, end: int) -> None:
        for k in range(begin, end):
            if k <= others[k]:  # both in one go
                a, b = planes[k], planes[others[k]]
                sums = a + b[:, ::-1]
                if others[k] != k:
                    b += a[:, ::-1]
                a[:] = sums

    share_out(add, len(others))


@cache
def _table(field: ReceptiveField) -> LagTable:
    """Return a receptive field's lag table, with the places that its lags have in `lags_of`."""
    table, ours = field.lag_table, lags_of(field).tolist()
    place = np.array([ours.index(lag) for lag in table.lags.tolist()])
    return LagTable(lags_of(field), place[table.lag_of], table.base_of)
