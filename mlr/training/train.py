"""Training: from folders and statistics files to statistics, and from statistics to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlr.core.bands import RowSums, check_memory
from mlr.core.folds import WORK, WORK_SHARE, Folds, joined
from mlr.core.layout import Layout
from mlr.core.model import Model
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.errors import DataError, OptionError
from mlr.io.files import check_free, is_here, located
from mlr.io.model_file import save_model
from mlr.io.npz import meta_of
from mlr.io.pairs import PairList, Subject, find_pairs
from mlr.recipes import DEFAULT, Recipe
from mlr.recipes import recipe as named_recipe
from mlr.training.checkpoint import kept_templates
from mlr.training.combined import Mapped, combined
from mlr.training.decode import common_format
from mlr.training.engine import Engine, engine
from mlr.training.gather import Sharding, gather_pairs
from mlr.training.registering import make_templates
from mlr.training.shards import Silent
from mlr.training.warmup import announced
from mlr.utils.memory import memory_of
from mlr.utils.progress import Report
from mlr.utils.threads import limited


def train(
    data: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    remove: str | Path | Iterable[str | Path] = (),
    recipe: str | None = None,
    receptive_field: ReceptiveField | int | str | None = None,
    penalty: float | None = None,
    blur: float | None = None,
    like: str | Path | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    shard: int | None = None,
    cluster: str | None = None,
    memory: int | str | None = None,
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
    recipe : str, optional
        "best", which is the default and registers faces first, or "paper"; each choice can be made
        by hand. Statistics files tell for which of them they are.
    receptive_field : ReceptiveField, int or str, optional
        The taps: the odd side of a square window, a preset's name, or a field. By default those of
        the statistics files, or the recipe's if there are none.
    penalty : float, optional
        Ridge penalty for intensities in [0, 1].
    blur : float, optional
        Of the recipe "best": see `mlr.recipes.best.Best`.
    like : path, optional
        Statistics file whose templates the pairs are registered to, instead of their own; by
        default those of the first statistics file in ``data``.
    source : str, optional
        Folder of the source images, by default "neutral".
    target : sequence of str
        Target expressions; none means all.
    checkpoint : path, optional
        Folder to keep finished shards of the pairs in, see `mlr.training.checkpoint`: a run that
        was killed goes on from there.
    shard : int, optional
        How many subjects a shard has at most.
    cluster : str, optional
        Who sums up the shards: ``local:N`` for N processes here, or ``tcp://HOST:PORT`` of a Dask
        scheduler; needs ``mlr[cluster]``.
    memory : int or str, optional
        Bytes that it may take beside the program's own, or text such as "2GB"; by default half of
        what is free. With less than all sums need, pixels are kept in a temporary file (beside
        ``output``, which is where there is room) and worked on in bands of rows.
    threads : int, optional
        Threads to decode and to compute with; by default one for each processor.
    force : bool
        Overwrite ``output`` if it exists.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    Model
        The same bits for any number of threads, any order of the files, any split of the pairs and
        any amount of memory. Large weights may lie in a temporary file as long as it is used.

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
    chosen = {
        "receptive_field": receptive_field,
        "penalty": penalty,
        "blur": blur,
    }
    added, removed = (_paths(paths, cluster) for paths in (data, remove))
    made = named_recipe(_name(recipe, [*added, *removed]), chosen)
    report = report or Report()
    if output is not None:
        check_free(Path(output), force=force)
    room = Room.of(memory, output)
    with limited(threads), announced(report), engine(cluster, report, room.each) as elsewhere:
        sharding = Sharding.of(checkpoint, shard, elsewhere)
        wanted = _Wanted(made, source, target, room)
        sums = _gather(
            added,
            removed,
            wanted,
            like,
            sharding,
            threads,
            report,
            check=lambda sums: check_memory(made.works(sums)),
        )
        if isinstance(sums, Folds):
            sums = replace(sums, memory=room.memory, folder=room.folder)
        model = made.fit(sums, report)
    if output is not None:
        save_model(model, output, force=force)
    return model


def gather(
    data: str | Path | Iterable[str | Path],
    output: str | Path | None = None,
    *,
    remove: str | Path | Iterable[str | Path] = (),
    recipe: str | None = None,
    receptive_field: ReceptiveField | int | str | None = None,
    like: str | Path | None = None,
    source: str | None = None,
    target: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    shard: int | None = None,
    cluster: str | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> Folds:
    """Sum up image pairs: all that training needs to know of them.

    Parameters
    ----------
    data : path or several
        Folders of pairs (see `find_pairs`) and statistics files, here or behind an address of
        fsspec, as ``s3://bucket/faces``, which needs ``mlr[cluster]``. Pairs of two of them are
        different pairs whatever they are called; the very same pair given twice counts twice.
    output : path, optional
        ``.npz`` file to write the statistics to.
    remove : path or several
        Folders and statistics files of pairs that are in ``data`` and shall not be: the result has
        the very bits of statistics that have never seen them.
    recipe, receptive_field, like, source, target, checkpoint, shard, cluster, memory, threads,
    report
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
    chosen = {"receptive_field": receptive_field}
    added, removed = (_paths(paths, cluster) for paths in (data, remove))
    made = named_recipe(_name(recipe, [*added, *removed]), chosen)
    if output is not None:
        check_free(Path(output), force=force)
    report = report or Report()
    room = Room.of(memory, output)
    with engine(cluster, report, room.each) as elsewhere:
        sharding = Sharding.of(checkpoint, shard, elsewhere)
        wanted = _Wanted(made, source, target, room)
        sums = _gather(added, removed, wanted, like, sharding, threads, report)
        folds = joined(sums)
    if output is not None:
        folds.save(output, force=force)
        if made.registers and like is None and not any(path.is_file() for path in added):
            report.note(
                "the pairs were registered to templates of their own; for more that add up to "
                f"these: mlr statistics --like {output}"
            )
    return folds


