"""Synthesis of files and folders: which file becomes which, and the work itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlr.data.files import check_free
from mlr.data.images import ENCODINGS, Image, is_image, read_image, resized, write_image
from mlr.data.pairs import images_under
from mlr.data.stream import ordered_map
from mlr.errors import DataError, ImageError, MlrError, OptionError
from mlr.model import Model, check_shares, check_strength, mix_name
from mlr.photo.change import change_faces
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.faces import Face, FaceFinder
from mlr.report import Report
from mlr.threads import thread_count


@dataclass(frozen=True)
class Job:
    """One input image and the file that each expression of it is written to."""

    face: Path
    outputs: dict[str, Path]


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    written : list of Path
        Output files.
    failures : list of (Path, str)
        What was left out, and why.
    reduced : bool
        The face was read with fewer bits than it has.
    """

    written: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    reduced: bool = False


def synthesize_files(
    model: Model,
    faces: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    target: Sequence[str | Mapping[str, float]] = (),
    strength: float = 1.0,
    resize: bool = False,
    align: bool = False,
    eyes: str | Path | None = None,
    face: Face = "all",
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Change the expression of faces in files and folders.

    An image of the model's size is an aligned face, and so is every image with ``resize``. Any
    other, and every one that the table of eyes names, is a photograph: its faces are changed where
    they are, see `mlr.photo.change`, and it keeps its size.

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
    resize : bool
        Bring aligned faces of another size to the model's.
    align : bool
        Every image is a photograph, even one of the model's size.
    eyes : path, optional
        Table of eyes, see `mlr.photo.eyes.EyeTable`. Photographs that it does not name need
        ``mlr[align]``.
    face : "all", "largest" or int
        Which of several faces in a photograph: all, or one by its rank in size.
    threads : int, optional
        By default one for each processor.
    force : bool
        Overwrite existing files.
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
    if resize and align:
        raise OptionError("--resize says that the images are aligned, --align that they are not")
    finder = FaceFinder(None if eyes is None else EyeTable(Path(eyes)), face)
    report = report or Report()
    targets = _targets(model, target or model.expressions)
    jobs = plan([Path(face) for face in faces], output, list(targets), report)

    def run(job: Job) -> Outcome:
        return _run(job, model, targets, strength, finder, resize, align, force)

    written: list[Path] = []
    reduced = 0
    outcomes = ordered_map(run, jobs, thread_count(threads))
    for outcome in report.progress(outcomes, len(jobs), "synthesizing"):
        written += outcome.written
        reduced += outcome.reduced
        for path, cause in outcome.failures:
            report.fail(path, cause)
    report.note_reduced(reduced)
    report.done += len(written)
    return written


def _targets(
    model: Model, target: Sequence[str | Mapping[str, float]]
) -> dict[str, str | Mapping[str, float]]:
    """Return each expression or mix by the name of its output."""
    wanted: dict[str, str | Mapping[str, float]] = {}
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


def plan(
    faces: Sequence[Path], output: str | Path | None, expressions: Sequence[str], report: Report
) -> list[Job]:
    """Decide where each output goes.

    Those that would collide, or overwrite another one of the faces, are named and left out.

    Raises
    ------
    DataError
        If there is no image in ``faces``.
    MlrError
        If one file is to hold several outputs.
    """
    destination = None if output is None else Path(output)
    folders = [face for face in faces if face.is_dir()]
    several = len(expressions) > 1
    if destination is not None and is_image(destination) and not destination.is_dir():
        if len(faces) == 1 and not folders and not several:
            return [Job(faces[0], {expressions[0]: destination})]
        raise MlrError(
            f"{destination}: one file cannot hold several outputs; give a folder, "
            "or one face and one --target"
        )
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    named = list(_named(faces, _output_folders(destination, expressions), report))
    inputs = {face.resolve() for face, _, _ in named}
    for face, name, root in named:
        if destination is not None and root is not None and len(folders) > 1:
            name = Path(root.resolve().name) / name
        outputs: dict[str, Path] = {}
        for expression in expressions:
            path = _output(face, name, root, destination, expression, several)
            place = path.resolve()
            if place in taken:
                report.fail(face, f"would be written to {path}, as {taken[place]} is")
            elif place in inputs and place != face.resolve():
                report.fail(face, f"would be written to {path}, which is one of the faces")
            else:
                taken[place] = face
                outputs[expression] = path
        if outputs:
            jobs.append(Job(face, outputs))
    if not jobs and not report.failures:
        raise DataError(f"{', '.join(map(str, faces))}: no images in there")
    return jobs


def _output_folders(destination: Path | None, expressions: Sequence[str]) -> list[Path]:
    """Return the folders that outputs go to, resolved; none without a destination."""
    if destination is None:
        return []
    folder = destination.resolve()
    return [folder / name for name in expressions] if len(expressions) > 1 else [folder]


def _named(
    faces: Sequence[Path], output_folders: Sequence[Path], report: Report
) -> Iterator[tuple[Path, Path, Path | None]]:
    """Yield each image with its name below its folder, and that folder; None for a single file.

    Output folders inside of a folder of faces hold earlier outputs, and are not looked into.
    """
    for face in faces:
        if not face.is_dir():
            yield face, Path(face.name), None
            continue
        root = face.resolve()
        skipped = [o.relative_to(root) for o in output_folders if root in o.parents]
        try:
            names = [path.relative_to(face) for path in images_under(face)]
        except DataError as error:
            report.fail(face, str(error))
            continue
        names = [name for name in names if not any(name.is_relative_to(s) for s in skipped)]
        if not names:
            report.fail(face, "no images in there")
        for name in names:
            yield face / name, name, face


def _output(
    face: Path,
    name: Path,
    root: Path | None,
    destination: Path | None,
    expression: str,
    several: bool,
) -> Path:
    """Return where one expression of a face goes."""
    if name.suffix.lower() not in ENCODINGS:
        name = name.with_suffix(".png")
    if destination is not None:
        return destination / expression / name if several else destination / name
    if root is None:
        return face.with_name(f"{name.stem}-{expression}{name.suffix}")
    folder = root.resolve()
    return folder.with_name(f"{folder.name}-{expression}") / name


def _run(
    job: Job,
    model: Model,
    targets: Mapping[str, str | Mapping[str, float]],
    strength: float,
    finder: FaceFinder,
    resize: bool,
    align: bool,
    force: bool,
) -> Outcome:
    """Make all outputs of one image."""
    outcome = Outcome()
    size = model.shape[1:]
    faces: list[Eyes] | None = None
    try:
        for path in job.outputs.values():
            check_free(path, force=force)  # before the work, not after
        image = read_image(job.face)
        if align or finder.knows(job.face) or not (resize or image.pixels.shape[:2] == size):
            faces = _faces(finder, job.face, image, size)
        else:
            image = _fitting(image, size)
    except MlrError as error:
        outcome.failures.append((job.face, str(error)))
        return outcome
    outcome.reduced = image.reduced
    for expression, path in job.outputs.items():
        try:
            if faces is None:
                pixels = model.synthesize(image.pixels, targets[expression], strength)
            else:
                pixels = change_faces(model, image.pixels, faces, targets[expression], strength)
            write_image(path, pixels, image.alpha, icc=image.icc, force=force)
            outcome.written.append(path)
        except MlrError as error:
            outcome.failures.append((job.face, str(error)))
    return outcome


def _faces(finder: FaceFinder, photo: Path, image: Image, size: tuple[int, ...]) -> list[Eyes]:
    """Return the faces of a photograph; without any, say that it might be an aligned face, too."""
    try:
        return finder.find(photo, image.pixels)
    except ImageError as error:
        height, width = image.pixels.shape[:2]
        if (height, width) == size:
            raise
        raise ImageError(
            f"is {width}x{height} px, but the model works on {size[1]}x{size[0]} px; "
            f"give --resize if it is an aligned face; as a photograph: {error}"
        ) from error


def _fitting(image: Image, size: tuple[int, ...]) -> Image:
    """Return the image in the model's size."""
    height, width = size
    if image.pixels.shape[:2] == size:
        return image
    alpha = image.alpha
    if alpha is not None:
        alpha = resized(alpha[..., None], height, width)[..., 0]
    return replace(image, pixels=resized(image.pixels, height, width), alpha=alpha)
