"""Sample faces: portraits of subjects who do not exist, drawn without a model or photographs.

Subjects have random traits (`subjects`). Expressions consist of muscle actions that move the parts
of the face (`expressions`). The head is a lit relief (`head`); the rest is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.errors import MlrError, OptionError, OutputExistsError, did_you_mean
from mlr.io.images import write_image
from mlr.samples.canvas import over, ramp, whole
from mlr.samples.expressions import EXPRESSIONS, Face, Shot
from mlr.samples.eyes import draw_brow, draw_eye, draw_glasses
from mlr.samples.hair import Hair, draw_beard
from mlr.samples.head import face_layer, light_up, outline
from mlr.samples.mouth import Lips
from mlr.samples.scene import develop, draw_backdrop, draw_body, draw_ears
from mlr.samples.subjects import subject_of
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map, thread_count

__all__ = ["EXPRESSIONS", "EYES", "draw_face", "sample"]


def draw_face(
    seed: int, subject: int, expression: str = "neutral", size: int = 128
) -> npt.NDArray[np.uint8]:
    """Draw a portrait: sRGB, uint8, shape (size, size, 3), the same bytes for the same arguments.

    Subjects are numbered from 0; other seeds have other subjects. The identity of a subject depends
    neither on the expression nor on the size, which is at least 16. The eyes are at `EYES`, within
    1 % of the side.
    """
    if expression not in EXPRESSIONS:
        names = ", ".join(EXPRESSIONS)
        raise OptionError(f"unknown expression {expression!r}, use one of {names}")
    if size < 16:
        raise OptionError(f"size is {size} pixels, a face needs at least 16")
    if seed < 0 or subject < 0:
        raise OptionError(f"seed and subject must not be negative, got {seed} and {subject}")
    p, shot = subject_of(seed, subject), Shot(seed, subject, expression)
    f = Face(p, shot)
    # small images are drawn larger and averaged, so that fine detail does not alias
    n = size * max(1, -(-96 // size))
    g = whole(n).moved(shot.shift, shot.scale)
    e = outline(g, p, f)
    lips = Lips(g, f.mouth, p)
    hair = Hair(g.moved(shot.hair), p, n)
    surface = face_layer(g, p, f, lips, e)
    for brow in f.brows:
        draw_brow(surface, g, p, brow)
    draw_beard(surface, g, p, f, n)
    hair.shadow(surface.open)
    lit = light_up(surface, g.px, p, shot)
    lips.inside(lit)
    for eye in f.eyes:
        draw_eye(lit, g, p, eye)
    image = draw_backdrop(g, p, shot)
    covered_ears = hair.cut.end > 0.2
    if covered_ears:
        draw_ears(image, g, p, f)
    hair.draw_back(image)
    draw_body(image, g, p, f)
    if not covered_ears:
        draw_ears(image, g, p, f)
    head = ramp((1.0 - e) * 0.2, 1.6 * g.px)
    over(image, head, lit)
    draw_glasses(image, g, p, f)
    hair.draw_front(image, head)
    noise = np.random.default_rng((seed, subject, 303, EXPRESSIONS.index(expression), size))
    return develop(image, p, shot, size, noise)


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
            hint = did_you_mean(name, EXPRESSIONS)
            raise OptionError(f"no expression {name!r}; expected one of: {known}{hint}")
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
