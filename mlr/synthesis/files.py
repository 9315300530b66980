"""Synthesis of files and folders: images, photographs, animations and clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlr.core.model import Model, check_shares, check_strength, mix_name
from mlr.errors import ImageError, MlrError, OptionError
from mlr.io.clips import change_clip, is_clip
from mlr.io.files import check_free, check_free_folder
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
from mlr.io.provenance import Record, new_record, to_exif
from mlr.photo.change import change_seen, changer, places_of
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.faces import Face, FaceFinder
from mlr.photo.track import Seen
from mlr.synthesis.animation import ANIMATED, write_animation
from mlr.utils.executor import Executor, map_items
from mlr.utils.progress import Report, counted
from mlr.utils.threads import limited, ordered_map

Target = str | Mapping[str, float]  # an expression or the shares of a mix
Size = tuple[int, ...]  # height and width, in pixels
Targets = Mapping[str, Target]  # by the name of the output
Style = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Settings:
    """How faces are changed and written; the attributes are parameters of `synthesize_files`."""

    strength: float = 1.0
    style: Style = None
    resize: bool = False
    align: bool = False
    quality: int = QUALITY
    png_level: int = PNG_LEVEL
    animate: bool = False
    metadata: bool = True
    skip_existing: bool = False
    force: bool = False


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    written : list of Path
        Output files.
    skipped : int
        Outputs that were there already.
    failures : list of (str, Path)
        Why an output was not made, and which.
    loss : str
        What the input holds that was not decoded.
    faces : list of Eyes, optional
        Those of a photograph.
    """

    written: list[Path] = field(default_factory=list)
    skipped: int = 0
    failures: list[tuple[str, Path]] = field(default_factory=list)
    loss: str = ""
    faces: list[Eyes] | None = None


