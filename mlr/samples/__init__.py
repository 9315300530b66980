"""Sample faces: portraits of made-up subjects, drawn by arithmetic alone.

Each subject has traits of their own (:mod:`.subjects`), each of the seven expressions moves the
face the way its muscles do (:mod:`.expressions`, :mod:`.geometry`), and the result is a lit
relief (:mod:`.head`) with eyes, mouth, hair and surroundings painted on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.errors import OptionError
from mlr.samples.canvas import over, whole
from mlr.samples.expressions import EXPRESSIONS, Shot
from mlr.samples.eyes import draw_brow, draw_eye, draw_glasses
from mlr.samples.geometry import Face
from mlr.samples.hair import Hair, draw_beard
from mlr.samples.head import face_layer, light_up, outline, skin_mask
from mlr.samples.mouth import Lips
from mlr.samples.scene import develop, draw_backdrop, draw_body, draw_ears
from mlr.samples.subjects import subject_of

__all__ = ["EXPRESSIONS", "EYES", "draw_face"]


def draw_face(
    seed: int, subject: int, expression: str = "neutral", size: int = 128
) -> npt.NDArray[np.uint8]:
    """Draw one portrait.

    Parameters
    ----------
    seed, subject : int
        Number of the population and of the subject in it, not negative. A subject looks the same
        in all expressions and at all sizes.
    expression : str
        One of `EXPRESSIONS`.
    size : int
        Side of the picture in pixels, at least 16.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        sRGB. The eyes lie at `EYES`, within a fraction of a hundredth of the side. The same
        arguments give the same bytes.

    Raises
    ------
    OptionError
        If the expression is unknown, the size too small or a number negative.
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
    # small pictures are drawn larger and averaged: no detail may fall between the pixels
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
    bright = 0.92
    lips.inside(lit, bright)
    for eye in f.eyes:
        draw_eye(lit, g, p, eye, bright)
    image = draw_backdrop(g, p, shot)
    if hair.cut.end > 0.2:
        draw_ears(image, g, p, f)
        hair.draw_back(image)
        draw_body(image, g, p, f)
    else:
        hair.draw_back(image)
        draw_body(image, g, p, f)
        draw_ears(image, g, p, f)
    head = skin_mask(e, g.px)
    over(image, head, lit)
    draw_glasses(image, g, p, f)
    hair.draw_front(image, head)
    noise = np.random.default_rng((seed, subject, 303, EXPRESSIONS.index(expression), size))
    return develop(image, p, shot, size, noise)
