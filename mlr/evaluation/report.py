"""The files of a report: contact sheets, an overview and a page of all pairs.

The page is ``report.html``, see `mlr.io.page`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import numpy as np

from mlr.core.model import Model
from mlr.evaluation.scores import (
    MEASURES,
    REGION_MEASURES,
    REGIONS,
    PairScores,
    by_expression,
    subjects_of,
    summarize,
)
from mlr.io.files import check_free, replacing
from mlr.io.folders import as_text
from mlr.io.images import Pixels, read_image, resized, write_image
from mlr.io.page import filled
from mlr.io.pairs import Subject
from mlr.io.provenance import new_record, to_exif
from mlr.io.sheet import as_rgb8, draw_sheet
from mlr.utils.progress import counted, listed
from mlr.utils.threads import ordered_map

Style = float | Mapping[str, float] | None  # as `Model.synthesize` takes it

PAGE = "report.html"
FACTS = ("size", "recipe", "receptive_field", "penalty", "parameters", "version", "sha256", "style")
SHOWN = 3  # pairs of each kind on a contact sheet: worst, median, best
PICTURED = 300  # pairs shown with pictures: a page of some 10 MB, which a phone still opens
SIDE = 256  # largest side of a picture, in pixels
QUALITY = 90  # of the pictures, JPEG: WebP is a quarter smaller and takes ten times as long
ERROR_GAIN = 3  # in the picture of the error a third of the data range is white
MOST_BINS = 24
DIGITS = {"mse": 5, "psnr": 2, "ssim": 3, "sharpness": 2, "same_person": 2}


def check_report(folder: Path, expressions: Sequence[str], *, force: bool) -> None:
    """Raise if a file of the report exists and may not be overwritten."""
    for name in (*(f"{each}.png" for each in (*expressions, "overview")), PAGE):
        check_free(folder / name, force=force)


class ReportWriter(NamedTuple):
    """Writes a report."""

    folder: Path
    model: Model
    style: Style
    subjects: Mapping[str, Subject]  # by their names
    files: Mapping[str, object]  # facts about the files, before those about the model
    force: bool

    def write(self, title: str, pairs: Sequence[PairScores]) -> Iterator[Path]:
        """Write all files; yield their paths."""
        groups = by_expression(pairs)
        for name, its_pairs in groups.items():
            yield self._write_picture(name, self._contact_sheet(name, its_pairs), name)
        names, first = list(groups), next(iter(groups.values()))
        overview = self._overview(names, sorted(pair.subject for pair in first)[:SHOWN])
        yield self._write_picture("overview", overview, ", ".join(names))
        ranked = sorted(
            pairs, key=lambda pair: (-pair.output["mse"], pair.expression, pair.subject)
        )
        chosen = choose_pictured(ranked)
        pictures = ordered_map(lambda index: self._pictures(ranked[index]), chosen)
        summary = self.model.summary() | ({} if self.style is None else {"style": self.style})
        facts = dict(self.files)
        facts |= {name.replace("_", " "): summary[name] for name in FACTS if name in summary}
        page = render_page(title, facts, ranked, zip(chosen, pictures, strict=True))
        with replacing(self.folder / PAGE, force=self.force) as file:
            file.write(as_text(page).encode())
        yield self.folder / PAGE

    def _contact_sheet(self, expression: str, pairs: Sequence[PairScores]) -> Pixels:
        """Return the pictures of the worst, median and best pairs."""
        ranked = sorted(pairs, key=lambda pair: -pair.output["mse"])
        rows = [
            (f"{rank}: {as_text(pair.subject)}, MSE {pair.output['mse']:.4f}", self._pictures(pair))
            for rank, pair in _worst_median_best(ranked)
        ]
        title = f"output: {expression}"
        if self.style is not None:
            chosen = self.model.styles_of(self.style, [expression])[expression]
            title += f", style {'by default' if chosen is None else f'{chosen:g}'}"
        return draw_sheet(["input", title, "target", f"error x{ERROR_GAIN}"], rows)

    def _overview(self, expressions: Sequence[str], names: Sequence[str]) -> Pixels:
        """Return the inputs of some subjects with all their outputs."""
        rows = []
        for name in names:
            source = read_image(self.subjects[name].source).pixels
            outputs = [self.model.synthesize(source, e, style=self.style) for e in expressions]
            rows.append(("", [as_rgb8(image) for image in (source, *outputs)]))
        return draw_sheet(["input", *expressions], rows)

    def _write_picture(self, name: str, sheet: Pixels, expression: str) -> Path:
        """Write a picture of outputs, with its provenance."""
        path = self.folder / f"{name}.png"
        exif = to_exif(new_record(expression, 1, self.model.sha256, self.style))
        write_image(path, sheet, exif=exif, force=self.force)
        return path

    def _pictures(self, pair: PairScores) -> list[Pixels]:
        """Return input, output, target and error of a pair as 8-bit colour."""
        files = self.subjects[pair.subject]
        source = read_image(files.source).pixels
        target = read_image(files.targets[pair.expression]).pixels
        output = self.model.synthesize(source, pair.expression, style=self.style)
        return pair_pictures(source, output, target)


def _worst_median_best(ranked: Sequence[PairScores]) -> Iterator[tuple[str, PairScores]]:
    """Yield up to `SHOWN` pairs of each kind out of those ranked by error, each pair once."""
    shown, count = min(SHOWN, -(-len(ranked) // 3)), len(ranked)
    middle = (count - shown) // 2
    ranks = dict.fromkeys(range(middle, middle + shown), "median")
    ranks |= dict.fromkeys(range(count - shown, count), "best")
    ranks |= dict.fromkeys(range(shown), "worst")
    for index, rank in sorted(ranks.items()):
        yield rank, ranked[index]


def render_page(
    title: str,
    facts: Mapping[str, object],
    pairs: Sequence[PairScores],
    pictures: Iterable[tuple[int, Sequence[Pixels]]],
) -> str:
    """Return the page of all pairs, in their order, with facts about the model.

    ``pictures`` are indices of pairs with their input, output, target and error, 8-bit colour.
    """
    shown = {index: [_data_uri(each) for each in images] for index, images in pictures}
    groups = by_expression(pairs)
    pictured = ""
    if len(shown) < len(pairs):
        pictured = (
            f"This page holds pictures of {len(shown)} of the {len(pairs)} pairs, those with a "
            "link: for each expression the worst, the best and evenly spaced ones between."
        )
    parts = {
        "title": escape(title),
        "summary": _summary(facts, pairs),
        "facts": "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(listed(fact))}</dd>"
            for name, fact in facts.items()
        ),
        "scores": "".join(_score_rows(name, its_pairs) for name, its_pairs in groups.items()),
        "histograms": "".join(_histograms(name, its_pairs) for name, its_pairs in groups.items()),
        "pictured": pictured,
        "options": "".join(f"<option>{escape(name)}</option>" for name in groups),
        "pairs": "".join(_pair_row(index, pair) for index, pair in enumerate(pairs)),
        "gain": str(ERROR_GAIN),
        "pictures": json.dumps(shown, indent=0),
    }
    return filled(Path(__file__).with_suffix(".html"), parts)


def _summary(facts: Mapping[str, object], pairs: Sequence[PairScores]) -> str:
    """Return what was evaluated, and how many inputs fit."""
    parts = [
        f"{name} <b>{escape(str(facts[name]))}</b>" for name in ("model", "data") if name in facts
    ]
    subjects = set(subjects_of([pair.subject for pair in pairs]))
    parts.append(f"{counted(len(pairs), 'pair')} of {counted(len(subjects), 'subject')}")
    parts.append(counted(len(by_expression(pairs)), "expression"))
    fitted = {pair.subject: pair.fitted for pair in pairs}
    if None not in fitted.values():
        parts.append(f"{sum(map(bool, fitted.values()))} of {counted(len(fitted), 'input')} fit")
    text = ", ".join(parts)
    return text[0].upper() + text[1:]


def pair_pictures(source: Pixels, output: Pixels, target: Pixels) -> list[Pixels]:
    """Return input, output, target and error of a pair as 8-bit colour.

    The error is the absolute difference, averaged over channels: black for none, then red and
    yellow, white for 1 / `ERROR_GAIN` of the data range and more.
    """
    source, output, target = map(as_rgb8, (source, output, target))
    error = np.abs(output.astype(np.float32) - target).mean(axis=2) / 255 * ERROR_GAIN
    ramp = [np.clip(3 * error - step, 0, 1) for step in range(3)]
    return [source, output, target, np.rint(np.dstack(ramp) * 255).astype(np.uint8)]


def choose_pictured(pairs: Sequence[PairScores], limit: int = PICTURED) -> list[int]:
    """Return the indices of up to ``limit`` of the pairs, the same number for each expression.

    Of an expression, they are evenly spaced in the order given, with both ends.
    """
    ranks: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        ranks.setdefault(pair.expression, []).append(index)
    chosen: list[int] = []
    # The expression with the fewest pairs first, so that others get what it does not use.
    for done, indices in enumerate(sorted(ranks.values(), key=len)):
        share = min(len(indices), max(1, (limit - len(chosen)) // (len(ranks) - done)))
        steps = np.rint(np.linspace(0, len(indices) - 1, share)).astype(int)
        chosen += [indices[step] for step in steps]
    return sorted(chosen)


def _score_rows(name: str, pairs: Sequence[PairScores]) -> str:
    """Return the rows of an expression and of its unchanged inputs."""
    means = summarize(pairs)
    copied, interval, fitted = (means[key] for key in ("copy_input", "interval", "fitted"))
    share = "&ndash;" if fitted is None else f"{100 * fitted:.0f} %"
    return (
        f"<tr><td>{escape(name)}</td><td>{len(pairs)}</td><td>{share}</td>"
        f"{_mean_cells(means, interval)}</tr>\n"
        '<tr class="copy"><td>copy of the input</td><td></td><td></td>'
        f"{_mean_cells(copied, interval['copy_input'])}</tr>\n"
    )


def _mean_cells(means: Mapping[str, Any], interval: Mapping[str, Any]) -> str:
    """Return the cells of the whole image, each region, and the identity, with intervals."""
    cells = ""
    for part, measures in (
        (None, MEASURES),
        *((region, REGION_MEASURES) for region in REGIONS),
        (None, ("same_person",)),
    ):
        own, ends = (each if part is None else each[part] for each in (means, interval))
        for measure in measures:
            group = " class=group" if measure == measures[0] else ""
            digits = DIGITS[measure]
            between = "&ndash;".join(_number(end, digits) for end in ends[measure] or ())
            cells += f"<td{group}>{_number(own[measure], digits)}<small>{between}</small></td>"
    return cells


def _pair_row(index: int, pair: PairScores) -> str:
    """Return the row of a pair, each cell with its value to sort by."""
    own, copy_mse = pair.output, pair.copy["mse"]
    ratio = own["mse"] / copy_mse if copy_mse else math.nan
    name, expression = escape(pair.subject), escape(pair.expression)
    title = f"{name}, {expression}, MSE {own['mse']:.5f}"
    cells = _cell(own["mse"], _number(own["mse"], DIGITS["mse"])) + _cell(ratio, _number(ratio, 2))
    for value, measure in (  # narrow screens leave these out
        (own["face"]["mse"], "mse"),
        (own["mouth"]["mse"], "mse"),
        (own["mouth"]["sharpness"], "sharpness"),
        (pair.same_person, "same_person"),
    ):
        cells += _cell(value, _number(value, DIGITS[measure]), " class=less")
    fits = {None: "", True: "yes, ", False: '<span class="problem">no</span>, '}[pair.fitted]
    cells += _cell(pair.fit, fits + _number(pair.fit, 2))
    return (
        f'<tr data-id="{index}" data-title="{title}"><td data-value="{name}">{name}</td>'
        f'<td data-value="{expression}">{expression}</td>{cells}</tr>\n'
    )


def _cell(value: float | None, text: str, kind: str = "") -> str:
    spelt = "NaN" if value is None else repr(value)
    spelt = spelt.replace("inf", "Infinity").replace("nan", "NaN")  # as JavaScript does
    return f'<td{kind} data-value="{spelt}">{text}</td>'


def _number(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return "&ndash;"
    return "&infin;" if math.isinf(value) else f"{value:.{digits}f}"


def _histograms(expression: str, pairs: Sequence[PairScores]) -> str:
    """Return the histograms of an expression, below its name."""
    figures: list[tuple[str, list[float | None], list[float | None]]] = [
        (
            "face MSE",
            [pair.output["face"]["mse"] for pair in pairs],
            [pair.copy["face"]["mse"] for pair in pairs],
        ),
        (
            "mouth sharpness",
            [pair.output["mouth"]["sharpness"] for pair in pairs],
            [pair.copy["mouth"]["sharpness"] for pair in pairs],
        ),
        ("identity", [pair.same_person for pair in pairs], []),
        ("fit", [pair.fit for pair in pairs], []),
    ]
    drawn = "".join(_histogram(expression, *figure) for figure in figures)
    return f'<h3>{escape(expression)}</h3><div class="histograms">{drawn}</div>\n'


def _histogram(
    expression: str, title: str, ours: Sequence[float | None], copied: Sequence[float | None]
) -> str:
    """Return a histogram as SVG: of the outputs, and behind them of the unchanged inputs.

    It is empty if no output has a known and finite value.
    """
    known = [np.array(each, np.float64) for each in (ours, copied)]
    known = [each[np.isfinite(each)] for each in known]
    if not known[0].size:
        return ""
    values = np.concatenate(known)
    low, high = min(0.0, float(values.min())), float(values.max())
    high = high if high > low else low + 1
    bins = min(MOST_BINS, 2 * math.isqrt(len(ours)) + 2)
    counts = [np.histogram(each, bins, (low, high))[0] for each in known]
    highest = int(np.max(counts))
    width, height, left, right, bottom = 240, 120, 26, 238, 100
    step, unit = (right - left) / bins, (bottom - 8) / highest
    bars = "".join(
        f'<rect class="{kind}" x="{left + (k + (1 - share) / 2) * step:.1f}" '
        f'y="{bottom - n * unit:.1f}" width="{share * step:.1f}" height="{n * unit:.1f}"/>'
        for kind, share, count in (("copied", 0.94, counts[1]), ("ours", 0.5, counts[0]))
        for k, n in enumerate(count)
        if n
    )
    label = f"{expression}, {title}: {counted(len(known[0]), 'pair')}, mean {known[0].mean():.3g}"
    label += f"; of the copies of the input {known[1].mean():.3g}" if known[1].size else ""
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{bars}'
        f'<line class="axis" x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        f'<text x="{left - 4}" y="16" text-anchor="end">{highest}</text>'
        f'<text x="{left - 4}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{height - 4}">{low:.3g}</text>'
        f'<text x="{right}" y="{height - 4}" text-anchor="end">{high:.3g}</text>'
        "</svg></figure>\n"
    )


def _data_uri(pixels: Pixels) -> str:
    height, width, _ = pixels.shape
    scale = SIDE / max(height, width)
    if scale < 1:
        pixels = resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    jpeg = iio.imwrite("<bytes>", pixels, plugin="pillow", extension=".jpg", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
