"""Training: from folders and statistics files to statistics, and from statistics to a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.collect import collect
from mlr.data.files import check_free
from mlr.data.pairs import find_pairs
from mlr.errors import DataError, OptionError
from mlr.model import Model, new_meta
from mlr.receptive_field import ReceptiveField
from mlr.report import Report
from mlr.solve import check_penalty, solve
from mlr.statistics import Statistics
from mlr.threads import limited


@dataclass(frozen=True)
class Recipe:
    """The choices that make a model out of statistics.

    Attributes
    ----------
    receptive_field : int or str
        As `ReceptiveField.of` takes it.
    penalty : float
        Ridge penalty for intensities in [0, 1].
    """

    receptive_field: int | str
    penalty: float


#: "paper": Khan et al. 2020; all coefficients, the bias included, are pulled to zero.
RECIPES = {"paper": Recipe(receptive_field=3, penalty=0.4)}


def train(
    data: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    remove: str | Path | Iterable[str | Path] = (),
    recipe: str = "paper",
    receptive_field: ReceptiveField | int | str | None = None,
    penalty: float | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Model:
    """Train a model on image pairs.

    Parameters
    ----------
    data, remove : path or several
        Folders of pairs and statistics files to add up, and those to take out again: as `gather`
        takes them.
    output : path, optional
        ``.npz`` file to write the model to.
    recipe : str
        Name of a set of choices; each can be overridden.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default those of
        the statistics files, or the recipe's if there are none.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    source : str, optional
        Folder of the source images, by default "neutral".
    target : sequence of str
        Target expressions; none means all.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    force : bool
        Overwrite ``output`` if it exists.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    Model
        The same bits for any number of threads, any order of the files and any split of the pairs.

    Raises
    ------
    DataError
        If there is no usable pair, or the data do not fit together.
    ModelError
        If a statistics file cannot be read.
    OutputExistsError
        If ``output`` exists and ``force`` is false.
    MlrError
        If an option makes no sense or the model cannot be written.
    """
    penalty = _recipe(recipe).penalty if penalty is None else penalty
    check_penalty(penalty)
    if output is not None:
        check_free(Path(output), force=force)
    with limited(threads):
        statistics = gather(
            data,
            remove=remove,
            recipe=recipe,
            receptive_field=receptive_field,
            source=source,
            target=target,
            threads=threads,
            report=report,
        )
        model = fit(statistics, penalty, recipe=recipe)
    if output is not None:
        model.save(output, force=force)
    return model


def gather(
    data: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    remove: str | Path | Iterable[str | Path] = (),
    recipe: str = "paper",
    receptive_field: ReceptiveField | int | str | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Statistics:
    """Sum up image pairs: all that training needs to know of them.

    Parameters
    ----------
    data : path or several
        Folders of pairs (see `find_pairs`) and statistics files. Pairs of two of them are different
        pairs whatever they are called; the very same pair given twice counts twice.
    output : path, optional
        ``.npz`` file to write the statistics to.
    remove : path or several
        Folders and statistics files of pairs that are in ``data`` and shall not be: the result has
        the very bits of statistics that have never seen them.
    recipe, receptive_field, source, target, threads, report
        As for `train`. Of a statistics file, which may be for more taps and expressions, only those
        asked for are used.
    force : bool
        Overwrite ``output`` if it exists.

    Raises
    ------
    DataError
        If there is no usable pair, the data do not fit together, or not all of ``remove`` can be
        taken out.
    ModelError
        If a statistics file cannot be read.
    OutputExistsError
        If ``output`` exists and ``force`` is false.
    MlrError
        If an option makes no sense or the statistics cannot be written.
    """
    default = ReceptiveField.of(_recipe(recipe).receptive_field)
    wanted = None if receptive_field is None else ReceptiveField.of(receptive_field)
    report = report or Report()
    if output is not None:
        check_free(Path(output), force=force)
    added, removed = _paths(data), _paths(remove)
    if not added:
        raise DataError("no training data given")
    folders = {  # looked into before the work, not after
        path: find_pairs(path, source=source or "neutral", target=target)
        for path in (*added, *removed)
        if not path.is_file()
    }
    if all(path in folders for path in added):
        wanted = wanted or default

    def sums(path: Path, field: ReceptiveField | None) -> Statistics:
        if path in folders:
            return collect(folders[path], field or default, threads=threads, report=report)
        return _from_file(path, field, source, target)

    # Statistics files first: they are quick to refuse, and tell the taps if nobody else does.
    first, *rest = sorted(added, key=folders.__contains__)
    total = sums(first, wanted)
    taps = total.receptive_field
    for path in rest:
        part = sums(path, taps if path in folders else wanted)
        _check_fit(first, total, path, part)
        total = total + part
    for path in removed:
        failures = len(report.failures)
        part = sums(path, taps)
        _check_fit(first, total, path, part)
        if path in folders and len(report.failures) > failures + len(folders[path].problems):
            raise DataError(
                f"{path}: some of its images cannot be read, see above, so their pairs cannot be "
                "taken out; mend or delete the files"
            )
        try:
            total = total - part
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    if not total.expressions:
        raise DataError("all pairs are taken out, nothing is left to learn from")
    if output is not None:
        total.save(output, force=force)
    return total


def fit(statistics: Statistics, penalty: float, *, recipe: str) -> Model:
    """Solve for a model.

    Parameters
    ----------
    statistics : Statistics
        Sums over the training pairs.
    penalty : float
        Ridge penalty for intensities in [0, 1].
    recipe : str
        Name of the recipe that the choices come from; "custom" is noted if they differ from it.

    Raises
    ------
    MlrError
        If the penalty makes no sense or there are no pairs.
    """
    named = _recipe(recipe)
    as_named = (
        ReceptiveField.of(named.receptive_field) == statistics.receptive_field
        and named.penalty == penalty
    )
    return Model(
        weights=solve(statistics, penalty),
        receptive_field=statistics.receptive_field,
        expressions=statistics.expressions,
        meta=new_meta(
            source=statistics.source,
            recipe=recipe if as_named else "custom",
            penalty=penalty,
            prior="zero",
            pairs=statistics.pairs,
            digest=statistics.hexdigest,
        ),
    )


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise OptionError(f"unknown recipe {name!r}; there is: {', '.join(RECIPES)}")
    return RECIPES[name]


def _paths(data: str | Path | Iterable[str | Path]) -> list[Path]:
    return [Path(path) for path in ([data] if isinstance(data, str | Path) else data)]


def _from_file(
    path: Path, field: ReceptiveField | None, source: str | None, target: Sequence[str]
) -> Statistics:
    """Return what is wanted of a statistics file; without a field, all of its taps."""
    found = Statistics.load(path)
    try:
        if source not in (None, found.source):
            raise DataError(f"statistics of the source expression {found.source}, not {source}")
        if target:
            found = found.only(target)
        return found if field is None else found.restricted(field)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _check_fit(first: Path, total: Statistics, path: Path, part: Statistics) -> None:
    """Raise with the names of both unless statistics add up."""
    try:
        total.check_fits(part)
    except DataError as error:
        raise DataError(f"{first} and {path}: {error}") from error
