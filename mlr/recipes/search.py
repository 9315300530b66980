"""What the sums of some expressions' folds say of the ways to learn from them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby

import numpy as np
import numpy.typing as npt

from mlr.errors import MlrError
from mlr.folds import Folds
from mlr.receptive_field import ReceptiveField
from mlr.recipes.displacement import (
    Field,
    Frame,
    estimate,
    estimating,
    halo_for,
    moments,
    moments_bytes,
    reach_of,
)
from mlr.recipes.moments import Moments, lags_of, margin_for
from mlr.recipes.option import Option
from mlr.running.bands import Band, Elsewhere, Made, Making, Result, RowSums, Work
from mlr.statistics import Statistics

Float = npt.NDArray[np.float64]
Wanted = Mapping[str, Sequence[Option]]  # by expression


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

    Moments are kept from one question to the next if there is memory to spare; otherwise they are
    made anew, band by band.

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
        _, height, width = sums.shape
        planes = len(lags_of(field)) + 1 + len(names) * (len(field) + 2)
        self._row = 8 * planes * (width + 2 * self._margin)  # bytes of moments
        self._solution = 8 * len(names) * (len(field) + 1) * width
        self._making = partial(moments_bytes, head.layout, width, self._reach)
        around = height + 2 * self._margin
        kept = self.folds * self._row * around
        making = 0 if sums.elsewhere else self._making(around)  # there, band by band
        self._keeps = kept + making <= sums.spare
        self._kept: tuple[bool, list[list[Moments]]] | None = None
        self._there: tuple[bool, Made[_Groups]] | None = None
        self._displacements: dict[bool, Field | None] = {}
        self._known: dict[tuple[bool, str, Option], float] = {}
        self.works: list[Work] = [
            (sums, self._work_bytes_there, self._halo)
            if sums.elsewhere
            else (sums, self._work_bytes, self._around)
        ]
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
            What will perhaps be asked next. One look at the sums costs as much as many errors:
            unless moments are kept, these errors are worked out, too.
        """
        moved = moved and self._reach > 0
        asked = {(name, o) for name, options in wanted.items() for o in options}
        if not all((moved, *pair) in self._known for pair in asked):
            if soon and not self._keeps:
                asked |= {(name, o) for name, options in soon.items() for o in options}
            new = sorted(pair for pair in asked if (moved, *pair) not in self._known)
            self._known |= {(moved, *pair): e for pair, e in self._measured(new, moved).items()}
        return {
            name: {option: self._known[moved, name, option] for option in options}
            for name, options in wanted.items()
        }

    def _measured(
        self, asked: Sequence[tuple[str, Option]], moved: bool
    ) -> dict[tuple[str, Option], float]:
        """Return mean squared errors of people left out."""
        channels, height, width = self.shape
        errors = {pair: np.zeros(height) for pair in asked}
        work = partial(_left_out, learner=self._learner, asked=asked)
        for band, found in self._on_bands(work, moved):
            for pair, rows in found.items():
                errors[pair][band.rows] = rows
        pixels = channels * height * width
        return {
            (name, option): float(rows.sum() / (pixels * self.pairs[name]))
            for (name, option), rows in errors.items()
        }

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
        for band, found in self._on_bands(work, moved):
            for name, solution in found.items():
                weights[name][:, band.rows] = solution
                if not np.isfinite(solution).all():
                    raise MlrError(
                        "the weights are too large for a model; give intensities in [0, 1]"
                    )
        self._kept = self._there = None

    def _on_bands(
        self, work: Callable[[list[Moments]], Result], moved: bool
    ) -> Iterator[tuple[Band, Result]]:
        """Yield each band with what work makes of the moments of expressions with equal sources."""
        self.displacement(moved)  # before anything else takes memory
        if there := self._sums.elsewhere:
            made = self._made_by(there, moved)
            for band, results in made.each(partial(_on_groups, work=work)):
                for result in results:
                    yield band, result
        else:
            bands = self._from_kept(moved) if self._keeps else self._made(moved)
            for band, groups in bands:
                for parts in groups:
                    yield band, work(parts)

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
            bands = self._sums.bands(self._work_bytes_there, self._halo)
            self._there = moved, there.made(making, bands, self._keeps)
        return self._there[1]

    def _from_kept(self, moved: bool) -> Iterator[tuple[Band, list[list[Moments]]]]:
        """Yield the moments of each fold, band by band, having made those of all rows."""
        if self._kept is None or self._kept[0] != moved:
            self._kept = None  # before there are others
            frame = Frame.whole(self.shape[1], self._margin)
            make = partial(self._moments, moved=moved, frame=frame, top=0)
            folds = self._sums.rows(0, self.shape[1])
            self._kept = (
                moved,
                [
                    [make(part, names) for part in _showing(folds, names)]
                    for names in folds.groups()
                ],
            )
        _, groups = self._kept
        for band in self._sums.bands(self._work_bytes):
            rows = band.first, band.end + 2 * self._margin
            yield band, [[part.rows(*rows) for part in parts] for parts in groups]

    def _made(self, moved: bool) -> Iterator[tuple[Band, list[list[Moments]]]]:
        """Yield the moments of each fold, band by band; each row is worked out once."""
        height, margin = self.shape[1], self._margin
        held: dict[tuple[str, ...], list[Moments]] = {}
        above = begin = -margin
        for band in self._sums.bands(self._work_bytes, self._around):
            frame = Frame(height, margin, begin, band.end + margin)
            top = max(0, min(begin, height - 1) - self._halo)  # beyond the edge its pixels repeat
            skip = band.first - margin - above
            folds = self._sums.rows(top, min(height, max(frame.end, 1) + self._halo))
            held = _told_apart(held, folds.groups())
            for names, parts in held.items():
                for place, part in enumerate(_showing(folds, names)):
                    rows = self._moments(part, names, moved, frame, top)
                    if begin == -margin:
                        parts.append(rows)
                    else:
                        parts[place] = parts[place].continued(rows, skip)
            del folds, part, rows  # before there are others
            above, begin = band.first - margin, frame.end
            yield band, list(held.values())

    def _moments(
        self, part: Statistics, names: tuple[str, ...], moved: bool, frame: Frame, top: int
    ) -> Moments:
        field = self._learner.receptive_field
        return moments(part, names, field, self.displacement(moved), frame, top)

    def _work_bytes(self, rows: int) -> int:
        """Return what choosing, or learning from everybody, takes for a band of so many rows."""
        around, blurred = rows + 2 * self._margin, rows + 2 * self._rim
        choosing = self._row * (self.folds + 5) * blurred
        learning = self._row * (2 * around + 3 * blurred)
        held = self.folds * self._row * around
        making = 0 if self._keeps else self._row * around + self._making(around)
        return held + max(choosing, learning, making) + self._solution * rows

    def _work_bytes_there(self, rows: int) -> int:
        """Return what others take for a band: to make moments, to join them, or to use them."""
        around, blurred = rows + 2 * self._margin, rows + 2 * self._rim
        each, framed = self.folds * self._row, min(rows + self._margin, around)
        making = (each + self._row) * framed + self._making(framed)
        joining = each * (rows + 2 * around)
        choosing = self._row * (self.folds + 5) * blurred
        learning = self._row * (2 * around + 3 * blurred)
        using = each * (rows + around) + max(choosing, learning) + self._solution * rows
        return max(making, joining, using)


