"""The paper's claims, held against the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

OURS = "mlr-paper"
NAMED = ("omp", "lasso", "ridge", "pcr", "rrr", "rbf", "polynomial")  # by the paper's abstract
COSTS = {"seconds": "trains in less processor time", "bytes": "needs less memory to train"}
SURE = 2.0  # standard errors of the mean difference over people

Found = Mapping[str, Any]


def verdicts(result: Found) -> Iterator[dict[str, str]]:
    """Yield claim, verdict and figures of each comparison that was made.

    Errors and similarities are compared over the same people: a difference counts if its mean is
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
    yield from _gans(rivals)


def _paired(ours: Found, plain: Found, measure: str, sign: int, word: str) -> dict[str, str]:
    a, b = (np.array(r["each"][measure]) for r in (ours, plain))
    difference = sign * (a - b)
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))
    verdict = "yes" if mean > SURE * error else "no" if mean < -SURE * error else "undecided"
    share = f"better for {np.mean(difference > 0):.0%} of the people"
    figures = f"{a.mean():.4g} against {b.mean():.4g}, {share}"
    return _verdict(f"{word} than {plain['name']}", verdict, figures)


def _fewer_images(rivals: Found) -> Iterator[dict[str, str]]:
    """Hold the error with the fewest pairs against that of the others with the most."""
    ours = rivals[OURS]["by_pairs"]
    others = {
        key: rivals[key]["by_pairs"]
        for key in NAMED
        if key in rivals and rivals[key]["by_pairs"] and rivals[key]["size"] == rivals[OURS]["size"]
    }
    if not ours or not others:
        return
    few, most = min(ours, key=int), max(ours, key=int)
    best = min(others, key=lambda key: others[key][most])
    yield _verdict(
        f"learns from fewer images: with {few} pairs as good as the best of these with {most}",
        "yes" if ours[few] <= others[best][most] else "no",
        f"{ours[few]:.5f} with {few} pairs, against {others[best][most]:.5f} of "
        f"{rivals[best]['name']} with {most}",
    )
    copied = rivals["copy"]["by_pairs"] if "copy" in rivals else None
    if copied:
        enough = [n for n in sorted(ours, key=int) if ours[n] < copied[n]]
        yield _verdict(
            "a few dozen pairs are enough to beat the unchanged input",
            "yes" if enough else "no",
            f"from {enough[0]} pairs on" if enough else f"not even with {most}",
        )


def _gans(rivals: Found) -> Iterator[dict[str, str]]:
    """Hold what GANs do to held-out people against what they do to faces from elsewhere."""
    for rival in rivals.values():
        if rival["family"] != "gan":
            continue
        name = rival["name"]
        yield _paired(rivals[OURS], rival, "mse", -1, "lower error on held-out people")
        yield _paired(rivals[OURS], rival, "ssim", 1, "higher SSIM on held-out people")
        kinds = [kind for kind in rival["outside"] if kind != "held out"]
        if kinds:
            theirs, ours = (
                float(np.mean([r["outside"][kind]["elsewhere"] for kind in kinds]))
                for r in (rival, rivals[OURS])
            )
            yield _verdict(
                f"{name} changes faces from elsewhere more than masked regression does",
                "yes" if theirs > ours else "no",
                f"{theirs:.1f} against {ours:.1f} levels outside of mouth and eyes",
            )


_UNIT, _NAME = {"seconds": 1.0, "bytes": 1e6}, {"seconds": "s", "bytes": "MB"}


def _verdict(claim: str, verdict: str, figures: str) -> dict[str, str]:
    return {"claim": claim, "verdict": verdict, "figures": figures}
