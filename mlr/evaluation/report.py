"""The files of a report: contact sheets, an overview and a page of all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlr.core.model import Model
from mlr.evaluation.report_page import choose_pictured, render_page
from mlr.evaluation.scores import PairScores, as_rgb8
from mlr.evaluation.sheet import ERROR_GAIN, draw_sheet, pair_pictures
from mlr.io.files import check_free, replacing
from mlr.io.images import Pixels, read_image, write_image
from mlr.io.pairs import Subject
from mlr.io.provenance import new_record, to_exif
from mlr.training.decode import ordered_map

Style = float | Mapping[str, float] | None  # as `Model.synthesize` takes it

OVERVIEW, PAGE = "overview.png", "report.html"
FACTS = ("size", "recipe", "receptive_field", "penalty", "parameters", "version", "sha256")
SHOWN = 3  # pairs of each kind on a contact sheet: worst, median, best


class Outputs(NamedTuple):
    """A model and the style of its outputs."""

    model: Model
    style: Style

    def of(self, source: Pixels, expression: str) -> Pixels:
        """Return the output for a source image."""
        return self.model.synthesize(source, expression, style=self.style)

    def pictures(self, pair: PairScores, subject: Subject) -> list[Pixels]:
        """Return input, output, target and error of a pair as 8-bit colour."""
        source = read_image(subject.source).pixels
        target = read_image(subject.targets[pair.expression]).pixels
        return pair_pictures(source, self.of(source, pair.expression), target)

    def write(self, path: Path, sheet: Pixels, expression: str, force: bool) -> None:
        """Write a picture of outputs, with its provenance."""
        record = new_record(expression, 1, self.model.sha256, self.style)
        write_image(path, sheet, exif=to_exif(record), force=force)


def check_report(folder: Path, expressions: Sequence[str], *, force: bool) -> None:
    """Raise if a file of the report exists and may not be overwritten."""
    for name in (*(f"{each}.png" for each in expressions), OVERVIEW, PAGE):
        check_free(folder / name, force=force)


def write_report(
    folder: Path,
    title: str,
    outputs: Outputs,
    subjects: Mapping[str, Subject],
    pairs: Mapping[str, Sequence[PairScores]],
    means: Mapping[str, Mapping[str, Any]],
    threads: int,
    force: bool,
) -> Iterator[Path]:
    """Write all files of a report; yield their paths.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    title : str
        Heading of the page.
    outputs : Outputs
        The model and the style.
    subjects : mapping of str to Subject
        The files of each subject.
    pairs, means : mapping of str to sequence of PairScores, and to mean scores
        For each expression.
    threads : int
        Threads to make the pictures of the page with.
    force : bool
        Overwrite existing files.

    Raises
    ------
    MlrError
        If a file exists and ``force`` is false, or cannot be written.
    """
    for name, of_one in pairs.items():
        ranked = sorted(of_one, key=lambda pair: -pair.output["mse"])
        rows = [
            (
                f"{rank}: {pair.subject}, MSE {pair.output['mse']:.4f}",
                outputs.pictures(pair, subjects[pair.subject]),
            )
            for rank, pair in _worst_median_best(ranked)
        ]
        heads = ["input", f"output: {_with_style(name, outputs)}", "target", f"error x{ERROR_GAIN}"]
        outputs.write(folder / f"{name}.png", draw_sheet(heads, rows), name, force)
        yield folder / f"{name}.png"
    rows = []
    for subject in sorted(pair.subject for pair in next(iter(pairs.values())))[:SHOWN]:
        source = read_image(subjects[subject].source).pixels
        images = (source, *(outputs.of(source, name) for name in pairs))
        rows.append(("", [as_rgb8(image) for image in images]))
    outputs.write(folder / OVERVIEW, draw_sheet(["input", *pairs], rows), ", ".join(pairs), force)
    yield folder / OVERVIEW
    summary = outputs.model.summary()
    facts = {name.replace("_", " "): summary[name] for name in FACTS if name in summary}
    if outputs.style is not None:
        facts["style"] = outputs.style
    every = sorted(
        (pair for of_one in pairs.values() for pair in of_one),
        key=lambda pair: (-pair.output["mse"], pair.expression, pair.subject),
    )
    chosen = choose_pictured(every)
    pictures = ordered_map(
        lambda index: outputs.pictures(every[index], subjects[every[index].subject]),
        chosen,
        threads,
    )
    page = render_page(title, facts, means, every, zip(chosen, pictures, strict=True))
    with replacing(folder / PAGE, force=force) as file:
        file.write(page.encode())
    yield folder / PAGE


def _with_style(expression: str, outputs: Outputs) -> str:
    """Return the expression, with its style if one was given."""
    if outputs.style is None:
        return expression
    chosen = outputs.model.styles_of(outputs.style, [expression])[expression]
    return f"{expression}, style {'by default' if chosen is None else f'{chosen:g}'}"


def _worst_median_best(ranked: Sequence[PairScores]) -> Iterator[tuple[str, PairScores]]:
    """Yield up to `SHOWN` pairs of each kind out of those ranked by error, each pair once."""
    shown = min(SHOWN, -(-len(ranked) // 3))
    middle, last = (len(ranked) - shown) // 2, len(ranked) - shown
    ranks = dict.fromkeys(range(middle, middle + shown), "median")
    ranks |= dict.fromkeys(range(last, len(ranked)), "best")
    ranks |= dict.fromkeys(range(shown), "worst")
    for index in sorted(ranks):
        yield ranks[index], ranked[index]
