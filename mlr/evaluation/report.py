"""The files of a report: contact sheets, an overview and a page of all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from mlr.core.model import Model
from mlr.evaluation.report_page import ERROR_GAIN, choose_pictured, pair_pictures, render_page
from mlr.evaluation.scores import PairScores, as_rgb8, by_expression
from mlr.io.files import check_free, replacing
from mlr.io.images import Pixels, read_image, write_image
from mlr.io.pairs import Subject
from mlr.io.provenance import new_record, to_exif
from mlr.utils.threads import ordered_map

Style = float | Mapping[str, float] | None  # as `Model.synthesize` takes it

PAGE = "report.html"
FACTS = ("size", "recipe", "receptive_field", "penalty", "parameters", "version", "sha256", "style")
SHOWN = 3  # pairs of each kind on a contact sheet: worst, median, best
CELL = 192  # smallest side of a picture on a sheet; small ones are enlarged
_GAP, _CAPTION, _INK, _PAPER = 8, 22, (40, 40, 40), (250, 250, 250)


class Outputs(NamedTuple):
    """A model and the style of its outputs."""

    model: Model
    style: Style

    def of(self, source: Pixels, expression: str) -> Pixels:
        """Return the output for a source image."""
        return self.model.synthesize(source, expression, style=self.style)


def check_report(folder: Path, expressions: Sequence[str], *, force: bool) -> None:
    """Raise if a file of the report exists and may not be overwritten."""
    for name in (*(f"{each}.png" for each in (*expressions, "overview")), PAGE):
        check_free(folder / name, force=force)


class ReportWriter(NamedTuple):
    """Writes a report."""

    folder: Path
    outputs: Outputs
    subjects: Mapping[str, Subject]  # by their names
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
        model, style = self.outputs
        summary = model.summary() | ({} if style is None else {"style": style})
        facts = {name.replace("_", " "): summary[name] for name in FACTS if name in summary}
        page = render_page(title, facts, ranked, zip(chosen, pictures, strict=True))
        with replacing(self.folder / PAGE, force=self.force) as file:
            file.write(page.encode())
        yield self.folder / PAGE

    def _contact_sheet(self, expression: str, pairs: Sequence[PairScores]) -> Pixels:
        """Return the pictures of the worst, median and best pairs."""
        ranked = sorted(pairs, key=lambda pair: -pair.output["mse"])
        rows = [
            (f"{rank}: {pair.subject}, MSE {pair.output['mse']:.4f}", self._pictures(pair))
            for rank, pair in _worst_median_best(ranked)
        ]
        title, (model, style) = f"output: {expression}", self.outputs
        if style is not None:
            chosen = model.styles_of(style, [expression])[expression]
            title += f", style {'by default' if chosen is None else f'{chosen:g}'}"
        return draw_sheet(["input", title, "target", f"error x{ERROR_GAIN}"], rows)

    def _overview(self, expressions: Sequence[str], names: Sequence[str]) -> Pixels:
        """Return the inputs of some subjects with all their outputs."""
        rows = []
        for name in names:
            source = read_image(self.subjects[name].source).pixels
            images = (source, *(self.outputs.of(source, each) for each in expressions))
            rows.append(("", [as_rgb8(image) for image in images]))
        return draw_sheet(["input", *expressions], rows)

    def _write_picture(self, name: str, sheet: Pixels, expression: str) -> Path:
        """Write a picture of outputs, with its provenance."""
        path, (model, style) = self.folder / f"{name}.png", self.outputs
        exif = to_exif(new_record(expression, 1, model.sha256, style))
        write_image(path, sheet, exif=exif, force=self.force)
        return path

    def _pictures(self, pair: PairScores) -> list[Pixels]:
        """Return input, output, target and error of a pair as 8-bit colour."""
        files = self.subjects[pair.subject]
        source = read_image(files.source).pixels
        target = read_image(files.targets[pair.expression]).pixels
        return pair_pictures(source, self.outputs.of(source, pair.expression), target)


def _worst_median_best(ranked: Sequence[PairScores]) -> Iterator[tuple[str, PairScores]]:
    """Yield up to `SHOWN` pairs of each kind out of those ranked by error, each pair once."""
    shown, count = min(SHOWN, -(-len(ranked) // 3)), len(ranked)
    middle = (count - shown) // 2
    ranks = dict.fromkeys(range(middle, middle + shown), "median")
    ranks |= dict.fromkeys(range(count - shown, count), "best")
    ranks |= dict.fromkeys(range(shown), "worst")
    for index, rank in sorted(ranks.items()):
        yield rank, ranked[index]


def draw_sheet(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Pixels:
    """Draw 8-bit pictures of the same size, below heads and each row below its caption, if any."""
    times = max(1, -(-CELL // rows[0][1][0].shape[1]))  # a whole number
    pictures = [[each.repeat(times, 0).repeat(times, 1) for each in row] for _, row in rows]
    height, width, _ = pictures[0][0].shape
    columns = max(len(row) for row in pictures)
    caption_heights = [_CAPTION if caption else 0 for caption, _ in rows]
    bottom = _GAP + _CAPTION + sum(caption_heights) + len(rows) * (height + _GAP)
    sheet = PIL.Image.new("RGB", (_GAP + columns * (width + _GAP), bottom), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=15)
    for column, text in enumerate(heads):
        draw.text((_GAP + column * (width + _GAP), _GAP), text, _INK, font)
    top = _GAP + _CAPTION
    for (caption, _), caption_height, row in zip(rows, caption_heights, pictures, strict=True):
        draw.text((_GAP, top), caption, _INK, font)
        for column, picture in enumerate(row):
            corner = (_GAP + column * (width + _GAP), top + caption_height)
            sheet.paste(PIL.Image.fromarray(picture), corner)
        top += caption_height + height + _GAP
    return np.asarray(sheet)
