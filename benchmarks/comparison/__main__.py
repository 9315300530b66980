"""Compare masked regression with its rivals on the same people.

    python -m benchmarks.comparison [--data FOLDER] [--size 64] [--output results/rivals]
    python -m benchmarks.comparison --gan [--budget 1200]

Writes OUTPUT.json, OUTPUT.md and OUTPUT.png (and OUTPUT-losses.png for GANs).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from benchmarks.comparison import measures
from benchmarks.comparison.claims import verdicts
from benchmarks.comparison.data import (
    Images,
    Pairs,
    at_size,
    drawn_outside,
    drawn_pairs,
    read_outside,
    read_pairs,
)
from benchmarks.comparison.kept import Kept
from benchmarks.comparison.protocol import INNER, OUTER, Job, compete, fold_of
from benchmarks.comparison.report import markdown
from benchmarks.comparison.sheet import loss_curves, rows_of_faces
from benchmarks.rivals.base import SETTINGS, Rival
from benchmarks.rivals.registry import find, make
from mlr.bench.machine import describe, load
from mlr.data.files import check_free, replacing
from mlr.data.images import write_image
from mlr.errors import MlrError, OptionError
from mlr.threads import thread_count

RESULTS = Path(__file__).parent.parent / "results"
PEOPLE = 80  # drawn once at the largest size, and shrunk
SHOWN, SHOWN_OUTSIDE = 3, 2  # faces on the sheet, of the held-out people and of each other kind
SMOKE = 15.0  # seconds for each GAN
BESIDE_GANS = ("copy", "mean-change", "ridge")  # with the recipes, on the GANs' fold


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison")
    add = parser.add_argument
    add("--data", type=Path, help="folder of pairs; by default, faces are drawn")
    add("--target", help="expression to make, where DATA has several")
    add("--outside", type=Path, help="folder with a subfolder of aligned faces for each kind")
    add("--output", type=Path, help="where to write, without suffix")
    add("--size", type=int, default=64, help="side of the images in px")
    add("--sizes", type=int, nargs="*", default=[32, 64, 128, 256], help="for the learning curve")
    add("--pairs", type=int, nargs="*", default=[10, 20, 40, 60], help="for the learning curve")
    add("--people", type=int, default=PEOPLE, help="how many to draw")
    add("--only", nargs="+", metavar="KEY", help="these rivals alone")
    add("--list", action="store_true", help="list the rivals")
    add("--gan", action="store_true", help="the GANs, on the first fold, and a few others beside")
    add("--budget", type=float, default=1200.0, help="seconds for each GAN")
    add("--checkpoints", type=Path, help="folder to resume GANs from")
    add("--keep", type=Path, help="folder of finished rivals, to go on after an interruption")
    add("--smoke", action="store_true", help=f"{SMOKE:g} seconds for each GAN")
    add("--seed", type=int, default=0, help="of the GANs")
    add("--force", action="store_true", help="overwrite")
    return parser.parse_args(arguments)


def compare(
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    keys: Sequence[str],
    *,
    size: int,
    sizes: Sequence[int] = (),
    counts: Sequence[int] = (),
    folds: int = OUTER,
    gan: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> tuple[dict[str, Any], Images, Images | None]:
    """Let rivals compete.

    Parameters
    ----------
    pairs : Pairs
        The people.
    outside : mapping of str to list of ndarray
        Faces from elsewhere, of each kind.
    keys : sequence of str
        The rivals.
    size, sizes, counts : int, sequences of int
        Side of the images in px; further sides and numbers of training pairs for the curves.
    folds : int
        How many of the outer folds to score.
    gan : mapping, optional
        For the constructors of GANs.
    folder : Path, optional
        Where finished rivals are kept, and taken from.

    Returns
    -------
    dict, ndarray, ndarray or None
        The figures, the sheet, and the loss curves of GANs.
    """
    fold = fold_of(len(pairs.inputs), OUTER)
    protocol = repr((size, sizes, counts, folds, sorted((gan or {}).items())))
    strangers = [face for faces in outside.values() for face in faces]
    kept = Kept(folder, [pairs.inputs, pairs.targets, *strangers], protocol)
    table: dict[str, Any] = {}
    sheet: list[tuple[str, list[Any]]] = []
    for key in keys:
        begin, rival = time.perf_counter(), make(key, **(gan or {}))
        outcome = kept.read(key)
        if outcome is None:
            outcome = _compete(rival, pairs, outside, fold, size, counts, folds)
            outcome[0]["by_size"] = _by_size(rival, pairs, fold, size, sizes, outcome[0])
            kept.write(key, outcome)
        found, faces = outcome
        table[key] = found
        sheet.append((rival.name, faces))
        error, seconds = found["scores"]["mse"], time.perf_counter() - begin
        print(f"{key:18} {error:.5f} {seconds:6.0f} s", file=sys.stderr, flush=True)
    first = np.flatnonzero(fold == 0)
    at = pairs.at(size)
    result = {
        "data": pairs.name,
        "people": len(pairs.inputs),
        "size": size,
        "machine": describe(thread_count()),
        "protocol": {"outer": OUTER, "inner": INNER, "folds": folds, "settings": SETTINGS}
        | {"budget": (gan or {}).get("budget")},
        "truth": measures.against_inputs(at.targets[first], at.inputs[first]),
        "rivals": table,
    }
    result["claims"] = list(verdicts(result))
    shown = first[:SHOWN]
    elsewhere = [x for faces in outside.values() for x in at_size(faces[:SHOWN_OUTSIDE], size)]
    heads = [(f"held-out people, {size} px", len(shown))]
    heads += [(kind, min(len(faces), SHOWN_OUTSIDE)) for kind, faces in outside.items()]
    rows = [
        ("input", [*at.inputs[shown], *elsewhere]),
        *(row for row in sheet if row[0] != "copy of the input"),
        ("target", [*at.targets[shown]]),
    ]
    histories = [(r["name"], r["history"]) for r in table.values() if r["history"]]
    return result, rows_of_faces(heads, rows), loss_curves(histories) if histories else None


def _compete(
    rival: Rival,
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    fold: Any,
    size: int,
    counts: Sequence[int],
    folds: int,
) -> tuple[dict[str, Any], list[Images]]:
    """Return the figures of one rival, and its faces for the sheet."""
    size = min(size, rival.largest or size)
    data = pairs.at(size)
    kinds = {kind: at_size(faces, size) for kind, faces in outside.items()}
    held = [np.flatnonzero(fold == k) for k in range(folds)]
    jobs = [Job(np.flatnonzero(fold != k), data.inputs[held[k]]) for k in range(folds)]
    jobs[0] = Job(jobs[0].train, np.concatenate([jobs[0].faces, *kinds.values()]))
    order = np.random.default_rng(2).permutation(jobs[0].train)
    fewer = {n: Job(order[:n], data.inputs[held[0]]) for n in counts if n < len(order)}
    got = compete(rival, data.inputs, data.targets, [*jobs, *fewer.values()])
    outputs = [measures.written(made) for made in got.outputs]
    first, elsewhere = np.split(outputs[0], [len(held[0])])
    outputs[0] = first
    each = _scores(outputs[:folds], [data.targets[people] for people in held])
    found = {
        **{name: getattr(rival, name) for name in ("name", "family", "largest")},
        "size": size,
        "settings": got.settings[:folds],
        "scores": {name: mean(values) for name, values in each.items()},
        "error": stdev(each["mse"]) / len(each["mse"]) ** 0.5,
        "each": each,
        "seconds": median(got.seconds[:folds]),
        "elapsed": median(got.elapsed[:folds]),
        "search_seconds": got.search_seconds,
        **got.cost,
        "by_pairs": {
            str(n): _mse(made, data.targets[held[0]])
            for n, made in [*zip(fewer, outputs[folds:], strict=True), (len(order), first)]
        }
        if counts
        else {},
        "outside": dict(_kept(first, data.inputs[held[0]], elsewhere, kinds)),
        "history": [(int(step), losses) for step, losses in got.history],
    }
    shown, begin = list(first[:SHOWN]), 0
    for faces in kinds.values():
        shown += list(elsewhere[begin : begin + min(SHOWN_OUTSIDE, len(faces))])
        begin += len(faces)
    return found, shown


def _by_size(
    rival: Rival, pairs: Pairs, fold: Any, size: int, sizes: Sequence[int], found: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return error, time and memory at each size that the rival reaches."""
    if rival.key.endswith("-change"):
        return {}  # costs what its original does
    result = {}
    held = np.flatnonzero(fold == 0)
    for side in sizes:
        if side > (rival.largest or side) or side > pairs.inputs.shape[1]:
            continue
        if side == found["size"]:
            error = mean(found["each"]["mse"][: len(held)])
            seconds, memory = found["seconds"], found["bytes"]
        else:
            data = pairs.at(side)
            job = Job(np.flatnonzero(fold != 0), data.inputs[held])
            got = compete(rival, data.inputs, data.targets, [job])
            error = _mse(measures.written(got.outputs[0]), data.targets[held])
            seconds, memory = got.seconds[0], got.cost["bytes"]
        result[str(side)] = {"mse": error, "seconds": seconds, "bytes": memory}
    return result


