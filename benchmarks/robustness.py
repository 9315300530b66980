"""Measure the search for faces whose position or look differs from the training set.

    python -m benchmarks.robustness DATA [OTHERS ...] [--judge FOLDER] [--write]

DATA is a folder of aligned pairs; its subjects are cross-validated over four folds by their names.
Each of OTHERS is a folder of aligned faces, searched by the model of all subjects; the last letter
of a name may tell the sex (`010f`, `095m`). ``--write`` renews
``benchmarks/results/robustness.md``.

- Position: each face is searched as it is, and moved at random four times: shifted by up to 6 % of
  the side, zoomed and squeezed by 0.85 to 1.15, rolled by up to 8 degrees. The error is the
  distance, in pixels of 128, of the middle of the mouth from where dlib's predictor of 68 points
  sees it in the picture that was not moved (``pip install dlib-bin face-recognition-models``; its
  licence allows research alone: it judges here, and the program does not use it). Of faces that are
  wrong by more than 4 px, those are known whose change is faded to less than a half.
- Other pictures: crops of photographs without faces (scikit-image's), and faces upside down, which
  should stay as they are.
- Groups, at the default style: the fit; how much the face changes, in levels of 255; the distance
  of face embeddings of output and input; and, with ``--judge``, the mean probability that an
  independent classifier gives to "happy". Thirds by the lightness of the skin, the mean luminance
  of the face in the input; sex where names tell it.
"""

import argparse
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from scipy.ndimage import map_coordinates

from benchmarks.quality import part_of, train_on
from benchmarks.registration import dlib_mouths
from benchmarks.tables import machine, table
from mlr.core import regions
from mlr.core.model import LUMA
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import invert
from mlr.evaluation.scores import identity_distance
from mlr.io.files import replacing
from mlr.io.images import is_image, read_image, resized, write_image
from mlr.io.pairs import find_pairs

RESULTS = Path(__file__).parent / "results" / "robustness.md"
FOLDS, MOVES, SIDE, FAR, SEED = 4, 4, 128, 4.0, 0
SHIFT, ZOOM, ROLL = 0.06, (0.85, 1.15), 8.0
PICTURES = ("coffee", "rocket", "chelsea", "retina", "brick", "grass", "coins", "page", "text")
CROPS = 8  # of each of these


def aligned(path):
    """Return an aligned colour face, uint8 (SIDE, SIDE, 3)."""
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    pixels = resized(pixels, SIDE, SIDE)
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2)


def moved(image, generator):
    """Return a face moved at random, and the map of points (y, x), as fractions of the side."""
    shift, zoom = generator.uniform(-SHIFT, SHIFT, 2), generator.uniform(*ZOOM)
    squeeze, angle = generator.uniform(*ZOOM), np.radians(generator.uniform(-ROLL, ROLL))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # of (y, x)
    forth = turn @ np.diag([zoom * squeeze, zoom])
    at = (np.moveaxis(np.mgrid[:SIDE, :SIDE], 0, -1) + 0.5) / SIDE
    source = ((at - 0.5 - shift) @ np.linalg.inv(forth).T + 0.5) * SIDE - 0.5
    planes = [
        map_coordinates(
            image[..., c].astype(float), source.transpose(2, 0, 1), order=3, mode="nearest"
        )
        for c in range(3)
    ]
    output = np.uint8(np.clip(np.rint(np.dstack(planes)), 0, 255))
    return output, lambda point: forth @ (point - 0.5) + 0.5 + shift


def fit_of(model, image):
    return model.registered.search.find(features_of(np.float32(image) / 255))


def looked_up(field, point):
    """Return where a field leads from a point (y, x), as fractions of the sides."""
    size = np.array(field.shape[1:])
    at = point * size - 0.5
    by = [map_coordinates(plane, at[:, None], order=1, mode="nearest")[0] for plane in field]
    return (at + by + 0.5) / size


def mouth_in_frame(model, images, mouths):
    """Return the median position of mouths in the frame of the sources."""
    fields = [invert(fit_of(model, image).field) for image in images]
    return np.median([looked_up(*each) for each in zip(fields, mouths, strict=True)], axis=0)


def positions(model, frame, images, mouths, generator):
    """Return rows (error, trust) of faces as they are, and of moved ones, and ms a search."""
    rows = {"as they are": [], "moved": []}
    took = []
    for image, mouth in zip(images, mouths, strict=True):
        cases = [("as they are", image, mouth)]
        for _ in range(MOVES):
            other, forth = moved(image, generator)
            cases.append(("moved", other, forth(mouth)))
        for how, picture, true in cases:
            start = time.process_time()
            fit = fit_of(model, picture)
            took.append(1e3 * (time.process_time() - start))
            error = SIDE * np.hypot(*(looked_up(fit.field, frame) - true))
            trust = fit.trust[regions.mouth(*fit.trust.shape)].mean()
            rows[how].append((float(error), float(trust)))
    return rows, took


def position_row(title, rows):
    errors, trust = np.array(rows).T
    far = errors > FAR
    known = f"{(trust[far] < 0.5).sum()} of {far.sum()}" if far.any() else ""
    faded = (trust[~far] < 0.5).sum()
    within = f"{100 * (~far).mean():.1f} %"
    return [title, len(rows), f"{errors.mean():.2f}", within, known, int(faded)]


