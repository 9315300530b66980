"""Where the outputs of images and clips are written, so that none collide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.errors import DataError, MlrError, OptionError
from mlr.io.clips import WRITTEN, is_clip
from mlr.io.images import ENCODINGS, is_image
from mlr.io.pairs import images_under
from mlr.utils.progress import Report

#: Suffix of a folder that holds an animation as numbered PNG files.
FRAMES_FOLDER = ".frames"
_ITSELF = "would be replaced by its own output; give another place or --force"


@dataclass(frozen=True)
class Job:
    """One input image and the file that each expression of it is written to."""

    face: Path
    outputs: dict[str, Path]


def check_skipping(skip_existing: bool, force: bool) -> None:
    """Raise `OptionError` if existing outputs are to be both skipped and overwritten."""
    if skip_existing and force:
        raise OptionError("existing outputs are either skipped or overwritten; give one of the two")


def plan(
    faces: Sequence[Path],
    output: str | Path | None,
    expressions: Sequence[str],
    report: Report,
    suffix: str | None = None,
    *,
    force: bool = False,
) -> list[Job]:
    """Decide where each output is written.

    Outputs that would collide, or overwrite another one of the faces, fail; so do those that would
    replace their own face, unless forced.

    Parameters
    ----------
    faces : sequence of Path
        Images, clips, and folders of them.
    output : path, optional
        The file, for one face and one expression, or a folder; by default next to each face or
        folder of faces.
    expressions : sequence of str
        Names of the outputs of each face.
    report : Report
        Told about failures.
    suffix : str, optional
        Of the images to write, by default that of each face; clips are written as clips.
    force : bool
        A face may be replaced by its own output.

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
    if destination is not None and _is_one(destination):
        if len(faces) == 1 and not folders and not several:
            if destination.resolve() == faces[0].resolve() and not force:
                report.fail(faces[0], _ITSELF)
                return []
            return [Job(faces[0], {expressions[0]: destination})]
        raise MlrError(
            f"{destination}: one file cannot hold several outputs; give a folder, "
            "or one face and one --target"
        )
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    earlier: list[Path] = []  # folders of outputs
    if destination is not None:
        earlier = [destination.resolve() / name for name in (expressions if several else ("",))]
    named = list(_named(faces, earlier, report))
    inputs = {face.resolve() for face, _, _ in named}
    for face, name, root in named:
        if destination is not None and root is not None and len(folders) > 1:
            name = Path(root.resolve().name) / name
        outputs: dict[str, Path] = {}
        name = _in_format(name, suffix)
        for expression in expressions:
            if destination is not None:
                path = destination / expression / name if several else destination / name
            else:
                path = _next_to(face, name, root, expression)
            resolved = path.resolve()
            if resolved in taken:
                report.fail(face, f"would be written to {path}, as {taken[resolved]} is")
            elif resolved in inputs and resolved != face.resolve():
                report.fail(face, f"would be written to {path}, which is one of the faces")
            elif resolved in inputs and not force:
                report.fail(face, _ITSELF)
            else:
                taken[resolved] = face
                outputs[expression] = path
        if outputs:
            jobs.append(Job(face, outputs))
    if not jobs and not report.failures:
        raise DataError(f"{', '.join(map(str, faces))}: no images in there")
    return jobs


def _is_face(path: Path) -> bool:
    return is_image(path) or is_clip(path)


def _is_one(destination: Path) -> bool:
    """Tell whether the destination holds one output, and is not a folder of outputs."""
    if destination.suffix.lower() == FRAMES_FOLDER:
        return True
    return _is_face(destination) and not destination.is_dir()


def _in_format(name: Path, suffix: str | None) -> Path:
    """Return the name of an output with a suffix that can be written."""
    kind = name.suffix.lower()
    if is_clip(name):
        return name if kind in WRITTEN else name.with_suffix(".mp4")
    if suffix:
        return name if kind == suffix else name.with_suffix(suffix)
    return name if kind in ENCODINGS else name.with_suffix(".png")


def _named(
    faces: Sequence[Path], earlier: Sequence[Path], report: Report
) -> Iterator[tuple[Path, Path, Path | None]]:
    """Yield each image with its path in its folder, and that folder; None for a single file.

    Folders of earlier outputs inside of a folder of faces are skipped.
    """
    for face in faces:
        if not face.is_dir():
            yield face, Path(face.name), None
            continue
        root = face.resolve()
        skipped = [o.relative_to(root) for o in earlier if root in o.parents]
        try:
            names = [path.relative_to(face) for path in images_under(face, _is_face)]
        except DataError as error:
            report.fail(face, str(error))
            continue
        names = [name for name in names if not any(name.is_relative_to(s) for s in skipped)]
        if not names:
            report.fail(face, "no images in there")
        for name in names:
            yield face / name, name, face


def _next_to(face: Path, name: Path, root: Path | None, expression: str) -> Path:
    """Return the path of an output next to its face, or to the folder of faces ``root``."""
    if root is None:
        return face.with_name(f"{name.stem}-{expression}{name.suffix}")
    folder = root.resolve()
    return folder.with_name(f"{folder.name}-{expression}") / name