def _showing(folds: Folds, names: tuple[str, ...]) -> list[Statistics]:
    """Return the folds in which somebody shows the expressions, which are of the same people."""
    return [part for part in folds.parts if names[0] in part.targets]


def _told_apart(
    held: dict[tuple[str, ...], list[Moments]], groups: list[tuple[str, ...]]
) -> dict[tuple[str, ...], list[Moments]]:
    """Return moments of rows above, apart for expressions whose sources differ in rows below."""
    if not held:
        return {names: [] for names in groups}
    if list(held) == groups:
        return held  # itself: of lists that are replaced, the old moments would be held, too
    return {
        both: [part.only(both) for part in parts]
        for names, parts in held.items()
        for group in groups
        if (both := tuple(name for name in names if name in group))
    }


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
    return [
        [
            moments(part, names, field, displacement, frame, band.above)
            for part in _showing(folds, names)
        ]
        for names in folds.groups()
    ]


def _cut(groups: _Groups, band: Band, wanted: Band, *, height: int, margin: int) -> _Groups:
    """Return those rows of the frame of a band that are wanted around another one."""
    frame = _frame(band, height, margin)
    first = max(frame.first, wanted.first - margin) - frame.first
    end = min(frame.end, wanted.end + margin) - frame.first
    return [[part.rows(first, end) for part in parts] for parts in groups]