def synthesize_files(
    model: Model,
    faces: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    target: Sequence[str | Mapping[str, float]] = (),
    strength: float = 1.0,
    style: Style = None,
    resize: bool = False,
    animate: bool = False,
    format: str | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    metadata: bool = True,
    align: bool = False,
    eyes: str | Path | None = None,
    face: Face = "all",
    executor: Executor | None = None,
    threads: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Change the expression of faces in files and folders, clips among them.

    An image of the model's size is an aligned face, and so is every image with ``resize``. Any
    other, and every one that the table of eyes names, is a photograph: its faces are changed where
    they are, see `mlr.photo.change`, and it keeps its size. The same holds for the frames of clips,
    in which faces are followed, see `mlr.photo.track`.

    Names and subfolders are kept. Without ``output``, the faces of a folder ``F`` go to
    ``F-<expression>`` beside it, and a file ``face.png`` to ``face-<expression>.png``. A mix of
    expressions is called as `mix_name` says.

    Parameters
    ----------
    model : Model
        What to apply.
    faces : sequence of path
        Image files and folders of them.
    output : path, optional
        Folder to write to, with a subfolder for each expression if there are several; or, for one
        face and one expression, the file.
    target : sequence of (str or mapping of str to float)
        Expressions and mixes of them (see `Model.synthesize`) to make; none means all that the
        model has.
    strength : float
        0 gives the input, 1 the model's output, up to 2 exaggerates.
    style : float or mapping of str to float, optional
        Of all expressions, or of each: see `Model.synthesize`.
    resize : bool
        Bring aligned faces of another size to the model's.
    align : bool
        Every image is a photograph, even one of the model's size.
    eyes : path, optional
        Table of eyes, see `mlr.photo.eyes.EyeTable`. Photographs that it does not name need
        ``mlr[align]``.
    face : "all", "largest" or int
        Which of several faces in a photograph: all, or one by its rank in size.
    animate : bool
        Write an animation from the face to the expression and back: GIF, unless the suffix in
        ``format`` or ``output`` is that of WebP, PNG or ``frames``, a folder of PNG files.
    format : str, optional
        Suffix of the images to write, as "jpg"; by default that of each face.
    quality : int
        Of JPEG and WebP files, from 1 to 100.
    png_level : int
        How hard to compress PNG files, from 0 to 9.
    metadata : bool
        Say in each file what it is and how it was made (see `mlr.io.provenance`).
    executor : Executor, optional
        Who does it, as for `mlr.training.train.train`; all see the same folders.
    threads : int, optional
        By default one for each processor.
    skip_existing : bool
        Leave outputs that are there already alone, and do not count them as failures.
    force : bool
        Overwrite existing files, the faces themselves too if they are the outputs.
    report : Report, optional
        Told about progress and about files that are left out.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        If there is no image in ``faces``.
    ModelError
        If the model lacks an expression.
    MlrError
        If the strength, a share or ``output`` makes no sense.
    """
    check_strength(strength)
    check_skipping(skip_existing, force)
    if resize and align:
        raise OptionError("--resize says that the images are aligned, --align that they are not")
    if not 1 <= quality <= 100 or not 0 <= png_level <= 9:
        raise OptionError("the quality must lie between 1 and 100, the PNG level between 0 and 9")
    finder = FaceFinder(None if eyes is None else EyeTable(Path(eyes)), face)
    settings = Settings(
        strength, style, resize, align, quality, png_level, animate, metadata, skip_existing, force
    )
    suffix = f".{format}" if format else ".gif" if animate else None
    written_as = ANIMATED if animate else ENCODINGS
    if suffix and suffix not in written_as:
        names = ", ".join(s.removeprefix(".") for s in written_as)
        what = "animations" if animate else "images"
        raise OptionError(f"{what} cannot be written as {format}; there is: {names}")
    report = report or Report()
    targets = _targets(model, target or model.expressions)
    model.styles_of(style, model.expressions)
    places = [Path(face) for face in faces]
    if executor is not None:
        places = [place.absolute() for place in places]
        output = None if output is None else Path(output).absolute()
    jobs = plan(places, output, list(targets), report, suffix, force=force)
    written: list[Path] = []
    losses: list[str] = []
    photographs: list[list[Eyes]] = []
    with limited(threads):
        work = _Work(model, targets, finder, settings)
        outcomes = map_items(executor, _run, jobs, work, BATCH)
        progress = report.progress(outcomes, len(jobs), "synthesizing")
        for job, outcome in zip(jobs, progress, strict=True):
            written += outcome.written
            losses.append(outcome.loss)
            if outcome.faces is not None:
                photographs.append(outcome.faces)
            report.skipped += outcome.skipped
            for cause, path in outcome.failures:
                report.fail(job.face, cause, path)
    report.note_losses(losses)
    _note_faces(report, photographs, model)
    untold = sum(path.suffix.lower() == ".bmp" for path in written) if metadata else 0
    if untold:
        report.note(f"note: {counted(untold, 'output')} in BMP, which cannot say how it was made")
    report.done += len(written)
    return written


BATCH = 32  # faces of a task


def _targets(model: Model, target: Sequence[Target]) -> Targets:
    """Return each expression or mix by the name of its output."""
    wanted: dict[str, Target] = {}
    for each in target:
        name = each if isinstance(each, str) else mix_name(each)
        if wanted.setdefault(name, each) != each:
            raise OptionError(f"two different outputs would be called {name!r}; make one at a time")
    for each in wanted.values():
        if not isinstance(each, str):
            check_shares(each)
        for name in [each] if isinstance(each, str) else each:
            model.require(name)
    return wanted


def _note_faces(report: Report, photographs: Sequence[Sequence[Eyes]], model: Model) -> None:
    """Tell how many faces there are in the photographs, and how many the model sees enlarged."""
    if not photographs:
        return
    faces = [eyes for photograph in photographs for eyes in photograph]
    _, height, width = model.shape
    small = sum(eyes.to_crop(height, width, places_of(model)).scale > 1 for eyes in faces)
    smaller = f", {small} of them smaller than the model's {width}x{height} px" if small else ""
    found = f"{counted(len(faces), 'face')} in {counted(len(photographs), 'photograph')}"
    report.note(f"note: {found}{smaller}")


@dataclass(frozen=True)
class _Work:
    """What is to be done with every face."""

    model: Model
    targets: Targets
    finder: FaceFinder
    settings: Settings


def _run(job: Job, work: _Work) -> Outcome:
    """Make all outputs of one image."""
    model, targets, finder, settings = work.model, work.targets, work.finder, work.settings
    outcome, force = Outcome(), settings.force
    outputs = dict(job.outputs)
    if settings.skip_existing:
        outputs = {name: path for name, path in outputs.items() if not path.exists()}
        outcome.skipped = len(job.outputs) - len(outputs)
        if not outputs:
            return outcome
    if is_clip(job.face):
        _run_clip(job.face, outputs, model, targets, finder, settings, outcome)
        return outcome
    path = next(iter(outputs.values()))
    size = model.shape[1:]
    faces: list[Eyes] | None = None
    try:
        for path in outputs.values():  # before the work, not after
            folder = settings.animate and path.suffix.lower() == FRAMES_FOLDER
            (check_free_folder if folder else check_free)(path, force=force)
        image = read_image(job.face)
        aligned = settings.resize or image.pixels.shape[:2] == size
        if settings.align or finder.knows(job.face) or not aligned:
            faces = _faces(finder, job.face, image, size)
        else:
            image = _fitting(image, size)
    except MlrError as error:
        outcome.failures.append((str(error), path))
        return outcome
    outcome.loss, outcome.faces = image.loss, faces
    for expression, path in outputs.items():
        change = (
            partial(model.changer, image.pixels, targets[expression], settings.style)
            if faces is None
            else partial(changer, model, image.pixels, faces, targets[expression], settings.style)
        )
        try:
            _write(path, change(), image, _record(model, expression, settings), settings)
            outcome.written.append(path)
        except MlrError as error:
            outcome.failures.append((str(error), path))
    return outcome


def _write(
    path: Path,
    change: Callable[[float], Pixels],
    image: Image,
    record: Record | None,
    settings: Settings,
) -> None:
    """Write one output of an image: still, or moving there and back."""
    common: dict[str, Any] = {
        "icc": image.icc,
        "quality": settings.quality,
        "png_level": settings.png_level,
        "force": settings.force,
    }
    strength = settings.strength
    if settings.animate:
        write_animation(path, change, image.alpha, strength=strength, record=record, **common)
    else:
        write_image(path, change(strength), image.alpha, exif=to_exif(record), **common)


def _run_clip(
    clip: Path,
    outputs: Mapping[str, Path],
    model: Model,
    targets: Targets,
    finder: FaceFinder,
    settings: Settings,
    outcome: Outcome,
) -> None:
    """Make all outputs of one clip, frame by frame."""
    for expression, path in outputs.items():

        def film(
            frames: Iterator[Pixels], size: Size, target: Target = targets[expression]
        ) -> Iterator[Pixels]:
            aligned = settings.resize or size == model.shape[1:]
            if settings.align or finder.knows(clip) or not aligned:
                change = partial(
                    change_seen,
                    model,
                    target=target,
                    strength=settings.strength,
                    style=settings.style,
                )
                followed = _followed(finder, clip, frames, size, model.shape[1:])
                return ordered_map(change, followed, 1)
            return ordered_map(partial(_aligned_frame, model, target, settings), frames, 1)

        try:
            if settings.animate:
                raise ImageError("is a clip, which moves already; --animate is for images")
            record = _record(model, expression, settings)
            change_clip(clip, path, film, record=record, force=settings.force)
            outcome.written.append(path)
        except MlrError as error:
            outcome.failures.append((str(error), path))


def _aligned_frame(model: Model, target: Target, settings: Settings, frame: Pixels) -> Pixels:
    """Return a frame that is an aligned face, changed."""
    fitting = _fitting(Image(frame, None, b""), model.shape[1:])
    return model.synthesize(fitting.pixels, target, settings.strength, settings.style)


def _record(model: Model, expression: str, settings: Settings) -> dict[str, Any] | None:
    """Return what a file shall say of itself."""
    if not settings.metadata:
        return None
    return new_record(expression, settings.strength, model.sha256, settings.style)


def _faces(finder: FaceFinder, photo: Path, image: Image, size: Size) -> list[Eyes]:
    """Return the faces of a photograph."""
    try:
        return finder.find(photo, image.pixels)
    except ImageError as error:
        raise _as_photograph(error, image.pixels.shape[:2], size) from error


def _followed(
    finder: FaceFinder, clip: Path, frames: Iterator[Pixels], size: Size, wanted: Size
) -> Iterator[tuple[Pixels, list[Seen]]]:
    """Yield the frames of a clip of photographs with the faces in them."""
    try:
        yield from finder.follow(clip, frames)
    except ImageError as error:
        raise _as_photograph(error, size, wanted) from error


def _as_photograph(error: ImageError, size: Size, wanted: Size) -> ImageError:
    """Return what went wrong, and that it might be an aligned face of another size, too."""
    if size == wanted:
        return error
    return ImageError(
        f"is {size[1]}x{size[0]} px, but the model works on {wanted[1]}x{wanted[0]} px; "
        f"give --resize if it is an aligned face; as a photograph: {error}"
    )


def _fitting(image: Image, size: Size) -> Image:
    """Return the image in the model's size."""
    height, width = size
    if image.pixels.shape[:2] == size:
        return image
    alpha = image.alpha
    if alpha is not None:
        alpha = resized(alpha[..., None], height, width)[..., 0]
    return replace(image, pixels=resized(image.pixels, height, width), alpha=alpha)
