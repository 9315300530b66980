"""Fine detail of photographs moves with the face."""

import numpy as np
import pytest

from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.features import features_of
from mlr.core.registration.search import Fit
from mlr.core.registration.synthesis import Change, Registration
from mlr.io.images import resized
from mlr.photo.composite import change_faces, moved_detail
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Box, Similarity, warp
from tests.conftest import draw

SIDE = 32
EVERYWHERE = np.ones((SIDE, SIDE), np.float32)
EYES = Eyes(120 + 100j, 168 + 100j)  # four pixels of the photograph for one of the crop


@pytest.fixture(scope="module")
def photo():
    """A smooth image with fine grain."""
    grain = np.random.default_rng(0).normal(0, 12, (240, 300, 3))
    return np.clip(resized(draw(3, 8), 240, 300) // 2 + 60 + grain, 0, 255).astype(np.uint8)


def parts(photo, factor=1.0):
    """Return crop, map and detail of the photograph."""
    to_crop = Similarity(factor / 4, 16 + 16j - factor / 4 * (150 + 120j))
    crop = warp(photo, to_crop, SIDE, SIDE) / np.float32(255)
    return crop, to_crop, photo / np.float32(255) - warp(crop, to_crop.inverse, 240, 300)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("factor", "step"), [(1, (2, -3)), (1j, (3, 2))])
def test_detail_moves_by_the_field_in_the_photograph(photo, dtype, factor, step):
    crop, to_crop, detail = parts(photo, factor)
    field = np.full((2, SIDE, SIDE), 0.5, np.float32)
    field[1] = -0.75  # with factor 1j, the right of the crop is up in the photograph
    if dtype == np.uint16:
        photo = photo.astype(dtype) * 257
    found = moved_detail(photo, crop, to_crop, field, 0.5 * EVERYWHERE, Box(60, 180, 90, 210))
    down, across = step
    moved = detail[60 + down : 180 + down, 90 + across : 210 + across]
    assert np.abs(moved - detail[60:180, 90:210]).mean() > 0.02
    assert np.abs(found - (0.5 * moved - detail[60:180, 90:210])).max() < 1e-4


def test_tiles_agree_and_pixels_without_motion_stay(photo):
    crop, to_crop, _ = parts(photo)
    field = np.zeros((2, SIDE, SIDE), np.float32)
    field[:, 12:20, 12:20] = 1.3
    whole = moved_detail(photo, crop, to_crop, field, EVERYWHERE, Box(0, 240, 0, 300))
    for top, left in ((0, 0), (100, 120), (110, 250)):
        part = Box(top, top + 90, left, min(left + 90, 300))
        found = moved_detail(photo, crop, to_crop, field, EVERYWHERE, part)
        assert np.abs(found - whole[top : part.bottom, left : part.right]).max() < 1e-5
    assert np.abs(whole[100:140, 130:170]).max() > 0.05
    assert not whole[:80].any()
    assert not whole[:, 200:].any()


class Moving:
    """Templates that every face fits, with a given motion."""

    def __init__(self, motion):
        self.motion = motion

    def register(self, image, last=None):
        features = features_of(np.ascontiguousarray(image.transpose(1, 2, 0)))
        still = np.zeros((2, *features.light.shape), np.float32)
        return Registration(image, features, Fit(still, 1.0, None, 0.0, still[0] + 1))

    def part(self, face, name, ridge, share, style, regions):
        return name

    def change(self, face, parts, strength):
        return Change(np.float32(strength) * self.motion, np.zeros_like(face.image))


def moving(motion):
    """Return a model that only moves pixels."""
    weights = np.zeros((1, 1, 2, SIDE, SIDE), np.float32)
    weights[:, :, 0] = 1
    field = ReceptiveField.of([(0, 0)])
    return Model(weights, field, ("up",), ModelInfo(), Moving(motion), True, 3)


def test_fine_line_moves_with_the_face(photo):
    line = np.full_like(photo, 150)
    line[140] = 20  # a pixel high: a quarter of one in the crop
    motion = np.zeros((2, SIDE, SIDE), np.float32)
    motion[0] = -1  # from above: the line goes down by four pixels
    model = moving(motion)
    column = change_faces(model, line, [EYES])[:, 144, 0].astype(int)
    assert column[144] == column[130:160].min() < 40
    assert column[140] > 140
    assert np.array_equal(change_faces(model, line, [EYES], strength=0), line)
    changed = (change_faces(model, photo, [EYES]) != photo).any(axis=2)
    assert changed[100:140, 130:160].mean() > 0.9
    assert not changed[:, :60].any()


def test_face_smaller_than_the_model_has_no_finer_detail(photo, monkeypatch):
    monkeypatch.delattr("mlr.photo.composite.moved_detail")
    model = moving(np.full((2, SIDE, SIDE), 0.5, np.float32))
    small = change_faces(model, photo, [Eyes(140 + 100j, 150 + 100j)])
    assert (small != photo).any()
