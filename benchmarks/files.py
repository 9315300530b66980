"""Time training from files against merely decoding the same files, in as many threads.

    python benchmarks/files.py [--pairs 400] [--size 256] [--recipe paper] [--threads N]

Draws colour faces into a temporary folder, as PNG and as JPEG files, and prints the medians of
runs in turn: of decoding alone (through imageio with its Pillow plug-in), of training, and of the
ratio of the two. Kernels are compiled before, and the files are in the system's cache.
"""

import argparse
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from mlr.bench.timing import in_turn
from mlr.io.images import write_image
from mlr.samples import draw_face
from mlr.training.train import train
from mlr.utils.threads import thread_count

DRAWN = 24  # subjects; the others are these in another light


def write_pairs(folder, suffix, pairs, size, threads):
    """Write expression folders; return the paths of all images."""

    def write(expression, subject):
        face = faces[expression, subject % DRAWN].astype(np.float32)
        rng = np.random.default_rng(subject)
        gain, lift = rng.uniform(0.8, 1.1), rng.uniform(-10, 20)
        noise = rng.normal(0, 1, face.shape)
        pixels = np.clip(np.rint(face * gain + lift + noise), 0, 255).astype(np.uint8)
        path = folder / expression / f"{subject:04}{suffix}"
        write_image(path, pixels)
        return path

    faces = {
        (expression, subject): draw_face(0, subject, expression, size)
        for expression in ("neutral", "happy")
        for subject in range(min(DRAWN, pairs))
    }
    tasks = [
        (expression, subject) for expression in ("neutral", "happy") for subject in range(pairs)
    ]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: write(*task), tasks))


def decode(path):
    with iio.imopen(path.read_bytes(), "r", plugin="pillow") as file:
        return file.read(index=0, mode="RGB", rotate=True, writeable_output=False)


def decode_all(paths, threads):
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode, paths):
            pass


def measure(suffix, options):
    """Print one line."""
    threads = thread_count(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_pairs(folder, suffix, options.pairs, options.size, threads)
        decoding, training = in_turn(
            [
                lambda: decode_all(paths, threads),
                lambda: train(folder, recipe=options.recipe, threads=threads),
            ],
            options.repeat,
        )
    ratio = statistics.median(
        all_ / alone for alone, all_ in zip(decoding.runs, training.runs, strict=True)
    )
    print(
        f"{suffix:5} decoding {decoding.median:6.3f} s, training {training.median:6.3f} s, "
        f"ratio {ratio:.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--recipe", default="paper")
    options = parser.parse_args()
    print(f"{options.pairs} colour pairs of {options.size} px")
    for suffix in (".png", ".jpg"):
        measure(suffix, options)


if __name__ == "__main__":
    main()
