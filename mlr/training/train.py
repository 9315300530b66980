"""Training: from folders and statistics files to statistics, and from statistics to a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any

from mlr.core.bands import RowSource
from mlr.core.model import Model
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics
from mlr.errors import DataError, OptionError
from mlr.io.files import check_free, is_here, located
from mlr.io.images import Format
from mlr.io.model_file import save_model
from mlr.io.npz import meta_of
from mlr.io.pairs import PairList, Subject, find_pairs
from mlr.io.statistics_file import load_statistics, save_statistics
from mlr.recipes.base import Recipe
from mlr.recipes.best import style_note
from mlr.recipes.fit import DEFAULT, fit
from mlr.recipes.fit import recipe as named_recipe
from mlr.training.accumulate import Plan
from mlr.training.budget import Budget, load_all
from mlr.training.checkpoint import kept_templates
from mlr.training.decode import check_aligned, common_format, make_templates
from mlr.training.settings import RunSettings
from mlr.training.sources import combined, of_file, of_folder
from mlr.training.warmup import announced
from mlr.utils.executor import Executor
from mlr.utils.memory import memory_limit, trim_memory
from mlr.utils.progress import Report, reporting
from mlr.utils.threads import limited

Paths = str | Path | Iterable[str | Path]

_is_statistics_file = methodcaller("is_file")  # other data are folders


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
    progress: bool = False,
    report: Report | None = None,
) -> Model:
    """Train a model on image pairs.

    Parameters
    ----------
    data, remove : path or several
        Folders of pairs and statistics files to add, and to remove again; see `statistics`.
    output : path, optional
        ``.npz`` file to write the model to.
    recipe : str, optional
        "best", which registers faces first, or "paper"; by default as in the statistics files, or
        "best".
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default as in the
        statistics files, or the recipe's.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    blur : float, optional
        For the recipe "best": see `mlr.recipes.best.Best`.
    like : path, optional
        Statistics file with the templates to register the pairs to; by default the first statistics
        file in ``data``, or new templates.
    source, target : str and sequence of str, optional
        Source expression, by default "neutral", and target expressions, by default all.
    checkpoint : path, optional
        Folder to keep finished shards in: a run that was killed continues from there.
    shard : int, optional
        Most subjects in a shard.
    executor : Executor, optional
        Accumulates the shards in other processes, see `mlr.cluster.connect`.
    memory : int or str, optional
        Most bytes to use in addition to the program's own, or text such as "2GB"; by default half
        of the free memory. If the statistics need more, pixels are kept in a temporary file (next
        to ``output``) and processed in bands of rows.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    force : bool
        Overwrite ``output`` if it exists.
    progress : bool
        Show notes and progress bars on stderr.
    report : Report, optional
        Receives progress, notes and failures.

    Returns
    -------
    Model
        The same bits for any number of threads, order of files, split of the pairs and memory
        limit. Large weights may be mapped to a temporary file.

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
    report = reporting(report, progress)
    run = _Run(data, remove, recipe, options, settings, report, output, force)
    with limited(threads), announced(run.report):
        found = run.row_source(source, target, like, run.recipe)
        model = fit(
            run.recipe,
            found,
            run.budget.bands(run.recipe, found),
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
    progress: bool = False,
    report: Report | None = None,
) -> Statistics:
    """Accumulate the statistics of image pairs, from which models can be trained.

    The other parameters are those of `train`.

    Parameters
    ----------
    data : path or several
        Folders of pairs (see `mlr.io.pairs`) and statistics files, here or at an address of fsspec,
        such as ``s3://bucket/faces``, which needs the extra ``cluster``. Pairs of two of them are
        different pairs even if they have the same name; a pair given twice counts twice. Of a
        statistics file, only the requested taps and expressions are used.
    output : path, optional
        ``.npz`` file to write the statistics to.
    remove : path or several
        Folders and statistics files of pairs in ``data`` to remove again: the result equals, to the
        bit, statistics that never contained them.

    Raises
    ------
    DataError
        If there is no usable pair, the data do not fit together, or not all of ``remove`` are in
        ``data``.
    ModelError, OutputExistsError, MlrError
        As for `train`.
    """
    settings = RunSettings(checkpoint, shard, memory, threads, executor)
    options = {"receptive_field": receptive_field}
    report = reporting(report, progress)
    run = _Run(data, remove, recipe, options, settings, report, output, force)
    with limited(threads), announced(run.report):
        found = load_all(run.row_source(source, target, like), run.budget)
    if output is not None:
        save_statistics(found, output, force=force)
        if run.recipe.registers and like is None and not any(map(_is_statistics_file, run.added)):
            run.report.note(
                "the pairs were registered to new templates; to add more pairs later, accumulate "
                f"them with: mlr statistics --like {output}"
            )
    return found


