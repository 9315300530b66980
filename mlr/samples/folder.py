"""Folders of sample faces, in the layout of training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlr.errors import MlrError, OptionError, OutputExistsError
from mlr.io.images import write_image
from mlr.samples import EXPRESSIONS, draw_face
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map, thread_count


def sample(
    folder: str | Path,
    *,
    pairs: int = 200,
    size: int = 128,
    seed: int = 0,
    target: str | Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Draw subjects with a neutral and other expressions, in a folder for each expression.

    Parameters
    ----------
    folder : path
        Folder to write the folders ``neutral``, ``happy``, ... to.
    pairs : int
        Number of subjects, at least 1.
    size : int
        Side of the square images, in pixels, at least 16.
    seed : int
        Not negative. Another seed gives other subjects, the same seed gives the same bytes.
    target : str or sequence of str
        Expressions to draw in addition to ``neutral``; by default all six.
    threads : int, optional
        By default one for each processor.
    force : bool
        Write into a folder that is not empty, and overwrite existing files.
    report : Report, optional
        Receives progress.

    Returns
    -------
    list of Path
        The images written, as 8-bit PNG files.

    Raises
    ------
    OutputExistsError
        If the folder is not empty and ``force`` is false.
    OptionError
        If an expression, the number of pairs, the size or the seed is invalid.
    MlrError
        If a file cannot be written.
    """
    folder = Path(folder)
    report = report or Report()
    targets = [target] if isinstance(target, str) else list(target) or EXPRESSIONS[1:]
    for name in targets:
        if name not in EXPRESSIONS[1:]:
            known = ", ".join(EXPRESSIONS[1:])
            raise OptionError(f"no expression {name!r}; expected one of: {known}")
    if pairs < 1:
        raise OptionError(f"the number of pairs must be positive, not {pairs}")
    if folder.exists() and not folder.is_dir():
        raise MlrError(f"{folder}: is a file, expected a folder to write to")
    if not force and folder.exists() and any(folder.iterdir()):
        raise OutputExistsError(f"{folder}: is not empty; give --force to write into it")
    digits = max(3, len(str(pairs - 1)))

    def draw(subject: int) -> list[Path]:
        name = f"{subject:0{digits}d}.png"
        paths = {each: folder / each / name for each in (EXPRESSIONS[0], *targets)}
        for expression, path in paths.items():
            write_image(path, draw_face(seed, subject, expression, size), force=True)
        return list(paths.values())

    drawn = ordered_map(draw, range(pairs), thread_count(threads))
    written = [path for paths in report.progress(drawn, pairs, "drawing") for path in paths]
    report.done += pairs
    return written
