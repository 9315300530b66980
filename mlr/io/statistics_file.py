"""Files of statistics: the parts of a training set, all their planes and what there is to know.

An ``.npz`` file with the arrays of each part, called ``fold0_source0_lags`` and so on, and a JSON
string, ``meta``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlr.core.layout import Layout
from mlr.core.planes import WHITE, plane_dtypes
from mlr.core.receptive_field import ReceptiveField
from mlr.core.statistics import NUMBERS, SourceSums, Statistics, StyleSums, TargetSums, hexdigest
from mlr.errors import DataError, MlrError, ModelError
from mlr.io.files import is_folder_name, replacing
from mlr.io.npz import read_npz, write_npz

if TYPE_CHECKING:
    from mlr.core.registration.templates import Templates

FORMAT = 3  # 2 had sums for displacements, 1 no folds
TEMPLATES = "templates_"  # what the names of their arrays begin with

Arrays = dict[str, npt.NDArray[Any]]


def write_statistics(
    path: Path,
    parts: Sequence[Statistics],
    *,
    force: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Do what `Folds.save` does, with at least one part, all of one layout and source."""
    arrays: Arrays = {}
    folds = [_to_arrays(part, _prefix(fold), arrays) for fold, part in enumerate(parts)]
    first = parts[0]
    meta = {
        "kind": "statistics",
        "format": FORMAT,
        "shape": first.shape,
        "offsets": first.receptive_field.offsets,
        "pooled": first.layout.pooled,
        "source": first.source,
        "folds": folds,
        **(more or {}),
    }
    if first.templates is not None:
        found, meta["templates"] = first.templates.to_arrays()
        arrays |= {TEMPLATES + name: array for name, array in found.items()}
    arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
    with replacing(path, force=force, durable=True) as file:
        write_npz(file, arrays)


def read_statistics(path: Path, *, mapped: bool = False) -> tuple[Statistics, ...]:
    """Read the statistics that `write_statistics` wrote.

    Parameters
    ----------
    path : Path
        The file.
    mapped : bool
        Leave the planes in the file, to be read when they are used.

    Raises
    ------
    ModelError
        If the file is damaged, of another version, or something else.
    """
    arrays, meta = read_npz(path, kind="statistics", newest=FORMAT, mapped=mapped)
    if meta["format"] < FORMAT:
        raise ModelError(f"{path}: statistics of an older version of mlr; make them anew")
    try:
        layout = Layout(
            ReceptiveField.of([tuple(offset) for offset in meta["offsets"]]), bool(meta["pooled"])
        )
        channels, height, width = (int(n) for n in meta["shape"])
        if channels not in (1, 3):
            raise DataError(f"it is for {channels} channels")
        if not meta["folds"]:
            raise DataError("it has no folds")
        empty = Statistics(
            layout,
            WHITE["uint8"],
            (channels, height, width),
            source=str(meta["source"]),
            templates=_templates(meta, arrays, (height, width)),
        )
        return tuple(
            _from_arrays(empty, details, _prefix(fold), arrays)
            for fold, details in enumerate(meta["folds"])
        )
    except (LookupError, TypeError, ValueError, MlrError) as error:
        raise ModelError(f"{path}: not a statistics file, or a damaged one: {error}") from error


def _templates(
    meta: Mapping[str, Any], arrays: Mapping[str, Any], size: tuple[int, int]
) -> Templates | None:
    """Return the templates of a file, if it has some."""
    if "templates" not in meta:
        return None
    from mlr.core.registration.templates import Templates

    own = {
        name.removeprefix(TEMPLATES): array
        for name, array in arrays.items()
        if name.startswith(TEMPLATES)
    }
    templates = Templates.from_arrays(own, meta["templates"])
    if templates.geometry.size != size:
        raise DataError(f"its templates are for {templates.geometry.size}, its images {size}")
    return templates


def _prefix(fold: int) -> str:
    return f"fold{fold}_"


