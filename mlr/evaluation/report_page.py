"""The report of an evaluation as one page of HTML that needs no other file and no network.

The page itself, with its style and script, is ``report_page.html`` beside this module; here its
places, ``[[so]]``, are filled.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from mlr._version import __version__
from mlr.core.metrics import Scores
from mlr.evaluation.sheet import ERROR_GAIN, PairPicture, as_rgb8, error_picture
from mlr.io.files import replacing
from mlr.io.images import Pixels, resized
from mlr.utils.progress import listed
from mlr.utils.threads import ordered_map

PICTURED = 300  # pairs shown with pictures: a page of some 10 MB, which a phone still opens
SIDE = 256  # largest side of a picture, in pixels
QUALITY = 90  # of the pictures, JPEG: WebP is a quarter smaller and takes ten times as long
BINS = 24


class PairScores(NamedTuple):
    """The scores of one pair.

    Attributes
    ----------
    subject, expression : str
        Names.
    ours, copied : Scores
        Those of the output and of the unchanged input.
    same_person : float, optional
        Distance of the embeddings of output and input, None if it is not known.
    """

    subject: str
    expression: str
    ours: Scores
    copied: Scores
    same_person: float | None = None


def write_report_page(
    path: Path,
    title: str,
    facts: Mapping[str, object],
    means: Mapping[str, Mapping[str, object]],
    pairs: Sequence[PairScores],
    picture: Callable[[PairScores], PairPicture],
    *,
    threads: int = 1,
    force: bool = False,
) -> None:
    """Write the page.

    Pictures are in it for at most `PICTURED` pairs, of each expression the worst, the best and
    evenly spaced ones between; the page says so. They are reduced to `SIDE` px.

    Parameters
    ----------
    path : Path
        File to write.
    title : str
        Heading.
    facts : mapping of str to object
        What is worth knowing of the model.
    means : mapping of str to mapping
        Mean scores of each expression, as `mlr.evaluation.evaluate.evaluate` returns them.
    pairs : sequence of PairScores
        All pairs.
    picture : function of PairScores to PairPicture
        Makes the pictures of a pair; called in threads.
    threads : int
        How many of them.
    force : bool
        Replace an existing file.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written, or a picture cannot be made.
    """
    pairs = sorted(pairs, key=lambda pair: (-pair.ours["mse"], pair.expression, pair.subject))
    places = {
        "generator": f"mlr {__version__}",
        "title": escape(title),
        "summary": f"{_count(len(pairs), 'pair')}, {_count(len(means), 'expression')}",
        "facts": "".join(
            f"<dt>{escape(k)}</dt><dd>{escape(listed(v))}</dd>" for k, v in facts.items()
        ),
        "gain": str(ERROR_GAIN),
        "options": "".join(f"<option>{escape(name)}</option>" for name in means),
    }
    chosen = choose_pictured(pairs)
    every = len(chosen) == len(pairs)
    places["pictured"] = (
        "Choose a pair to see its pictures."
        if every
        else f"Pictures are in this page for {len(chosen)} of the {len(pairs)} pairs, those with a "
        "link: of each expression the worst, the best and evenly spaced ones between."
    )
    shown: dict[str, list[PairScores]] = {name: [] for name in means}
    for pair in pairs:
        shown[pair.expression].append(pair)
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "scores": lambda: (_score_rows(name, len(shown[name]), means[name]) for name in means),
        "histograms": lambda: (_histogram(name, shown[name]) for name in means),
        "pairs": lambda: (_pair_row(number, pair) for number, pair in enumerate(pairs)),
        "pictures": lambda: _pictures(pairs, chosen, picture, threads),
    }
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    with replacing(path, force=force) as file:
        # What users wrote is only ever in what fills the places, and these are filled once.
        for index, piece in enumerate(re.split(r"\[\[(\w+)\]\]", template)):
            if index % 2 == 0:
                file.write(piece.encode())
            elif piece in parts:
                for part in parts[piece]():
                    file.write(part.encode())
            else:
                file.write(places[piece].encode())


def choose_pictured(pairs: Sequence[PairScores], limit: int = PICTURED) -> list[int]:
    """Return which pairs get pictures: evenly spaced by rank in each expression, ends included.

    Parameters
    ----------
    pairs : sequence of PairScores
        Sorted by error.
    limit : int
        How many, shared out evenly.
    """
    ranks: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        ranks.setdefault(pair.expression, []).append(index)
    chosen: list[int] = []
    for left, places in zip(
        range(len(ranks), 0, -1), sorted(ranks.values(), key=len), strict=True
    ):  # the fewest first, so that what they leave goes to the others
        share = min(len(places), max(1, (limit - len(chosen)) // left))
        steps = np.rint(np.linspace(0, len(places) - 1, share)).astype(int)
        chosen += [places[step] for step in steps]
    return sorted(chosen)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _score_rows(name: str, count: int, scores: Mapping[str, object]) -> str:
    """Return the row of an expression, and that of its unchanged inputs."""
    copied = scores["copy_input"]
    assert isinstance(copied, Mapping)
    return (
        f'<tr><td>{escape(name)}</td><td class="less">{count}</td>{_cells(scores)}</tr>\n'
        f'<tr class="copy"><td>&emsp;copy of the input</td><td class="less"></td>'
        f"{_cells(copied)}</tr>\n"
    )


def _cells(scores: Mapping[str, Any]) -> str:
    """Return the cells of the whole image, the face, the mouth and the subject."""
    cells = [_mean_cells(scores, ("mse", "psnr", "ssim", "sharpness"))]
    for region in ("face", "mouth"):
        cells.append(_mean_cells(scores[region], ("mse", "ssim", "sharpness")))
    return "".join(cells) + _mean_cells(scores, ("same_person",))


def _mean_cells(scores: Mapping[str, Any], measures: Sequence[str]) -> str:
    return "".join(
        f"<td{'' if place else ' class=group'}>{_number(scores[measure], _DIGITS[measure])}</td>"
        for place, measure in enumerate(measures)
    )


_DIGITS = {"mse": 5, "psnr": 2, "ssim": 3, "sharpness": 2, "same_person": 2}


def _cell(value: float, digits: int, kind: str = "") -> str:
    """Return a cell with a number to sort by, as JavaScript spells it."""
    spelt = repr(value).replace("inf", "Infinity").replace("nan", "NaN")
    return f'<td{kind} data-value="{spelt}">{_number(value, digits)}</td>'


def _number(value: object, digits: int) -> str:
    """Return a score as text; the mean of what is not finite is None."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "&ndash;"
    return "&infin;" if math.isinf(value) else f"{value:.{digits}f}"