def _scores(outputs: Sequence[Images], targets: Sequence[Images]) -> dict[str, list[float]]:
    parts = [measures.against_targets(o, t) for o, t in zip(outputs, targets, strict=True)]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _mse(outputs: Images, targets: Images) -> float:
    return float(np.square(outputs / 255 - targets / 255).mean())


def _kept(
    first: Images, inputs: Images, elsewhere: Images, kinds: Mapping[str, Images]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what is kept of the held-out people and of the faces of each kind."""
    yield "held out", measures.against_inputs(first, inputs)
    begin = 0
    for kind, faces in kinds.items():
        yield kind, measures.against_inputs(elsewhere[begin : begin + len(faces)], faces)
        begin += len(faces)


def run(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    factories, missing = find()
    for line in missing:
        print(line, file=sys.stderr)
    rivals = {key: factory() for key, factory in factories.items()}
    if options.list:
        for key, rival in rivals.items():
            print(f"{key:18} {rival.family:9} {rival.name}")
        return
    keys = options.only or [key for key, rival in rivals.items() if _takes_part(rival, options.gan)]
    unknown = [key for key in keys if key not in rivals]
    if unknown:
        raise OptionError(f"no rival {unknown[0]!r}; there is: {', '.join(rivals)}")
    if options.gan and not any(rivals[key].family == "gan" for key in keys):
        raise MlrError("there is no GAN: needs mlr[rivals]: pip install 'mlr[rivals]'")
    output = options.output or RESULTS / ("rivals-gan" if options.gan else "rivals")
    suffixes = (".json", ".md", ".png", *(["-losses.png"] if options.gan else []))
    paths = [output.with_name(output.name + suffix) for suffix in suffixes]
    for path in paths:  # before the work, not after
        check_free(path, force=options.force)
    busy = load() or 0.0
    pairs, outside = _data(options)
    if options.gan:
        budget = SMOKE if options.smoke else options.budget
        gan = {"budget": budget, "folder": options.checkpoints, "seed": options.seed}
        result, sheet, losses = compare(
            pairs, outside, keys, size=options.size, folds=1, gan=gan, folder=options.keep
        )
    else:
        result, sheet, losses = compare(
            pairs,
            outside,
            keys,
            size=options.size,
            sizes=options.sizes,
            counts=options.pairs,
            folder=options.keep,
        )
    result = {"command": _command(arguments, options), "load": busy, "missing": missing} | result
    text = json.dumps(result, indent=1, allow_nan=False)
    for path, content in zip(paths, (text, markdown(result)), strict=False):
        with replacing(path, force=options.force) as file:
            file.write(content.encode())
    write_image(paths[2], sheet, force=options.force)
    if losses is not None:
        write_image(paths[3], losses, force=options.force)


def _takes_part(rival: Rival, gan: bool) -> bool:
    """Tell whether a rival is one of those compared unless some are named."""
    if gan:
        return rival.family in ("gan", "masked") or rival.key in BESIDE_GANS
    return rival.family != "gan"


def _data(options: argparse.Namespace) -> tuple[Pairs, dict[str, list[Images]]]:
    """Return the pairs and the faces from elsewhere that the options ask for."""
    if options.data:
        pairs = read_pairs(options.data, options.target)
    else:
        largest = 0 if options.gan else max([0, *options.sizes])
        pairs = drawn_pairs(options.people, max(options.size, largest))
    if len(pairs.inputs) < 2 * OUTER:
        raise MlrError(f"{len(pairs.inputs)} pairs are too few for {OUTER} folds; give {2 * OUTER}")
    if options.outside:
        return pairs, read_outside(options.outside)
    return pairs, {} if options.data else drawn_outside(pairs.inputs.shape[1])


def _command(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """Return the command for the report; where files lie on this machine is nobody's business."""
    if options.data:
        shown = ["--data", "DATA", "--size", str(options.size), *(["--gan"] if options.gan else [])]
    else:
        paths = [str(path) for path in (options.output, options.checkpoints, options.keep) if path]
        hidden = ("--force", "--output", "--checkpoints", "--keep", *paths)
        shown = [argument for argument in arguments if argument not in hidden]
    return shlex.join(["python", "-m", "benchmarks.comparison", *shown])


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except MlrError as error:
        print(f"benchmarks.comparison: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)


if __name__ == "__main__":
    main()
