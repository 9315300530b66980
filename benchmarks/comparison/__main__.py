"""Compare masked regression with its rivals on the same subjects.

    python -m benchmarks.comparison          everything but the GANs
    python -m benchmarks.comparison --gan    the GANs, 20 minutes each, with CUDA where there is

Both write OUTPUT.json, OUTPUT.md and OUTPUT.webp, and OUTPUT-losses.png if there are GANs, with all
rivals that have been run on the same data: their outcomes stay in the folder --keep. With
--photographs they renew the tables on photographs in README.md and docs/comparison.md, and write
benchmarks/results/rivals-photographs; pictures, which show the subjects, stay in --keep.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison import measures
from benchmarks.comparison.claims import verdicts
from benchmarks.comparison.curves import draw_curves
from benchmarks.comparison.data import (
    Images,
    Pairs,
    at_size,
    drawn_outside,
    drawn_pairs,
    read_outside,
    read_pairs,
)
from benchmarks.comparison.figures import SHOWN, SHOWN_OUTSIDE, outcome, truth
from benchmarks.comparison.kept import Kept
from benchmarks.comparison.protocol import INNER, OUTER, fold_of
from benchmarks.comparison.report import markdown, readme, summary
from benchmarks.comparison.sheet import rows_of_faces
from benchmarks.rivals.base import SETTINGS
from benchmarks.rivals.registry import find, make
from benchmarks.tables import renew_page
from mlr._version import install
from mlr.bench import describe
from mlr.errors import MlrError, OptionError
from mlr.io.files import check_free, replacing
from mlr.io.images import write_image
from mlr.utils.threads import thread_count

RESULTS = Path(__file__).parent.parent / "results"
KEPT = Path("demo/rivals")
SIZE = 64
SUBJECTS = 80  # drawn once at the largest size, and reduced
STANDARD = (None, SIZE, SUBJECTS, False)  # data, size, subjects, smoke: as in docs/comparison.md
#: Rows of the sheet, which is to be understood at a glance.
DRAWN = (
    "mean-change", "lasso", "lsrf", "ridge", "rbf", "ridge-change-registered",
    "mlr-paper", "mlr-best-style-0", "mlr-best", "cyclegan", "ganimation", "pix2pix", "stargan",
)  # fmt: skip
SHEET_QUALITY = 90  # of WebP: a third of a PNG, and no difference to see
BUDGET, SMOKE = 1200.0, 15.0  # seconds of processor time for each GAN


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison")
    add = parser.add_argument
    add("--data", type=Path, help="folder of pairs; by default, faces are drawn")
    add("--target", help="target expression, where DATA has several")
    add("--outside", type=Path, help="folder with a subfolder of aligned faces for each kind")
    add(
        "--output",
        type=Path,
        help="files to write, without suffix; by default KEEP, or for the standard comparison "
        "benchmarks/results and docs/comparison.md",
    )
    add("--size", type=int, default=SIZE, help="side of the images in pixels")
    add("--sizes", type=int, nargs="*", default=[32, 64, 128, 256], help="for the curve by size")
    add("--pairs", type=int, nargs="*", default=[10, 20, 40, 60], help="for the learning curve")
    add("--subjects", type=int, default=SUBJECTS, help="number to draw")
    add("--only", nargs="*", metavar="KEY", help="run these; none: write what is kept")
    add("--list", action="store_true", help="list the rivals")
    add("--keep", type=Path, default=KEPT, help="folder of outcomes and checkpoints")
    add("--resume", action="store_true", help="skip those with a kept outcome")
    add("--judge", type=Path, metavar="FOLDER", help="see benchmarks/comparison/judge.mjs")
    add("--photographs", metavar="NAME", help="publish; the name of the data set in DATA")
    add("--gan", action="store_true", help="run the GANs; they go on from their checkpoints")
    add(
        "--budget",
        type=float,
        default=BUDGET,
        help="seconds of processor time for each GAN",
    )
    add("--scale", default="small", help="of the GANs' networks: smoke, small or paper")
    add("--seed", type=int, default=0, help="of the GANs")
    add("--smoke", action="store_true", help=f"run the GANs for {SMOKE:g} s each, as a test")
    add("--force", action="store_true", help="overwrite")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.gan, options.budget, options.scale = True, SMOKE, "smoke"
        options.keep = options.keep.with_name(f"{options.keep.name}-smoke")
    standard = (options.data, options.size, options.subjects, options.smoke) == STANDARD
    if options.photographs and not options.data:
        parser.error("--photographs needs --data")
    options.published = standard and not options.output
    if options.photographs and not options.output:
        options.output = RESULTS / "rivals-photographs"
    options.output = options.output or (RESULTS / "rivals" if standard else options.keep)
    return options


def collect(
    pairs: Pairs,
    outside: Mapping[str, list[Images]],
    keys: Sequence[str],
    kept: Kept,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], Images]:
    """Return the figures and the sheet of all rivals with a kept outcome."""
    outcomes = {key: kept.read(key) for key in kept}
    order = [key for key in keys if key in outcomes]
    order += [key for key in outcomes if key not in order]  # their library is missing
    first = np.flatnonzero(fold_of(len(pairs.inputs), OUTER) == 0)
    size = options.size
    at = pairs.at(size)
    name = f"{options.photographs}, {pairs.name}" if options.photographs else pairs.name
    result = {
        "data": name,
        "subjects": len(pairs.inputs),
        "size": size,
        "machine": describe(thread_count()),
        "protocol": {"outer": OUTER, "inner": INNER, "settings": SETTINGS},
        "truth": {
            "change": measures.against_inputs(at.targets[first], at.inputs[first]),
            "each": truth(pairs, size, options.judge),
        },
        "rivals": {key: outcomes[key][0] for key in order},
    }
    result["claims"] = list(verdicts(result))
    shown = first[:SHOWN]
    elsewhere = [x for faces in outside.values() for x in at_size(faces[:SHOWN_OUTSIDE], size)]
    heads = [(f"held-out subjects, {size} px", len(shown))]
    heads += [(kind, min(len(faces), SHOWN_OUTSIDE)) for kind, faces in outside.items()]
    rows = [
        ("input", [*at.inputs[shown], *elsewhere]),
        *((outcomes[key][0]["name"], outcomes[key][1]) for key in order if key in DRAWN),
        ("target", [*at.targets[shown]]),
    ]
    return result, rows_of_faces(heads, rows)


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
    keys = options.only
    if keys is None:
        keys = [key for key, rival in rivals.items() if (rival.family == "gan") == options.gan]
        if not keys:
            raise MlrError(f"there is no GAN: needs PyTorch: {install('rivals')}")
    unknown = [key for key in keys if key not in rivals]
    if unknown:
        raise OptionError(f"no rival {unknown[0]!r}; there is: {', '.join(rivals)}")
    texts = options.output
    pictures = options.keep / texts.name if options.photographs else texts
    paths = [texts.with_name(f"{texts.name}{suffix}") for suffix in (".json", ".md")]
    paths += [pictures.with_name(f"{pictures.name}{end}") for end in (".webp", "-losses.png")]
    for path in paths:
        check_free(path, force=options.force)
    pairs, outside = _data(options)
    faces = [face for of_kind in outside.values() for face in of_kind]
    kept = Kept(options.keep, [pairs.inputs, pairs.targets, *faces], options.size)
    gan = {name: getattr(options, name) for name in ("budget", "scale", "seed")}
    for key in keys:
        if options.resume and key in list(kept):
            continue
        begin, rival = time.perf_counter(), make(key, **gan, folder=options.keep)
        sizes, counts = options.sizes, options.pairs
        judge = options.judge
        came = outcome(
            rival, pairs, outside, size=options.size, sizes=sizes, counts=counts, judge=judge
        )
        kept.write(key, came)
        error, seconds = came[0]["scores"]["mse"], time.perf_counter() - begin
        print(f"{key:18} {error:.5f} {seconds:6.0f} s", file=sys.stderr, flush=True)
    result, sheet = collect(pairs, outside, list(rivals), kept, options)
    result = _rounded({"command": _command(options)} | result)
    text = _lines(result)
    for path, content in zip(paths, (text, markdown(result)), strict=False):
        with replacing(path, force=options.force) as file:
            file.write(content.encode())
    write_image(paths[2], sheet, quality=SHEET_QUALITY, force=options.force)
    if options.published:
        renew_page("comparison.md", "rivals", summary(result))
    if options.photographs:
        renew_page("comparison.md", "rivals on photographs", summary(result))
        renew_page("../README.md", "rivals", readme(result))
    histories = {r["name"]: r["history"] for r in result["rivals"].values() if r["history"]}
    if histories:
        draw_curves(histories, paths[3], force=options.force)


def _data(options: argparse.Namespace) -> tuple[Pairs, dict[str, list[Images]]]:
    """Return the pairs, and the faces outside the data set."""
    if options.data:
        pairs = read_pairs(options.data, options.target)
    else:
        pairs = drawn_pairs(options.subjects, max([options.size, *options.sizes]))
    if len(pairs.inputs) < 2 * OUTER:
        raise MlrError(f"{len(pairs.inputs)} pairs are too few for {OUTER} folds; give {2 * OUTER}")
    if options.outside:
        return pairs, read_outside(options.outside)
    return pairs, {} if options.data else drawn_outside(pairs.inputs.shape[1])


def _rounded(value: Any) -> Any:
    """Return a result with eight significant digits: enough, and half of the size."""
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _lines(result: dict[str, Any]) -> str:
    """Return the result as JSON, with a line for each rival."""
    encode = partial(json.dumps, allow_nan=False)
    rivals = (f"{encode(key)}: {encode(rival)}" for key, rival in result["rivals"].items())
    others = [f"{encode(key)}: {encode(each)}" for key, each in result.items() if key != "rivals"]
    return ",\n".join(["{" + others[0], *others[1:], '"rivals": {' + ",\n".join(rivals) + "}}\n"])


def _command(options: argparse.Namespace) -> str:
    """Return the command for the report, without the paths on this machine."""
    data = ["--data", "DATA"] if options.data else []
    data += ["--outside", "FACES"] if options.outside else []
    data += ["--judge", "FOLDER"] if options.judge else []
    data += ["--photographs", options.photographs] if options.photographs else []
    return shlex.join(["python", "-m", "benchmarks.comparison", *data, "--size", str(options.size)])


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted; --resume goes on, GANs from their checkpoints", file=sys.stderr)
        sys.exit(130)
    except MlrError as error:
        print(f"benchmarks.comparison: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)


if __name__ == "__main__":
    main()
