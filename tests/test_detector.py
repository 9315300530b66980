"""Detection of faces in photographs."""

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mlr.io.images import read_image, resized
from mlr.photo.composite import change_faces
from mlr.photo.detect import Detector, installed
from mlr.photo.eyes import EyeTable
from mlr.photo.similarity import Similarity, warp
from mlr.training.train import train

SUBJECTS = ["006", "020", "032", "061", "091", "112", "125", "138"]
SHARED = Path(os.environ.get("MLR_DATA", "../shared/data"))

pytestmark = [
    pytest.mark.skipif(not installed(), reason="needs the extra align"),
    pytest.mark.skipif(
        not (SHARED / "photos").is_dir(), reason=f"needs the photographs in {SHARED} (set MLR_DATA)"
    ),
]


@pytest.fixture(scope="module")
def detector():
    return Detector()


def test_eyes_of_all_photographs_lie_within_3_percent_of_their_distance(detector):
    table = EyeTable(SHARED / "photos" / "eyes.csv")
    for photo in sorted((SHARED / "photos").glob("*.jpg")):
        half = np.asarray(PIL.Image.open(photo).reduce(2))  # to be quick
        (found,), (known,) = detector.find(half), table.of(photo)
        error = max(abs(2 * found.left - known.left), abs(2 * found.right - known.right))
        assert error < 0.03 * known.distance, photo.name


def test_face_on_its_side_is_found(detector):
    pixels = resized(read_image(SHARED / "photos" / "020_neutral.jpg").pixels, 450, 450)
    (upright,) = detector.find(pixels)
    (lying,) = detector.find(np.ascontiguousarray(np.rot90(pixels)))
    # Rotation by 90 degrees anticlockwise maps x + iy to y + i (450 - x).
    for was, found in ((upright.left, lying.left), (upright.right, lying.right)):
        assert abs(complex(was.imag, 450 - was.real) - found) < 0.02 * upright.distance


def test_eyes_in_a_grey_16_bit_image(detector):
    pixels = resized(read_image(SHARED / "photos" / "020_neutral.jpg").pixels, 450, 450)
    (eyes,) = detector.find(pixels)
    grey = pixels.mean(axis=2, keepdims=True).astype(np.uint16) * 257
    (found,) = detector.find(grey)
    assert abs(found.left - eyes.left) < 0.02 * eyes.distance


def test_several_faces_are_sorted_by_size(detector):
    table = EyeTable(SHARED / "photos" / "eyes.csv")
    scene = np.full((500, 1000, 3), 120, np.uint8)
    for name, size, left in (("006", 300, 20), ("112", 450, 330), ("138", 200, 790)):
        photo = SHARED / "photos" / f"{name}_neutral.jpg"
        assert table.of(photo)
        scene[20 : 20 + size, left : left + size] = resized(read_image(photo).pixels, size, size)
    faces = detector.find(scene)
    assert [int(eyes.middle.real) // 330 for eyes in faces] == [1, 0, 2]


def test_no_face_in_a_cat_or_a_single_pixel(detector):
    cat = read_image(SHARED / "out-of-dataset" / "animals" / "chelsea.png").pixels
    assert detector.find(cat) == []
    assert detector.find(np.zeros((1, 1, 3), np.uint8)) == []


def test_searched_copy_has_at_most_1_2_megapixels(detector, monkeypatch):
    sizes = []
    monkeypatch.setattr(Detector, "_search", lambda self, copy, *_: sizes.append(copy.size) or [])
    assert detector.find(np.zeros((4000, 1000, 3), np.uint8)) == []
    assert sizes[0] == pytest.approx(1_200_000, rel=0.01)


@pytest.fixture(scope="module")
def london():
    """A model of photographs."""
    return train(SHARED / "london" / "128")


@pytest.mark.parametrize("how", ["turned", "flipped", "halved", "doubled"])
def test_transformed_face_changes_alike(detector, london, how):
    # Within 6 % of the root mean square of the change, as documented in docs/photographs.md.
    photo = read_image(SHARED / "photos" / "006_neutral.jpg").pixels  # the hardest of eight
    if how != "halved":  # to be quick
        photo = resized(photo, 800, 800)
    photo = photo[: round(0.88 * len(photo))]
    height, width = photo.shape[:2]
    move = {
        "turned": Similarity(np.exp(1j * np.pi / 6), complex(height, 0) / 2),
        "halved": Similarity(0.5, 0),
        "doubled": Similarity(2, 0),
    }.get(how)
    if move is None:
        other = np.ascontiguousarray(photo[:, ::-1])
    else:
        size = [round(move.scale * side * 1.4) for side in (height, width)]
        moved = np.clip(np.rint(warp(photo, move, *size)), 0, 255)
        other = moved.astype(np.uint8)
    (eyes,), other_eyes = detector.find(photo), detector.find(other)
    change, other_change = (
        change_faces(london, pixels, found).astype(np.float32) - pixels
        for pixels, found in ((photo, [eyes]), (other, other_eyes))
    )
    # At the resolution of the model, as finer detail depends on the size.
    to_crop = eyes.to_crop(128, 128)
    change = warp(change, to_crop, 128, 128)
    if move is None:
        back = warp(np.ascontiguousarray(other_change[:, ::-1]), to_crop, 128, 128)
    else:
        back = warp(other_change, to_crop @ move.inverse, 128, 128)
    difference = np.sqrt(np.square(back - change).mean() / np.square(change).mean())
    # Smiles of the training set are not symmetric, so a flipped face gets a slightly different one.
    assert difference < 0.06


@pytest.mark.slow
def test_crops_train_as_good_a_model_as_the_stored_ones(run, tmp_path):
    stored = SHARED / "london" / "128"
    for photo in (SHARED / "photos").glob("*.jpg"):
        subject, expression = photo.stem.split("_")
        for folder, file in (
            ("photos", photo),
            ("stored", stored / expression / f"{subject}.png"),
        ):
            link = tmp_path / folder / expression / f"{subject}{file.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    assert run("align", tmp_path / "photos", "-o", tmp_path / "crops").code == 0
    ours, theirs = (train(tmp_path / folder, recipe="paper") for folder in ("crops", "stored"))
    faces = sorted((stored / "neutral").glob("*.png"))[::4]
    subjects = [path for path in faces if path.stem not in SUBJECTS]
    errors = []
    for model in (ours, theirs):
        outputs = [model.synthesize(read_image(p).pixels).astype(float) for p in subjects]
        targets = [read_image(stored / "happy" / p.name).pixels for p in subjects]
        errors.append(
            np.mean([np.square(o - t).mean() for o, t in zip(outputs, targets, strict=True)])
            / 255**2
        )
    assert errors[0] == pytest.approx(errors[1], rel=0.01)
