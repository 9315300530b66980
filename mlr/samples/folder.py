"""Folders of drawn faces, laid out as training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlr.errors import MlrError, OptionError, OutputExistsError
from mlr.io.images import write_image
from mlr.samples import EXPRESSIONS, draw_face
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map, thread_count


def write_samples(
    folder: str | Path,
    *,
    pairs: int = 200,
    size: int = 128,
    seed: int = 0,
    target: Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    report: Report | None = None,
) -> int:
    """Draw subjects with a neutral face and with each expression, one folder an expression.

    Parameters
    ----------
    folder : path
        Where the folders ``neutral``, ``happy``, ... are made.
    pairs : int
        Number of subjects.
    size : int
        Side of the square images, in pixels.
    seed : int
        Another seed gives other subjects; the same one gives the same bytes.
    target : sequence of str
        Expressions besides ``neutral``; none means all.
    threads : int, optional
        By default one for each processor.
    force : bool
        Write into a folder that is not empty, over what is there.
    report : Report, optional
        Told about progress.

    Returns
    -------
    int
        Number of images written.

    Raises
    ------
    OutputExistsError
        If the folder is not empty and ``force`` is false.
    MlrError
        If there is no such expression or a file cannot be written.
    """
    folder = Path(folder)
    report = report or Report()
    unknown = [name for name in target if name not in EXPRESSIONS[1:]]
    if unknown:
        raise OptionError(f"no expression {unknown[0]!r}; there is: {', '.join(EXPRESSIONS[1:])}")
    if folder.exists() and not folder.is_dir():
        raise MlrError(f"{folder}: is a file, and a folder is to be made there")
    if not force and folder.exists() and any(folder.iterdir()):
        raise OutputExistsError(f"{folder}: is not empty; give --force to write into it")
    expressions = (EXPRESSIONS[0], *(target or EXPRESSIONS[1:]))
    digits = max(3, len(str(pairs - 1)))

    def draw(subject: int) -> None:
        for expression in expressions:
            path = folder / expression / f"{subject:0{digits}d}.png"
            write_image(path, draw_face(seed, subject, expression, size), force=True)

    for _ in report.progress(
        ordered_map(draw, range(pairs), thread_count(threads)), pairs, "drawing"
    ):
        report.done += 1
    return pairs * len(expressions)
