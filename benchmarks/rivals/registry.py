"""The list of rivals, from ``RIVALS`` of every module in this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rivals.base import Rival
from mlr._version import install

FAMILIES = ("baseline", "linear", "kernel", "registered", "masked", "gan")  # the order of the table
OPTIONAL = ("torch", "sklearn")

Factory = Callable[..., Rival]


def find() -> tuple[dict[str, Factory], list[str]]:
    """Return the rivals by their keys, and a line about files that lack a library, if any."""
    factories: list[tuple[int, str, Factory]] = []
    without: list[str] = []
    for module in sorted(info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)])):
        try:
            found = importlib.import_module(f"benchmarks.rivals.{module}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in OPTIONAL:
                raise
            without.append(module)
            continue
        for factory in getattr(found, "RIVALS", ()):
            rival = factory()
            factories.append((FAMILIES.index(rival.family), rival.key, factory))
    ordered = sorted(factories, key=lambda entry: entry[0])  # stable: files stay in order
    by_key = {key: factory for _, key, factory in ordered}
    if len(by_key) < len(ordered):
        raise ValueError(f"two rivals have the same key: {sorted(key for _, key, _ in ordered)}")
    needs = f"skipped {', '.join(without)}: needs {install('rivals')}"
    return by_key, [needs] if without else []


def make(key: str, **options: Any) -> Rival:
    """Return a new rival; ``options`` are for the constructors of GANs."""
    factory = find()[0][key]
    rival = factory()
    return factory(**options) if rival.family == "gan" else rival
