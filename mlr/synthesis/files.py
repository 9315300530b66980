"""Synthesis of files: faces are found in images and clips, changed, composited and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlr.core.model import Model, check_shares, check_strength, mix_name
from mlr.errors import ImageError, MlrError, OptionError
from mlr.io.clips import change_clip, is_clip
from mlr.io.files import check_free
from mlr.io.images import (
    ENCODINGS,
    PNG_LEVEL,
    QUALITY,
    Image,
    Pixels,
    read_image,
    resized,
    write_image,
)
from mlr.io.outputs import FRAMES_FOLDER, Job, check_skipping, plan
from mlr.io.provenance import new_record, to_exif
from mlr.photo.composite import change_frame, changer
from mlr.photo.eyes import Eyes
from mlr.photo.faces import FaceFinder
from mlr.synthesis.animation import ANIMATED, write_animation
from mlr.utils.executor import Executor, map_items
from mlr.utils.progress import Report, counted
from mlr.utils.threads import limited, ordered_map

Target = str | Mapping[str, float]  # an expression or the shares of a mix
Style = float | Mapping[str, float] | None
Size = tuple[int, ...]  # height and width, in pixels

BATCH = 32  # files of a task of the executor


def synthesize(
    model: Model,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    target: Target | Sequence[Target] = (),
    strength: float = 1.0,
    style: Style = None,
    resize: bool = False,
    align: bool = False,
    eyes: str | Path | None = None,
    face: int | str = "all",
    animate: bool = False,
    format: str | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    metadata: bool = True,
    executor: Executor | None = None,
    threads: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Change the expression of faces in image files, clips and folders of them.

    An image of the model's size is an aligned face, and so is every image with ``resize``. Any
    other, and every one that the table of eyes lists, is a photograph: its faces are changed where
    they are, see `mlr.photo.composite`, and it keeps its size. The same holds for the frames of
    clips, in which faces are followed, see `mlr.photo.track`.

    Names and subfolders are kept. Without ``output``, the images of a folder ``F`` go to the folder
    ``F-<expression>`` next to it, and a file ``face.png`` to ``face-<expression>.png``. The name of
    a mix of expressions is that of `mlr.core.model.mix_name`.

    Parameters
    ----------
    model : Model
        The model to apply.
    inputs : path or sequence of path
        Image files, clips and folders of them.
    output : path, optional
        Folder to write to, with a subfolder for each expression if there are several; or, for one
        input and one expression, the file.
    target : str, mapping of str to float, or sequence of these
        Expressions, and mixes of them by their shares (see `Model.synthesize`); by default all
        expressions of the model.
    strength : float
        0 gives the input, 1 the model's output, up to 2 exaggerates.
    style : float or mapping of str to float, optional
        For all expressions, or for each: see `Model.synthesize`.
    resize : bool
        Resize aligned faces of another size to that of the model.
    align : bool
        Treat every image as a photograph, even one of the model's size.
    eyes : path, optional
        CSV file of eyes, see `mlr.photo.eyes.EyeTable`. Eyes in photographs that it does not list
        are detected, which needs ``mlr[align]``.
    face : "all", "largest" or int
        Which of several faces in a photograph: all, or one by its rank in size.
    animate : bool
        Write an animation from the face to the expression and back: GIF, unless the suffix in
        ``format`` or ``output`` is that of WebP, PNG or ``frames``, a folder of PNG files.
    format : str, optional
        Suffix of the images to write, as "jpg"; by default that of each input.
    quality : int
        Of JPEG and WebP files, from 1 to 100.
    png_level : int
        Compression level of PNG files, from 0 to 9.
    metadata : bool
        Record in each file how it was made, see `mlr.io.provenance`.
    executor : Executor, optional
        Runs the synthesis in other processes, as for `mlr.train`; by default it runs in threads.
        The workers must see the same folders.
    threads : int, optional
        By default one for each processor.
    skip_existing : bool
        Skip existing outputs, which do not count as failures.
    force : bool
        Overwrite existing files, the inputs too if they are the outputs.
    report : Report, optional
        Receives progress, notes and the files that fail.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        If there is no image in ``inputs``.
    ModelError
        If the model lacks an expression.
    OptionError
        If the strength, a style, a share or another option is invalid.
    MlrError
        If one ``output`` file would hold several outputs.
    """
    check_strength(strength)
    check_skipping(skip_existing, force)
    if resize and align:
        raise OptionError("--resize says that the images are aligned, --align that they are not")
    if not 1 <= quality <= 100 or not 0 <= png_level <= 9:
        raise OptionError("the quality must lie between 1 and 100, the PNG level between 0 and 9")
    finder = FaceFinder(eyes, face)
    suffix = _suffix(format, animate)
    report = report or Report()
    targets = _targets(model, target)
    model.styles_of(style, model.expressions)
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if executor is not None:  # its workers may be in other folders
        paths = [path.absolute() for path in paths]
        output = None if output is None else Path(output).absolute()
    jobs = plan(paths, output, list(targets), report, suffix, force=force)
    encoding = {"quality": quality, "png_level": png_level, "force": force}
    saving = _Saving(animate, metadata, skip_existing, encoding)
    aligned = True if resize else False if align else None
    task = _Task(model, targets, strength, style, finder, aligned, saving)
    outcomes: list[_Outcome] = []
    with limited(threads):
        results = map_items(executor, _synthesize_file, jobs, task, BATCH)
        progress = report.progress(results, len(jobs), "synthesizing")
        for job, outcome in zip(jobs, progress, strict=True):
            outcomes.append(outcome)
            report.skipped += outcome.skipped
            for cause, path in outcome.failures:
                report.fail(job.face, cause, path)
    written = [path for outcome in outcomes for path in outcome.written]
    report.done += len(written)
    report.note_losses(outcome.loss for outcome in outcomes)
    _note_faces(report, [o.faces for o in outcomes if o.faces is not None], model)
    bare = sum(path.suffix.lower() == ".bmp" for path in written) if metadata else 0
    if bare:
        report.note(f"note: {counted(bare, 'output')} in BMP, which cannot say how it was made")
    return written


