"""The paper's claims, tested on the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

OURS, DEFAULT = "mlr-paper", "mlr-best-style-0"
NAMED = ("omp", "lasso", "ridge", "pcr", "rrr", "rbf", "polynomial")  # by the paper's abstract
OTHERS = ("ridge-change", "rbf-change", "pixel", "lsrf")  # which the paper does not compare with
SURE = 2.0  # standard errors of the mean difference over subjects

Found = Mapping[str, Any]


def verdicts(result: Found) -> Iterator[dict[str, str]]:
    """Yield claim, verdict and figures of each comparison.

    Errors and similarities are compared over the same subjects: a difference counts if its mean is
    more than `SURE` standard errors from zero.
    """
    rivals = result["rivals"]
    if OURS not in rivals:
        return
    ours = rivals[OURS]
    for key in NAMED:
        if key not in rivals:
            continue
        plain = rivals[key]
        if plain["size"] != ours["size"]:
            yield _verdict(f"better than {plain['name']}", "not compared here",
                           f"it was run at {plain['size']} px")  # fmt: skip
            continue
        for measure, sign, word in (("mse", -1, "lower error"), ("ssim", 1, "higher SSIM")):
            yield _paired(ours, plain, measure, sign, word)
        for cost, word in (
            ("seconds", "trains in less processor time"),
            ("bytes", "needs less memory to train"),
        ):
            a, b = ours[cost], plain[cost]
            if a is not None and b is not None:
                yield _verdict(
                    f"{word} than {plain['name']}",
                    "yes" if a < b else "no",
                    f"{a / _UNIT[cost]:.3g} against {b / _UNIT[cost]:.3g} {_NAME[cost]}",
                )
    yield from _fewer_images(rivals)
    for key in OTHERS:
        if key in rivals and rivals[key]["size"] == ours["size"]:
            found = _paired(ours, rivals[key], "mse", -1, "lower error")
            yield found | {"claim": f"(not claimed) {found['claim']}"}
    yield from _registered(rivals)
    yield from _gans(rivals)


def _paired(ours: Found, plain: Found, measure: str, sign: int, word: str) -> dict[str, str]:
    subjects = min(len(r["each"][measure]) for r in (ours, plain))  # the first fold, of GANs
    a, b = (np.array(r["each"][measure][:subjects]) for r in (ours, plain))
    difference = sign * (a - b)
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))
    verdict = "yes" if mean > SURE * error else "no" if mean < -SURE * error else "undecided"
    share = f"better for {np.mean(difference > 0):.0%} of the subjects"
    figures = f"{a.mean():.4g} against {b.mean():.4g}, {share}"
    return _verdict(f"{word} than {plain['name']}", verdict, figures)


def _fewer_images(rivals: Found) -> Iterator[dict[str, str]]:
    """Compare learning curves: at each number of pairs, and the fewest against the most."""
    ours = rivals[OURS]["by_pairs"]
    others = {
        rivals[key]["name"]: rivals[key]["by_pairs"]
        for key in NAMED
        if key in rivals and rivals[key]["by_pairs"] and rivals[key]["size"] == rivals[OURS]["size"]
    }
    if not ours or not others:
        return
    numbers = sorted(ours, key=int)
    few, most = numbers[0], numbers[-1]
    ahead = [(n, name) for n in numbers for name in others if others[name][n] <= ours[n]]
    yield _verdict(
        "learns from fewer images: the lowest error at every number of pairs",
        "no" if ahead else "yes",
        "; ".join(f"not with {n} pairs: {name}" for n, name in ahead)
        or f"from {ours[few]:.5f} against {min(o[few] for o in others.values()):.5f} with {few} to "
        f"{ours[most]:.5f} against {min(o[most] for o in others.values()):.5f} with {most}",
    )
    best = min(others, key=lambda name: others[name][most])
    goal = others[best][most]
    enough = [n for n in numbers if ours[n] <= goal]
    yield _verdict(
        f"learns from fewer images: with {few} pairs as good as the best of these with {most}",
        "yes" if few in enough else "no",
        f"{ours[few]:.5f} with {few} pairs, against {goal:.5f} of {best} with {most}; as good "
        + (f"from {enough[0]} pairs on" if enough else "with no number of pairs"),
    )
    copied = rivals["copy"]["by_pairs"] if "copy" in rivals else None
    if copied:
        enough = [n for n in numbers if ours[n] < copied[n]]
        yield _verdict(
            "a few dozen pairs are enough to beat the unchanged input",
            "yes" if enough else "no",
            f"from {enough[0]} pairs on" if enough else f"not even with {most}",
        )


def _registered(rivals: Found) -> Iterator[dict[str, str]]:
    """Compare errors in the face: of the default with the paper's, and on registered images."""
    framed = rivals.get(f"{OURS}-registered")
    pairs = [(rivals.get(DEFAULT), rivals[OURS])]
    pairs += [(framed, rivals.get(f"{key}-registered")) for key in (*NAMED, "lsrf")]
    for one, other in pairs:
        if one and other and one["size"] == other["size"]:
            found = _paired(one, other, "face mse", -1, "lower error in the face")
            claim = f"(not claimed) {one['name']}: {found['claim']}"
            yield found | {"claim": claim}


def _gans(rivals: Found) -> Iterator[dict[str, str]]:
    """Compare what GANs do to held-out subjects and to faces outside the data set."""
    ours, default = rivals[OURS], rivals.get(DEFAULT)
    for rival in rivals.values():
        if rival["family"] != "gan" or rival["size"] != ours["size"]:
            continue
        name = rival["name"]
        yield _paired(ours, rival, "mse", -1, "lower error")
        yield _paired(ours, rival, "ssim", 1, "higher SSIM")
        subjects = len(rival["each"]["mse"])
        sharp, our_sharp = (
            float(np.mean(r["each"]["sharpness"][:subjects])) for r in (rival, ours)
        )
        yield _verdict(
            f"{name} is sharper on held-out subjects",
            "yes" if sharp > our_sharp else "no",
            f"{sharp:.2f} against {our_sharp:.2f} of the target's sharpness",
        )
        if default and "same person" in rival["each"] and default["size"] == rival["size"]:
            found = _paired(default, rival, "same person", -1, "keeps the person better")
            yield found | {"claim": f"(not claimed) {default['name']}: {found['claim']}"}
        if len(rival["outside"]) > 1:
            (inside, theirs), (our_inside, our_change) = _changes(rival), _changes(ours)
            yield _verdict(
                f"{name} changes faces outside the data set more, outside mouth and eyes",
                "yes" if theirs > our_change else "no",
                f"{theirs:.1f} against {our_change:.1f} of 255; held-out subjects {inside:.1f} "
                f"against {our_inside:.1f}",
            )


def _changes(rival: Found) -> tuple[float, float]:
    """Return the change outside mouth and eyes: of held-out subjects, and of all other kinds."""
    changes = {kind: figures["elsewhere"] for kind, figures in rival["outside"].items()}
    inside = changes.pop("held out")
    return inside, float(np.mean(list(changes.values())))


_UNIT, _NAME = {"seconds": 1.0, "bytes": 1e6}, {"seconds": "s", "bytes": "MB"}


def _verdict(claim: str, verdict: str, figures: str) -> dict[str, str]:
    return {"claim": claim, "verdict": verdict, "figures": figures}
