"""The comparison as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.tables import table

Found = Mapping[str, Any]

SCORES = {"mse": 5, "psnr": 2, "ssim": 3, "sharpness": 2}  # digits
SHORT = ("mse", "ssim", "sharpness")


def markdown(result: Found) -> str:
    """Return all tables of a comparison."""
    parts = [_heading(result), _scores(result), _with_gans(result), _costs(result)]
    for axis, what in (("by_pairs", "Number of training pairs"), ("by_size", "Size of the images")):
        parts.append(_curves(result, axis, what))
    parts += [_outside(result), _claims(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(result: Found) -> str:
    """Return the documentation's tables: of all folds, and of the GANs' fold if there are any."""
    rivals, gans = result["rivals"], _gans(result)
    rows = [
        [
            _name(rival, result),
            *_cells(rival["scores"], SHORT),
            _seconds(rival["seconds"]),
            _bytes(rival["bytes"]),
        ]
        for rival in _cross_validated(result)
    ]
    text = table(["", "MSE", "SSIM", "sharpness", "training", "memory"], rows) + "\n"
    if not gans:
        return text
    subjects = len(gans[0]["each"]["mse"])
    rows = []
    for rival in [
        *(rivals[key] for key in ("copy", "mlr-paper", "mlr-best") if key in rivals),
        *gans,
    ]:
        steps, minutes, _ = _training(rival)
        change = [f"{kept['elsewhere']:.1f}" for kept in rival["outside"].values()]
        scores = _cells(first_scores(rival, subjects), SHORT)
        rows.append([rival["name"], *scores, steps, minutes, *change])
    kinds = [f"change: {kind}" for kind in gans[0]["outside"]]
    heads = ["", "MSE", "SSIM", "sharpness", "steps", "minutes", *kinds]
    return f"{text}\n{table(heads, rows)}\n"


def first_scores(rival: Found, subjects: int) -> dict[str, float]:
    """Return the mean scores of the first subjects."""
    return {name: mean(values[:subjects]) for name, values in rival["each"].items()}


def _heading(result: Found) -> str:
    p, machine = result["protocol"], result["machine"]
    text = (
        f"# Rivals: {result['data']}, {result['size']} px\n\n"
        f"`{result['command']}` writes this file, with `--gan` the GANs' part. "
        f"{machine['processor']}, {machine['threads']} threads (matrix products in one), Python "
        f"{machine['python']}, NumPy {machine['numpy']}, Numba {machine['numba']}; other programs "
        "were running.\n\n"
        f"Every subject is scored by a model of others, in {p['outer']} folds of the "
        f"{result['subjects']} subjects. A method with hyper-parameters chooses among "
        f"{p['settings']} settings, in {p['inner']} folds of its training subjects, by the mean "
        "squared error. Colour channels are regressed one by one, each on its own channel, unless "
        "the method's file says otherwise. 'Of the change' regresses target minus input instead of "
        "the target: the paper's rivals do not; it is a fairer variant. Figures are those of "
        "outputs as written (clipped, 8 bits), intensities in [0, 1], means over subjects."
    )
    return text if _gans(result) else f"{text}\n\n`make rivals-gan` adds GANs."


def _scores(result: Found) -> str:
    rows = []
    for rival in _cross_validated(result):
        mse, *others = _cells(rival["scores"], SCORES)
        settings = _settings(rival["settings"])
        rows.append([_name(rival, result), f"{mse} ± {rival['error']:.5f}", *others, settings])
    heads = ["", "MSE ± standard error", "PSNR", "SSIM", "sharpness", "chosen in each fold"]
    about = "## Error\n\nSharpness is that of the output over that of the target."
    return f"{about}\n\n{table(heads, rows)}"


def _with_gans(result: Found) -> str:
    """Return the GANs' table, with the scores of the others on the same subjects."""
    gans = _gans(result)
    if not gans:
        return ""
    subjects = len(gans[0]["each"]["mse"])
    rows = [
        [rival["name"], *_cells(first_scores(rival, subjects), SCORES), *_training(rival)]
        for rival in result["rivals"].values()
        if rival["size"] == result["size"]
    ]
    torch = ", ".join(sorted({rival["training"]["torch"] for rival in gans}))
    about = (
        f"## With GANs\n\nGANs are trained once: the table shows the {subjects} subjects of the "
        f"first fold for all methods. Minutes are processor time (PyTorch {torch}, one thread, no "
        "graphics card). Depth, losses, optimiser and augmentation are those of the papers; the "
        "networks are narrower, with so many channels after the first layer instead of 64, and "
        "batches may be smaller. This shows what the same few dozen pairs give in a training "
        "hundreds to thousands of times as long as ours. It does not show what these methods are "
        "capable of: their authors trained for hours or days on a graphics card, most of them on "
        "thousands of images. CycleGAN, StarGAN and GANimation never see which input belongs to "
        "which target, so an error against the target is hard on them. GANimation gets the "
        "strength of the expression as one number, for lack of annotated action units. The losses "
        "are drawn in the picture next to this file."
    )
    heads = ["", "MSE", "PSNR", "SSIM", "sharpness", "steps", "minutes", "first channels, batch"]
    return f"{about}\n\n{table(heads, rows)}"


