"""What there is to choose for an expression, and the table of what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    name: str, people: str, chosen: Option, tried: Mapping[Option, float], why: str
) -> list[str]:
    """Return the lines of a table of what was tried for an expression, and what was chosen why.

    Parameters
    ----------
    name : str
        The expression.
    people : str
        Whose errors they are.
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
        f"{name}: error x 1000 of {people}",
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
    return [*lines, f"  * {chosen}{f'; {why} of the least error' if several else ''}"]
