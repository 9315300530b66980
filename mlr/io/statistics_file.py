"""Statistics files: ``.npz`` files of planes, with everything else in a JSON string, ``meta``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.core.planes import DATA_RANGE, Layout, plane_dtypes
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.templates import Templates
from mlr.core.statistics import (
    NUMBERS,
    Group,
    SourceSums,
    Statistics,
    StyleSums,
    TargetSums,
    hexdigest,
)
from mlr.errors import DataError, MlrError, ModelError
from mlr.io.files import is_folder_name, located
from mlr.io.npz import DAMAGED, read_npz, save_npz
from mlr.utils.memory import release

FORMAT = 3
TEMPLATES = "templates_"  # prefix of the names of template arrays
MOST_PAIRS = 1 << 40  # far more than there can be
PREFIX = "fold0_"  # prefix of the names of planes; files of format 3 have a single fold

Arrays = Mapping[str, npt.NDArray[Any]]


def save_statistics(
    statistics: Statistics,
    path: str | Path,
    *,
    force: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write statistics to an ``.npz`` file, with ``more`` metadata for JSON.

    `OutputExistsError` is raised if the file exists and ``force`` is false, `MlrError` if it cannot
    be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    groups, targets = statistics.groups, statistics.targets
    for index, group in enumerate(groups):
        prefix = f"{PREFIX}source{index}_"
        arrays |= {f"{prefix}lags": group.source.lags, f"{prefix}sums": group.source.sums}
    for index, target in enumerate(targets.values()):
        prefix = f"{PREFIX}target{index}_"
        arrays |= {prefix + name: getattr(target, name) for name in ("cross", "sums", "squares")}
        if target.styles is not None:
            arrays[f"{prefix}styles"] = target.styles.planes
            arrays[f"{prefix}shape"] = target.styles.shape
    fold = {
        "white": statistics.data_range,
        "expressions": list(targets),
        "groups": [
            {
                "count": group.source.count,
                "expressions": sorted(group.targets),
                "digest": hexdigest([group.source.digest]),
            }
            for group in groups
        ],
        "deep": [target.wide for target in targets.values()],
        "digests": [hexdigest([target.digest]) for target in targets.values()],
        "styles": [target.styles and target.styles.numbers for target in targets.values()],
    }
    meta = {
        "kind": "statistics",
        "format": FORMAT,
        "shape": statistics.shape,
        "offsets": statistics.receptive_field.offsets,
        "pooled": statistics.layout.pooled,
        "source": statistics.source,
        "folds": [fold],
        **(more or {}),
    }
    if statistics.templates is not None:
        found, meta["templates"] = statistics.templates.to_arrays()
        arrays |= {TEMPLATES + name: array for name, array in found.items()}
    save_npz(Path(path), arrays, meta, force=force)


def load_statistics(path: str | Path, *, mapped: bool = False) -> Statistics:
    """Read a file of `save_statistics`; ``mapped`` planes stay in the file until they are used.

    `ModelError` is raised if the file is damaged, of another version or of another kind.
    """
    path = located(path)
    arrays, meta = read_npz(path, kind="statistics", newest=FORMAT, mapped=mapped)
    if meta["format"] < FORMAT:
        raise ModelError(f"{path}: statistics of an older version of mlr; compute them again")
    try:
        return _from_arrays(arrays, meta)
    except (MlrError, *DAMAGED) as error:
        raise ModelError(f"{path}: not a statistics file, or a damaged one: {error}") from error


def _from_arrays(arrays: Arrays, meta: Mapping[str, Any]) -> Statistics:
    """Return statistics, after checking dtypes, shapes and names."""
    taps = ReceptiveField.of([tuple(offset) for offset in meta["offsets"]])
    layout = Layout(taps, bool(meta["pooled"]))
    channels, height, width = map(int, meta["shape"])
    if channels not in (1, 3) or min(height, width) < 1:
        raise DataError(f"it is for {channels} channels of {width}x{height} px")
    (fold,) = meta["folds"]
    templates = None
    if "templates" in meta:
        names = [name for name in arrays if name.startswith(TEMPLATES)]
        found = {name.removeprefix(TEMPLATES): arrays[name] for name in names}
        templates = Templates.from_arrays(found, meta["templates"])
        if (size := templates.geometry.size) != (height, width):
            raise DataError(f"its templates are for {size}, its images {(height, width)}")
    data_range = float(fold["white"])
    if data_range not in DATA_RANGE.values():
        raise DataError(f"its data range is {data_range:g}")
    expressions = [str(name) for name in fold["expressions"]]
    for name in expressions:
        if not is_folder_name(name):  # names folders of outputs
            raise DataError(f"expression {name!r} cannot be the name of a folder")
        if templates is not None and name not in templates.frames:
            raise DataError("its templates lack an expression")

    def planes(name: str, *middle: int) -> npt.NDArray[Any]:
        array = arrays[PREFIX + name]
        expected = (layout.channels(channels), *middle, height, width)
        if array.shape != expected or array.dtype not in plane_dtypes(data_range):
            raise DataError(f"{PREFIX}{name} is {array.dtype} {array.shape}, expected {expected}")
        _check_finite(array, PREFIX + name)
        return array

    shape = channels, height, width
    empty = Statistics(layout, data_range, shape, (), str(meta["source"]), templates)
    targets = {
        name: TargetSums(
            planes(f"target{index}_cross", len(taps)),
            planes(f"target{index}_sums"),
            planes(f"target{index}_squares"),
            int(fold["deep"][index]),
            int(fold["digests"][index], 16),
            _styles(empty, fold["styles"][index], f"{PREFIX}target{index}_", arrays),
        )
        for index, name in enumerate(expressions)
    }
    groups = []
    for index, group in enumerate(fold["groups"]):
        source = SourceSums(
            int(group["count"]),
            planes(f"source{index}_lags", len(layout.lags)),
            planes(f"source{index}_sums"),
            int(group.get("digest", "0"), 16),
        )
        if not 1 <= source.count <= MOST_PAIRS:
            raise DataError(f"its number of pairs is {source.count:.3g}")
        own = {name: targets[name] for name in group["expressions"]}
        if not all(0 <= target.wide <= source.count for target in own.values()):
            raise DataError("its number of 16-bit pairs is not a part of its pairs")
        groups.append(Group(source, own))
    if sorted(name for group in groups for name in group.targets) != sorted(targets):
        raise DataError("its groups and its expressions disagree")
    return replace(empty, groups=tuple(groups))


def _styles(
    empty: Statistics, numbers: list[int] | None, prefix: str, arrays: Arrays
) -> StyleSums | None:
    """Return the style statistics of a target, after checking dtypes and shapes."""
    if (empty.templates is None) != (numbers is None):
        raise DataError("its templates and its styles disagree")
    if empty.templates is None or numbers is None:
        return None
    planes, shape = arrays[f"{prefix}styles"], arrays[f"{prefix}shape"]
    kind = "f" if empty.data_range == 1.0 else "i"
    if planes.shape != (4, *empty.shape) or planes.itemsize != 8 or planes.dtype.kind != kind:
        raise DataError(f"{prefix}styles is {planes.dtype} {planes.shape}")
    if shape.dtype != np.int64 or shape.shape != (2, *empty.templates.geometry.fields):
        raise DataError(f"{prefix}shape is {shape.dtype} {shape.shape}")
    _check_finite(planes, f"{prefix}styles")
    if len(numbers) != NUMBERS:
        raise DataError(f"it has {len(numbers)} style numbers, expected {NUMBERS}")
    light, teeth, *products = map(int, numbers)
    square, mixed, teeth_square = products
    possible = light > 0 and square > 0 and teeth_square >= 0 and mixed**2 <= square * teeth_square
    if not possible or max(light, square, teeth_square, abs(teeth)) >= 2**63:
        raise DataError("its sums of light and teeth are not sums of pairs")
    return StyleSums(planes, shape, (light, teeth, *products))


def _check_finite(planes: npt.NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity, piece by piece, as planes may be mapped."""
    if planes.dtype.kind != "f":
        return
    for part in planes.reshape(-1, *planes.shape[-2:]):
        if not np.isfinite(part).all():
            raise DataError(f"{name} has values that are not finite")
        release(planes)
