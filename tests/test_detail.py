"""Fine detail of photographs moves with the face."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from mlr.core.model import Model, ModelInfo
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.synthesis import Change, Registration
from mlr.io.images import resized
from mlr.photo.composite import change_faces, changed_part
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Box, Similarity
from tests.conftest import draw

SIDE = 32
EYES = Eyes(120 + 100j, 168 + 100j)  # four pixels of the photograph for one of the crop


@pytest.fixture(scope="module")
def photo():
    """A smooth image with fine grain."""
    grain = np.random.default_rng(0).normal(0, 12, (240, 300, 3))
    return np.clip(resized(draw(3, 8), 240, 300) // 2 + 60 + grain, 0, 255).astype(np.uint8)


def planes_of(added=0.0, lost=0.0, motion=(0.0, 0.0)):
    """Return the planes of a change that is alike in the middle of the crop and 0 at its edge."""
    planes = np.zeros((SIDE, SIDE, 8), np.float32)
    planes[4:-4, 4:-4, :3] = added
    planes[4:-4, 4:-4, 3] = lost
    planes[4:-4, 4:-4, 4:6] = motion
    return planes


def to_crop_of(factor=1.0, scale=4.0):
    """Return the map from the photograph's middle to a crop."""
    return Similarity(factor / scale, 16 + 16j - factor / scale * (150 + 120j))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("factor", "step"), [(1, (2, -3)), (1j, (3, 2))])
def test_pixels_move_by_the_field_in_the_photograph(photo, dtype, factor, step):
    # With factor 1j, the right of the crop is up in the photograph.
    planes = planes_of(added=0.125, lost=0.25, motion=(0.5, -0.75))
    pixels = photo if dtype == np.uint8 else photo.astype(dtype) * 257
    found = changed_part(pixels, planes, to_crop_of(factor), Box(90, 150, 120, 180))
    down, across = step
    unit = photo / 255
    moved = unit[90 + down : 150 + down, 120 + across : 180 + across]
    expected = 0.75 * moved - unit[90:150, 120:180] + 0.125
    assert np.abs(expected - 0.125).mean() > 0.1
    assert np.abs(found - expected).max() < 1e-4


def test_parts_of_pixels_are_interpolated_by_splines(photo):
    planes = planes_of(motion=(0.1, 0.2))
    found = changed_part(photo, planes, to_crop_of(), Box(110, 130, 140, 160))
    at = np.add(np.mgrid[110:130, 140:160], [[[0.4]], [[0.8]]])
    for channel in range(3):
        moved = map_coordinates(photo[..., channel] / 255, at, order=3, mode="nearest")
        expected = moved - photo[110:130, 140:160, channel] / 255
        assert np.abs(found[..., channel] - expected).max() < 1e-4


@pytest.mark.parametrize("factor", [1, np.exp(0.7j)])
@pytest.mark.parametrize("scale", [4.0, 1.7])
def test_changes_are_enlarged_smoothly(photo, factor, scale):
    y, x = np.mgrid[:SIDE, :SIDE]
    blob = np.exp(-((y - 17) ** 2 + (x - 14) ** 2) / 30)
    planes = planes_of(added=1)
    planes[..., :3] *= blob[..., None]
    to_crop = to_crop_of(factor, scale)
    found = changed_part(photo, planes, to_crop, Box(100, 140, 130, 170))
    row, column = np.mgrid[100:140, 130:170] + 0.5
    at = to_crop.factor * (column + 1j * row) + to_crop.shift
    away = np.abs(at - (14.5 + 17.5j))
    expected = np.exp(-(away**2) / 30)[..., None]
    assert found.max() > 0.5
    inside = (np.abs(at.real - 16) < 10) & (np.abs(at.imag - 16) < 10)
    assert np.abs(found - expected)[inside].max() < 0.01


def test_smaller_faces_are_not_aliased(photo):
    planes = planes_of()
    planes[4:-4:2, 4:-4, :3] = 1  # rows that alternate vanish in a smaller face
    found = changed_part(photo, planes, to_crop_of(scale=0.5), Box(115, 125, 145, 155))
    assert np.abs(found[2:-2, 2:-2] - 0.5).max() < 0.05


def test_tiles_agree_and_pixels_without_change_stay(photo):
    planes, to_crop = planes_of(), to_crop_of()
    planes[12:20, 12:20] = [0.1, 0.2, -0.1, 0.3, 1.3, -1.1, 0, 0]
    whole = changed_part(photo, planes, to_crop, Box(0, 240, 0, 300))
    for top, left in ((0, 0), (100, 120), (110, 250)):
        part = Box(top, top + 90, left, min(left + 90, 300))
        found = changed_part(photo, planes, to_crop, part)
        expected = whole[top : part.bottom, left : part.right]
        if found is None:
            assert not expected.any()
        else:
            assert np.abs(found - expected).max() < 1e-5
    assert np.abs(whole[100:140, 130:170]).max() > 0.05
    assert not whole[:80].any()
    assert not whole[:, 200:].any()


class Everywhere:
    """A fit of any face."""

    field = np.zeros((2, SIDE, SIDE), np.float32)
    unlike = False


class Moving:
    """Templates that every face fits, with a given motion."""

    def __init__(self, motion):
        self.motion = motion
        self.appearances = {}

    def register(self, image, last):
        return Registration(image, None, Everywhere, np.ones((2, 2), np.float32))

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


def test_large_additions_replace_fine_detail(photo):
    class Whitening(Moving):
        def change(self, face, parts, strength):
            return Change(self.motion, np.full_like(face.image, 0.3))

    line = np.full_like(photo, 100)
    line[140] = 0  # a pixel high
    model = moving(np.zeros((2, SIDE, SIDE), np.float32))
    white = replace(model, registered=Whitening(model.registered.motion))
    column = change_faces(white, line, [EYES])[120:160, 144, 0].astype(int)
    assert column.min() > 100 + 0.3 * 255 - 40  # the line itself would be 100 levels darker
    small = Eyes(143 + 138j, 146 + 138j)  # the crop is larger than the face and has all detail
    column = change_faces(white, line, [small])[136:144, 144, 0].astype(int)
    assert column.min() == column[4]
    assert column[4] <= column[2] - 99