class _Run:
    """A run of training: its data, recipe and limits."""

    def __init__(
        self,
        data: Paths,
        remove: Paths,
        recipe: str | None,
        options: dict[str, Any],
        settings: RunSettings,
        report: Report,
        output: str | Path | None,
        force: bool,
    ) -> None:
        self.added, self.removed = _paths(data), _paths(remove)
        if not self.added:
            raise DataError("no training data given")
        self.recipe = named_recipe(recipe or _recipe_of([*self.added, *self.removed]), options)
        self.settings, self.report = settings, report
        self.used: dict[Path, bytes] = {}  # digests of images that templates were computed from
        folder = None if output is None else Path(output).parent  # of temporary files
        self.budget = Budget(memory_limit(settings.memory), folder)
        if output is not None:
            if Path(output).suffix not in ("", ".npz"):
                raise OptionError(f"{output}: expected a name that ends in .npz")
            check_free(Path(output), force=force)
        twice = [path for path, count in Counter(self.added).items() if count > 1]
        for path in twice:
            self.report.note(f"note: {path} is given more than once, and its pairs count as often")

    def row_source(
        self,
        source: str | None,
        target: Sequence[str],
        like: str | Path | None,
        solver: Recipe | None = None,
    ) -> RowSource:
        """Return the requested statistics; with a solver, refuse too low a memory limit early."""
        if like is not None and not self.recipe.registers:
            raise OptionError("the recipe paper has no templates; --like is for the recipe best")
        remote = self.settings.executor is not None  # its workers may be in other folders
        data = [*self.added, *self.removed]
        pairs = {
            path: find_pairs(
                path.absolute() if remote else path, source=source or "neutral", target=target
            )
            for path in dict.fromkeys(data)
            if not path.is_file()
        }
        usable = cache(lambda path: self._usable(pairs[path]))
        templates = self._templates(like, usable) if self.recipe.registers and pairs else None
        trim_memory()  # computing templates needed a third of a small limit
        share = Budget(self.budget.memory // len(data), self.budget.folder)

        def term(path: Path, layout: Layout | None) -> RowSource:
            if path not in pairs:
                within = self.recipe.layout_within if layout is None else lambda found: layout
                return of_file(path, target, source, within, share)
            found, (subjects, image_format) = pairs[path], usable(path)
            if templates is not None and templates.geometry.size != image_format.size:
                size = "{1}x{0} px".format(*templates.geometry.size)
                raise DataError(
                    f"images of {image_format}, but the templates are for {size}; resize them"
                )
            layout = layout or self.recipe.layout()
            plan = Plan(found.source, image_format, layout, len(found.expressions), templates)
            alone = solver if len(data) == 1 else None
            settings = self.settings
            return of_folder(subjects, plan, share, self.report, settings, alone, self.used)

        def fitting(path: Path, layout: Layout | None) -> RowSource:
            found = term(path, layout)
            try:
                head.check_fits(found.head)
            except DataError as error:
                raise DataError(f"{first} and {path}: {error}") from error
            return found

        # Statistics files first: they are checked quickly, and determine the default taps.
        first, *rest = sorted(self.added, key=pairs.__contains__)
        added = [term(first, None)]
        head = added[0].head
        added += [fitting(path, head.layout if path in pairs else None) for path in rest]
        removed = []
        for path in self.removed:
            known = len(self.report.failures) + (len(pairs[path].problems) if path in pairs else 0)
            removed.append((str(path), fitting(path, head.layout)))
            if len(self.report.failures) > known:
                raise DataError(
                    f"{path}: some of its images cannot be read, see above, so their pairs cannot "
                    "be removed; repair or delete the files"
                )
        result = combined(added, removed, self.budget)
        if not result.head.expressions:
            raise DataError("all pairs are removed, none is left to train on")
        return result

    def _usable(self, pairs: PairList) -> tuple[list[Subject], Format]:
        """Return the subjects whose images fit together, and name other files."""
        for note in pairs.notes:
            self.report.note(note)
        for problem in pairs.problems:
            self.report.fail(problem.path, problem.cause)
        subjects, image_format = common_format(pairs, self.report)
        check_aligned(subjects, image_format, self.report)
        return subjects, image_format

    def _templates(
        self, like: str | Path | None, usable: Callable[[Path], tuple[list[Subject], Format]]
    ) -> Templates | None:
        """Return the templates to register pairs to, or None if no image can be decoded.

        They come from a statistics file or a checkpoint, or are computed from the pairs to add.
        """
        files = list(filter(_is_statistics_file, self.added)) if like is None else [located(like)]
        if files:
            found = load_statistics(files[0], mapped=is_here(files[0])).templates
            if found is None:
                raise DataError(f"{files[0]}: statistics of pairs that were not registered")
            return found
        store = self.settings.checkpoint
        if store is not None and (kept := kept_templates(Path(store))) is not None:
            return kept
        folders = [usable(path) for path in self.added]
        formats = [image_format for _, image_format in folders]
        if len({each.size for each in formats}) > 1:
            sizes = " and ".join(sorted({str(each) for each in formats}))
            raise DataError(f"images of {sizes} do not go together; resize them")
        subjects = [subject for found, _ in folders for subject in found]
        with suppress(DataError):  # raised when they are accumulated, with the files
            widest = max(formats, key=lambda each: each.channels)
            templates, self.used = make_templates(subjects, widest, self.report)
            return templates
        return None


def _recipe_of(paths: Sequence[Path]) -> str:
    """Return the recipe that the first statistics file is for, or the default."""
    file = next(filter(_is_statistics_file, paths), None)
    if file is None:
        return DEFAULT
    return "best" if meta_of(file, "statistics").get("pooled") else "paper"


def _paths(data: Paths) -> list[Path]:
    """Return data as paths, here or of fsspec."""
    return [located(path) for path in ([data] if isinstance(data, str | Path) else data)]
