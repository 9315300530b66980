"""Train the adversarial rivals for a set time each, score them on people they have not seen.

python -m benchmarks.rivals_gan [--data FOLDER] [--minutes 20] [--smoke]

Every fourth person is held out. Each method trains in a process of its own, one after the other,
and keeps a checkpoint every minute: the same command goes on where it was stopped, and the time
already spent counts. Writes rivals-gan.json, rivals-gan.png (what each makes of people and pictures
that it has not seen) and rivals-gan-losses.png.

The budget shows what these methods give for a cost like that of the others, multiplied by some
hundreds. It does not show what they can do: their authors trained for hours or days on a GPU. The
steps reached and the seconds of processor time say how far this was from that.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import mlr
from benchmarks.curves import draw_curves, thinned
from mlr import metrics
from mlr.bench.machine import describe, peak_memory
from mlr.data.files import replacing
from mlr.data.images import read_image, resized, write_image
from mlr.data.pairs import find_pairs, images_under
from mlr.data.samples import write_samples
from mlr.errors import DataError, MlrError, OptionError
from mlr.evaluation import MEASURES
from mlr.sheet import as_rgb8, draw_sheet
from mlr.threads import thread_count

KEYS = ("pix2pix", "cyclegan", "stargan", "ganimation")
HELD_OUT = 4  # one person in so many
PEOPLE, PICTURES = 4, 8  # held-out people, and pictures of other kinds, on the sheet
TIMED = 10  # images to time one by one


def read(path, size):
    """Return an image as 8-bit colour in a size."""
    pixels = as_rgb8(read_image(path).pixels)
    return pixels if pixels.shape[:2] == (size, size) else resized(pixels, size, size)


def load(data, target, size):
    """Return the inputs and targets of all people, uint8 (N, size, size, 3)."""
    pairs = find_pairs(data, target=target or ())
    if len(pairs.expressions) > 1:
        raise OptionError(f"{data}: choose one with --target: {', '.join(pairs.expressions)}")
    people = [(person.source, *person.targets.values()) for person in pairs.people]
    if len(people) < HELD_OUT:
        raise DataError(
            f"{data}: {len(people)} pairs; expected {HELD_OUT} or more, to hold out some"
        )
    return tuple(
        np.stack([read(path, size) for path in side]) for side in zip(*people, strict=True)
    )


def strangers(folder, faces):
    """Return pictures of other kinds: some of each folder, or else made of faces not seen."""
    size = faces.shape[1]
    if folder is None:
        return [made(face) for made in (tinted, sketched) for face in faces[:2]]
    kinds = {}
    for path in images_under(Path(folder)):
        kinds.setdefault(path.parent, []).append(path)
    turns = [
        paths[turn] for turn in range(PICTURES) for paths in kinds.values() if turn < len(paths)
    ]
    chosen = sorted(turns[:PICTURES])
    if not chosen:
        raise DataError(f"{folder}: holds no image")
    return [read(path, size) for path in chosen]


def tinted(face):
    """Return a face as under another light: darker, and yellow."""
    return np.rint(255 * (face / 255) ** 1.4 * (1, 0.9, 0.65)).astype(np.uint8)


def sketched(face):
    """Return a face as if drawn in pencil: grey divided by its blurred surroundings."""
    grey = face.mean(axis=2)
    side = len(grey)
    small = resized(np.rint(grey).astype(np.uint8)[..., None], side // 8, side // 8)
    around = resized(small, side, side)[..., 0]
    lines = np.clip(255 * grey / np.maximum(around, 1), 0, 255).astype(np.uint8)
    return np.repeat(lines[..., None], 3, axis=2)


def as_pixels(outputs):
    """Return outputs in [0, 1] as they would be written."""
    return np.rint(np.clip(outputs, 0, 1) * 255).astype(np.uint8)


def scored(outputs, targets):
    """Return the mean of each measure over 8-bit images."""
    entries = [metrics.scores(o / 255, t / 255) for o, t in zip(outputs, targets, strict=True)]
    return {name: float(np.mean([entry[name] for entry in entries])) for name in MEASURES}


def run(key, options, train, test, shown):
    """Train one method and return its row of the table, and what it makes of the pictures shown.

    Called in a process of its own, whose peak memory is then the method's: PyTorch included.
    """
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    (rival_class,) = importlib.import_module(f"benchmarks.rivals.{key}").RIVALS
    rival = rival_class(60 * options.minutes, options.folder, options.seed, options.scale)
    rival.fit(*train)
    peak = peak_memory()
    outputs = as_pixels(rival.predict(test[0]))
    times = []
    for image in test[0][:TIMED]:
        began = time.perf_counter()
        rival.predict(image[None])
        times.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        rival.save(path)
        disk = path.stat().st_size
    row = {
        "key": key,
        "name": rival.name,
        "family": rival.family,
        **scored(outputs, test[1]),
        "train_seconds": rival.seconds,
        "cpu_seconds": rival.cpu_seconds,
        "steps": rival.step,
        "batch": rival.batch,
        "width": rival.width,
        "peak_memory_mb": None if peak is None else peak / 2**20,
        "parameters": rival.parameters(),
        "disk_bytes": disk,
        "seconds_per_image": statistics.median(times),
        "history": thinned(rival.history),
    }
    return row, as_pixels(rival.predict(shown))


def sheet(test, odd, made):
    """Draw held-out people and other pictures: input, target, and a row for each method."""
    people = min(PEOPLE, len(test[0]))
    blank = np.full_like(test[0][0], 250)
    targets = [*test[1][:people], *[blank] * len(odd)]
    rows = [("input", [*test[0][:people], *odd]), ("target", targets)]
    return draw_sheet([], rows + [(name, list(pictures)) for name, pictures in made.items()])


def compare(options):
    """Train, score and write; print a line for each method."""
    if importlib.util.find_spec("torch") is None:
        raise MlrError("needs mlr[rivals]: pip install 'mlr[rivals]'")
    data = options.data
    if data is None:
        data = options.folder / f"drawn-{options.size}"
        write_samples(data, pairs=100, size=options.size, target=["happy"], force=True)
    inputs, targets = load(data, options.target, options.size)
    held = np.arange(len(inputs)) % HELD_OUT == HELD_OUT - 1
    train, test = ((inputs[part], targets[part]) for part in (~held, held))
    odd = strangers(options.strangers, test[0][PEOPLE:])
    shown = np.stack([*test[0][:PEOPLE], *odd])

    masked = mlr.MaskedRegression(receptive_field=3, penalty=0.4).fit(*train)
    made = {"masked linear regression": masked.predict(shown)}
    references = [
        {"key": "copy", "name": "copy of the input", **scored(test[0], test[1])},
        {"key": "mlr-paper", "name": "mlr: paper", **scored(masked.predict(test[0]), test[1])},
    ]
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        print(
            "| | MSE | PSNR | SSIM | sharpness | steps | seconds |\n|---|---|---|---|---|---|---|"
        )
        for reference in references:
            print(line(reference), flush=True)
        for key in options.only or KEYS:
            row, pictures = processes.submit(run, key, options, train, test, shown).result()
            print(line(row), flush=True)
            rows.append(row)
            made[row["name"]] = pictures
            write(options, data, train, test, references, rows, sheet(test, odd, made))


def line(row):
    """Return a row of a Markdown table."""
    steps, seconds = row.get("steps", ""), row.get("train_seconds")
    taken = "" if seconds is None else f"{seconds:.0f}"
    return (
        f"| {row['name']} | {row['mse']:.5f} | {row['psnr']:.2f} | {row['ssim']:.3f} "
        f"| {row['sharpness']:.2f} | {steps} | {taken} |"
    )


def write(options, data, train, test, references, rows, pictures):
    """Write all results so far, so that those of a long run can be looked at as it goes."""
    result = {
        "data": "/".join(data.resolve().parts[-2:]) if options.data else "drawn people, happy",
        "size": options.size,
        "train_pairs": len(train[0]),
        "test_pairs": len(test[0]),
        "machine": describe(options.threads or thread_count())
        | {"torch": importlib.metadata.version("torch")},
        "scale": options.scale,
        "budget_seconds": 60 * options.minutes,
        "references": references,
        "rivals": rows,
    }
    with replacing(options.out / "rivals-gan.json", force=True) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    write_image(options.out / "rivals-gan.png", pictures, force=True)
    curves = draw_curves({row["name"]: row["history"] for row in rows})
    write_image(options.out / "rivals-gan-losses.png", curves, force=True)


def parsed(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="training data  [default: 100 drawn people]")
    parser.add_argument("--target", help="expression, where there are several")
    parser.add_argument("--size", type=int, default=64, help="pixels, a multiple of 16  [64]")
    parser.add_argument("--strangers", type=Path, help="pictures of other kinds, to look at")
    parser.add_argument("--minutes", type=float, help="budget of each method  [20; smoke: 1]")
    parser.add_argument("--scale", choices=["smoke", "small", "paper"], help="[small]")
    parser.add_argument("--smoke", action="store_true", help="a minute each, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=KEYS, help="methods  [all]")
    parser.add_argument("--threads", type=int, help="PyTorch's  [one for each core]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("demo/rivals-gan"), help="checkpoints")
    parser.add_argument("--out", type=Path, help="results  [benchmarks/results; smoke: the folder]")
    options = parser.parse_args(arguments)
    options.scale = options.scale or ("smoke" if options.smoke else "small")
    options.minutes = options.minutes or (1 if options.smoke else 20)
    results = Path(__file__).parent / "results"
    options.out = options.out or (options.folder if options.smoke else results)
    return options


def main():
    try:
        compare(parsed())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except MlrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)


if __name__ == "__main__":
    main()
