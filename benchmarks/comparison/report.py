"""The comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

Found = Mapping[str, Any]


def markdown(result: Found) -> str:
    """Return all tables of a comparison."""
    parts = [_heading(result), _scores(result), _beside_gans(result), _costs(result)]
    for axis, what in (("by_pairs", "Number of training pairs"), ("by_size", "Size of the images")):
        parts.append(_curves(result, axis, what))
    parts += [_outside(result), _claims(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(result: Found) -> str:
    p, machine = result["protocol"], result["machine"]
    lines = [
        f"# Rivals: {result['data']}, {result['size']} px",
        "",
        f"`{result['command']}` writes this file, with `--gan` the GANs' part. "
        f"{machine['processor']}, {machine['threads']} threads (matrix products in one), Python "
        f"{machine['python']}, NumPy {machine['numpy']}, Numba {machine['numba']}; other programs "
        "were running.",
        "",
        f"Everyone is scored by a model that has not seen them, in {p['outer']} folds of the "
        f"{result['people']} people. A method with hyper-parameters chooses among {p['settings']} "
        f"settings, in {p['inner']} folds of its training people, by the mean squared error. "
        "Colour channels are regressed one by one, each on its own channel, unless the method's "
        "file says otherwise. 'Of the change' regresses target minus input in place of the target: "
        "the paper's rivals do not, it is there to be fair to them. Figures are those of outputs "
        "as written (clipped, 8 bits), intensities in [0, 1], means over people.",
    ]
    if not _gans(result):
        lines += ["", "No GANs are in here: `make rivals-gan` adds them."]
    return "\n".join(lines)


def _scores(result: Found) -> str:
    outer = result["protocol"]["outer"]
    rows = [
        [
            _name(rival, result),
            f"{rival['scores']['mse']:.5f} ± {rival['error']:.5f}",
            f"{rival['scores']['psnr']:.2f}",
            f"{rival['scores']['ssim']:.3f}",
            f"{rival['scores']['sharpness']:.2f}",
            _settings(rival["settings"]),
        ]
        for rival in result["rivals"].values()
        if rival["folds"] == outer
    ]
    heads = ["", "MSE ± standard error", "PSNR", "SSIM", "sharpness", "chosen in each fold"]
    return "## Error\n\nSharpness is that of the output over that of the target.\n\n" + _table(
        heads, rows
    )


def _beside_gans(result: Found) -> str:
    """Return the GANs' table, and what the others reach on the very same people."""
    gans = _gans(result)
    if not gans:
        return ""
    subjects = len(gans[0]["each"]["mse"])
    heads = ["", "MSE", "PSNR", "SSIM", "sharpness", "steps", "minutes", "first channels, batch"]
    rows = []
    for rival in result["rivals"].values():
        if rival["size"] != result["size"]:
            continue
        scores = first_scores(rival, subjects)
        trained = rival["training"]
        rows.append(
            [
                rival["name"],
                f"{scores['mse']:.5f}",
                f"{scores['psnr']:.2f}",
                f"{scores['ssim']:.3f}",
                f"{scores['sharpness']:.2f}",
                *(
                    [
                        f"{trained['steps']:,}",
                        f"{rival['seconds'] / 60:.1f}",
                        f"{trained['width']}, {trained['batch']}",
                    ]
                    if trained
                    else [""] * 3
                ),
            ]
        )
    torch = ", ".join(sorted({rival["training"]["torch"] for rival in gans}))
    about = (
        f"## Beside the GANs\n\nGANs are trained once: these are the {subjects} people of the "
        f"first fold, for everyone. Minutes are of processor time (PyTorch {torch}, one thread, no "
        "graphics card). Depth, losses, optimiser and augmentation are those of the papers; the "
        "networks are narrower, with so many channels after the first layer instead of 64, and "
        "batches may be smaller. So this shows what the same few dozen pairs give in a training "
        "hundreds to thousands of times as long as ours. It does not show what these methods are "
        "capable of: their authors trained for hours or days on a graphics card, most of them on "
        "thousands of "
        "images. CycleGAN, StarGAN and GANimation never see which input belongs to which target, "
        "so that an error against the target is hard on them. GANimation is told the strength of "
        "the expression, one number, for lack of annotated action units. The losses over the steps "
        "are in the picture beside this file."
    )
    return f"{about}\n\n{_table(heads, rows)}"


def summary(result: Found) -> str:
    """Return the README's tables: of all folds, and of the GANs' fold if there are any."""
    rivals = result["rivals"]
    outer = result["protocol"]["outer"]
    rows = [
        [
            _name(rival, result),
            *_short(rival["scores"]),
            _seconds(rival["seconds"]),
            "" if rival["bytes"] is None else _bytes(rival["bytes"]),
        ]
        for rival in rivals.values()
        if rival["folds"] == outer
    ]
    tables = _table(["", "MSE", "SSIM", "sharpness", "training", "memory"], rows) + "\n"
    gans = _gans(result)
    if not gans:
        return tables
    subjects = len(gans[0]["each"]["mse"])
    beside = [rivals[key] for key in ("copy", "mlr-paper", "mlr-best") if key in rivals]
    rows = []
    for rival in [*beside, *gans]:
        change = {kind: f"{kept['elsewhere']:.1f}" for kind, kept in rival["outside"].items()}
        scores = _short(first_scores(rival, subjects))
        steps = f"{rival['training']['steps']:,}" if rival["training"] else ""
        minutes = f"{rival['seconds'] / 60:.1f}" if rival["training"] else ""
        rows.append([rival["name"], *scores, steps, minutes, *change.values()])
    kinds = [f"change: {kind}" for kind in gans[0]["outside"]]
    heads = ["", "MSE", "SSIM", "sharpness", "steps", "minutes", *kinds]
    return f"{tables}\n{_table(heads, rows)}\n"


