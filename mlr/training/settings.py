"""The settings of a run: what it may use, and where it keeps what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mlr.utils.executor import Executor
from mlr.utils.options import check_options, option


@dataclass(frozen=True)
class RunSettings:
    """How to run a training.

    Attributes
    ----------
    checkpoint : Path, optional
        Folder to keep finished shards in.
    shard : int, optional
        Most subjects in a shard.
    memory : int or str, optional
        Most bytes to use in addition to the program's own, or text such as "2GB".
    threads : int, optional
        Threads to decode and to compute with.
    executor : Executor, optional
        Accumulates the shards; by default this process.

    Raises
    ------
    OptionError
        If one of them is out of range.
    """

    checkpoint: Path | str | None = field(
        default=None,
        metadata=option(
            "Folder to keep finished shards in, from which a killed run continues.",
            type=Path,
            metavar="DIR",
        ),
    )
    shard: int | None = field(
        default=None,
        metadata=option(
            "Most subjects in a shard.",
            type=int,
            metavar="SUBJECTS",
            least=1,
            default="chosen for speed",
        ),
    )
    memory: int | str | None = field(
        default=None,
        metadata=option(
            "Memory to use in addition to the program's own, such as 2GB; less takes longer.",
            metavar="AMOUNT",
            default="half of what is free",
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=option("Threads to use.", type=int, least=1, default="one for each processor"),
    )
    executor: Executor | None = None

    def __post_init__(self) -> None:
        check_options(self)
