"""``mlr info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlr.cli import options


@click.command()
@click.argument("file", type=options.FILE)
@options.as_json
def info(file: Path, as_json: bool) -> int:
    """Describe FILE, which is a model, statistics, an image or a clip.

    Of an image that mlr synthesize wrote it prints the expression, its strength and the SHA-256 of
    the model file.
    """
    from mlr.utils.progress import listed, printable

    summary = _summary(file)
    if as_json:
        options.print_json(summary)
        return 0
    for name, value in summary.items():
        lines = [listed(value)]
        if name == "styles":
            lines = [f"{expression}: {_style(style)}" for expression, style in value.items()]
        for line in lines:
            click.echo(printable(f"{name:18}{line}"))
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
