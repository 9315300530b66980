"""The comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.tables import table

Found = Mapping[str, Any]

SCORES = {"mse": 5, "psnr": 2, "ssim": 3, "sharpness": 2}  # digits
IN_FACE = {
    "face mse": "face: MSE",
    "face ssim": "SSIM",
    "face sharpness": "sharpness",
    "mouth mse": "mouth: MSE",
    "mouth sharpness": "sharpness",
    "same person": "identity",
    "recognised": "recognised",
    "judged": "judged",
}  # titles
DIGITS = SCORES | {name: 5 if name.endswith("mse") else 2 for name in IN_FACE} | {"face ssim": 3}
TRUTH = "the subject's own photograph"
ABOUT_FACE = (
    "Face and mouth are an ellipse and a rectangle; sharpness is relative to the target's. "
    "Identity is the distance of dlib's embeddings of output and input, mostly below 0.6 for one "
    "person: less is more alike. Recognised is the share of outputs in which a classifier "
    "(histograms of gradients, logistic regression) sees the expression; it is trained on the real "
    "faces of the training part."
)
ABOUT_JUDGE = (
    " Judged is the mean probability that a network trained by others, on photographs, gives to "
    "the expression."
)
#: Of the README's table, in its order.
CHOSEN = (
    "copy", "mlr-paper", "lsrf", "ridge", "rbf", "polynomial",
    "pix2pix", "cyclegan", "stargan", "ganimation", "mlr-best-style-0", "mlr-best",
)  # fmt: skip


def markdown(result: Found) -> str:
    """Return all tables of a comparison."""
    parts = [_heading(result), _in_face(result), _scores(result), _with_gans(result)]
    parts.append(_costs(result))
    for axis, what in (("by_pairs", "Number of training pairs"), ("by_size", "Size of the images")):
        parts.append(_curves(result, axis, what))
    parts += [_outside(result), _claims(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(result: Found) -> str:
    """Return the documentation's tables: of all folds, and of the GANs' fold if there are any."""
    measures = _measures(result)
    rows = [
        [
            _name(rival, result),
            *_cells(rival["scores"], measures),
            _seconds(rival["seconds"]),
            _bytes(rival["bytes"]),
        ]
        for rival in _cross_validated(result)
    ]
    heads = ["", *(IN_FACE[name] for name in measures), "training", "memory"]
    text = table(heads, [_truth(result, measures, len(heads)), *rows]) + "\n"
    gans = _gans(result)
    if not gans:
        return text
    subjects = len(gans[0]["each"]["mse"])
    others = [
        result["rivals"][key]
        for key in ("copy", "mlr-paper", "mlr-best-style-0", "mlr-best")
        if key in result["rivals"]
    ]
    rows = []
    for rival in [*others, *gans]:
        steps, minutes, _ = _training(rival)
        change = [f"{kept['elsewhere']:.1f}" for kept in rival["outside"].values()]
        scores = _cells(first_scores(rival, subjects), measures)
        rows.append([rival["name"], *scores, steps, minutes, *change])
    kinds = [f"change: {kind}" for kind in gans[0]["outside"]]
    heads = ["", *(IN_FACE[name] for name in measures), "steps", "minutes", *kinds]
    return f"{text}\n{table(heads, rows)}\n"


def readme(result: Found) -> str:
    """Return the README's table: a few methods, with what they cost."""
    measures = [
        name
        for name in ("recognised", "judged", "same person", "face sharpness", "mouth sharpness")
        if name in _measures(result)
    ]
    measures.append("face mse")
    rivals = [result["rivals"][key] for key in CHOSEN if key in result["rivals"]]
    rows = [
        [
            _shown_name(rival, result),
            *_cells(rival["scores"], measures),
            _seconds(rival["seconds"]),
            _bytes(rival["bytes"]),
        ]
        for rival in rivals
    ]
    titles = {"face mse": "error in the face", "same person": "identity"}
    heads = ["", *(titles.get(name, name) for name in measures), "training", "memory"]
    text = table(heads, [_truth(result, measures, len(heads)), *rows]) + "\n"
    gans = [rival for rival in rivals if rival["family"] == "gan"]
    if gans:
        subjects, minutes = len(gans[0]["each"]["mse"]), gans[0]["training"]["budget"] / 60
        text += (
            f"\n\\* On {subjects} of the subjects, and trained for {minutes:g} minutes on "
            f"{_where(gans)}: far less than their authors did.\n"
        )
    return text


