"""Sample faces: portraits of invented subjects, drawn without a model or photographs.

Subjects have random traits; expressions consist of muscle actions that move the parts of the face
(`subjects`). The head is an illuminated relief (`head`); the rest is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.errors import MlrError, OptionError, OutputExistsError, did_you_mean
from mlr.io.images import write_image
from mlr.samples.canvas import Array, Grid, blob, bump, layer, over, ramp, smooth, whole
from mlr.samples.features import Lips, draw_brow, draw_eye, draw_glasses
from mlr.samples.hair import Hair, draw_beard
from mlr.samples.head import face_layer, light_up, outline
from mlr.samples.subjects import EXPRESSIONS, Face, Shot, Subject, subject_of
from mlr.samples.textures import noise1
from mlr.utils.progress import Report, reporting
from mlr.utils.threads import ordered_map, thread_count

__all__ = ["EXPRESSIONS", "EYES", "draw_face", "sample"]


def draw_face(
    seed: int, subject: int, expression: str = "neutral", size: int = 128
) -> npt.NDArray[np.uint8]:
    """Draw a portrait: sRGB, uint8, shape (size, size, 3), the same bytes for the same arguments.

    Subjects are numbered from 0; other seeds have other subjects. The identity of a subject depends
    neither on the expression nor on the size, which is at least 16. The eyes are within 1 % of the
    side of `EYES`. Raises an `OptionError` if an argument is invalid.
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
    image = _backdrop(g, p, shot)
    if covered_ears := hair.cut.end > 0.2:
        _ears(image, g, p, f)
    hair.draw_back(image)
    _body(image, g, p, f)
    if not covered_ears:
        _ears(image, g, p, f)
    head = ramp((1.0 - e) * 0.2, 1.6 * g.px)
    over(image, head, lit)
    draw_glasses(image, g, p, f)
    hair.draw_front(image, head)
    noise = np.random.default_rng((seed, subject, 303, EXPRESSIONS.index(expression), size))
    return _develop(image, p, shot, size, noise)


def sample(
    folder: str | Path,
    *,
    pairs: int = 200,
    size: int = 128,
    seed: int = 0,
    target: str | Sequence[str] = (),
    threads: int | None = None,
    force: bool = False,
    progress: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Draw subjects with a neutral and other expressions, in a folder for each expression.

    Parameters
    ----------
    folder : path
        Folder to write the folders ``neutral``, ``happy``, ... to.
    pairs : int
        Number of subjects, at least 1.
    size, seed : int
        As for `draw_face`: the side of the images in pixels, and which subjects to draw.
    target : str or sequence of str
        Expressions to draw in addition to ``neutral``; by default all six.
    threads, progress, report
        As for `mlr.train`.
    force : bool
        Write into a folder that is not empty, and overwrite existing files.

    Returns
    -------
    list of Path
        The images written, as 8-bit PNG files.

    Raises
    ------
    OutputExistsError, OptionError, MlrError
        If the folder is not empty, an argument is invalid, or a file cannot be written.
    """
    folder = Path(folder)
    report = reporting(report, progress)
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


def _backdrop(g: Grid, p: Subject, shot: Shot) -> Array:
    """Return a softly lit wall."""
    level = 0.86 + 0.10 * p.light[0] * g.x - 0.10 * g.y + 0.14 * blob(g, 0.0, 0.0, 0.5, 0.6)
    wall: Array = layer(p.backdrop) * level
    warm = p.warmth + shot.warmth
    wall[0] *= 1 + warm
    wall[2] *= 1 - warm
    return wall


def _body(image: Array, g: Grid, p: Subject, f: Face) -> None:
    """Paint neck and shoulders, in the shadow of the chin."""
    g = g.crop(-1.0, 1.0, 0.3, 1.0)
    view = g.of(image)
    neck = 0.250 + 0.050 * p.manly
    d = neck + 1.4 * np.maximum(g.y - 0.60, 0) ** 2 - np.abs(g.x - f.middle)
    round_ = np.clip(d * (1 / neck), 0, 1)
    level = 0.30 + 0.45 * round_ * (2 - round_) + 0.22 * p.light[0] * g.x / neck
    level = level * (smooth(g.y - f.chin - 0.01, 0.12) * 0.35 + 0.50)
    level = level * (1 + 0.08 * bump((np.abs(g.x) - 0.09 - 0.2 * (0.64 - g.y)) * 30))  # tendons
    skin = layer(p.skin) * level
    skin[1:] *= 0.94
    over(view, ramp(d, max(0.006, 1.5 * g.px)), skin)
    top = 0.60 + 0.03 * p.collar - 0.30 * (np.abs(g.x) - 0.30)
    fabric = ramp(g.y - np.where(np.abs(g.x) < 0.18, 9.0, top), 0.012)
    weave = 0.55 + 0.12 * noise1(p.strands, g.x * 8 + g.y * 5 + 70)
    over(view, fabric, layer(p.cloth) * weave)


def _ears(image: Array, g: Grid, p: Subject, f: Face) -> None:
    """Paint the ears."""
    for side in (-1, 1):
        x, y = f.middle + side * (p.width + 0.014), 0.055
        c = g.crop(x - 0.08, x + 0.08, y - 0.14, y + 0.15)
        u = side * (c.x - x) - 0.10 * (y - c.y)
        v = c.y - y
        e = (u / (0.036 - 0.05 * v)) ** 2 + (v / 0.105) ** 2
        lit = 0.62 + 0.28 * side * p.light[0] + 0.10 * bump((e - 0.75) * 4)
        lit = lit * (1 - 0.42 * bump((e - 0.12) * 2.2))
        tone = layer(p.skin) * (0.95 * lit)
        tone[1:] *= 0.86
        over(c.of(image), ramp((1 - e) * 0.02, 1.4 * g.px), tone)


def _develop(light: Array, p: Subject, shot: Shot, size: int, rng: np.random.Generator) -> Array:
    """Convert linear intensities (3, n, n) to an 8-bit image (size, size, 3) with noise."""
    k = light.shape[1] // size
    if k > 1:
        light = light.reshape(3, size, k, size, k).mean(axis=(2, 4))
    light = light * (p.exposure * shot.exposure * 1.02)
    # highlights saturate smoothly
    light *= 1.12 / (1 + 0.12 * light)
    shown = np.sqrt(np.maximum(light, 0.0))
    grain = rng.standard_normal((3, size, size), np.float32)
    shown += (0.4 * p.grain) * grain
    shown += (0.8 * p.grain) * grain[1]
    shown *= 255
    shown += 0.5
    return np.ascontiguousarray(np.moveaxis(np.clip(shown, 0, 255).astype(np.uint8), 0, -1))
