"""Planning where outputs of images and clips are written, without collisions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlr.errors import DataError, MlrError, OptionError
from mlr.io.clips import WRITTEN, is_clip, read_record
from mlr.io.folders import counted_suffixes, list_files, real
from mlr.io.images import ENCODINGS, is_image
from mlr.io.provenance import is_output
from mlr.utils.progress import Report

#: Suffixes of folders with an animation: numbered PNG files, or a sprite sheet and its JSON.
FRAMES_FOLDER, SHEET_FOLDER = FOLDERS = (".frames", ".sheet")


@dataclass(frozen=True)
class FilePlan:
    """An input file, and the output file of each expression."""

    source: Path
    outputs: dict[str, Path]


def check_skipping(skip_existing: bool, force: bool) -> None:
    """Raise `OptionError` if existing outputs are to be both skipped and overwritten."""
    if skip_existing and force:
        raise OptionError("existing outputs are either skipped or overwritten; give one of the two")


def plan_outputs(
    inputs: Sequence[Path],
    output: str | Path | None,
    expressions: Sequence[str],
    report: Report,
    suffix: str | None = None,
    *,
    force: bool = False,
) -> list[FilePlan]:
    """Choose the output files of images, clips and folders of them, one for each expression.

    ``output`` is a file, for one input and one expression, or a folder; by default outputs are
    written next to each input. ``suffix`` is that of output images, by default that of each input.
    Earlier outputs in a folder are skipped, unless there is nothing else.
    Outputs that would collide or overwrite an input fail, unless ``force`` allows an input to be
    overwritten by its own output. `MlrError` is raised if several outputs are to be one file.
    """
    if not inputs:
        raise DataError("no inputs; expected images, clips or folders of them")
    destination = None if output is None else Path(output)
    several = len(expressions) > 1
    single = destination is not None and _is_file_name(destination)
    if single and (len(inputs) != 1 or inputs[0].is_dir() or several):
        raise MlrError(
            f"{destination}: a file cannot hold several outputs; give a folder, "
            "or one face and one --target"
        )
    skipped = []  # folders of earlier outputs
    if destination is not None:
        skipped = [destination.resolve() / name for name in (expressions if several else ("",))]
    files = list(_input_files(inputs, skipped, report))
    sources = {real(source) for source, _, _ in files}
    several_folders = len({path.resolve() for path in inputs if path.is_dir()}) > 1
    taken: dict[Path, Path] = {}  # sources by their outputs
    plans: list[FilePlan] = []
    for source, name, root in files:
        if destination is not None and root is not None and several_folders:
            name = Path(root.resolve().name) / name
        name = _with_suffix(name, suffix)
        outputs: dict[str, Path] = {}
        for expression in expressions:
            if destination is None:
                path = _next_to(source, name, root, expression)
            else:
                folder = destination / expression if several else destination
                path = destination if single else folder / name
            resolved = real(path)
            if resolved in taken:
                report.fail(source, f"has the same output as {taken[resolved]}: {path}")
            elif resolved in sources and resolved != real(source):
                report.fail(source, f"its output {path} is one of the inputs")
            elif resolved in sources and not force:
                report.fail(
                    source, "would be overwritten by its own output; give another output or --force"
                )
            else:
                taken[resolved] = source
                outputs[expression] = path
        if outputs:
            plans.append(FilePlan(source, outputs))
    return plans


def _is_input(path: Path) -> bool:
    return is_image(path) or is_clip(path)


def check_suffix(output: str | Path | None, inputs: Sequence[Path], known: Collection[str]) -> None:
    """Raise `OptionError` if the output of a single file has a suffix that cannot be written."""
    if output is None or len(inputs) != 1 or inputs[0].is_dir() or Path(output).is_dir():
        return
    suffix, known = Path(output).suffix.lower(), sorted(WRITTEN) if is_clip(inputs[0]) else known
    if suffix and suffix not in known:
        raise OptionError(
            f"{output}: cannot be written as {suffix}; use {', '.join(known)}, or name a folder"
        )


def _is_file_name(destination: Path) -> bool:
    """Return whether the destination is a single output rather than a folder of outputs."""
    is_file = _is_input(destination) and not destination.is_dir()
    return is_file or destination.suffix.lower() in FOLDERS


def _with_suffix(name: Path, suffix: str | None) -> Path:
    """Return the name of an output with a suffix that can be written."""
    kind = name.suffix.lower()
    if is_clip(name):
        return name if kind in WRITTEN else name.with_suffix(".mp4")
    if suffix:
        return name if kind == suffix else name.with_suffix(suffix)
    return name if kind in ENCODINGS else name.with_suffix(".png")


def _input_files(
    inputs: Sequence[Path], skipped: Sequence[Path], report: Report
) -> Iterator[tuple[Path, Path, Path | None]]:
    """Yield each file, its path relative to its input folder, and that folder, or None."""
    roots = set[Path]()
    for path in inputs:
        if not path.is_dir():
            yield path, Path(path.name), None
            continue
        root = path.resolve()
        if root in roots:
            report.fail(path, "is given twice")
            continue
        roots.add(root)
        inside = [folder.relative_to(root) for folder in skipped if root in folder.parents]
        listing = list_files(path, _is_input)
        for problem in listing.problems:
            report.fail(*problem)
        names = [file.relative_to(path) for file in listing.files]
        names = [name for name in names if not _is_in(name, inside)]
        if not names and not listing.problems:
            report.fail(path, "no images found")
        earlier = [name for name in names if _is_earlier(path / name)]
        if len(earlier) < len(names):
            report.skip([path / name for name in earlier], "output", " of mlr synthesize")
            names = [name for name in names if name not in set(earlier)]
        others = [file for file in listing.others if not _is_in(file.relative_to(path), inside)]
        report.skip(others, "other file", f": {', '.join(counted_suffixes(others))}")
        report.skip(listing.repeated, "link", " to folders that contain it or are read already")
        yield from ((path / name, name, path) for name in names)


def _is_in(name: Path, folders: Sequence[Path]) -> bool:
    return any(map(name.is_relative_to, folders))


def _is_earlier(path: Path) -> bool:
    """Return whether the record of an image or clip says that ``mlr synthesize`` wrote it."""
    if is_image(path):
        return is_output(path)
    try:
        return path.is_file() and read_record(path) is not None
    except MlrError:  # shown when it is read
        return False


def _next_to(source: Path, name: Path, root: Path | None, expression: str) -> Path:
    """Return the path of an output next to its source, or next to the input folder ``root``."""
    if root is None:
        return source.with_name(f"{name.stem}-{expression}{name.suffix}")
    folder = root.resolve()
    return folder.with_name(f"{folder.name}-{expression}") / name
