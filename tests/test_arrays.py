"""Photographs in Python: paths and arrays in, arrays out."""

import io

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.errors import ImageError, OptionError
from mlr.io.images import resized, write_image
from mlr.photo.composite import change_faces
from mlr.photo.eyes import Eyes
from mlr.samples import draw_face
from mlr.synthesis.animation import eased_strengths

#: The eyes of two faces, (x, y) where whole numbers are the centres of pixels.
POSITIONS = [[[120.3, 48.0], [155.7, 49.0]], [[31.5, 35.5], [67.5, 35.5]]]
EYES = [Eyes(*(complex(x + 0.5, y + 0.5) for x, y in pair)) for pair in POSITIONS]


@pytest.fixture(scope="module")
def photo():
    """A photograph of two faces."""
    pixels = np.full((140, 200, 3), 90, np.uint8)
    pixels[:100, :100] = resized(draw_face(0, 1), 100, 100)
    pixels[12:112, 88:188] = resized(draw_face(0, 2), 100, 100)
    return pixels


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    mlr.sample(folder, pairs=12, size=64, target="happy")
    return mlr.train(folder)


def test_photograph_from_an_array(model, photo):
    found = mlr.photograph(model, photo, "happy", 0.8, 0.5, "mouth", eyes=POSITIONS)
    expected = change_faces(model, photo, EYES, "happy", 0.8, 0.5, "mouth")
    assert np.array_equal(found, expected)
    assert (found != photo).any()
    assert np.array_equal(
        model.photograph(photo, "happy", 0.8, 0.5, "mouth", eyes=POSITIONS), found
    )
    larger = mlr.photograph(model, photo, "happy", eyes=POSITIONS[::-1], face="largest")
    assert np.array_equal(larger, change_faces(model, photo, EYES[1:], "happy"))


def test_photograph_from_a_path(model, photo, tmp_path):
    path, table = tmp_path / "photo.png", tmp_path / "eyes.csv"
    write_image(path, photo)
    rows = [f"photo.png,{x0},{y0},{x1},{y1}" for (x0, y0), (x1, y1) in POSITIONS]
    table.write_text("\n".join(["file,left_eye_x,left_eye_y,right_eye_x,right_eye_y", *rows]))
    expected = change_faces(model, photo, sorted(EYES, key=lambda each: -each.distance), "happy")
    for eyes in (table, str(table), POSITIONS[::-1]):
        found = mlr.photograph(model, str(path), "happy", eyes=eyes)
        assert np.array_equal(found, expected)


def test_alpha_shape_and_bits_are_kept(model, photo):
    alpha = np.random.default_rng(0).integers(0, 256, photo.shape[:2], np.uint8)
    found = mlr.photograph(model, np.dstack([photo, alpha]), "happy", eyes=POSITIONS)
    plain = mlr.photograph(model, photo, "happy", eyes=POSITIONS)
    assert np.array_equal(found, np.dstack([plain, alpha]))
    grey = photo[..., 1]
    for image in (grey, grey[..., None], grey.astype(np.uint16) * 257):
        found = mlr.photograph(model, image, "happy", eyes=POSITIONS)
        assert found.shape == image.shape
        assert found.dtype == image.dtype
        assert (found != image).any()
    assert np.array_equal(mlr.photograph(model, grey, "happy", 0.0, eyes=POSITIONS), grey)


def test_animation(model, photo):
    found = model.animation(photo, "happy", 0.9, eyes=POSITIONS, frames=6)
    assert found.shape == (6, *photo.shape)
    assert np.array_equal(found[0], photo)
    for frame, strength in zip(found, eased_strengths(6, 0.9), strict=True):
        assert np.array_equal(
            frame, mlr.photograph(model, photo, "happy", strength, eyes=POSITIONS)
        )


def test_crops(photo, tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, photo)
    found = mlr.crops(path, 64, eyes=POSITIONS)
    assert [crop.shape for crop in found] == [(64, 64, 3)] * 2
    (largest,) = mlr.crops(photo, 64, eyes=POSITIONS, face=1)
    assert np.array_equal(largest, found[0])
    again = mlr.crops(found[0], 64, eyes=[[[0.32 * 64 - 0.5, 22.54], [0.68 * 64 - 0.5, 22.54]]])
    assert np.abs(again[0].astype(float) - found[0]).max() <= 1


def test_faces_are_detected(model, photo):
    pytest.importorskip("dlib", reason="needs the extra align")
    large = resized(photo, 700, 1000)
    found = mlr.photograph(model, large, "happy")
    given = mlr.photograph(model, large, "happy", eyes=5 * np.array(POSITIONS) + 2)
    change = (np.subtract(each, large, dtype=float) for each in (found, given))
    assert np.corrcoef(*(each.ravel() for each in change))[0, 1] > 0.8


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": np.zeros((5, 5, 3))}, ImageError, "not float64 of"),
        ({"image": np.zeros((5, 5, 2), np.uint8)}, ImageError, "1, 3 or 4 channels, not 2"),
        ({"image": np.zeros((5, 0, 3), np.uint8)}, ImageError, "expected uint8 or uint16 of"),
        ({"eyes": [[1, 2], [3, 4]]}, OptionError, "shape"),
        ({"eyes": [[[900, 2], [930, 2]]]}, ImageError, "cannot be in an image"),
        ({"eyes": np.zeros((0, 2, 2))}, ImageError, "no face found"),
        ({"face": 3}, ImageError, "has 2 faces, but face 3"),
        ({"strength": 3.0}, OptionError, "strength"),
        ({"frames": -1}, OptionError, "-1 frames"),
    ],
)
def test_wrong_arguments(model, photo, change, error, words):
    arguments = {"image": photo, "target": "happy", "eyes": POSITIONS} | change
    with pytest.raises(error, match=words):
        mlr.animation(model, **arguments)


def test_crops_have_a_least_size(photo):
    with pytest.raises(OptionError, match="at least 16 px"):
        mlr.crops(photo, 15, eyes=POSITIONS)


def test_preview(model):
    picture = np.asarray(PIL.Image.open(io.BytesIO(model._repr_png_())))
    _, height, width = model.shape
    assert picture.shape == (height, 2 * width, 3)
    before, after = picture[:, :width], picture[:, width:]
    expected = model.synthesize(before, "happy").astype(float)
    assert np.abs(expected - after).mean() < 2
    assert (before != after).any()


def test_no_preview_without_registration(model_of_two):
    assert mlr.load(model_of_two)._repr_png_() is None


def test_progress_is_shown_if_asked_for(model, photo, tmp_path, capsys):
    model.photograph(photo, "happy", eyes=POSITIONS)
    assert capsys.readouterr().err == ""
    model.animation(photo, "happy", eyes=POSITIONS, frames=2, progress=True)
    assert "changing faces: " in capsys.readouterr().err
    model.photograph(photo, "happy", eyes=POSITIONS, progress=True)
    assert "changing faces: " in capsys.readouterr().err
    mlr.sample(tmp_path / "faces", pairs=3, size=16, target="happy")
    assert capsys.readouterr().err == ""
    model = mlr.train(tmp_path / "faces", recipe="paper", progress=True)
    assert "solving: " in capsys.readouterr().err
    faces = tmp_path / "faces" / "neutral"
    mlr.synthesize(model, faces, tmp_path / "out", target="happy", progress=True)
    assert "synthesizing: " in capsys.readouterr().err
    mlr.evaluate(model, tmp_path / "faces", progress=True)
    assert "evaluating: " in capsys.readouterr().err
