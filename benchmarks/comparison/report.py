"""The comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]


def markdown(result: Found) -> str:
    """Return all tables of a comparison."""
    parts = [_heading(result), _scores(result), _costs(result)]
    for axis, what in (("by_pairs", "Number of training pairs"), ("by_size", "Size of the images")):
        parts.append(_curves(result, axis, what))
    parts += [_outside(result), _claims(result), _losses(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(result: Found) -> str:
    p, machine = result["protocol"], result["machine"]
    gans = any(rival["family"] == "gan" for rival in result["rivals"].values())
    lines = [
        f"# Rivals: {result['data']}, {result['size']} px",
        "",
        f"`{result['command']}` writes this file. {machine['processor']}, {machine['threads']} "
        f"threads (matrix products in one), Python {machine['python']}, NumPy {machine['numpy']}, "
        f"Numba {machine['numba']}; {result['load']:.1f} other processes were busy at the start.",
        "",
        f"Everyone is scored by a model that has not seen them: {p['folds']} of {p['outer']} folds "
        f"of the {result['people']} people. A method with hyper-parameters chooses among "
        f"{p['settings']} settings, in {p['inner']} folds of its training people, by the mean "
        "squared error. Colour channels are regressed one by one, each on its own channel, unless "
        "the method's file says otherwise. 'Of the change' regresses target minus input in place "
        "of the target: the paper's rivals do not, it is there to be fair to them. Figures are "
        "those of outputs as written (clipped, 8 bits), intensities in [0, 1], means over people.",
    ]
    if gans:
        lines += [
            "",
            f"Every GAN has trained for at most {p['budget'] / 60:.2g} minutes on this machine's "
            "processors, without a graphics card: a small fraction of what its authors used. What "
            "they look like after days on a graphics card and thousands of images, this does not "
            "show; it shows what the same data and the same patience give.",
        ]
    lines += [f"\n{line}." for line in result["missing"]]
    return "\n".join(lines)


def _scores(result: Found) -> str:
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
    ]
    heads = ["", "MSE ± standard error", "PSNR", "SSIM", "sharpness", "chosen in each fold"]
    return "## Error\n\nSharpness is that of the output over that of the target.\n\n" + _table(
        heads, rows
    )


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
    people = (
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
    return f"{people}{note}\n\n{_table(['', *(f'{p}{unit}' for p in places)], rows)}"


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


def _losses(result: Found) -> str:
    found = [rival for rival in result["rivals"].values() if rival["history"]]
    if not found:
        return ""
    lines = ["## What the GANs' budget gave", ""]
    for rival in found:
        step, losses = rival["history"][-1]
        last = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
        lines.append(f"- {rival['name']}: {step} steps; losses at the end: {last}")
    return "\n".join(lines)


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
