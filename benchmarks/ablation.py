"""What each part of the default recipe is worth, cross-validated over subjects.

    python -m benchmarks.ablation [DATA] [--title TITLE] [--write]

DATA is a folder of pairs of one expression; by default faces are drawn. Parts are added one by one,
mostly by editing a trained model, then the size of the fields and the starts of the search are
varied. ``--write`` renews the section "Ablation: TITLE" of ``benchmarks/results/registration.md``,
and for drawn faces the picture beside it, and leaves all else.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import mlr
from benchmarks.comparison.sheet import rows_of_faces
from benchmarks.quality import means_of, output_of, part_of, train_on
from benchmarks.tables import machine, table, with_section
from mlr.core.registration import features, geometry
from mlr.core.registration.search import Search
from mlr.evaluation.scores import identity_distance, score
from mlr.io.files import replacing
from mlr.io.images import read_image, write_image
from mlr.io.pairs import find_pairs
from mlr.io.sheet import as_rgb8
from mlr.utils.threads import thread_count

RESULTS = Path(__file__).parent / "results" / "registration.md"
PAIRS, FOLDS, SHOWN = 80, 4, 5
TITLE = f"{PAIRS} drawn faces"
COPY, PAPER = "copy of the input", "paper: aligned by the eyes, ridge 3x3"
MOTION, MEAN = "motion alone", "motion, mean change"
DEFAULT, WIDER, STYLED = (
    "motion, ridge 3x3: style 0",
    "motion, ridge 5x5",
    "with style: the default",
)
ONE = "style 0, one start"
SMALL, LARGE = "style 0, fields of 32 px", "style 0, fields of 128 px"
LABELS = (COPY, PAPER, MOTION, MEAN, DEFAULT, WIDER, STYLED, ONE, SMALL, LARGE)
SIDES = {SMALL: 64, LARGE: 256}  # px of the features, twice those of the fields
COLUMNS = (("face", "mse", 5), ("face", "ssim", 3), ("face", "sharpness", 2),
           ("mouth", "mse", 5), ("mouth", "sharpness", 2))  # fmt: skip


class Variant(NamedTuple):
    """A model, the style of its outputs (None for the default), and the time of its training."""

    model: mlr.Model
    style: float | None
    seconds: float | None = None  # None if it was made from another


def without_ridge(model, changes):
    """Return a model that copies in the frame and adds the mean change (or nothing)."""
    weights = np.zeros_like(model.weights)
    weights[:, :, model.receptive_field.offsets.index((0, 0))] = 1
    appearances = {}
    for name, each in model.appearances.items():
        face = each.face.astype(np.float32) / np.float32(255)
        added = 0 * face
        if changes:  # at style 0, which is -s_0 units from where the style begins to count
            units = np.float32(-each.plain)
            added = model._output(name, face[None])[0] - face + each.mean
            added += units * (each.spread - each.share * face)
        bare = {"spread": 0 * each.spread, "share": 0 * each.share}
        appearances[name] = replace(each, mean=added, **bare)
    registered = replace(model.registered, appearances=appearances)
    return replace(model, weights=weights, registered=registered)


def with_one_start(model):
    """Return a model that searches a face from the mean of the sources alone."""
    registered = replace(model.registered)
    vars(registered)["search"] = Search(model.registered.search.candidates[:1])
    return replace(model, registered=registered)


def trained(subjects, recipe="best", **options):
    begin = time.process_time()
    model = train_on(subjects, recipe, **options)
    return model, time.process_time() - begin


def variants(subjects):
    """Return the variants trained on some subjects, by their labels, without those of `SIDES`."""
    paper, best, wider = (
        trained(subjects, "paper"),
        trained(subjects),
        trained(subjects, receptive_field=5),
    )
    return {
        PAPER: Variant(paper[0], None, paper[1]),
        MOTION: Variant(without_ridge(best[0], changes=False), 0.0),
        MEAN: Variant(without_ridge(best[0], changes=True), 0.0),
        DEFAULT: Variant(best[0], 0.0, best[1]),
        WIDER: Variant(wider[0], 0.0, wider[1]),
        STYLED: Variant(best[0], None, best[1]),
        ONE: Variant(with_one_start(best[0]), 0.0),
    }


def measured(data, label):
    """Return scores, output and times of each held-out pair, by label.

    They are those of one of `SIDES`, or with None of all other labels. Runs in a process of its
    own, since the size of features is a constant that much depends on.
    """
    if label is not None:
        features.SIGMA *= SIDES[label] / geometry.SIDE
        geometry.SIDE = SIDES[label]
    found = defaultdict(list)
    subjects = find_pairs(data).subjects
    for fold in range(FOLDS):
        others = [each for each in subjects if part_of(each, FOLDS) != fold]
        if label is None:
            made = variants(others)
        else:
            model, seconds = trained(others)
            made = {label: Variant(model, 0.0, seconds)}
        for subject in (each for each in subjects if part_of(each, FOLDS) == fold):
            source = read_image(subject.source).pixels
            distance = identity_distance(source)
            ((expression, path),) = subject.targets.items()
            target = read_image(path).pixels
            rows = [(COPY, source, None, None)] if label is None else []
            for name, (model, style, seconds) in made.items():
                begin = time.process_time()
                output = output_of(model, source, expression, style)
                rows.append((name, output, seconds, time.process_time() - begin))
            for name, output, seconds, elapsed in rows:
                scores = score(output, target)
                scores["same_person"] = distance(output)
                found[name].append((scores, output, seconds, elapsed))
    return dict(found)


def all_measured(data):
    context = multiprocessing.get_context("spawn")
    found = {}
    for label in (None, *SIDES):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found |= pool.submit(measured, data, label).result()
    return found


def report(found):
    rows = []
    for label in LABELS:
        entries = found[label]
        mean = means_of([entry[:2] for entry in entries])
        identity = mean["same_person"]
        training = {seconds for *_, seconds, _ in entries if seconds is not None}
        face = [elapsed for *_, elapsed in entries if elapsed is not None]
        rows.append([
            label,
            *(f"{mean[region][name]:.{digits}f}" for region, name, digits in COLUMNS),
            "" if identity is None else f"{identity:.2f}",
            f"{np.median(list(training)):.1f} s" if training else "",
            f"{1000 * np.median(face):.0f} ms" if face else "",
        ])  # fmt: skip
    heads = ["", "face: MSE", "SSIM", "sharpness", "mouth: MSE", "sharpness", "identity",
             "training", "a face"]  # fmt: skip
    return table(heads, rows)


def picture(data, found):
    """Return a picture of the held-out subjects of the first fold."""
    subjects = [each for each in find_pairs(data).subjects if part_of(each, FOLDS) == 0][:SHOWN]
    targets = [read_image(path).pixels for each in subjects for path in each.targets.values()]
    rows = [
        (label, [as_rgb8(output) for _, output, *_ in found[label][: len(subjects)]])
        for label in LABELS
    ]
    rows.append(("target", [as_rgb8(target) for target in targets]))
    return rows_of_faces([("held-out subjects", len(subjects))], rows)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--title", default=None)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="number to draw")
    parser.add_argument("--picture", type=Path, help="file to draw held-out subjects in")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = Path(folder)
            mlr.sample(data, pairs=options.pairs, target="happy", force=True)
        found = all_measured(data)
        text = f"{machine(thread_count())}; {FOLDS} folds by name.\n\n{report(found)}\n"
        print(text)
        path = options.picture
        if options.write and options.data is None:
            path = RESULTS.with_name("ablation.webp")
            text += f"\n![Each part of the recipe on held-out subjects]({path.name})\n"
        if path is not None:
            write_image(path, picture(data, found), quality=90, force=True)
    if options.write:
        title = options.title or (TITLE if options.data is None else options.data.name)
        before = RESULTS.read_text()
        with replacing(RESULTS, force=True) as file:
            file.write(with_section(before, f"Ablation: {title}", text).encode())


if __name__ == "__main__":
    main()
