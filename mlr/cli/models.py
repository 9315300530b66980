"""``mlr evaluate``, ``export``, ``info``, ``inspect`` and ``models``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("model", type=options.MODEL)
@click.argument("data", type=options.LOCATION)
@click.option("--source", metavar="NAME", help="Folder of the inputs.  [default: as in training]")
@options.target("Expression to evaluate; may be repeated.  [default: all]")
@options.style
@click.option(
    "--report",
    "report_dir",
    type=options.OUTPUT,
    help="Folder for report.html, which shows all pairs, and for pictures: the worst, median and "
    "best pairs, and an overview.",
)
@options.cluster
@options.threads
@options.force
@options.reported
def evaluate(model: Path, run: options.Run, **keywords: Any) -> int:
    """Measure the error of MODEL on the pairs of images in DATA, laid out as for training.

    Prints MSE, PSNR, SSIM and sharpness of the whole image, of the face and of the mouth, also for
    the unchanged input; with the extra align also the identity, the distance of the face embeddings
    of output and input, which is mostly below 0.6 if both show the same subject. Below each mean
    are the ends of its 95 % confidence interval, and beside the expression the share of faces that
    fit the model; others stay as they are.
    """
    from mlr.evaluation.evaluate import evaluate
    from mlr.utils.progress import counted

    result = evaluate(model, report=run.report, **keywords)
    if not run.as_json:
        click.echo(_table(result))
    return run.finish(result, f"{counted(result['pairs'], 'pair')} evaluated")


_MSE, _SSIM, _SHARPNESS = ("mse", "MSE", 9, 5), ("ssim", "SSIM", 6, 3), ("sharpness", "sharp", 6, 2)
#: Columns by region: measure, title, width, digits.
_COLUMNS = {
    "whole image": (("mse", "MSE", 8, 5), ("psnr", "PSNR", 7, 2), _SSIM, _SHARPNESS),
    "face": (_MSE, _SSIM, _SHARPNESS),
    "mouth": (_MSE, _SSIM, _SHARPNESS),
    "": (("same_person", "identity", 9, 2),),
}


def _table(result: dict[str, Any]) -> str:
    """Return a table of the scores: for each expression the outputs, then the unchanged inputs.

    The means are followed by the ends of their confidence intervals. A line has 99 columns, or more
    if the name of an expression needs more than 9.
    """
    regions, titles = " " * 21, " " * 21
    for region, columns in _COLUMNS.items():
        regions += f"{region:>{sum(width for _, _, width, _ in columns)}}"
        titles += "".join(f"{title:>{width}}" for _, title, width, _ in columns)
    lines = [regions.rstrip(), titles]
    for name, scores in result["targets"].items():
        fitted, interval = scores["fitted"], scores["interval"]
        title = name if fitted is None else f"{name} ({100 * fitted:.0f} % fit)"
        lines += _rows(title, scores, interval)
        lines += _rows("  copy of the input", scores["copy_input"], interval["copy_input"])
    return "\n".join(lines)


def _rows(name: str, scores: dict[str, Any], interval: dict[str, Any]) -> list[str]:
    """Return the rows of means and of both ends of their intervals."""
    rows = [f"{name:21}", f"{'  95 %: from':21}", f"{'        to':21}"]
    for region, columns in _COLUMNS.items():
        for measure, _, width, digits in columns:
            ends = interval.get(region, interval)[measure] or (None, None)
            for row, score in enumerate((scores.get(region, scores)[measure], *ends)):
                rows[row] += f"{'-':>{width}}" if score is None else f"{score:{width}.{digits}f}"
    return rows


#: Explanations of the lines about a model.
_NOTES = {
    "expressions": "that it synthesizes",
    "size": "of crops; photographs can have any size",
    "channels": "3: colour, 1: grey",
    "receptive_field": "input pixels for each output pixel",
    "parameters": "number of coefficients",
    "blur": "of the statistics, in pixels",
    "data": "(trained on)",
    "digest": "of the pairs",
    "exposure": "of the inputs",
    "eyes": "in crops: x, y of left and right",
    "licence": "of the model",
    "pairs": "trained on",
    "penalty": "more is closer to the prior",
    "prior": "which the output is pulled to",
    "recipe": "best registers faces, paper does not",
    "source": "expression of the inputs",
    "templates": "digest",
    "version": "of mlr that trained it",
    "styles": "(--style)",
    "sha256": "of the file",
}


@click.command()
@click.argument("model", type=options.MODEL)
@click.option(
    "-o", "--output", type=options.OUTPUT, required=True, help="The file: NAME.html or NAME.onnx."
)
@options.expressions(
    "Expression of an .onnx file, or a mix as happy=0.6,surprised=0.4; needed if the model has "
    "several."
)
@options.regions("Part of the face that an .onnx file changes; may be repeated.  [default: all]")
@options.force
@options.reported
def export(
    model: Path,
    output: Path,
    target: tuple[str | Mapping[str, float], ...],
    region: tuple[str, ...],
    run: options.Run,
    force: bool,
) -> int:
    """Make a page of MODEL that changes faces in any browser, or a file for other programs.

    The page, NAME.html, is one file that needs no network: pictures stay on the device. Open it,
    drop a photograph on it, and move the sliders. The model has to be of the recipe best.

    The file for other programs, NAME.onnx, is read by ONNX Runtime and the like: it takes aligned
    faces, strength and style, and gives the changed faces.
    """
    from mlr.exports.export import export
    from mlr.io.model_file import load_model

    if len(target) > 1:
        raise click.BadParameter("one file has one target", param_hint="--target")
    path = export(load_model(model), output, target[0] if target else None, region, force=force)
    return run.finish_writing([path], f"{path.stat().st_size / 1e6:.1f} MB written to {path}")


@click.command()
@click.argument("model", type=options.MODEL, default="smile")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port to listen on.  [default: a free one]",
)
@click.option("--open/--no-open", default=True, help="Open the page in the browser, or do not.")
def serve(model: Path, **keywords: Any) -> None:
    """Serve the page of MODEL, as of mlr export, until Ctrl-C. MODEL is smile by default.

    Pictures stay on the device, and only this machine can open the page unless --host says more.
    """
    from mlr.exports.serve import serve
    from mlr.io.model_file import load_model

    serve(load_model(model), report=click.echo, **keywords)


@click.command()
@click.argument("file", type=options.MODEL)
@options.as_json
def info(file: Path, as_json: bool) -> int:
    """Describe FILE, which is a model or the name of a bundled one, statistics, an image or a clip.

    Of an image that mlr synthesize wrote it prints the expression, its strength and the SHA-256 of
    the model file.
    """
    import json

    from mlr.utils.progress import listed, printable

    summary = _summary(file)
    if as_json:
        options.print_json(summary)
        return 0
    notes: dict[str, str] = {}
    if summary["kind"] == "model":
        notes, text = _NOTES, json.dumps(summary)
        summary = json.loads(text, parse_float=lambda number: float(f"{float(number):.3g}"))
    for name, value in summary.items():
        lines = [listed(value)]
        if name == "styles":
            lines = [f"{expression}: {_style(style)}" for expression, style in value.items()]
        for line in lines:
            click.echo(printable(f"{name:18}{line:24}  {notes.get(name, '')}").rstrip())
    return 0


def _style(style: dict[str, Any] | None) -> str:
    if style is None:
        return "none, trained from fewer than 8 pairs"
    groups = "one group"
    if style["groups"] is not None:
        groups = "groups about {:.2f} and {:.2f}".format(*style["groups"])
    default = round(style["default"], 2)
    return f"{style['explained']:.0%} of what varies, {groups}, default {default:g}"


def _summary(file: Path) -> dict[str, Any]:
    """Return the description of a file of any kind."""
    from mlr.io.clips import describe_clip, is_clip
    from mlr.io.images import is_image
    from mlr.io.model_file import load_model
    from mlr.io.npz import meta_of
    from mlr.io.provenance import describe_image
    from mlr.io.statistics_file import load_statistics

    if is_image(file):
        return describe_image(file)
    if is_clip(file):
        return describe_clip(file)
    if meta_of(file).get("kind") == "statistics":
        return load_statistics(file).summary()
    return load_model(file).summary()


def _pixel(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        hint = "--at"
        raise click.BadParameter(f"expected X,Y as 64,40, not {text!r}", param_hint=hint) from error
    return x, y


@click.command()
@click.argument("model", type=options.MODEL)
@click.option("-o", "--output", type=options.OUTPUT, required=True, help="Folder for pictures.")
@click.option(
    "--at", metavar="X,Y", callback=_pixel, help="Draw the receptive field of this pixel alone."
)
@options.target("Expression to draw; may be repeated.  [default: all]")
@options.force
@options.reported
def inspect(model: Path, output: Path, run: options.Run, **keywords: Any) -> int:
    """Draw what MODEL has learnt: the mean face at several styles, its motion, templates, taps.

    A model of the recipe paper has neither styles nor motion; where it changes a face and its bias
    are drawn instead. Needs the extra plot.
    """
    from mlr.evaluation.inspect import inspect
    from mlr.io.model_file import load_model
    from mlr.utils.progress import counted

    result = inspect(load_model(model), output, **keywords)
    message = f"{counted(len(result['pictures']), 'picture')} written to {output}"
    return run.finish(result, message)


@click.command()
@options.as_json
def models(as_json: bool) -> int:
    """List the models that come with the program: their data, and their licence."""
    from mlr.io.model_file import models

    found = models()
    if as_json:
        options.print_json({"models": found})
        return 0
    for model in found:
        names = ", ".join(model["expressions"])
        click.echo(f"{model['name']}: {model['source']} to {names}, {model['size']} px")
        click.echo(f"  trained on {model['data']}")
        click.echo(f"  licence of the model: {model['licence']}")
    return 0