def _to_arrays(statistics: Statistics, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """Add the planes to the arrays of a file, and return all else that there is to know."""
    groups = statistics.groups()
    for index, (source, _) in enumerate(groups):
        arrays[f"{prefix}source{index}_lags"] = source.lags
        arrays[f"{prefix}source{index}_sums"] = source.sums
    targets = [statistics.targets[name] for name in statistics.expressions]
    for index, target in enumerate(targets):
        arrays[f"{prefix}target{index}_cross"] = target.cross
        arrays[f"{prefix}target{index}_sums"] = target.sums
        arrays[f"{prefix}target{index}_squares"] = target.squares
        if target.styles is not None:
            arrays[f"{prefix}target{index}_styles"] = target.styles.planes
            arrays[f"{prefix}target{index}_shape"] = target.styles.shape
    return {
        "white": statistics.white,
        "expressions": statistics.expressions,
        "groups": [{"count": source.count, "expressions": names} for source, names in groups],
        "deep": [target.deep for target in targets],
        "digests": [hexdigest([target.digest]) for target in targets],
        "styles": [target.styles and target.styles.numbers for target in targets],
    }


def _from_arrays(
    empty: Statistics, details: Mapping[str, Any], prefix: str, arrays: Mapping[str, Any]
) -> Statistics:
    """Return the statistics of a fold, having checked that the arrays are what it needs."""
    white = float(details["white"])
    if white not in WHITE.values():
        raise DataError(f"its white is {white:g}")
    expressions = [str(name) for name in details["expressions"]]
    for name in expressions:
        if not is_folder_name(name):  # which is what it becomes
            raise DataError(f"expression {name!r} cannot be the name of a folder")
    layout, (channels, height, width) = empty.layout, empty.shape

    def planes(name: str, *middle: int) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = arrays[prefix + name]
        expected = (layout.channels(channels), *middle, height, width)
        if array.shape != expected or array.dtype not in plane_dtypes(white):
            raise DataError(f"{prefix}{name} is {array.dtype} {array.shape}, expected {expected}")
        return array

    sources: dict[str, SourceSums] = {}
    for index, group in enumerate(details["groups"]):
        lags = planes(f"source{index}_lags", len(layout.lags))
        source = SourceSums(int(group["count"]), lags, planes(f"source{index}_sums"))
        if source.count < 1:
            raise DataError(f"it says to hold {source.count} pairs")
        sources.update(dict.fromkeys(group["expressions"], source))
    targets = {
        name: TargetSums(
            planes(f"target{index}_cross", len(layout.receptive_field)),
            planes(f"target{index}_sums"),
            planes(f"target{index}_squares"),
            int(details["deep"][index]),
            int(details["digests"][index], 16),
            _styles(empty, white, details["styles"][index], f"{prefix}target{index}_", arrays),
        )
        for index, name in enumerate(expressions)
    }
    if set(sources) != set(targets):
        raise DataError("its groups and its expressions disagree")
    if any(name not in empty.templates.frames for name in targets if empty.templates):
        raise DataError("its templates lack an expression")
    return replace(empty, white=white, sources=sources, targets=targets)


def _styles(
    empty: Statistics,
    white: float,
    numbers: Sequence[int] | None,
    prefix: str,
    arrays: Mapping[str, Any],
) -> StyleSums | None:
    """Return the sums weighted by light and style of a target, checked."""
    if (empty.templates is None) != (numbers is None):
        raise DataError("its templates and its styles disagree")
    if empty.templates is None or numbers is None:
        return None
    planes, shape = arrays[f"{prefix}styles"], arrays[f"{prefix}shape"]
    kind = "f" if white == 1.0 else "i"
    if planes.shape != (4, *empty.shape) or planes.itemsize != 8 or planes.dtype.kind != kind:
        raise DataError(f"{prefix}styles is {planes.dtype} {planes.shape}")
    if shape.dtype != np.int64 or shape.shape != (2, *empty.templates.geometry.fields):
        raise DataError(f"{prefix}shape is {shape.dtype} {shape.shape}")
    if len(numbers) != NUMBERS:
        raise DataError(f"it has {len(numbers)} sums of light and style")
    return StyleSums(planes, shape, tuple(int(number) for number in numbers))
