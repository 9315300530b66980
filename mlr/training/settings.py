"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlr.utils.executor import Executor
from mlr.utils.options import check_options, option


@dataclass(frozen=True)
class RunSettings:
    """Settings of a training run; raises an `OptionError` if one is out of range."""

    checkpoint: Path | str | None = option(
        None,
        "Folder to keep finished shards in, from which a killed run continues.",
        type=Path,
        metavar="DIR",
    )
    shard: int | None = option(
        None,
        "Most subjects in a shard.",
        type=int,
        metavar="SUBJECTS",
        least=1,
        default="chosen for speed",
    )
    memory: int | str | None = option(
        None,
        "Memory to use in addition to the program's own, such as 2GB; less takes longer.",
        metavar="AMOUNT",
        default="half of what is free",
    )
    threads: int | None = option(
        None, "Threads to use.", type=int, least=1, default="one for each processor"
    )
    executor: Executor | None = None  # accumulates the shards; by default this process

    def __post_init__(self) -> None:
        check_options(self)