@dataclass(frozen=True)
class Room:
    """What sums may take.

    Attributes
    ----------
    memory : int
        Bytes.
    given : bool
        Whether somebody asked for just that.
    folder : Path, optional
        Where temporary files take up room; by default where the system puts them.
    """

    memory: int
    given: bool
    folder: Path | None

    @property
    def each(self) -> int | None:
        """Bytes that each process of a cluster may take, if somebody asked for that."""
        return self.memory if self.given else None

    @classmethod
    def of(cls, memory: int | str | None, output: str | Path | None) -> Room:
        """Return what is asked for, with temporary files beside the output."""
        folder = None if output is None else Path(output).parent
        return cls(memory_of(memory), memory is not None, folder)


@dataclass(frozen=True)
class _Wanted:
    """Which sums are wanted, whatever they are made of; workers are sent it.

    Attributes
    ----------
    recipe : Recipe
        That needs them.
    source : str, optional
        Name of the source expression.
    target : sequence of str
        Target expressions; none means all.
    room : Room
        What they may take.
    """

    recipe: Recipe
    source: str | None
    target: Sequence[str]
    room: Room

    def of_file(self, path: Path, layout: Layout | None, memory: int) -> RowSums:
        """Return those of a statistics file; without a layout, what the recipe takes of it."""
        large = is_here(path) and path.stat().st_size * (1 + 2 * WORK_SHARE) + WORK > memory
        found = Folds.load(path, mapped=large)
        try:
            if self.source not in (None, found.source):
                raise DataError(
                    f"statistics of the source expression {found.source}, not {self.source}"
                )
            if self.target:
                found = found.only(self.target)
            layout = layout or self.recipe.fitting(found.layout, found.parts[0].shape)
            sums = Mapped(found, self.room.memory, self.room.folder) if large else found
            return sums.restricted(layout)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class _Gathering:
    """How the sums of each data are made.

    Attributes
    ----------
    wanted : _Wanted
        Which.
    folders : mapping of Path to PairList
        What is in those of the data that are no statistics files.
    templates : Templates, optional
        What pairs are registered to.
    memory : int
        Bytes that the sums of each may take.
    sharding, threads, report, check
        As for `mlr.training.gather.gather_pairs`.
    """

    wanted: _Wanted
    folders: Mapping[Path, PairList]
    templates: Templates | None
    memory: int
    sharding: Sharding | None
    threads: int | None
    report: Report
    check: Callable[[RowSums], None]

    @property
    def elsewhere(self) -> Engine | None:
        """Who makes them, if it is not this process."""
        return None if self.sharding is None else self.sharding.engine

    def of(self, path: Path, layout: Layout | None) -> RowSums:
        """Return the sums of a folder or a statistics file; without a layout, as it suits that."""
        recipe, room = self.wanted.recipe, self.wanted.room
        if path in self.folders:
            return gather_pairs(
                self.folders[path],
                layout or recipe.layout,
                folds=recipe.folds,
                templates=self.templates,
                threads=self.threads,
                report=self.report,
                sharding=self.sharding,
                memory=self.memory if room.given or self.sharding is None else None,
                spool=room.folder,
                check=self.check,
            )
        read = partial(self.wanted.of_file, path, layout, self.memory)
        found = read()
        if self.elsewhere:
            return self.elsewhere.read(read, found, room.each, room.folder)
        return found