@dataclass(frozen=True)
class _Saving:
    """How outputs are written."""

    animate: bool
    metadata: bool
    skip_existing: bool
    encoding: dict[str, Any]  # quality, png_level and force of `write_image`


@dataclass(frozen=True)
class _Task:
    """What to do with every file."""

    model: Model
    targets: dict[str, Target]  # by the names of their outputs
    strength: float
    style: Style
    finder: FaceFinder
    aligned: bool | None  # whether all images are aligned faces; None: those of the model's size
    saving: _Saving

    @property
    def size(self) -> Size:
        """Height and width of the model's images."""
        return self.model.shape[1:]

    def is_photograph(self, file: Path, size: Size) -> bool:
        """Return whether a file of this size is a photograph, rather than an aligned face."""
        aligned = size == self.size if self.aligned is None else self.aligned
        return self.finder.knows(file) or not aligned

    def record(self, name: str) -> dict[str, Any] | None:
        """Return the record of how an output is made, if it is to be written."""
        if not self.saving.metadata:
            return None
        return new_record(name, self.strength, self.model.sha256, self.style)


@dataclass
class _Outcome:
    """What became of a file."""

    written: list[Path] = field(default_factory=list)
    skipped: int = 0  # outputs that existed already
    failures: list[tuple[str, Path]] = field(default_factory=list)  # cause, and output
    loss: str = ""  # what the input holds that was not decoded
    faces: list[Eyes] | None = None  # of a photograph


def _synthesize_file(job: Job, task: _Task) -> _Outcome:
    """Read an image, find its faces, and write it with each expression; or change a clip."""
    outputs = job.outputs
    if task.saving.skip_existing:
        outputs = {name: path for name, path in outputs.items() if not path.exists()}
    outcome = _Outcome(skipped=len(job.outputs) - len(outputs))
    if not outputs:
        return outcome
    if is_clip(job.face):
        write = partial(_write_clip, task, job.face)
    else:
        path = next(iter(outputs.values()))
        try:
            for path in outputs.values():  # before the work, not after
                folder = task.saving.animate and path.suffix.lower() == FRAMES_FOLDER
                check_free(path, force=task.saving.encoding["force"], folder=folder)
            image, faces = _read(job.face, task)
        except MlrError as error:
            outcome.failures.append((str(error), path))
            return outcome
        outcome.loss, outcome.faces = image.loss, faces
        write = partial(_write_image, task, image, faces)
    for name, path in outputs.items():
        try:
            write(name, path)
            outcome.written.append(path)
        except MlrError as error:
            outcome.failures.append((str(error), path))
    return outcome