def _joined(pieces: Sequence[_Groups]) -> _Groups:
    """Return the moments of rows that follow each other."""
    held = {parts[0].expressions: parts for parts in pieces[0]}
    for piece in pieces[1:]:
        below = {parts[0].expressions: parts for parts in piece}
        held = {
            names: [
                part.continued(rows.only(names), 0)
                for part, rows in zip(parts, _of_these(below, names), strict=True)
            ]
            for names, parts in _told_apart(held, list(below)).items()
        }
    return list(held.values())


def _of_these(
    groups: Mapping[tuple[str, ...], list[Moments]], names: tuple[str, ...]
) -> list[Moments]:
    return next(parts for group, parts in groups.items() if names[0] in group)


def _on_groups(groups: _Groups, *, work: Callable[[list[Moments]], Result]) -> list[Result]:
    return [work(parts) for parts in groups]


def _left_out(
    parts: list[Moments], learner: Learner, asked: Sequence[tuple[str, Option]]
) -> dict[tuple[str, Option], Float]:
    """Return the squared errors of people left out in each row of a band."""
    asking = _asking((name, o) for name, o in asked if name in parts[0].expressions)
    height = len(parts[0].source_sums) - 2 * parts[0].margin
    errors = {(name, o): np.zeros(height) for o, names in asking.items() for name in names}
    for blur, equally_wide in groupby(sorted(asking), key=lambda o: o.blur):
        options = list(equally_wide)
        names = [name for name in parts[0].expressions if any(name in asking[o] for o in options)]
        near = [part.only(names).blurred(blur) for part in parts]
        total = reduce(operator.add, near)
        for place, left_out in enumerate(parts):
            others = total - near[place]
            for mirrored, alike in groupby(options, key=lambda o: o.mirrored):
                sums = others.with_mirrored() if mirrored else others
                for option in alike:
                    some = asking[option]
                    weights = learner.solve(sums.only(some), option.penalty)
                    for name, rows in zip(some, left_out.only(some).errors(weights), strict=True):
                        errors[name, option] += rows
    return errors


def _learnt(
    parts: list[Moments], learner: Learner, chosen: Mapping[str, Option]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of a band, learnt from everybody."""
    everybody = reduce(operator.add, parts)
    solutions: dict[str, npt.NDArray[np.float32]] = {}
    for option, names in _asking((name, chosen[name]) for name in everybody.expressions).items():
        shared = everybody.only(names).blurred(option.blur)
        sums = shared.with_mirrored() if option.mirrored else shared
        with np.errstate(over="ignore"):
            found = learner.solve(sums, option.penalty).astype(np.float32)
        solutions |= zip(names, found, strict=True)
    return solutions


def _asking(asked: Iterable[tuple[str, Option]]) -> dict[Option, list[str]]:
    """Return the options asked for, each with the expressions that it is asked for."""
    asking: dict[Option, list[str]] = {}
    for name, option in asked:
        asking.setdefault(option, []).append(name)
    return asking