def _costs(result: Found) -> str:
    rows = [
        [
            _name(rival, result),
            _seconds(rival["seconds"]),
            _seconds(rival["search_seconds"]) if len(rival["settings"][0]) else "",
            _bytes(rival["bytes"]),
            f"{rival['parameters']:,}",
            _bytes(rival["disk"]),
            _seconds(rival["image_seconds"]),
        ]
        for rival in result["rivals"].values()
    ]
    heads = ["", "training", "choosing, all folds", "memory", "numbers kept", "file", "one image"]
    about = (
        "## Time, memory and size\n\nProcessor time, summed over threads, of one training with the "
        "settings chosen (median of the folds), of choosing them, and of one image; and the peak "
        "memory of a training above what its process held before."
    )
    return f"{about}\n\n{table(heads, rows)}"


def _curves(result: Found, axis: str, what: str) -> str:
    rivals = [rival for rival in result["rivals"].values() if rival[axis]]
    positions = sorted({int(position) for rival in rivals for position in rival[axis]})
    if not positions:
        return ""
    note, unit = "", "pairs"
    if axis == "by_size":
        note, unit = " With training time and memory; — is out of reach.", "px"
    rows = []
    for rival in rivals:
        cells = [_name(rival, result)]
        for position in positions:
            value = rival[axis].get(str(position))
            if value is None:
                cells.append("—")
            elif axis == "by_pairs":
                cells.append(f"{value:.5f}")
            else:
                costs = (f"{value['mse']:.5f}", _seconds(value["seconds"]), _bytes(value["bytes"]))
                cells.append(", ".join(filter(None, costs)))
        rows.append(cells)
    about = f"## {what}\n\nMSE of the subjects of the first fold; settings are chosen each time."
    heads = ["", *(f"{position} {unit}" for position in positions)]
    return f"{about}{note}\n\n{table(heads, rows)}"


def _outside(result: Found) -> str:
    kinds = list(next(iter(result["rivals"].values()))["outside"])
    if not kinds:
        return ""
    rows = [
        [_name(rival, result), *(_change(rival["outside"][kind]) for kind in kinds)]
        for rival in result["rivals"].values()
    ]
    heads = ["", *(kind.replace("held out", "held-out subjects") for kind in kinds)]
    about = (
        "## Outside the data set\n\nChange outside the mouth and the eyes (root mean square: less "
        "keeps more of the identity) / change of the mean colour, intensities of 0 to 255, by the "
        "models of the first fold. The true change of the held-out subjects is "
        f"{_change(result['truth'])}, hair and silhouette included."
    )
    return f"{about}\n\n{table(heads, rows)}"


def _claims(result: Found) -> str:
    if not result["claims"]:
        return ""
    rows = [[c["claim"], c["verdict"], c["figures"]] for c in result["claims"]]
    about = (
        "## The paper's claims\n\nOf masked regression with the paper's recipe. \"Undecided\" is a "
        "mean difference over subjects of less than two standard errors."
    )
    return f"{about}\n\n{table(['it', '', 'figures'], rows)}"


def _cross_validated(result: Found) -> list[Found]:
    outer = result["protocol"]["outer"]
    return [rival for rival in result["rivals"].values() if rival["folds"] == outer]


def _gans(result: Found) -> list[Found]:
    return [rival for rival in result["rivals"].values() if rival["family"] == "gan"]


def _name(rival: Found, result: Found) -> str:
    return rival["name"] + ("" if rival["size"] == result["size"] else f" (at {rival['size']} px)")


def _cells(scores: Mapping[str, float], names: Sequence[str] | Mapping[str, int]) -> list[str]:
    return [f"{scores[name]:.{SCORES[name]}f}" for name in names]


def _training(rival: Found) -> list[str]:
    """Return steps, minutes, and channels and batch of a GAN's training; empty for others."""
    trained = rival["training"]
    if not trained:
        return [""] * 3
    networks = f"{trained['width']}, {trained['batch']}"
    return [f"{trained['steps']:,}", f"{rival['seconds'] / 60:.1f}", networks]


def _change(kept: Mapping[str, float]) -> str:
    return f"{kept['elsewhere']:.1f} / {kept['colour']:.1f}"


def _settings(settings: Sequence[Mapping[str, float]]) -> str:
    """Return the settings of all folds, each name once."""
    values = {name: [f"{setting[name]:.3g}" for setting in settings] for name in settings[0]}
    return "; ".join(f"{name} {', '.join(values[name])}" for name in values)


def _seconds(value: float) -> str:
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((u for u in units if value >= u[1]), units[-1])
    return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"


def _bytes(value: float | None) -> str:
    if value is None:
        return ""
    if value < 1e6:
        return f"{value / 1e3:.0f} kB"
    return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"
