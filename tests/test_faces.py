"""Sample faces: reproducible, aligned, varied, and useful for training."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mlr.io.images import read_image
from mlr.samples import EXPRESSIONS, EYES, draw_face

Images = npt.NDArray[np.float64]

SIDE = 48
#: Subject, expression, size and top left pixel of the parts in tests/data/faces.png.
STORED = (
    (5, "angry", 48, (0, 0)),
    (3, "happy", 48, (0, 0)),
    (7, "surprised", 48, (0, 0)),
    (10, "disgusted", 48, (0, 0)),
    (23, "sad", 48, (0, 0)),
    (46, "afraid", 48, (0, 0)),
    (13, "neutral", 48, (0, 0)),
    (12, "happy", 192, (45, 108)),  # eye
    (59, "angry", 480, (110, 290)),  # brow
    (3, "happy", 480, (335, 216)),  # teeth
    (23, "sad", 480, (30, 216)),  # hair
)


@lru_cache(maxsize=4)
def _faces(expression: str, count: int = 60, size: int = 32) -> Images:
    """Grey images (count, size, size) of subjects 0, 1, ..., from 0 to 1."""
    faces = [draw_face(5, k, expression, size).mean(axis=2) for k in range(count)]
    return np.stack(faces) / 255


def test_neutral_is_the_first_of_seven_expressions() -> None:
    assert EXPRESSIONS[0] == "neutral"
    assert set(EXPRESSIONS[1:]) == {"happy", "sad", "surprised", "angry", "afraid", "disgusted"}


@pytest.mark.parametrize("size", [16, 17, 64, 100, 128, 200])
def test_size_type_and_range(size: int) -> None:
    face = draw_face(0, 1, "happy", size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.flags["C_CONTIGUOUS"]
    assert face.std() > 20


def test_same_arguments_give_the_same_bytes_in_any_order() -> None:
    first = [draw_face(3, k, e, 48) for k in range(3) for e in ("neutral", "afraid")]
    draw_face(3, 7, "sad", 96)
    again = [draw_face(3, k, e, 48) for k in (2, 1, 0) for e in ("afraid", "neutral")]
    for a, b in zip(first, reversed(again), strict=True):
        assert np.array_equal(a, b)


def test_faces_look_as_stored() -> None:
    parts = [
        draw_face(0, subject, expression, size)[top : top + SIDE, left : left + SIDE]
        for subject, expression, size, (top, left) in STORED
    ]
    stored = read_image(Path(__file__).parent / "data" / "faces.png").pixels
    assert np.abs(np.concatenate(parts, axis=1) - stored.astype(float)).max() <= 1


def test_seeds_subjects_and_expressions_differ() -> None:
    images = [draw_face(seed, k, e, 32) for seed in (0, 1) for k in (0, 1) for e in EXPRESSIONS]
    seen = {image.tobytes() for image in images}
    assert len(seen) == len(images)


def test_a_subject_looks_the_same_at_any_size() -> None:
    for subject in range(4):
        small = draw_face(2, subject, "happy", 64).astype(float)
        large = draw_face(2, subject, "happy", 256).astype(float)
        shrunk = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        other = draw_face(2, subject + 1, "happy", 64).astype(float)
        assert np.abs(small - shrunk).mean() < 4
        assert np.abs(small - other).mean() > 10


def test_pupils_are_at_the_eyes() -> None:
    size = 128
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    offsets = []
    for subject in range(12):
        face = draw_face(1, subject, ("neutral", "surprised")[subject % 2], size).mean(axis=2)
        for ex, ey in EYES:
            near = (x - ex) ** 2 + (y - ey) ** 2 < 0.024**2
            assert face[near].min() < 60
            dark = near & (face < face[near].min() + 25)
            offsets.append((x[dark].mean() - ex, y[dark].mean() - ey))
    offset = np.array(offsets)
    assert np.abs(offset.mean(axis=0)).max() < 0.006
    assert np.abs(offset).max() < 0.02


def test_smile_changes_mouth_more_than_background() -> None:
    change = ((_faces("happy") - _faces("neutral")) ** 2).mean(axis=0)
    mouth = change[21:28, 10:22].mean()
    backdrop = np.concatenate([change[8:27, :2], change[8:27, -2:]]).mean()
    forehead = change[4:8, 12:20].mean()
    assert mouth > 1.4 * backdrop
    assert mouth > 3 * forehead
    assert 0.0015 < change.mean() < 0.012


def test_expressions_move_the_mean_face_differently() -> None:
    rest = _faces("neutral", 16).mean(axis=0)
    moves = np.stack([(_faces(e, 16).mean(axis=0) - rest).ravel() for e in EXPRESSIONS[1:]])
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    likeness = moves @ moves.T - np.eye(len(moves))
    assert likeness.max() < 0.95


def test_masked_regression_learns_the_smile() -> None:
    """Ridge regression on 3 x 3 neighbours is better than copying, but not exact."""
    before, after = _faces("neutral"), _faces("happy")
    size, train = before.shape[1], 45
    padded = np.pad(before, ((0, 0), (1, 1), (1, 1)), mode="edge")
    parts = [padded[:, i : i + size, j : j + size] for i in range(3) for j in range(3)]
    x = np.stack([*parts, np.ones_like(before)], axis=-1).transpose(1, 2, 0, 3)
    y = after.transpose(1, 2, 0)[..., None]
    xt, yt = x[:, :, :train], y[:, :, :train]
    transposed = xt.swapaxes(2, 3)
    weights = np.linalg.solve(transposed @ xt + 0.4 * np.eye(10), transposed @ yt)
    error = ((x[:, :, train:] @ weights - y[:, :, train:]) ** 2).mean()
    copied = ((before[train:] - after[train:]) ** 2).mean()
    assert 0.1 * copied < error < 0.85 * copied


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((0, 0, "bored", 64), "expression"),
        ((0, 0, "neutral", 15), "16"),
        ((-1, 0, "neutral", 64), "negative"),
        ((0, -1, "neutral", 64), "negative"),
    ],
)
def test_bad_arguments_are_rejected(arguments: tuple[int, int, str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        draw_face(*arguments)
    assert "\n" not in str(error.value)