def _nothing(sums: RowSums) -> None:
    """Check nothing."""


def _gather(
    added: Sequence[Path],
    removed: Sequence[Path],
    wanted: _Wanted,
    like: str | Path | None,
    sharding: Sharding | None,
    threads: int | None,
    report: Report,
    check: Callable[[RowSums], None] = _nothing,
) -> RowSums:
    """Add up the sums that are wanted; if there is just one term it is checked in time."""
    if not added:
        raise DataError("no training data given")
    folders = {  # looked into before the work, not after
        path: find_pairs(path, source=wanted.source or "neutral", target=wanted.target)
        for path in (*added, *removed)
        if not path.is_file()
    }
    count, room = len(added) + len(removed), wanted.room
    templates = None
    if like is not None and not wanted.recipe.registers:
        raise OptionError("the recipe paper has no templates; --like is for the recipe best")
    if wanted.recipe.registers and folders:
        templates = _templates(added, folders, like, sharding, threads, report)
    gathering = _Gathering(
        wanted,
        folders,
        templates,
        room.memory // count,
        sharding,
        threads,
        report,
        check if count == 1 else _nothing,
    )
    # Statistics files first: they are quick to refuse, and tell the taps if nobody else does.
    first, *rest = sorted(added, key=folders.__contains__)
    found = gathering.of(first, None)
    if count == 1:
        return found
    head = found.head

    def fitting(path: Path, layout: Layout | None) -> RowSums:
        part = gathering.of(path, layout)
        _check_fit(first, head, path, part.head)
        return part

    terms = [found, *(fitting(path, head.layout if path in folders else None) for path in rest)]
    taken: list[tuple[str, RowSums]] = []
    for path in removed:
        failures = len(report.failures)
        part = fitting(path, head.layout)
        if path in folders and len(report.failures) > failures + len(folders[path].problems):
            raise DataError(
                f"{path}: some of its images cannot be read, see above, so their pairs cannot be "
                "taken out; mend or delete the files"
            )
        taken.append((str(path), part))
    if gathering.elsewhere:
        total = gathering.elsewhere.combined(terms, taken)
    else:
        total = combined(terms, taken, room.memory, room.folder)
    if not total.head.expressions:
        raise DataError("all pairs are taken out, nothing is left to learn from")
    return total


def _templates(
    added: Sequence[Path],
    folders: Mapping[Path, PairList],
    like: str | Path | None,
    sharding: Sharding | None,
    threads: int | None,
    report: Report,
) -> Templates | None:
    """Return the templates that pairs are registered to, or None if no image can be read.

    They are those of a statistics file, or of a checkpoint, or else made of the pairs to be added.
    """
    files = [located(like)] if like is not None else [p for p in added if p not in folders]
    if files:
        found = Folds.load(files[0], mapped=is_here(files[0])).templates
        if found is None:
            raise DataError(f"{files[0]}: statistics of pairs that were not registered")
        return found
    store = None if sharding is None or sharding.checkpoint is None else sharding.checkpoint
    if store is not None and (kept := kept_templates(store)) is not None:
        return kept
    subjects: list[Subject] = []
    formats = []
    for path in added:
        with suppress(DataError):  # raised, and its files named, when they are summed up
            found_here, image_format = common_format(folders[path], Silent())
            subjects += found_here
            formats.append(image_format)
    if not subjects:
        return None
    if len({(one.height, one.width) for one in formats}) > 1:
        sizes = " and ".join(sorted({str(one) for one in formats}))
        raise DataError(f"images of {sizes} do not go together; resize them")
    widest = max(formats, key=lambda one: one.channels)
    with limited(threads) as count, announced(report), suppress(DataError):
        return make_templates(subjects, widest, count, report)
    return None


def _name(recipe: str | None, paths: Sequence[Path]) -> str:
    """Return the recipe asked for, or else the one that a statistics file is for."""
    if recipe is not None:
        return recipe
    for path in paths:
        if path.is_file():
            return "best" if meta_of(path, "statistics").get("pooled") else "paper"
    return DEFAULT


def _paths(data: str | Path | Iterable[str | Path], cluster: str | None) -> list[Path]:
    """Return paths, as others see them if it is a cluster that shall."""
    paths = [located(path) for path in ([data] if isinstance(data, str | Path) else data)]
    return paths if cluster is None else [path.absolute() for path in paths]


def _check_fit(first: Path, total: Folds, path: Path, part: Folds) -> None:
    """Raise with the names of both unless statistics add up."""
    try:
        total.check_fits(part)
    except DataError as error:
        raise DataError(f"{first} and {path}: {error}") from error
