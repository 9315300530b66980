"""Sample faces: portraits of subjects who do not exist, drawn without a model or photographs.

Subjects have random traits (`subjects`). Expressions consist of muscle actions (`expressions`) that
move the parts of the face (`geometry`). The head is a lit relief (`head`); the rest is painted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import EYES
from mlr.errors import OptionError
from mlr.samples.canvas import over, ramp, whole
from mlr.samples.expressions import EXPRESSIONS, Shot
from mlr.samples.eyes import draw_brow, draw_eye, draw_glasses
from mlr.samples.geometry import Face
from mlr.samples.hair import Hair, draw_beard
from mlr.samples.head import face_layer, light_up, outline
from mlr.samples.mouth import Lips
from mlr.samples.scene import develop, draw_backdrop, draw_body, draw_ears
from mlr.samples.subjects import subject_of

__all__ = ["EXPRESSIONS", "EYES", "draw_face"]


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
