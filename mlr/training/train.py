"""Training: from folders and statistics files to statistics, and from statistics to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlr.core.bands import RowSource
from mlr.core.layout import Layout
from mlr.core.model import Model
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics
from mlr.errors import DataError, OptionError
from mlr.io.files import check_free, is_here, located
from mlr.io.model_file import save_model
from mlr.io.npz import meta_of
from mlr.io.pairs import PairList, Subject, find_pairs
from mlr.io.statistics_file import load_statistics, save_statistics
from mlr.recipes.best import style_note
from mlr.recipes.fit import DEFAULT, Recipe, fit
from mlr.recipes.fit import recipe as named_recipe
from mlr.training.budget import Budget, load_all
from mlr.training.checkpoint import kept_templates
from mlr.training.decode import common_format
from mlr.training.register import make_templates
from mlr.training.settings import RunSettings
from mlr.training.sources import combined, of_file, of_folder
from mlr.training.warmup import announced
from mlr.utils.executor import Executor
from mlr.utils.progress import Report, Silent
from mlr.utils.threads import limited

Paths = str | Path | Iterable[str | Path]


def train(
    data: Paths,
    output: str | Path | None = None,
    *,
    remove: Paths = (),
    recipe: str | None = None,
    receptive_field: ReceptiveField | int | str | None = None,
    penalty: float | None = None,
    blur: float | None = None,
    like: str | Path | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    shard: int | None = None,
    executor: Executor | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Model:
    """Train a model on image pairs.

    Parameters
    ----------
    data, remove : path or several
        Folders of pairs and statistics files to add up, and those to take out again; see
        `statistics`.
    output : path, optional
        ``.npz`` file to write the model to.
    recipe : str, optional
        "best", which is the default and registers faces first, or "paper". Statistics files know
        which of them they are for.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default those of
        the statistics files, or the recipe's if there are none.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    blur : float, optional
        For the recipe "best": see `mlr.recipes.best.Best`.
    like : path, optional
        Statistics file with the templates to register the pairs to; by default those of the first
        statistics file in ``data``, or new ones.
    source : str, optional
        Folder of the source images, by default "neutral".
    target : sequence of str
        Target expressions; none means all.
    checkpoint : path, optional
        Folder to keep finished shards of the pairs in, see `mlr.training.checkpoint`: a run that
        was killed goes on from there.
    shard : int, optional
        Most subjects in a shard.
    executor : Executor, optional
        Accumulates the shards in other processes, such as `mlr.cluster.connect` yields.
    memory : int or str, optional
        Most bytes to use in addition to the program's own, or text such as "2GB"; by default half
        of what is free. If the statistics need more, pixels are kept in a temporary file (next to
        ``output``) and processed in bands of rows.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    force : bool
        Overwrite ``output`` if it exists.
    report : Report, optional
        Told about progress and about files that are skipped.

    Returns
    -------
    Model
        The same bits for any number of threads, any order of the files, any split of the pairs and
        any amount of memory. Large weights may be mapped to a temporary file.

    Raises
    ------
    DataError
        If there is no usable pair, or the data do not fit together.
    ModelError
        If a statistics file cannot be read.
    OutputExistsError
        If ``output`` exists and ``force`` is false.
    MlrError
        If an option is out of range or the model cannot be written.
    """
    options = {"receptive_field": receptive_field, "penalty": penalty, "blur": blur}
    settings = RunSettings(checkpoint, shard, memory, threads, executor)
    run = _Run.of(data, remove, recipe, options, output, settings, report)
    wanted = _Wanted(source, target, like)
    if output is not None:
        check_free(Path(output), force=force)
    with limited(threads), announced(run.report):
        found = run.row_source(wanted, lambda source: run.budget.bands(run.recipe, source))
        bands = run.budget.bands(run.recipe, found)
        model = fit(
            run.recipe,
            found,
            bands,
            run.budget.zeros,
            lambda bands: run.report.progress(run.budget.track(bands), len(bands), "solving"),
        )
    if model.registered is not None:
        for name, appearance in model.registered.appearances.items():
            run.report.note(style_note(name, appearance, found.head.pairs[name]))
    if output is not None:
        save_model(model, output, force=force)
    return model


def statistics(
    data: Paths,
    output: str | Path | None = None,
    *,
    remove: Paths = (),
    recipe: str | None = None,
    receptive_field: ReceptiveField | int | str | None = None,
    like: str | Path | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    shard: int | None = None,
    executor: Executor | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Statistics:
    """Accumulate the statistics of image pairs: all that training needs to know of them.

    Parameters
    ----------
    data : path or several
        Folders of pairs (see `find_pairs`) and statistics files, here or at an address of fsspec,
        such as ``s3://bucket/faces``, which needs ``mlr[cluster]``. Pairs of two of them are
        different pairs even if they have the same name; a pair given twice counts twice.
    output : path, optional
        ``.npz`` file to write the statistics to.
    remove : path or several
        Folders and statistics files of pairs in ``data`` to take out again: the result has the very
        bits of statistics that never contained them.
    recipe, receptive_field, like, source, target, checkpoint, shard, executor, memory, threads,
    report
        As for `train`. Of a statistics file with more taps and expressions only those asked for are
        used.
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
        If an option is out of range or the statistics cannot be written.
    """
    options = {"receptive_field": receptive_field}
    settings = RunSettings(checkpoint, shard, memory, threads, executor)
    run = _Run.of(data, remove, recipe, options, output, settings, report)
    wanted = _Wanted(source, target, like)
    if output is not None:
        check_free(Path(output), force=force)
    with limited(threads), announced(run.report):
        found = load_all(run.row_source(wanted), run.budget)
    if output is not None:
        save_statistics(found, output, force=force)
        if run.recipe.registers and like is None and all(path in run.folders for path in run.added):
            run.report.note(
                "the pairs were registered to templates of their own; for more that add up to "
                f"these: mlr statistics --like {output}"
            )
    return found


@dataclass(frozen=True)
class _Wanted:
    """Which statistics are wanted; as for `train`."""

    source: str | None
    target: Sequence[str]
    like: str | Path | None


@dataclass(frozen=True)
class _Run:
    """A run of training: its data, recipe and limits."""

    added: list[Path]
    removed: list[Path]
    recipe: Recipe
    settings: RunSettings
    budget: Budget
    report: Report

    @classmethod
    def of(
        cls,
        data: Paths,
        remove: Paths,
        recipe: str | None,
        options: dict[str, Any],
        output: str | Path | None,
        settings: RunSettings,
        report: Report | None,
    ) -> _Run:
        added, removed = _paths(data), _paths(remove)
        if not added:
            raise DataError("no training data given")
        made = named_recipe(recipe or _recipe_of([*added, *removed]), options)
        budget = Budget.of(settings.memory, output)
        return cls(added, removed, made, settings, budget, report or Report())

    @property
    def folders(self) -> set[Path]:
        """Data that are not statistics files."""
        return {path for path in (*self.added, *self.removed) if not path.is_file()}

    def row_source(
        self, wanted: _Wanted, check: Callable[[RowSource], object] = lambda source: None
    ) -> RowSource:
        """Return the statistics that are wanted."""
        if wanted.like is not None and not self.recipe.registers:
            raise OptionError("the recipe paper has no templates; --like is for the recipe best")
        remote = self.settings.executor is not None  # its workers may be in other folders
        pairs = {
            path: find_pairs(
                path.absolute() if remote else path,
                source=wanted.source or "neutral",
                target=wanted.target,
            )
            for path in self.folders
        }
        templates = self._templates(pairs, wanted) if self.recipe.registers and pairs else None
        # Statistics files first: they are quick to refuse, and tell the taps unless they are given.
        first, *rest = sorted(self.added, key=pairs.__contains__)
        alone = len(self.added) + len(self.removed) == 1
        share = Budget(
            self.budget.memory // (len(self.added) + len(self.removed)), self.budget.folder
        )

        def term(path: Path, layout: Layout | None) -> RowSource:
            if path not in pairs:
                return of_file(
                    path,
                    wanted.target,
                    wanted.source,
                    self.recipe.layout_within if layout is None else lambda found: layout,
                    share,
                )
            return of_folder(
                pairs[path],
                layout or self.recipe.layout(),
                templates,
                share,
                self.report,
                self.settings,
                check if alone else lambda source: None,
            )

        def fitting(path: Path, layout: Layout | None) -> RowSource:
            found = term(path, layout)
            try:
                head.check_fits(found.head)
            except DataError as error:
                raise DataError(f"{first} and {path}: {error}") from error
            return found

        added = [term(first, None)]
        head = added[0].head
        added += [fitting(path, head.layout if path in pairs else None) for path in rest]
        removed = []
        for path in self.removed:
            failures = len(self.report.failures)
            removed.append((str(path), fitting(path, head.layout)))
            known = len(pairs[path].problems) if path in pairs else 0
            if len(self.report.failures) > failures + known:
                raise DataError(
                    f"{path}: some of its images cannot be read, see above, so their pairs cannot "
                    "be taken out; mend or delete the files"
                )
        result = combined(added, removed, self.budget)
        if not result.head.expressions:
            raise DataError("all pairs are taken out, nothing is left to learn from")
        return result

    def _templates(self, pairs: dict[Path, PairList], wanted: _Wanted) -> Templates | None:
        """Return the templates to register pairs to, or None if no image can be read.

        They are those of a statistics file, or of a checkpoint, or else made of the pairs to add.
        """
        files = [path for path in self.added if path not in pairs]
        if wanted.like is not None:
            files = [located(wanted.like)]
        if files:
            found = load_statistics(files[0], mapped=is_here(files[0])).templates
            if found is None:
                raise DataError(f"{files[0]}: statistics of pairs that were not registered")
            return found
        store = self.settings.checkpoint
        if store is not None and (kept := kept_templates(Path(store))) is not None:
            return kept
        subjects: list[Subject] = []
        formats = []
        for path in self.added:
            with suppress(DataError):  # raised, and its files named, when they are accumulated
                usable, image_format = common_format(pairs[path], Silent())
                subjects += usable
                formats.append(image_format)
        if len({(one.height, one.width) for one in formats}) > 1:
            sizes = " and ".join(sorted({str(one) for one in formats}))
            raise DataError(f"images of {sizes} do not go together; resize them")
        with suppress(DataError):
            if subjects:
                widest = max(formats, key=lambda one: one.channels)
                return make_templates(subjects, widest, self.report)
        return None


def _recipe_of(paths: Sequence[Path]) -> str:
    """Return the recipe that the first statistics file is for, or the default."""
    for path in paths:
        if path.is_file():
            return "best" if meta_of(path, "statistics").get("pooled") else "paper"
    return DEFAULT


def _paths(data: Paths) -> list[Path]:
    """Return paths, and addresses as those of fsspec."""
    return [located(path) for path in ([data] if isinstance(data, str | Path) else data)]
