"""The options of each recipe, apart from the recipes, which take longer to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlr.utils.options import option


@dataclass(frozen=True)
class StatisticsOptions:
    """Options that statistics depend on."""

    receptive_field: Any = option(
        None,
        "Odd side of a square window, or a name: plus, disc.",
        metavar="SIDE|NAME",
        default="as in the statistics files, or 3",
    )


@dataclass(frozen=True)
class PaperOptions(StatisticsOptions):
    """Options of `mlr.recipes.paper.Paper`, see there."""

    penalty: float = option(0.4, "Ridge penalty.", type=float, least=0)


@dataclass(frozen=True)
class BestOptions(StatisticsOptions):
    """Options of `mlr.recipes.best.Best`, see there."""

    penalty: float = option(0.006, "Ridge penalty.", type=float, least=0)
    blur: float | None = option(
        None,
        "Blur of the statistics, by which neighbouring pixels share their samples.",
        type=float,
        metavar="PIXELS",
        least=0,
        most=64,
        default="1.6 % of the shorter side",
    )


OPTIONS: dict[str, type] = {"best": BestOptions, "paper": PaperOptions}
