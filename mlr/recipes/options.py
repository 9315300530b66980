"""The options of each recipe; without the recipes themselves, which take longer to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlr.utils.options import option

_RECEPTIVE_FIELD = option(
    "Odd side of a square window, or a name: plus, disc.",
    metavar="SIDE|NAME",
    default="that of the statistics files, or 3",
)
_PENALTY = option("Ridge penalty.", type=float, least=0)


@dataclass(frozen=True)
class StatisticsOptions:
    """Options that statistics depend on."""

    receptive_field: Any = field(default=None, metadata=_RECEPTIVE_FIELD)


@dataclass(frozen=True)
class PaperOptions(StatisticsOptions):
    """Options of `mlr.recipes.paper.Paper`, see there."""

    penalty: float = field(default=0.4, metadata=_PENALTY)


@dataclass(frozen=True)
class BestOptions(StatisticsOptions):
    """Options of `mlr.recipes.best.Best`, see there."""

    penalty: float = field(default=0.006, metadata=_PENALTY)
    blur: float | None = field(
        default=None,
        metadata=option(
            "Blur of the statistics, by which neighbouring pixels share their samples.",
            type=float,
            metavar="PIXELS",
            least=0,
            most=64,
            default="1.6 % of the shorter side",
        ),
    )


OPTIONS: dict[str, type] = {"best": BestOptions, "paper": PaperOptions}
