"""What there is to choose for an expression, and the table of what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

WIDTH = 26  # of the table's first column, in characters


@dataclass(frozen=True, order=True)
class Option:
    """How the weights of one expression are made.

    Attributes
    ----------
    blur : float
        How far pixels share their samples, a standard deviation in pixels.
    mirrored : bool
        From mirrored pairs too.
    penalty : float
        Of the middle tap.
    """

    blur: float
    mirrored: bool
    penalty: float

    def __str__(self) -> str:
        mirrored = "mirrored pairs too" if self.mirrored else "no mirrored pairs"
        return f"penalty {self.penalty:g}, blur {self.blur:g} px, {mirrored}"


def table(
    name: str, pairs: int, folds: int, chosen: Option, tried: Mapping[Option, float], why: str = ""
) -> list[str]:
    """Return the lines of a table of what was tried for an expression, and what was chosen.

    Parameters
    ----------
    name : str
        The expression.
    pairs, folds : int
        How many pairs there are, left out of training in how many folds.
    chosen : Option
        Marked with a star.
    tried : mapping of Option to float
        Their mean squared errors.
    why : str
        What the penalty chosen is, of those tried with the same sharing.
    """
    if not tried:
        return [f"{name}: {chosen}; too few people to choose by"]
    penalties = sorted({option.penalty for option in tried})
    lines = [
        f"{name}: error x 1000 of {pairs} pairs, left out in {folds} folds",
        f"{'  penalty':{WIDTH}}{''.join(f'{penalty:>8g}' for penalty in penalties)}",
    ]
    for mirrored, blur in dict.fromkeys((option.mirrored, option.blur) for option in tried):
        row = f"  {'mirrored' if mirrored else 'not mirrored'}, blur {blur:g} px"
        options = [Option(blur, mirrored, penalty) for penalty in penalties]
        cells = "".join(
            f"{1000 * tried[option]:>7.3f}{'*' if option == chosen else ' '}"
            if option in tried
            else " " * 8
            for option in options
        )
        lines.append(f"{row:{WIDTH}}{cells}".rstrip())
    several = sum(replace(option, penalty=chosen.penalty) == chosen for option in tried) > 1
    return [*lines, f"  * {chosen}{f'; {why}' if why and several else ''}"]


def tables(meta: Mapping[str, Any]) -> list[str]:
    """Return the lines of the tables of all expressions that a model's metadata tell of."""
    try:
        return [line for name in meta["cross_validation"] for line in _kept(meta, name)]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):  # of another program
        return []


def _kept(meta: Mapping[str, Any], name: str) -> list[str]:
    """Return the table of one expression."""
    kept = meta["cross_validation"][name]
    tried = {_option(e): float(e["mse"]) for e in kept["errors"]}
    chosen = _option({key: meta[key][name] for key in ("blur", "mirrored", "penalty")})
    return table(name, int(meta["pairs"][name]), int(kept["folds"]), chosen, tried)


def _option(details: Mapping[str, Any]) -> Option:
    return Option(float(details["blur"]), bool(details["mirrored"]), float(details["penalty"]))