def _short(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores['mse']:.5f}", f"{scores['ssim']:.3f}", f"{scores['sharpness']:.2f}"]


def first_scores(rival: Found, subjects: int) -> dict[str, float]:
    """Return the mean measures over the first so many people."""
    return {name: mean(values[:subjects]) for name, values in rival["each"].items()}


def _gans(result: Found) -> list[Found]:
    return [rival for rival in result["rivals"].values() if rival["family"] == "gan"]


def _costs(result: Found) -> str:
    rows = [
        [
            _name(rival, result),
            _seconds(rival["seconds"]),
            _seconds(rival["search_seconds"]) if len(rival["settings"][0]) else "",
            "" if rival["bytes"] is None else _bytes(rival["bytes"]),
            f"{rival['parameters']:,}",
            _bytes(rival["disk"]),
            _seconds(rival["image_seconds"]),
        ]
        for rival in result["rivals"].values()
    ]
    heads = ["", "training", "choosing, all folds", "memory", "numbers kept", "file", "one image"]
    about = (
        "## Time, memory and size\n\nProcessor time, summed over threads, of one training with the "
        "settings chosen, median of the folds, of choosing them, and of one image; and the most "
        "memory that a training needs above what its process holds before."
    )
    return f"{about}\n\n{_table(heads, rows)}"


def _curves(result: Found, axis: str, what: str) -> str:
    rivals = [rival for rival in result["rivals"].values() if rival[axis]]
    places = sorted({int(place) for rival in rivals for place in rival[axis]})
    if not places:
        return ""
    subjects = (
        f"## {what}\n\nMSE on the people of the first fold; settings are chosen anew each time."
    )
    rows = []
    for rival in rivals:
        values = [rival[axis].get(str(place)) for place in places]
        if axis == "by_size":
            cells = [
                f"{v['mse']:.5f}, {_seconds(v['seconds'])}{_and_bytes(v['bytes'])}" if v else "—"
                for v in values
            ]
        else:
            cells = [f"{value:.5f}" if value is not None else "—" for value in values]
        rows.append([_name(rival, result), *cells])
    note = " With training time and memory; — is out of reach." if axis == "by_size" else ""
    unit = " px" if axis == "by_size" else " pairs"
    return f"{subjects}{note}\n\n{_table(['', *(f'{p}{unit}' for p in places)], rows)}"


def _outside(result: Found) -> str:
    kinds = list(next(iter(result["rivals"].values()))["outside"])
    if not kinds:
        return ""
    rows = [
        [
            _name(rival, result),
            *(
                f"{rival['outside'][kind]['elsewhere']:.1f} / "
                f"{rival['outside'][kind]['colour']:.1f}"
                for kind in kinds
            ),
        ]
        for rival in result["rivals"].values()
    ]
    heads = ["", *(kind.replace("held out", "held-out people") for kind in kinds)]
    truth = result["truth"]
    about = (
        "## Outside the data set\n\nChange outside of the mouth and the eyes (root mean square: "
        "less keeps more of the person) / shift of the mean colour, both in levels of 255, by the "
        "models of the first fold. The true change of the held-out people is "
        f"{truth['elsewhere']:.1f} / {truth['colour']:.1f}, hair and silhouette included."
    )
    return f"{about}\n\n{_table(heads, rows)}"


def _claims(result: Found) -> str:
    if not result["claims"]:
        return ""
    rows = [[c["claim"], c["verdict"], c["figures"]] for c in result["claims"]]
    about = (
        "## The paper's claims\n\nOf masked regression with the paper's recipe. \"Undecided\" is a "
        "mean difference over people of less than two standard errors."
    )
    return f"{about}\n\n{_table(['it', '', 'figures'], rows)}"


def _name(rival: Found, result: Found) -> str:
    return rival["name"] + ("" if rival["size"] == result["size"] else f" (at {rival['size']} px)")


def _settings(settings: Sequence[Mapping[str, float]]) -> str:
    """Return the settings of all folds, each name once."""
    values = {name: [f"{setting[name]:.3g}" for setting in settings] for name in settings[0]}
    return "; ".join(f"{name} {', '.join(values[name])}" for name in values)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines(heads, rows))


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _seconds(value: float) -> str:
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((u for u in units if value >= u[1]), units[-1])
    return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"


def _bytes(value: float) -> str:
    if value < 1e6:
        return f"{value / 1e3:.0f} kB"
    return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"


def _and_bytes(value: float | None) -> str:
    return "" if value is None else f", {_bytes(value)}"