def other_pictures(images):
    """Return crops of pictures without faces, and faces upside down, by kind."""
    generator = np.random.default_rng(SEED)
    crops = []
    for name in PICTURES:
        picture = getattr(skimage.data, name)()
        picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        for _ in range(CROPS):
            side = int(generator.integers(min(picture.shape[:2]) // 3, min(picture.shape[:2])))
            top, left = (int(generator.integers(0, n - side + 1)) for n in picture.shape[:2])
            crops.append(resized(picture[top : top + side, left : left + side, :3], SIDE, SIDE))
    return {"crops of other pictures": crops, "faces upside down": [i[::-1] for i in images]}


def judged(folder, judge, names):
    """Return the classifier's mean probability of "happy" for files of a folder."""
    with tempfile.TemporaryDirectory() as some:
        for name in names:
            (Path(some) / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
        command = ["node", "score.js", some]
        text = subprocess.run(command, cwd=judge, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"happy ([.\d]+)", text)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("others", type=Path, nargs="*")
    parser.add_argument("--target", default="happy")
    parser.add_argument("--judge", type=Path, help="folder of score.js, an independent classifier")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    subjects = find_pairs(options.data, target=[options.target]).subjects
    images = {s.name: aligned(s.source) for s in subjects}
    models = [
        train_on([s for s in subjects if part_of(s, FOLDS) != fold], "best")
        for fold in range(FOLDS)
    ]
    whole = train_on(subjects, "best")
    own = options.data.name
    sets = {
        f"{options.data.parent.name} {own}, held out": {
            s.name: (models[part_of(s, FOLDS)], images[s.name]) for s in subjects
        }
    }
    for folder in options.others:
        paths = sorted(path for path in folder.iterdir() if is_image(path))
        sets[folder.name] = {path.stem: (whole, aligned(path)) for path in paths}
    generator = np.random.default_rng(SEED)
    mouths = {
        title: np.mean(dlib_mouths([i for _, i in each.values()]), axis=1)
        for title, each in sets.items()
    }
    first = next(iter(sets))
    known = [image for _, image in sets[first].values()]
    frames = {id(model): mouth_in_frame(model, known, mouths[first]) for model in (whole, *models)}
    lines, groups, took = [], [], []
    with tempfile.TemporaryDirectory() as output:
        for title, each in sets.items():
            rows = {"as they are": [], "moved": []}
            scores = []
            folder = Path(output) / title.replace("/", " ")
            for (name, (model, image)), mouth in zip(each.items(), mouths[title], strict=True):
                found, ms = positions(model, frames[id(model)], [image], [mouth], generator)
                took += ms
                for how in rows:
                    rows[how] += found[how]
                change = model.changer(image, options.target)
                changed = change(1.0)
                write_image(folder / f"{name}.png", changed)
                face = regions.face(SIDE, SIDE)
                distance = identity_distance(image)(changed)
                rms = np.sqrt(np.square(changed.astype(float) - image)[face].mean())
                light = float((image[face] @ LUMA).mean())
                scores.append((name, light, change.fits[0].value, rms, distance))
            lines += [position_row(f"{title}, {how}", rows[how]) for how in rows]
            groups += group_rows(title, scores, folder, options.judge)
    negatives = []
    for kind, pictures in other_pictures(known[::4]).items():
        fits = [fit_of(whole, picture) for picture in pictures]
        values = np.array([fit.value for fit in fits])
        alike = f"{sum(fit.unlike for fit in fits)} of {len(fits)}"
        negatives.append([kind, alike, f"{np.median(values):.2f}", f"{values.max():.2f}"])
    heads = ["", "faces", "mean error, px", "within 4 px", "others known", "right, but faded"]
    group_heads = ["", "faces", "lightness", "fit", "least fit", "change, RMS", "identity", "happy"]
    text = "\n\n".join(
        [
            "# Robustness",
            "Made by `python -m benchmarks.robustness DATA OTHERS --write`, which explains it.\n"
            f"{machine(1)}. A search takes {np.median(took):.0f} ms of processor time.",
            table(heads, lines),
            "Pictures that should stay as they are:",
            table(["", "unchanged", "median fit", "largest fit"], negatives),
            "Groups:",
            table(group_heads, groups),
        ]
    )
    print(text)
    if options.write:
        with replacing(RESULTS, force=True) as file:
            file.write((text + "\n").encode())


def group_rows(title, scores, folder, judge):
    """Return the rows of all faces of a set, of thirds by lightness, and by sex if names tell."""
    ordered = sorted(scores, key=lambda each: each[1])
    members = {"all": ordered}
    if len(ordered) >= 12:
        for third, part in zip(("darkest", "middle", "lightest"), (0, 1, 2), strict=True):
            count = len(ordered)
            members[f"{third} third"] = ordered[count * part // 3 : count * (part + 1) // 3]
    for sex, letter in (("women", "f"), ("men", "m")):
        named = [each for each in ordered if each[0][:-1].isdigit() and each[0].endswith(letter)]
        if named:
            members[sex] = named
    rows = []
    for label, some in members.items():
        names = [each[0] for each in some]
        light, fits, rms, distances = (
            np.array([each[n] for each in some], float) for n in range(1, 5)
        )
        happy = "" if judge is None else f"{judged(folder, judge, names):.2f}"
        rows.append(
            [
                f"{title}: {label}",
                len(some),
                f"{light.mean():.0f}",
                f"{fits.mean():.2f}",
                f"{fits.min():.2f}",
                f"{rms.mean():.1f}",
                f"{np.nanmean(distances):.2f}",
                happy,
            ]
        )
    return rows


if __name__ == "__main__":
    main()