def _pair_row(number: int, pair: PairScores) -> str:
    ours, copied = pair.ours, pair.copied["mse"]
    share = ours["mse"] / copied if copied else math.nan
    same_person = math.nan if pair.same_person is None else pair.same_person
    name, expression = escape(pair.subject), escape(pair.expression)
    less = " class=less"  # columns that a narrow screen leaves out
    cells = [
        _cell(ours["mse"], _DIGITS["mse"]),
        _cell(share, 2),
        _cell(ours["face"]["mse"], _DIGITS["mse"], less),
        _cell(ours["mouth"]["mse"], _DIGITS["mse"], less),
        _cell(ours["psnr"], _DIGITS["psnr"], less),
        _cell(ours["ssim"], _DIGITS["ssim"], less),
        _cell(ours["sharpness"], _DIGITS["sharpness"], less),
        _cell(same_person, _DIGITS["same_person"], less),
    ]
    title = f"{name}, {expression}, MSE {ours['mse']:.5f}"
    return (
        f'<tr data-id="{number}" data-title="{title}"><td data-value="{name}">{name}</td>'
        f'<td data-value="{expression}">{expression}</td>{"".join(cells)}</tr>\n'
    )


def _histogram(expression: str, pairs: Sequence[PairScores]) -> str:
    """Return a histogram of the errors as SVG, those of the unchanged inputs as an outline."""
    errors = np.array([[pair.ours["mse"], pair.copied["mse"]] for pair in pairs])
    top = float(errors.max()) or 1.0
    counts = [np.histogram(errors[:, k], BINS, (0, top))[0] for k in range(2)]
    highest = max(int(count.max()) for count in counts)
    width, height, left, bottom = 320, 150, 30, 130
    step, unit = (width - left - 10) / BINS, (bottom - 12) / highest
    bars = "".join(
        f'<rect class="ours" x="{left + k * step + 0.5:.1f}" y="{bottom - n * unit:.1f}" '
        f'width="{step - 1:.1f}" height="{n * unit:.1f}"/>'
        for k, n in enumerate(counts[0])
        if n
    )
    outline = f"M{left},{bottom}" + "".join(
        f"V{bottom - n * unit:.1f}H{left + (k + 1) * step:.1f}" for k, n in enumerate(counts[1])
    )
    means = errors.mean(axis=0)
    label = (
        f"{expression}: mean squared errors of {_count(len(pairs), 'output')}, "
        f"mean {means[0]:.5f}; of the unchanged inputs {means[1]:.5f}"
    )
    right = width - 10
    return (
        f"<figure><figcaption>{escape(expression)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'{bars}<path class="copied" d="{outline}V{bottom}"/>'
        f'<line class="axis" x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        f'<text x="{left - 4}" y="20" text-anchor="end">{highest}</text>'
        f'<text x="{left - 4}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{height - 4}">0</text>'
        f'<text x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">MSE</text>'
        f'<text x="{right}" y="{height - 4}" text-anchor="end">{top:.4f}</text></svg></figure>\n'
    )


def _pictures(
    pairs: Sequence[PairScores],
    chosen: Sequence[int],
    picture: Callable[[PairScores], PairPicture],
    threads: int,
) -> Iterator[str]:
    """Yield a JSON object, {number of the pair: [input, output, target, error]}, in pieces."""

    def encoded(index: int) -> list[str]:
        made = picture(pairs[index])
        output, target = as_rgb8(made.output), as_rgb8(made.target)
        shown = (as_rgb8(made.source), output, target, error_picture(output, target))
        return [_data_uri(_reduced(pixels)) for pixels in shown]

    yield "{"
    for place, (index, files) in enumerate(
        zip(chosen, ordered_map(encoded, chosen, threads), strict=True)
    ):
        yield f'{"," if place else ""}\n"{index}": {json.dumps(files)}'
    yield "}"


def _reduced(pixels: Pixels) -> Pixels:
    """Return a picture in the size that the page shows it in, at most."""
    height, width, _ = pixels.shape
    scale = SIDE / max(height, width)
    if scale >= 1:
        return pixels
    return resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def _data_uri(pixels: Pixels) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
