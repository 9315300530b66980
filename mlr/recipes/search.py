"""What the sums of some expressions' folds say of the ways to learn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import groupby

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError
from mlr.folds import Folds
from mlr.option import Option
from mlr.receptive_field import ReceptiveField
from mlr.recipes.displacement import (
    Field,
    Frame,
    estimate,
    estimating,
    halo_for,
    moments,
    moments_bytes,
    places_in,
    reach_of,
    samples_of,
)
from mlr.recipes.kept import Kept, Reading, room_for
from mlr.recipes.moments import Moments, margin_for, planes_of
from mlr.running.bands import Band, Elsewhere, Made, Making, Result, RowSums, Work
from mlr.statistics import Statistics

Float = npt.NDArray[np.float64]
Wanted = Mapping[str, Sequence[Option]]  # by expression
#: What is made of the moments of some expressions' folds.
Ask = Callable[[tuple[str, ...], Sequence[Moments]], Result]
#: Of each row, for an option of an expression.
_Errors = dict[tuple[str, Option], Float]


@dataclass(frozen=True)
class Learner:
    """What is the same however the weights of a model are learnt from moments.

    Attributes
    ----------
    receptive_field : ReceptiveField
        The taps.
    penalties : ndarray of float64, shape (taps + 1, taps + 1)
        D for a penalty of 1; the bias is last.
    prior : ndarray of float64, shape (taps + 1,)
        The weights w0 that it pulls to; those of the taps add up to 1.
    variance : float
        Of the brightness that pairs are thought to come in.
    """

    receptive_field: ReceptiveField
    penalties: Float
    prior: Float
    variance: float

    def solve(self, sums: Moments, penalty: float) -> Float:
        """Return the weights of the image's pixels, (expressions, taps + 1, height, width).

        In brighter or darker light something is added to all pixels of a pair: with c of mean 0,
        and u = 1 for a tap and 0 for the bias, z + c u and t + c are seen. What is expected are
        var(c) uu' more of zz' and var(c) u more of zt. As u'w0 = 1, that is a penalty of
        var(c) (u'w - 1)^2 for each sample: a flat picture is to stay as it is.
        """
        matrix = penalty * self.penalties
        matrix[:-1, :-1] += self.variance * sums.samples
        return sums.solve(matrix, self.prior)


class Search:
    """The sums of some expressions' folds, and what they say of options.

    Moments are made once and kept, in a temporary file, from which each question reads them band by
    band: in memory they would take half as much as the sums. Where others work on bands, they keep
    them in memory if it has room; or else they make them anew for each question.

    Parameters
    ----------
    sums : RowSums
        Of these expressions alone.
    names : tuple of str
        The expressions: one, or several that the same people show if nothing is moved.
    learner : Learner
        What learns.
    blurs : sequence of float
        All that options may ask for.
    """

    def __init__(
        self, sums: RowSums, names: tuple[str, ...], learner: Learner, blurs: Sequence[float]
    ) -> None:
        self.names, self.shape = names, sums.shape
        self._sums, self._learner = sums, learner
        head, field = sums.head, learner.receptive_field
        self.pairs, self.folds = head.pairs, len(_showing(head, names))
        self._margin, self._rim = margin_for(field, max(blurs)), margin_for(field, 0)
        self._reach = reach_of(head.layout, field)
        self._halo = halo_for(head.layout, self._reach)
        # The first band begins with the rows above the image, and ends with those below it.
        self._around = max(self._halo, (self._halo + self._margin + 1) // 2)
        width = sums.shape[2]
        planes = planes_of(field, len(names))
        self._row = 8 * planes * (width + 2 * self._margin)  # bytes of moments
        self._rim_row = 8 * planes * (width + 2 * self._rim)  # when they are blurred
        self._solution = 8 * len(names) * (len(field) + 1) * width
        self._making = partial(moments_bytes, head.layout, width, self._reach)
        around = sums.shape[1] + 2 * self._margin
        self._keeps = not sums.elsewhere or self.folds * self._row * around <= sums.spare
        self._kept: tuple[bool, dict[tuple[str, ...], list[Kept]]] | None = None
        self._there: tuple[bool, Made[_Groups]] | None = None
        self._displacements: dict[bool, Field | None] = {}
        self._known: dict[tuple[bool, str, Option], Float] = {}
        self.works: list[Work] = (
            [(sums, self._bytes_there, self._halo)]
            if sums.elsewhere
            else [(sums, self._making_bytes, self._around), (sums, self._asking_bytes, 0)]
        )
        if self._reach:
            self.works.append((sums, *estimating(sums, self._reach)))

    def displacement(self, mirrored: bool) -> Field | None:
        """Return the field that moves the input."""
        if mirrored not in self._displacements:
            self._displacements[mirrored] = (
                estimate(self._sums, self.names[0], self._reach, mirrored=mirrored)
                if self._reach
                else None
            )
        return self._displacements[mirrored]

    def errors(
        self, wanted: Wanted, moved: bool, soon: Wanted | None = None
    ) -> dict[str, dict[Option, float]]:
        """Return the mean squared error of people left out of training, for each option.

        Parameters
        ----------
        wanted : mapping of str to sequence of Option
            What to try for each expression.
        moved : bool
            Whether the input is moved as for mirrored pairs, whatever the option says. To choose
            between the two, one way is enough: the other takes as long as all else together.
        soon : mapping of str to sequence of Option, optional
            What will perhaps be asked next. One look at the sums costs as much as many errors, so
            these are worked out, too: where moments are kept, only those that share samples as the
            best option for the rows known by then.
        """
        moved = moved and self._reach > 0
        asked, later = (
            {(name, o): self._rows_of(moved, name, o) for name in some for o in some[name]}
            for some in (wanted, soon or {})
        )
        if any(map(_unknown, asked.values())):
            if not self._keeps:
                asked, later = asked | later, {}
            self._measure(asked, later, moved)
        channels, height, width = self.shape
        pixels = channels * height * width
        return {
            name: {
                o: max(0.0, float(asked[name, o].sum() / (pixels * self.pairs[name])))
                for o in options  # where all is predicted, rounding alone is left, of either sign
            }
            for name, options in wanted.items()
        }

    def _rows_of(self, moved: bool, name: str, option: Option) -> Float:
        """Return the squared error of people left out in each row, NaN where it is not known."""
        unknown = np.full(self.shape[1], np.nan)
        return self._known.setdefault((moved, name, option), unknown)

    def _measure(self, asked: _Errors, later: _Errors, moved: bool) -> None:
        """Fill in what is not known of the errors asked for, and perhaps of some of the others."""
        every = later | asked

        def work(rows: slice) -> Ask[_Errors] | None:
            new = [p for p in (*asked, *_likely(asked, later)) if _unknown(every[p][rows])]
            return partial(_left_out, learner=self._learner, asked=sorted(new)) if new else None

        for band, found in self._on_bands(work, moved):
            for pair, errors in found.items():
                every[pair][band.rows] = errors

    def fill(
        self, weights: Mapping[str, npt.NDArray[np.float32]], chosen: Mapping[str, Option]
    ) -> None:
        """Fill in the weights learnt from everybody; the folds play no part. Nothing is kept.

        Parameters
        ----------
        weights : mapping of str to ndarray of float32, shape (taps + 1, height, width)
            For each expression.
        chosen : mapping of str to Option
            How to learn them.
        """
        work = partial(_learnt, learner=self._learner, chosen=chosen)
        moved = chosen[self.names[0]].mirrored and self._reach > 0
        for band, found in self._on_bands(lambda rows: work, moved):
            for name, solution in found.items():
                weights[name][:, band.rows] = solution
                if not np.isfinite(solution).all():
                    raise MlrError(
                        "the weights are too large for a model; give intensities in [0, 1]"
                    )
        self._kept = self._there = None

    def _on_bands(
        self, work: Callable[[slice], Ask[Result] | None], moved: bool
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the moments of expressions with equal sources.

        Which work is said for the rows of a band, those in the middle of the image first. Others
        who work on bands do the same for all of them.
        """
        self.displacement(moved)  # before anything else takes memory
        height = self.shape[1]
        if there := self._sums.elsewhere:
            made = self._made_by(there, moved)
            if everywhere := work(slice(height)):
                for band, results in made.each(partial(_on_groups, work=everywhere)):
                    for result in results:
                        yield band, result
        else:
            if self._kept is None or self._kept[0] != moved:
                self._kept = None  # before there are others
                self._kept = moved, self._keep(moved, self._sums.head.groups())
            bands = self._sums.bands(self._asking_bytes)
            for band in sorted(bands, key=lambda band: abs(band.first + band.end - height)):
                if ask := work(band.rows):
                    rows = band.first, band.end + 2 * self._margin
                    for names, parts in self._kept[1].items():
                        yield band, ask(names, Reading(parts, *rows))

    def _made_by(self, there: Elsewhere, moved: bool) -> Made[_Groups]:
        """Return the moments of each fold around each band, which others make."""
        if self._there is None or self._there[0] != moved:
            self._there = None  # before there are others
            height, margin = self.shape[1], self._margin
            make = partial(
                _moments_of,
                field=self._learner.receptive_field,
                displacement=self.displacement(moved),
                height=height,
                margin=margin,
            )
            making = Making(make, partial(_cut, height=height, margin=margin), _joined, margin)
            bands = self._sums.bands(self._bytes_there, self._halo)
            self._there = moved, there.made(making, bands, self._keeps)
        return self._there[1]

    def _keep(
        self, moved: bool, groups: list[tuple[str, ...]]
    ) -> dict[tuple[str, ...], list[Kept]]:
        """Return the moments of each fold for each group of expressions, made band by band."""
        height, margin, field = self.shape[1], self._margin, self._learner.receptive_field
        displacement = self.displacement(moved)
        kept: dict[tuple[str, ...], list[Kept]] = {}
        begin = -margin
        for band in self._sums.bands(self._making_bytes, self._around):
            frame = Frame(height, margin, begin, band.end + margin)
            top = max(0, min(begin, height - 1) - self._halo)  # beyond the edge its pixels repeat
            folds = self._sums.rows(top, min(height, max(frame.end, 1) + self._halo))
            finer = _told_apart(groups, folds.groups())
            if finer != groups:  # the sources of some differ here for the first time
                return self._keep(moved, finer)
            places = places_in(folds.layout, field, displacement, frame, self.shape[2])
            kept = kept or {names: self._rooms(folds, names, len(groups)) for names in groups}
            for names, parts in kept.items():
                for whole, part in zip(parts, _showing(folds, names), strict=True):
                    rows = moments(part, names, field, displacement, frame, top, places)
                    whole.write(begin + margin, rows)
            del folds, part, rows, places  # before there are others
            begin = frame.end
        return kept

    def _rooms(self, folds: Folds, names: tuple[str, ...], groups: int) -> list[Kept]:
        """Return room for the moments of each fold."""
        field, margin, (_, height, width) = self._learner.receptive_field, self._margin, self.shape
        size = height + 2 * margin, width + 2 * margin
        spare = self._sums.spare / (self.folds * groups)
        return [
            Kept(
                field,
                margin,
                names,
                samples_of(part, names),
                room_for(field, len(names), size, self._sums.folder, spare),
            )
            for part in _showing(folds, names)
        ]

    def _making_bytes(self, rows: int) -> int:
        """Return what making moments takes for a band of so many rows."""
        around = rows + 2 * self._margin
        return self._row * around + self._making(around)

    def _asking_bytes(self, rows: int) -> int:
        """Return what choosing, or learning from everybody, takes for a band of so many rows."""
        around, rim = self._row * (rows + 2 * self._margin), self._rim_row * (rows + 2 * self._rim)
        choosing = max(around + self.folds * rim, (self.folds + 1) * rim)
        learning = max(3 * around, around + 2 * rim)
        return max(choosing, learning) + 2 * self._solution * rows

    def _bytes_there(self, rows: int) -> int:
        """Return what others take for a band: to make moments, to join them, or to use them."""
        around, each = rows + 2 * self._margin, self.folds * self._row
        framed = min(rows + self._margin, around)  # of a band at the edge
        making = (each + self._row) * framed + self._making(framed)
        joining = each * (rows + 2 * around)
        return max(making, joining, each * (rows + around) + self._asking_bytes(rows))


def _unknown(errors: Float) -> bool:
    return bool(np.isnan(errors).any())


def _likely(asked: _Errors, later: _Errors) -> Iterator[tuple[str, Option]]:
    """Yield what will be asked later if the best options so far remain the best."""
    least: dict[str, tuple[float, Option]] = {}
    for (name, option), errors in asked.items():
        known = errors[~np.isnan(errors)]
        if known.size:
            least[name] = min(least.get(name, (np.inf, option)), (float(known.sum()), option))
    for name, option in later:
        if name in least and replace(option, penalty=least[name][1].penalty) == least[name][1]:
            yield name, option


def _showing(folds: Folds, names: tuple[str, ...]) -> list[Statistics]:
    """Return the folds in which somebody shows the expressions, which are of the same people."""
    return [part for part in folds.parts if names[0] in part.targets]


def _told_apart(
    groups: list[tuple[str, ...]], others: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return groups of expressions that are together in both."""
    return [
        both
        for names in groups
        for other in others
        if (both := tuple(name for name in names if name in other))
    ]


_Groups = list[list[Moments]]  # of expressions with equal sources, the moments of each fold


def _frame(band: Band, height: int, margin: int) -> Frame:
    """Return the rows of a frame that belong to a band: all beyond the image to those at its edge.

    So each is worked out once.
    """
    first = -margin if band.first == 0 else band.first
    return Frame(height, margin, first, height + margin if band.end == height else band.end)


def _moments_of(
    folds: Folds,
    band: Band,
    *,
    field: ReceptiveField,
    displacement: Field | None,
    height: int,
    margin: int,
) -> _Groups:
    """Return the moments of each fold in the frame of a band."""
    frame = _frame(band, height, margin)
    places = places_in(folds.layout, field, displacement, frame, folds.shape[2])
    return [
        [
            moments(part, names, field, displacement, frame, band.above, places)
            for part in _showing(folds, names)
        ]
        for names in folds.groups()
    ]


def _cut(groups: _Groups, band: Band, wanted: Band, *, height: int, margin: int) -> _Groups:
    """Return those rows of the frame of a band that are wanted around another one."""
    frame = _frame(band, height, margin)
    first = max(frame.first, wanted.first - margin) - frame.first
    end = min(frame.end, wanted.end + margin) - frame.first
    return [[part.cut(first, end) for part in parts] for parts in groups]


def _joined(pieces: Sequence[_Groups]) -> _Groups:
    """Return the moments of rows that follow each other."""
    several = [{parts[0].expressions: parts for parts in piece} for piece in pieces]
    groups = reduce(_told_apart, map(list, several))
    return [
        [
            Moments.stacked([part.only(names) for part in fold])
            for fold in zip(*(_of_these(piece, names) for piece in several), strict=True)
        ]
        for names in groups
    ]


def _of_these(
    groups: Mapping[tuple[str, ...], list[Moments]], names: tuple[str, ...]
) -> list[Moments]:
    """Return the moments of the group that has these expressions."""
    return next(parts for group, parts in groups.items() if names[0] in group)


def _on_groups(groups: _Groups, *, work: Ask[Result]) -> list[Result]:
    return [work(parts[0].expressions, parts) for parts in groups]


def _left_out(
    names: tuple[str, ...],
    parts: Sequence[Moments],
    learner: Learner,
    asked: Sequence[tuple[str, Option]],
) -> _Errors:
    """Return the squared errors of people left out in each row of a band."""
    asking = _asking((name, o) for name, o in asked if name in names)
    errors: _Errors = {}
    for blur, equally_wide in groupby(sorted(asking), key=lambda o: o.blur):
        options = list(equally_wide)
        some = [name for name in names if any(name in asking[o] for o in options)]
        near = [part.only(some).blurred(blur) for part in parts]
        total = Moments.total(near)
        others = [total.without(part) for part in near]
        del near, total
        for left_out in parts:
            sums = others.pop(0)
            for mirrored, alike in groupby(options, key=lambda o: o.mirrored):
                if mirrored:  # which comes last
                    sums = sums.with_mirrored()
                for option in alike:
                    weights = learner.solve(sums.only(asking[option]), option.penalty)
                    found = left_out.only(asking[option]).errors(weights)
                    for name, rows in zip(asking[option], found, strict=True):
                        errors[name, option] = errors.get((name, option), 0.0) + rows
                    del weights  # before there are others
            del left_out, sums
    return errors


def _learnt(
    names: tuple[str, ...],
    parts: Sequence[Moments],
    learner: Learner,
    chosen: Mapping[str, Option],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a band, learnt from everybody."""
    everybody = Moments.total(parts)
    solutions: dict[str, npt.NDArray[np.float32]] = {}
    for option, alike in _asking((name, chosen[name]) for name in names).items():
        shared = everybody.only(alike).blurred(option.blur)
        sums = shared.with_mirrored() if option.mirrored else shared
        with np.errstate(over="ignore"):
            found = learner.solve(sums, option.penalty).astype(np.float32)
        solutions |= zip(alike, found, strict=True)
    return solutions


def _asking(asked: Iterable[tuple[str, Option]]) -> dict[Option, list[str]]:
    """Return the options asked for, each with the expressions that it is asked for."""
    asking: dict[Option, list[str]] = {}
    for name, option in asked:
        asking.setdefault(option, []).append(name)
    return asking
