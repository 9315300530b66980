"""Training: from a folder of pairs to statistics, and from statistics to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.collect import collect
from mlr.data.files import check_free
from mlr.data.pairs import find_pairs
from mlr.errors import MlrError
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
    data: str | Path,
    output: str | Path | None = None,
    *,
    recipe: str = "paper",
    receptive_field: ReceptiveField | int | str | None = None,
    penalty: float | None = None,
    source: str = "neutral",
    target: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Model:
    """Train a model on a folder of image pairs.

    Parameters
    ----------
    data : path
        Expression folders, ``trainA`` and ``trainB``, or ``pairs.csv``; see `find_pairs`.
    output : path, optional
        ``.npz`` file to write the model to.
    recipe : str
        Name of a set of choices; each can be overridden.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    source : str
        Folder of the source images.
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
        The same bits for any number of threads and any order of the files.

    Raises
    ------
    DataError
        If there is no usable pair.
    OutputExistsError
        If ``output`` exists and ``force`` is false.
    MlrError
        If an option makes no sense or the model cannot be written.
    """
    if recipe not in RECIPES:
        raise MlrError(f"unknown recipe {recipe!r}; there is: {', '.join(RECIPES)}")
    defaults = RECIPES[recipe]
    field = ReceptiveField.of(
        defaults.receptive_field if receptive_field is None else receptive_field
    )
    penalty = defaults.penalty if penalty is None else penalty
    check_penalty(penalty)
    if output is not None:
        check_free(Path(output), force=force)
    pairs = find_pairs(data, source=source, target=target)
    with limited(threads):
        statistics = collect(pairs, field, threads=threads, report=report)
        model = fit(statistics, penalty, recipe=recipe)
    if output is not None:
        model.save(output, force=force)
    return model


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
    named = RECIPES[recipe]
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