def _read(file: Path, task: _Task) -> tuple[Image, list[Eyes] | None]:
    """Return a photograph and its faces; or an aligned face in the model's size, and None."""
    image = read_image(file)
    size = image.pixels.shape[:2]
    if not task.is_photograph(file, size):
        alpha = image.alpha
        if alpha is not None:
            alpha = _fitted(alpha[..., None], task.size)[..., 0]
        return replace(image, pixels=_fitted(image.pixels, task.size), alpha=alpha), None
    with _hint_to_resize(size, task.size):
        return image, task.finder.find(file, image.pixels)


def _write_image(
    task: _Task, image: Image, faces: list[Eyes] | None, name: str, path: Path
) -> None:
    """Write an image with one expression: still, or as an animation."""
    target, record = task.targets[name], task.record(name)
    if faces is None:
        change = task.model.changer(image.pixels, target, task.style)
    else:
        change = changer(task.model, image.pixels, faces, target, task.style)
    common = {"icc": image.icc, **task.saving.encoding}
    if task.saving.animate:
        write_animation(path, change, image.alpha, strength=task.strength, record=record, **common)
    else:
        write_image(path, change(task.strength), image.alpha, exif=to_exif(record), **common)


def _write_clip(task: _Task, clip: Path, name: str, path: Path) -> None:
    """Write a clip with one expression, frame by frame."""
    if task.saving.animate:
        raise ImageError("is a clip, which moves already; --animate is for images")
    model, wanted = task.model, (task.targets[name], task.strength, task.style)

    def changed(frames: Iterator[Pixels], size: Size) -> Iterator[Pixels]:
        if task.is_photograph(clip, size):
            with _hint_to_resize(size, task.size):
                tracked = task.finder.follow(clip, frames)
                yield from ordered_map(lambda each: change_frame(model, each, *wanted), tracked, 1)
        else:
            yield from ordered_map(
                lambda frame: model.synthesize(_fitted(frame, task.size), *wanted), frames, 1
            )

    force = task.saving.encoding["force"]
    change_clip(clip, path, changed, record=task.record(name), force=force)


@contextmanager
def _hint_to_resize(size: Size, wanted: Size) -> Iterator[None]:
    """Add to what goes wrong with a photograph that it might be an aligned face of another size."""
    try:
        yield
    except ImageError as error:
        if size == wanted:
            raise
        raise ImageError(
            f"is {size[1]}x{size[0]} px, but the model works on {wanted[1]}x{wanted[0]} px; "
            f"give --resize if it is an aligned face; as a photograph: {error}"
        ) from error


def _fitted(pixels: Pixels, size: Size) -> Pixels:
    """Return an image resized to the model's size."""
    return pixels if pixels.shape[:2] == size else resized(pixels, size[0], size[1])


def _suffix(format: str | None, animate: bool) -> str | None:
    """Return the suffix of the outputs; None if each input decides."""
    if format is None:
        return ".gif" if animate else None
    suffix = f".{format.lower().removeprefix('.')}"
    written_as = ANIMATED if animate else ENCODINGS
    if suffix not in written_as:
        names = ", ".join(each.removeprefix(".") for each in written_as)
        what = "animations" if animate else "images"
        raise OptionError(f"{what} cannot be written as {suffix[1:]}; there is: {names}")
    return suffix


def _targets(model: Model, target: Target | Sequence[Target]) -> dict[str, Target]:
    """Return each expression or mix by the name of its outputs; by default all expressions."""
    wanted = [target] if isinstance(target, str | Mapping) else list(target) or model.expressions
    named: dict[str, Target] = {}
    for each in wanted:
        name = each if isinstance(each, str) else mix_name(each)
        if named.setdefault(name, each) != each:
            raise OptionError(f"two different outputs would be called {name!r}; make one at a time")
    for each in named.values():
        if not isinstance(each, str):
            check_shares(each)
        for name in [each] if isinstance(each, str) else each:
            model.require(name)
    return named


def _note_faces(report: Report, photographs: Sequence[Sequence[Eyes]], model: Model) -> None:
    """Note how many faces are in the photographs, and how many are smaller than the model."""
    if not photographs:
        return
    faces = [eyes for photograph in photographs for eyes in photograph]
    _, height, width = model.shape
    small = sum(eyes.to_crop(height, width, model.info.eyes).scale > 1 for eyes in faces)
    smaller = f", {small} of them smaller than the model's {width}x{height} px" if small else ""
    found = f"{counted(len(faces), 'face')} in {counted(len(photographs), 'photograph')}"
    report.note(f"note: {found}{smaller}")