def _shown_name(rival: Found, result: Found) -> str:
    names = {"mlr: paper": "`--recipe paper`: Khan et al. 2020", "mlr: best": "**default recipe**"}
    names["mlr: best, style 0"] = "**default recipe**, style 0"
    name = names.get(rival["name"], _name(rival, result))
    return f"{name}\\*" if rival["family"] == "gan" else name


def _where(gans: Sequence[Found]) -> str:
    """Return what GANs were trained on."""
    devices = {gan["training"].get("device", "cpu") for gan in gans}
    return "one core" if devices == {"cpu"} else "one graphics card"


def _measures(result: Found) -> list[str]:
    """Return the names of the measures in the face that there are."""
    return [name for name in IN_FACE if name in result["truth"]["each"]]


def _truth(result: Found, measures: Sequence[str], columns: int) -> list[str]:
    """Return the row of the subjects' own targets, with empty cells at its end."""
    each = result["truth"]["each"]
    cells = [TRUTH, *_cells({name: mean(each[name]) for name in measures}, measures)]
    return [*cells, *[""] * (columns - len(cells))]


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


def _in_face(result: Found) -> str:
    measures = _measures(result)
    rows = [_truth(result, measures, len(measures) + 1)]
    rows += [
        [_name(rival, result), *_cells(rival["scores"], measures)]
        for rival in _cross_validated(result)
    ]
    about = ABOUT_FACE + (ABOUT_JUDGE if "judged" in measures else "")
    registered = (
        "'Registered' learns from the program's registered pairs and moves the change back as the "
        "program does at style 0: what such a row has more than the plain one comes from "
        "registration, what differs between two such rows comes from the regression."
    )
    heads = ["", *(IN_FACE[name] for name in measures)]
    return f"## In the face\n\n{about} {registered}\n\n{table(heads, rows)}"


def _scores(result: Found) -> str:
    rows = []
    for rival in _cross_validated(result):
        mse, *others = _cells(rival["scores"], SCORES)
        settings = _settings(rival["settings"])
        rows.append([_name(rival, result), f"{mse} ± {rival['error']:.5f}", *others, settings])
    heads = ["", "MSE ± standard error", "PSNR", "SSIM", "sharpness", "chosen in each fold"]
    about = "## In the whole image\n\nSharpness is that of the output over that of the target."
    return f"{about}\n\n{table(heads, rows)}"


def _with_gans(result: Found) -> str:
    """Return the GANs' table, with the scores of the others on the same subjects."""
    gans = _gans(result)
    if not gans:
        return ""
    subjects = len(gans[0]["each"]["mse"])
    measures = ["mse", *_measures(result)]
    rows = [
        [rival["name"], *_cells(first_scores(rival, subjects), measures), *_training(rival)]
        for rival in result["rivals"].values()
        if rival["size"] == result["size"]
    ]
    torch = ", ".join(sorted({rival["training"]["torch"] for rival in gans}))
    about = (
        f"## With GANs\n\nGANs are trained once: the table shows the {subjects} subjects of the "
        f"first fold for all methods. Minutes are those of training (PyTorch {torch}, "
        f"{_where(gans)}). Depth, losses, optimiser and augmentation are those of the papers; the "
        "networks are narrower, with so many channels after the first layer instead of 64, and "
        "batches may be smaller. This shows what the same few dozen pairs give in a training "
        "hundreds to thousands of times as long as ours. It does not show what these methods are "
        "capable of: their authors trained for hours or days on a graphics card, most of them on "
        "thousands of images. CycleGAN, StarGAN and GANimation never see which input belongs to "
        "which target, so an error against the target is hard on them. GANimation gets the "
        "strength of the expression as one number, for lack of annotated action units. The losses "
        "are drawn in the picture next to this file."
    )
    heads = ["", "MSE", *(IN_FACE[name] for name in measures[1:])]
    heads += ["steps", "minutes", "first channels, batch"]
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
        f"{_change(result['truth']['change'])}, hair and silhouette included."
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


def _cells(scores: Mapping[str, float], names: Iterable[str]) -> list[str]:
    return [f"{scores[name]:.{DIGITS[name]}f}" if name in scores else "" for name in names]


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
