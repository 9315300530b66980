"""Registration of faces: every step against plain references, and its properties."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.stats import norm

from mlr.core.alignment import EYES
from mlr.core.registration import eyes, fields, groupwise, templates
from mlr.core.registration import register as registration
from mlr.core.registration.features import features_of, is_grey
from mlr.core.registration.geometry import Geometry, feature_size, mask_of, weights_and_oval
from mlr.core.registration.register import Template
from mlr.core.registration.search import coarse_fields
from mlr.core.registration.synthesis import Appearance, Change, Registered
from mlr.kernels import blur as blurring
from mlr.kernels import register as kernels
from mlr.samples import draw_face
from mlr.utils.threads import limited
from tests import naive

SQUARE = Geometry((128, 128))
#: Of another shape, with eyes elsewhere, as tight crops have them.
TALL = Geometry((170, 136), ((0.24, 0.30), (0.72, 0.34)))
FLAT = Geometry((96, 120), ((0.34, 0.4), (0.66, 0.4)))
SMALL = Geometry((60, 72), ((0.35, 0.34), (0.66, 0.36)))
sides = st.integers(1, 12)
few = settings(deadline=None, max_examples=20)


@lru_cache
def face(subject, expression="neutral", size=128):
    """Return a drawn face, (size, size, 3), in [0, 1]."""
    return draw_face(11, subject, expression, size).astype(np.float32) / np.float32(255)


@lru_cache
def features(subject, expression="neutral"):
    """Return the features of a drawn face."""
    return features_of(face(subject, expression))


def noise(seed, *shape):
    """Return noise between 0 and 1."""
    return np.random.default_rng(seed).random(shape, np.float32)


def smooth(seed, *shape, sigma=3.0, largest=1.0):
    """Return smooth random planes, of no more than the largest value."""
    planes = np.random.default_rng(seed).normal(size=shape)
    planes = gaussian_filter(planes, (0, sigma, sigma))
    return (planes / np.abs(planes).max() * largest).astype(np.float32)


def picture(seed, height, width, channels=3):
    """Return a smooth random image with some noise, (height, width, channels)."""
    planes = 0.5 + smooth(seed, channels, height, width, largest=0.4)
    return np.ascontiguousarray(planes.transpose(1, 2, 0)) + 0.05 * noise(
        seed, height, width, channels
    )


def shrunk(image):
    """Return an image of the size that features are taken from."""
    return fields.area_averaged(image, *feature_size(*image.shape[:2]))


def planes(interleaved):
    """Return planes (N, H, W), float64, of an array (H, W, N)."""
    return interleaved.transpose(2, 0, 1).astype(float)


def interleaved(array):
    """Return an array (H, W, N), float32, of planes."""
    return np.ascontiguousarray(array.transpose(1, 2, 0), np.float32)


def weights(geometry):
    """Return the reference's weights of registration at full size."""
    tall, wide = geometry.features
    return naive.naive_weight(*naive.naive_canonical(geometry.size, geometry.eyes, tall, wide))


def oval(geometry):
    """Return the reference's oval at the size of fields."""
    grid = naive.naive_canonical(geometry.size, geometry.eyes, *geometry.fields)
    return naive.naive_oval(*grid)


def masks(geometry, regions=()):
    """Return the reference's mask at the sizes of fields and images."""
    grids = [
        naive.naive_canonical(geometry.size, geometry.eyes, *size, 0.5)
        for size in (geometry.fields, geometry.size)
    ]
    return [naive.naive_mask(*grid) * naive.naive_regions(regions, *grid) for grid in grids]


def jacobian(field):
    """Return by how much a field enlarges areas, pixel by pixel; it folds where that is below 0."""
    (yy, yx), (xy, xx) = (np.gradient(component) for component in field.astype(float))
    return (1 + yy) * (1 + xx) - yx * xy


# --- where the face lies ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), (128, 128)),
        ((16, 16), (128, 128)),
        ((1024, 1024), (128, 128)),
        ((193, 162), (152, 128)),
        ((100, 201), (128, 256)),
        ((129, 128), (128, 128)),
        ((131, 128), (132, 128)),
    ],
)
def test_features_have_a_shorter_side_of_128(size, expected):
    assert feature_size(*size) == expected
    assert feature_size(*size[::-1]) == expected[::-1]
    assert Geometry(size).fields == (expected[0] // 2, expected[1] // 2)


@pytest.mark.parametrize("geometry", [SQUARE, TALL], ids=["canonical", "elsewhere"])
@pytest.mark.parametrize("size", [(128, 128), (40, 25)])
def test_weight_oval_and_mask(geometry, size):
    grid = naive.naive_canonical(geometry.size, geometry.eyes, *size)
    close = {"rtol": 0, "atol": 2e-5}
    np.testing.assert_allclose(geometry.weight(*size), naive.naive_weight(*grid), **close)
    middles = naive.naive_canonical(geometry.size, geometry.eyes, *size, 0.5)
    np.testing.assert_allclose(geometry.mask(*size), naive.naive_mask(*middles), **close)
    assert (geometry.oval(*size) != naive.naive_oval(*grid)).mean() < 1e-3
    assert geometry.oval(*size).any()


def test_a_crop_has_the_crop_of_the_mask():
    top, bottom, left, right = 20, 185, 22, 172
    tall, wide = bottom - top, right - left
    eyes = tuple(((200 * x - left) / wide, (200 * y - top) / tall) for x, y in EYES)
    whole, part = Geometry((200, 200)), Geometry((tall, wide), eyes)
    for kind in ("mask", "weight", "oval"):
        expected = getattr(whole, kind)(200, 200)[top:bottom, left:right]
        found = getattr(part, kind)(tall, wide)
        np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=1e-4)
    for name in ("mouth", "eyes", "brows", "lower", "upper"):
        expected = whole.regions((name,), 200, 200)[top:bottom, left:right]
        np.testing.assert_allclose(part.regions((name,), tall, wide), expected, atol=1e-4)
    expected = coarse_fields(whole, 200, 200)[..., top:bottom, left:right]
    np.testing.assert_allclose(coarse_fields(part, tall, wide), expected, atol=1e-3)


REGIONS = ("mouth", "eyes", "brows", "lower", "upper")


@pytest.mark.parametrize("geometry", [SQUARE, TALL, SMALL], ids=["square", "tall", "small"])
@pytest.mark.parametrize("names", [(), *zip(REGIONS), ("mouth", "brows"), ("lower", "upper")])
def test_regions(geometry, names):
    for size in (geometry.size, geometry.fields):
        grid = naive.naive_canonical(geometry.size, geometry.eyes, *size, 0.5)
        expected = naive.naive_regions(names, *grid)
        np.testing.assert_allclose(geometry.regions(names, *size), expected, atol=2e-5)
        expected = expected * naive.naive_mask(*grid)
        np.testing.assert_allclose(mask_of(geometry, size, names), expected, atol=2e-5)
        assert mask_of(geometry, size, names).dtype == np.float32


def test_regions_cover_what_they_are_called():
    found = {name: SQUARE.regions((name,), 128, 128) for name in REGIONS}
    points = {
        "mouth": ((0.76, 0.5), (0.76, 0.35), (0.76, 0.65)),
        "eyes": ((0.36, 0.32), (0.36, 0.68)),
        "brows": ((0.25, 0.32), (0.25, 0.68)),
        "lower": ((0.76, 0.5), (0.9, 0.5), (0.62, 0.2)),
        "upper": ((0.36, 0.32), (0.25, 0.68), (0.44, 0.5)),
    }
    others = {"mouth": "upper", "eyes": "lower", "brows": "lower", "lower": "upper"}
    for name, where in points.items():
        for y, x in where:
            at = round(128 * y), round(128 * x)
            assert found[name][at] > 0.99
            assert name not in others or found[others[name]][at] < 0.01
    np.testing.assert_allclose(found["upper"] + found["lower"], 1, atol=1e-6)
    union = SQUARE.regions(("mouth", "brows"), 128, 128)
    assert np.array_equal(union, np.maximum(found["mouth"], found["brows"]))


def test_levels_of_the_weights_are_means():
    whole = weights(TALL)
    half = naive.naive_halved(whole[None])
    expected = naive.naive_halved(half)[0], half[0], whole
    levels, inside = weights_and_oval(TALL)
    for found, wanted in zip(levels, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.array_equal(inside, oval(TALL))


# --- fields -------------------------------------------------------------------------------------


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.floats(0.1, 20), st.integers(0, 99))
def test_look_up(size, other, reach, seed):
    image = noise(seed, 3, *size)
    field = (noise(seed + 1, 2, *other) - np.float32(0.5)) * np.float32(reach)
    expected = naive.naive_look_up(image, field.astype(float))
    np.testing.assert_allclose(fields.look_up(image, field), expected, atol=2e-6 * reach + 1e-6)


@few
@given(st.tuples(sides, sides), st.integers(0, 99))
def test_identity_gives_the_image(size, seed):
    image, still = noise(seed, 2, *size), np.zeros((2, *size), np.float32)
    assert np.array_equal(fields.look_up(image, still), image)
    np.testing.assert_allclose(fields.warp(image, still), image, atol=2e-6)
    pixels = interleaved(image)
    assert np.array_equal(fields.area_averaged(pixels, *size), pixels)
    assert np.array_equal(fields.compose(image, still), image)
    assert np.array_equal(fields.compose(still, image), image)


@few
@given(st.tuples(sides, sides), st.floats(0.1, 20), st.integers(0, 99))
def test_images_are_warped_by_cubic_splines(size, reach, seed):
    image = noise(seed, 3, *size)
    field = (noise(seed + 1, 2, *size) - np.float32(0.5)) * np.float32(reach)
    expected = naive.naive_warp(image.astype(float), field.astype(float))
    np.testing.assert_allclose(fields.warp(image, field), expected, atol=2e-5 + 1e-5 * reach)


def test_splines_give_back_cubic_polynomials_and_fine_waves():
    y, x = (np.indices((48, 60)) - 24) / 24
    image = np.stack([0.3 * y**3 - 0.5 * x**2 * y + x, np.cos(np.pi / 2 * 24 * x)])
    field = np.empty((2, 48, 60), np.float32)
    field[0], field[1] = 0.4, 0.5
    found = fields.warp(image.astype(np.float32), field)[:, 15:-15, 15:-15]
    at_y, at_x = (y + 0.4 / 24)[15:-15, 15:-15], (x + 0.5 / 24)[15:-15, 15:-15]
    cubic = 0.3 * at_y**3 - 0.5 * at_x**2 * at_y + at_x
    np.testing.assert_allclose(found[0], cubic, atol=2e-6)
    # Half-way between pixels, splines keep 1.5 (23/24 cos(w/2) + 1/24 cos(3 w/2)) of waves of four
    # pixels, w = pi/2; Keys' kernel with a = -1/2 keeps .884.
    wave = np.cos(np.pi / 2 * 24 * at_x)
    gain = (found[1] * wave).sum() / (wave**2).sum()
    assert gain == pytest.approx(1.5 * np.sqrt(0.5) * 22 / 24, abs=1e-3)


@few
@given(st.integers(0, 99))
def test_compose_and_inverse(seed):
    outer, inner = (smooth(seed + k, 2, 30, 36, sigma=5, largest=2) for k in (0, 1))
    wide = outer.astype(float), inner.astype(float)
    np.testing.assert_allclose(fields.compose(outer, inner), naive.naive_compose(*wide), atol=1e-5)
    back = fields.invert(outer)
    np.testing.assert_allclose(back, naive.naive_invert(wide[0]), atol=1e-5)
    for pair in ((outer, back), (back, outer)):
        assert np.abs(fields.compose(*pair))[:, 4:-4, 4:-4].max() < 0.05
    assert np.abs(outer + fields.look_up(back, outer))[:, 4:-4, 4:-4].max() < 0.05


def test_warping_twice_is_warping_by_the_composition():
    image = 0.5 + smooth(5, 1, 40, 40, sigma=4, largest=0.4)
    outer, inner = (smooth(seed, 2, 40, 40, sigma=5, largest=2) for seed in (6, 7))
    twice = fields.warp(fields.warp(image, outer), inner)
    once = fields.warp(image, fields.compose(outer, inner))
    other = fields.warp(image, fields.compose(inner, outer))
    assert np.abs(twice - once).max() < 0.01 < np.abs(twice - other).max()


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 99))
def test_enlarge(size, other, seed):
    field = noise(seed, 2, *size)
    wide = field.astype(float)
    expected = naive.naive_enlarged(wide, *other)
    np.testing.assert_allclose(fields.resize_field(field, *other), expected, atol=1e-6 * max(other))


def test_an_enlarged_field_moves_the_enlarged_image_alike():
    ramp = np.arange(20, dtype=np.float32)
    field = np.stack(np.broadcast_arrays(0.1 * ramp[:, None], 0.2 * ramp)).astype(np.float32)
    found = fields.resize_field(field, 40, 60)
    # The centre of pixel k of 40 lies at (k + .5) / 2 - .5 of 20.
    np.testing.assert_allclose(found[0, 1:-1, 0], 0.2 * ((np.arange(1, 39) + 0.5) / 2 - 0.5), 1e-5)
    np.testing.assert_allclose(found[1, 0, 2:-2], 0.6 * ((np.arange(2, 58) + 0.5) / 3 - 0.5), 1e-5)


def test_rounded_fields_are_whole_64ths():
    field = smooth(3, 2, 20, 30, largest=3)
    found = fields.rounded(field)
    assert np.array_equal(found * 64, np.round(found * 64))
    assert np.abs(found - field).max() <= 1 / 128
    np.testing.assert_allclose(found, naive.naive_rounded(field.astype(float)))


@few
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from([1, 3]))
def test_area_average(size, other, channels):
    image = noise(1, *size, channels)
    found = fields.area_averaged(image, *other)
    np.testing.assert_allclose(found, naive.naive_area_average(image, *other), atol=1e-6)
    assert found.mean() == pytest.approx(image.mean(), abs=1e-5)


def test_halving_takes_means_of_four():
    image = noise(2, 10, 14, 3)
    expected = naive.naive_halved(planes(image))
    np.testing.assert_allclose(planes(fields.halved(image)), expected, atol=1e-6)


# --- features -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 1.0, 1.5, 1.875, 4.0, 8.0])
@pytest.mark.parametrize("size", [(30, 41), (3, 2)])
def test_blur(sigma, size):
    image = noise(4, 3, *size)
    expected = naive.naive_blur(image, sigma)
    np.testing.assert_allclose(blurring.blur(image, sigma), expected, atol=2e-6)
    alone = blurring.blur(image, sigma, threads=False)
    np.testing.assert_array_equal(blurring.blur(image, sigma), alone)
    wide = blurring.blur(image.astype(float), sigma)
    np.testing.assert_allclose(wide, naive.naive_blur(image.astype(float), sigma), atol=1e-14)
    cut = min(1, *(side // 3 for side in size))
    inner = slice(cut, size[0] - cut), slice(cut, size[1] - cut)
    np.testing.assert_array_equal(blurring.blur(image, sigma, cut), alone[:, *inner])
    half = blurring.gaussian(sigma)
    assert len(half) == blurring.radius_of(sigma) + 1
    assert half[0] + 2 * half[1:].sum() == pytest.approx(1, abs=1e-6)


def test_derivatives():
    image = noise(5, 9, 13, 2)
    values = np.full((kernels.VALUES, 9, 13), np.nan, np.float32)
    kernels.with_derivatives(image, values)
    for k, plane in enumerate(planes(image)):
        expected = np.stack([plane, *naive.naive_derivatives(plane)])
        np.testing.assert_allclose(values[3 * k : 3 * k + 3], expected, atol=1e-6)
    ramp = np.zeros((9, 13, 2), np.float32)
    ramp[..., 0], ramp[..., 1] = 3 * np.arange(9)[:, None], 5 * np.arange(13)
    kernels.with_derivatives(ramp, values)
    inner = values[[1, 2, 4, 5], 1:-1, 1:-1]
    assert np.all(inner == np.reshape([3, 0, 0, 5], (4, 1, 1)))


KINDS = ("colour", "one channel", "grey as RGB")


def as_kind(image, kind):
    """Return a colour image as it is, or grey in one of two ways."""
    if kind == "colour":
        return image
    return np.repeat(image[..., 1:2], 1 if kind == "one channel" else 3, axis=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(128, 128), (50, 61), (300, 211), (152, 128)])
def test_features(kind, size):
    image = as_kind(picture(7, *size), kind)
    found = features_of(image)
    reduced = naive.naive_area_average(image.astype(float), *feature_size(*size))
    expected = naive.naive_features(reduced, grey=kind != "colour")
    assert found.grey == (kind != "colour")
    np.testing.assert_allclose(planes(found.whole), expected, atol=2e-4)
    np.testing.assert_allclose(planes(found.half), naive.naive_halved(expected), atol=1e-4)
    np.testing.assert_allclose(found.luminance, reduced.mean(axis=2), atol=1e-6)
    light = naive.naive_halved(reduced.mean(axis=2)[None])[0]
    np.testing.assert_allclose(found.half_luminance, light, atol=1e-6)
    assert found.whole[..., 1].any() == (kind == "colour")


def test_an_image_is_grey_within_two_and_a_half_steps():
    grey = np.repeat(noise(8, 20, 20, 1) * np.float32(0.9), 3, axis=2)
    assert is_grey(grey)
    for channel, step, expected in ((0, 2, True), (2, -2, True), (0, 3, False), (2, -3, False)):
        other = grey.copy()
        other[7, 9, channel] += np.float32(step / 255)
        assert is_grey(other) == expected


def test_features_are_free_of_light_and_skin():
    image = face(1)
    found, half = (features_of(each) for each in (image, image * np.float32(0.5)))
    for k, least in ((0, 0.98), (1, 0.97)):
        pair = found.half[..., k].ravel(), half.half[..., k].ravel()
        assert np.corrcoef(*pair)[0, 1] > least
    flat = features_of(np.full((128, 128, 3), (0.6, 0.4, 0.3), np.float32))
    assert np.abs(flat.whole).max() < 1e-4


# --- registration -------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [1.0, 0.0])
@pytest.mark.parametrize("size", [(32, 32), (30, 44)])
@pytest.mark.parametrize("steps", [1, 3])
def test_gauss_newton(second, size, steps):
    moving, fixed = (planes(picture(seed, *size, 2)) * 8 for seed in (1, 2))
    weight, start = noise(3, *size), smooth(4, 2, *size, largest=6.0)
    values = []
    for each in (moving, fixed):
        values.append(np.empty((kernels.VALUES, *size), np.float32))
        kernels.with_derivatives(interleaved(each), values[-1])
    found = start.copy()
    halves = tuple(blurring.gaussian(sigma) for sigma in (3.0, 1.875, 2.0))
    kernels.gauss_newton(
        *values, weight, np.float32(second), found, halves, registration.DAMPING, steps
    )
    kept = 2 if second else 1
    expected = naive.naive_level(
        moving[:kept], fixed[:kept], weight.astype(float), (3, 1.875, 2), steps, start.astype(float)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_no_step_is_longer_than_a_pixel():
    moving, fixed = (np.zeros((32, 32, 2), np.float32) for _ in range(2))
    fixed[..., 0] = np.arange(32) * 5
    moving[..., 0] = fixed[..., 0] - 20  # four pixels apart
    values = [np.empty((kernels.VALUES, 32, 32), np.float32) for _ in range(2)]
    for each, into in zip((moving, fixed), values, strict=True):
        kernels.with_derivatives(each, into)
    field, weight = np.zeros((2, 32, 32), np.float32), np.ones((32, 32), np.float32)
    halves = blurring.gaussian(1.0), blurring.gaussian(0.0), blurring.gaussian(0.0)
    for steps in (1, 2):
        kernels.gauss_newton(*values, weight, np.float32(1), field, halves, registration.DAMPING, 1)
        np.testing.assert_allclose(field[1, :, 6:-10], steps, rtol=1e-4)
        assert np.hypot(*field).max() <= steps * 1.0001


CASES = [
    pytest.param(geometry, kind, id=f"{name}, {kind}")
    for geometry, name in ((SQUARE, "square"), (TALL, "tall"))
    for kind in ("colour", "grey as RGB")
]


def image_and_template(geometry, kind):
    """Return the features of a face, and a template made of others, at full and half size."""
    faces = [
        np.ascontiguousarray(as_kind(face(subject, expression), kind))
        for subject, expression in ((1, "happy"), (2, "neutral"))
    ]
    moving, fixed = (features_of(fields.area_averaged(each, *geometry.size)) for each in faces)
    return moving, fixed


@pytest.mark.parametrize(("geometry", "kind"), CASES)
def test_register_and_refine(geometry, kind):
    moving, fixed = image_and_template(geometry, kind)
    template = Template(geometry, fixed.half, fixed.whole)
    weight, kept = weights(geometry), 2 if kind == "colour" else 1
    halves = planes(moving.half)[:kept], planes(fixed.half)[:kept]
    wholes = planes(moving.whole)[:kept], planes(fixed.whole)[:kept]

    found = template.register(moving)
    expected = naive.naive_register(*halves, weight)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert jacobian(found)[oval(geometry)].min() > 0.2

    refined = template.refined(moving, found)
    expected = naive.naive_refined(*wholes, weight, found.astype(float))
    np.testing.assert_allclose(refined, expected, atol=5e-3)
    assert np.abs(refined - found).max() > 0.02


@pytest.mark.parametrize("divisor", [1, 2])
def test_register_from_a_start(divisor):
    moving, fixed = image_and_template(TALL, "colour")
    height, width = TALL.fields
    start = smooth(1, 2, height // divisor, width // divisor, sigma=8, largest=3)
    found = Template(TALL, fixed.half).register(moving, start)
    halves = planes(moving.half), planes(fixed.half)
    expected = naive.naive_register(*halves, weights(TALL), start.astype(float))
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_grey_images_use_one_feature_of_a_colour_template():
    template = Template(SQUARE, features(2).half)
    alone = features(2).half * np.float32([1, 0])
    moving = features_of(as_kind(face(1), "one channel"))
    assert np.array_equal(template.register(moving), Template(SQUARE, alone).register(moving))
    assert template.correlation(moving, np.zeros((2, 64, 64), np.float32)) == pytest.approx(
        naive.naive_correlation(
            planes(moving.half)[:1], planes(alone)[:1], oval(SQUARE), np.zeros((2, 64, 64))
        ),
        abs=1e-5,
    )


def root_mean_square(field):
    """Return the root mean square of the lengths in the oval of a field of the half size."""
    return np.sqrt((field.astype(float) ** 2).sum(axis=0)[oval(SQUARE)].mean())


# Where cheeks are smooth, nothing tells how far they moved; redness tells more.
@pytest.mark.parametrize(("kind", "most"), [("colour", 0.33), ("one channel", 0.42)])
def test_a_known_field_is_found_again(kind, most):
    for seed in (1, 2, 3):
        image = as_kind(face(seed), kind)
        known = smooth(seed, 2, 128, 128, sigma=20, largest=5)
        moved = interleaved(fields.warp(planes(image).astype(np.float32), known))
        template = Template(SQUARE, features_of(image).half, features_of(image).whole)
        found = template.register(features_of(moved))
        refined = template.refined(features_of(moved), found)
        expected = naive.naive_enlarged(naive.naive_invert(known.astype(float)), 64, 64)
        before, off, after = (
            root_mean_square(each) for each in (expected, found - expected, refined - expected)
        )
        assert after < off < most * before
        assert before > 0.6
        assert jacobian(found)[oval(SQUARE)].min() > 0.2


def test_half_the_light_changes_little():
    template = Template(SQUARE, features(2).half)
    bright = template.register(features(1))
    dim = template.register(features_of(face(1) * np.float32(0.5)))
    assert 5 * root_mean_square(bright - dim) < root_mean_square(bright)


# --- templates ----------------------------------------------------------------------------------


#: Eight subjects; the eyes are found in the mean of their faces, and of seven of them.
SUBJECTS = range(22, 30)


@lru_cache
def drawn(subject, expression="neutral"):
    """Return a drawn face, 8-bit."""
    return draw_face(11, subject, expression, 128)


def templates_for(subjects, threads=1, **expressions):
    """Return the templates of subjects, and of some of them for each expression."""
    with limited(threads):
        return groupwise.templates_of(
            SQUARE.size,
            [drawn(subject) for subject in subjects],
            {
                name: ([subjects.index(k) for k in some], [drawn(k, name) for k in some])
                for name, some in expressions.items()
            },
        )


@lru_cache
def trained():
    """Return templates of eight subjects, six of them sad as well."""
    return templates_for(SUBJECTS, happy=SUBJECTS, sad=SUBJECTS[1:7])


def contents(kept):
    """Return all that templates consist of, to the bit."""
    frames = {
        name: [part.tobytes() if isinstance(part, np.ndarray) else part for part in parts.values()]
        for name, parts in ((name, vars(frame)) for name, frame in kept.frames.items())
    }
    return (kept.source.tobytes(), kept.geometry, kept.eye_white), frames


@pytest.mark.parametrize(("geometry", "kind"), CASES[::3])
def test_group(geometry, kind):
    images = [as_kind(face(subject), kind) for subject in range(4)]
    known = [features_of(fields.area_averaged(image, *geometry.size)) for image in images]
    found, mean = groupwise.register_to_mean(geometry, known)
    kept = 2 if kind == "colour" else 1
    expected, wanted = naive.naive_group(
        [planes(each.half)[:kept] for each in known], weights(geometry), geometry is SQUARE
    )
    np.testing.assert_allclose(found, expected, atol=1e-2)
    np.testing.assert_allclose(planes(mean)[:kept], wanted, atol=1e-2)
    assert np.abs(found.mean(axis=0)).max() < 0.1 < np.abs(found).max()


@pytest.mark.parametrize("geometry", [SQUARE, TALL], ids=["square", "tall"])
@pytest.mark.parametrize("sense", [1, -1])
def test_main_variation(geometry, sense):
    scores = np.random.default_rng(1).normal(size=12)
    mean, main = smooth(2, 2, *geometry.fields)
    changes = mean + 0.1 * smooth(3, 12, *geometry.fields)
    changes += (sense * scores)[:, None, None] * (0.5 * mean + main)
    changes = changes.astype(np.float32)
    found = groupwise.main_variation(geometry, changes, changes.mean(axis=0))
    expected = naive.naive_main_variation(changes.astype(float), oval(geometry))
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert found[0].std() == pytest.approx(1, abs=1e-4)
    inside = changes[:, oval(geometry)]
    assert np.cov(found[0], (inside**2).sum(axis=1))[0, 1] > 0
    assert not found[1][~oval(geometry)].any()


def test_changes_that_are_all_alike_have_no_variation():
    changes = np.repeat(smooth(1, 1, 64, 64), 9, axis=0)
    scores, component, explained = groupwise.main_variation(SQUARE, changes, changes[0])
    assert not scores.any()
    assert not component.any()
    assert explained == 0


def test_two_groups():
    rng = np.random.default_rng(3)
    for lower, upper in ((20, 60), (60, 20), (40, 40), (64, 16)):
        scores = rng.permutation(np.repeat([-1.0, 1.5], [lower, upper]))
        scores += 0.2 * rng.normal(size=80)
        groups = groupwise.groups_of(scores)
        assert groups == pytest.approx(naive.naive_groups(scores))
        assert groups == pytest.approx((-1, 1.5), abs=0.15)
    assert groupwise.groups_of(np.repeat([0.0, 5.0], [9, 2])) is None  # less than a fifth
    assert groupwise.groups_of(np.repeat([0.0, 5.0], [8, 2])) == (0, 5)
    assert groupwise.groups_of(np.zeros(10)) is None


def test_two_groups_explain_eight_tenths():
    quantiles = norm.ppf((np.arange(100) + 0.5) / 100)
    assert groupwise.groups_of(quantiles) is None
    least, explained = None, np.zeros(2)
    for apart in np.arange(0, 4, 0.05):
        scores = np.concatenate([quantiles - apart / 2, quantiles + apart / 2])
        groups = groupwise.groups_of(scores)
        high = scores > 0
        within = (scores[high].var() + scores[~high].var()) / 2
        explained = explained[1], 1 - within / scores.var()
        if groups is not None:
            least = apart
            break
        assert naive.naive_groups(scores) is None
    assert explained[0] < 0.80 < explained[1]
    assert 3.5 < least < 4
    assert groupwise.groups_of(np.arange(100.0)) is None  # of even scores two explain 3/4
    assert groups == pytest.approx(naive.naive_groups(scores), abs=0.05)


def test_one_extreme_score_hides_no_groups():
    rng = np.random.default_rng(2)
    scores = np.append(np.repeat([-1.0, 1.0], 40) + 0.2 * rng.normal(size=80), 5.0)
    expected = naive.naive_groups(scores)
    assert expected is not None
    assert groupwise.groups_of(scores) == pytest.approx(expected)


def test_the_lower_group_may_be_a_fifth():
    assert groupwise.groups_of(np.repeat([0.0, 5.0], [2, 8])) == (0, 5)


def halves_of(found):
    """Return features at full size, and at half size."""
    return planes(found.whole), planes(found.half)


def test_frame():
    subjects = range(8)
    known, wanted = ([features(k, kind) for k in subjects] for kind in ("neutral", "happy"))
    shapes = np.stack([smooth(k, 2, 64, 64, sigma=8) for k in subjects])
    source = np.mean([each.half for each in known], axis=0)
    found = groupwise.frame_of(SQUARE, source, known, shapes, [drawn(k, "happy") for k in subjects])
    expected = naive.naive_frame(
        planes(source),
        [(planes(each.half), each.half_luminance.astype(float)) for each in known],
        shapes.astype(float),
        [halves_of(each) for each in wanted],
        weights(SQUARE),
        oval(SQUARE),
    )
    # Steps of 1/64 may be rounded either way.
    off = np.abs(found.motion - expected["motion"])
    assert off.max() <= 1 / 64
    assert (off > 0).mean() < 0.02
    assert np.array_equal(found.motion * 64, np.round(found.motion * 64))
    assert np.abs(found.motion).max() > 0.5
    for name in ("template", "variation"):
        np.testing.assert_allclose(planes(getattr(found, name)), expected[name], atol=0.02)
    for name in ("light", "explained"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=5e-3)
    np.testing.assert_allclose(found.change, expected["change"], atol=0.03)
    off = found.component - expected["component"]
    assert np.abs(off).max() < 0.02 * np.abs(expected["component"]).max()
    assert found.groups == pytest.approx(expected["groups"], abs=0.01)
    assert found.plain == naive.naive_plain(found.groups)


def test_style_counts_from_that_without_teeth():
    frame = trained().frames["happy"]
    assert frame.styled
    assert replace(frame, groups=(-0.7, 1.1)).plain == -0.7
    assert replace(frame, groups=None).plain == -1
    none = replace(frame, component=np.zeros_like(frame.component))
    assert none.plain == 0


def positions_of(geometry):
    """Return where the pixels of the features' size lie in the canonical crop."""
    return naive.naive_canonical(geometry.size, geometry.eyes, *geometry.features)


@pytest.mark.parametrize("geometry", [SQUARE, TALL, SMALL], ids=["square", "tall", "small"])
def test_eye_white(geometry):
    height, width = geometry.features
    own = features_of(picture(5, height, width))
    field = smooth(6, 2, *geometry.fields, sigma=6, largest=2)
    expected = naive.naive_eye_white(own.luminance.astype(float), field, *positions_of(geometry))
    assert templates.eye_white_of(geometry, own, field) == pytest.approx(expected, abs=1e-5)
    dark = replace(own, luminance=np.zeros_like(own.luminance))
    assert templates.eye_white_of(geometry, dark, field) == 1 / 255


def test_eye_whites_are_next_to_the_pupils():
    luminance = np.zeros((128, 128), np.float32)
    still = np.zeros((2, 64, 64), np.float32)
    for y, x, expected in (
        (46, 36, 1), (46, 46, 1), (46, 82, 1), (46, 92, 1), (44, 41, 1), (48, 87, 1),
        (46, 30, 0), (46, 52, 0), (46, 64, 0), (46, 97, 0), (41, 41, 0), (51, 87, 0),
    ):  # fmt: skip
        spot = luminance.copy()
        spot[y - 1 : y + 2, x - 2 : x + 3] = 1
        own = replace(features(1), luminance=spot)
        white = templates.eye_white_of(SQUARE, own, still)
        assert white == (1 / 255 if not expected else pytest.approx(1)), (y, x)


def test_eyes_outside_the_image_have_no_white():
    outside = Geometry((128, 128), ((1.4, 0.3), (1.8, 0.3)))
    still = np.zeros((2, 64, 64), np.float32)
    assert templates.eye_white_of(outside, features(1), still) == 1 / 255


@pytest.mark.parametrize("geometry", [SQUARE, FLAT, SMALL], ids=["square", "flat", "beside"])
def test_side_light(geometry):
    own = features_of(picture(7, *geometry.features) * ramp(geometry.features[1])[:, None])
    field = smooth(6, 2, *geometry.fields, sigma=6, largest=2)
    found = templates.side_light(geometry, own, field)
    inside = oval(geometry) & oval(geometry)[:, ::-1]
    expected = side_light_on(own, field, geometry)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
    if geometry is SMALL:  # its faces are not in the middle
        assert (found == 1).all()
    else:
        assert found[inside].max() > 1.5 * found[inside].min()
        assert found[inside].mean() == pytest.approx(1, abs=0.02)


def test_side_light_of_an_even_face_is_the_light():
    still = np.zeros((2, 64, 64), np.float32)
    even = fields.symmetric(face(1), 1)
    plain, lit, flipped = (
        templates.side_light(SQUARE, features_of(np.ascontiguousarray(image)), still)
        for image in (even, even * ramp(128)[:, None], even * ramp(128)[::-1, None])
    )
    np.testing.assert_allclose(plain, 1, atol=1e-5)
    np.testing.assert_allclose(lit, flipped[:, ::-1], atol=1e-5)
    row, columns = 48, [20, 32, 44]
    expected = ramp(64)[columns] / ramp(64)[32]
    np.testing.assert_allclose(lit[row, columns] / lit[row, 32], expected, rtol=0.06)


@pytest.mark.parametrize("dark", [0.0, 0.02])
def test_side_light_has_bounds(dark):
    image = np.full((128, 128, 3), 0.9, np.float32)
    image[:, :90] = dark
    found = templates.side_light(SQUARE, features_of(image), np.zeros((2, 64, 64), np.float32))
    assert found.min() == 0.25
    assert found.max() == 2


def test_light_on_teeth():
    for light in np.arange(0.02, 2, 0.06):
        for white in np.arange(0.01, 2, 0.06):
            expected = naive.naive_light_on_teeth(light, white)
            assert templates.light_on_teeth(light, white) == pytest.approx(expected)
    for light, white, expected in (
        (0.6, 0.6, 0.6),  # a dim picture
        (0.6, 0.75, 0.9),  # a dark face: as much over the white as that is over the face
        (0.6, 1.0, 1.0),
        (0.6, 0.3, 0.6),  # closed eyes say nothing
        (0.05, 0.1, 0.2),
        (1.2, 1.0, 1.0),
    ):
        assert templates.light_on_teeth(light, white) == pytest.approx(expected)


@pytest.mark.parametrize("score", [0.0, 1.0, 2.5, -3.0])
def test_targets_are_registered_to_the_template_of_their_style(score):
    frame = trained().frames["happy"]
    moving = features(20, "happy")
    start = smooth(2, 2, 64, 64, sigma=8)
    found = templates.styled_field(SQUARE, frame, moving, start, score)
    parts = planes(frame.template), planes(frame.variation), *halves_of(moving)
    expected = naive.naive_styled_field(*parts, weights(SQUARE), start.astype(float), score)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def pair_of(subject, expression="happy"):
    """Return a pair as it is moved into a frame: image, features, field; image, features."""
    source, target = (
        np.ascontiguousarray(planes(face(subject, kind)).astype(np.float32))
        for kind in ("neutral", expression)
    )
    known = features(subject)
    return source, known, trained().source_field(known), target, features(subject, expression)


@pytest.mark.parametrize(
    ("share", "white", "groups"),
    [(1.0, 1.0, (-0.7, 1.1)), (1.0, 0.9, None), (0.5, 0.7, (-0.7, 1.1)), (0.5, 0.3, None)],
)
def test_framed_pair(share, white, groups):
    kept = trained()
    frame = replace(kept.frames["happy"], groups=groups)
    source, _, _, target, wanted = pair_of(21)
    source = np.float32(share) * source
    known = features_of(interleaved(source))
    field = kept.source_field(known)
    assert np.array_equal(field, fields.rounded(kept.source_template.register(known)))
    found = templates.framed(
        frame, kept.target_templates["happy"], source, known, field, white, target, wanted
    )
    plain = {
        "template": planes(frame.template),
        "variation": planes(frame.variation),
        "motion": frame.motion.astype(float),
        "light": frame.light,
        "change": frame.change.astype(float),
        "component": frame.component.astype(float),
        "groups": groups,
    }
    before = planes(known.half), known.half_luminance.astype(float), field.astype(float), white
    x, t, light, style, teeth, shape = naive.naive_framed_pair(
        plain,
        (source.astype(float), *before),
        (target.astype(float), *halves_of(wanted)),
        weights(SQUARE),
        oval(SQUARE),
    )
    np.testing.assert_allclose(found.source, x, atol=1e-4)
    assert np.abs(found.target - t).mean() < 1e-3
    assert found.light == pytest.approx(256 * light, abs=0.6)
    assert found.style == pytest.approx(256 * style, abs=5)
    assert found.teeth == pytest.approx(256 * teeth, abs=5)
    assert light > 0.8 if share == 1 else 0.2 < light < 0.6
    assert np.abs(found.shape - 64 * shape).mean() < 0.3
    assert np.abs(found.shape - 64 * shape).max() < 3
    assert found.shape.dtype == np.int32


def test_scores_of_the_training_subjects_have_deviation_1():
    kept = trained()
    scores = []
    for subject in SUBJECTS:
        source, known, field, target, wanted = pair_of(subject)
        pair = templates.framed(
            kept.frames["happy"],
            kept.target_templates["happy"],
            source,
            known,
            field,
            1.0,
            target,
            wanted,
        )
        scores.append(pair.style / 256)
        assert 0.3 < pair.light / 256 < 2
    assert np.std(scores) == pytest.approx(1, abs=0.1)
    assert np.mean(scores) == pytest.approx(0, abs=0.1)


def test_fewer_than_eight_pairs_have_no_style():
    kept = trained()
    assert kept.frames["happy"].styled
    frame = kept.frames["sad"]
    assert not frame.styled
    assert not frame.component.any()
    assert not frame.variation.any()
    assert (frame.explained, frame.groups) == (0, None)
    source, known, field, target, wanted = pair_of(24, "sad")
    template = kept.target_templates["sad"]
    pair = templates.framed(frame, template, source, known, field, 0.8, target, wanted)
    assert pair.style == pair.teeth == frame.plain == 0
    own = fields.compose(field, frame.motion) - frame.motion
    expected = fields.rounded(template.register(wanted)) - fields.rounded(own)
    assert np.array_equal(pair.shape, 64 * expected)
    seven = templates_for(SUBJECTS[:7], happy=SUBJECTS[:7])
    assert not seven.frames["happy"].styled


def test_templates_depend_on_the_images_alone():
    expected = contents(trained())
    assert contents(templates_for(SUBJECTS, 3, sad=SUBJECTS[1:7], happy=SUBJECTS)) == expected
    alone = contents(templates_for(SUBJECTS, 2, sad=SUBJECTS[1:7]))
    assert alone[0] == expected[0]
    assert alone[1]["sad"] == expected[1]["sad"]
    other = contents(templates_for(SUBJECTS, 1, sad=SUBJECTS[2:8]))
    assert other[0] == expected[0]
    assert other[1]["sad"] != expected[1]["sad"]


def test_templates_of_grey_images_have_one_feature():
    subjects = [np.ascontiguousarray(drawn(k)[..., 1:2]) for k in range(3)]
    kept = groupwise.templates_of(SQUARE.size, subjects, {"happy": ([0, 2], subjects[:2])})
    assert not kept.source[..., 1].any()
    assert not kept.frames["happy"].template[..., 1].any()
    assert kept.source[..., 0].any()


def test_eye_white_of_a_training_set_is_the_mean():
    kept = trained()
    assert kept.geometry == SQUARE
    known = [features(subject) for subject in SUBJECTS]
    registered, _ = groupwise.register_to_mean(SQUARE, known)
    whites = [
        naive.naive_eye_white(each.luminance.astype(float), field, *positions_of(SQUARE))
        for each, field in zip(known, registered, strict=True)
    ]
    assert kept.eye_white == pytest.approx(np.mean(whites), rel=1e-4)
    assert np.std(whites) > 0.01
    assert kept.eye_white > np.mean([each.half_luminance[20:50, 20:44].mean() for each in known])


# --- eyes ---------------------------------------------------------------------------------------

#: Rows and columns that are cut out of canonical faces of 128 px: top, bottom, left, right.
CROPS = [
    (10, 128, 5, 123),
    (20, 128, 14, 114),
    (20, 118, 14, 108),
    (16, 128, 0, 128),
    (0, 128, 20, 108),
    (12, 116, 8, 112),
    (12, 124, 20, 108),
    (0, 116, 12, 128),
    (16, 112, 12, 116),
    (4, 112, 10, 118),
]


@lru_cache
def ten(seed, size=128):
    """Return ten drawn faces, 8-bit."""
    return [draw_face(seed, subject, "neutral", size) for subject in range(10)]


def mean_feature(images):
    """Return the mean first feature of 8-bit images."""
    found = [features_of(image.astype(np.float32) / np.float32(255)) for image in images]
    return np.mean([each.whole[..., 0] for each in found], axis=0, dtype=np.float32)


def cut(images, crop):
    """Return a crop of images, and where the eyes of canonical images lie in it."""
    top, bottom, left, right = crop
    side = images[0].shape[0]
    eyes_there = [
        ((side * x - left) / (right - left), (side * y - top) / (bottom - top)) for x, y in EYES
    ]
    return [np.ascontiguousarray(each[top:bottom, left:right]) for each in images], eyes_there


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 7])
def test_eyes_of_drawn_faces_are_canonical(seed):
    assert eyes.find_eyes(mean_feature(ten(seed))) == EYES


@pytest.mark.parametrize("size", [40, 64, 200, 256])
def test_eyes_of_reduced_and_enlarged_faces_are_canonical(size):
    assert eyes.find_eyes(mean_feature(ten(1, size))) == EYES


# In other crops, and for most other subjects, something else in the drawings is more like a face.
@pytest.mark.parametrize("crop", CROPS)
def test_eyes_of_crops(crop):
    images, expected = cut(ten(1), crop)
    found = eyes.find_eyes(mean_feature(images))
    assert np.abs(np.subtract(found, expected)).max() < 0.01
    assert np.abs(np.subtract(found, EYES)).max() > 0.02
    assert found[0][1] == found[1][1]


def test_eyes_are_found_to_parts_of_a_pixel():
    images, _ = cut(ten(1), CROPS[5])
    mean = mean_feature(images)
    before = np.array(eyes.find_eyes(mean))
    for dy, dx in ((0.25, 0.4), (0.5, 0.75), (-0.35, -0.6)):
        field = np.empty((2, *mean.shape), np.float32)
        field[0], field[1] = -dy, -dx
        found = np.array(eyes.find_eyes(fields.warp(mean[None], field)[0]))
        np.testing.assert_allclose((found - before) * 128, [(dx, dy)] * 2, atol=0.12)


def test_eyes_close_to_the_canonical_ones_are_these():
    images, expected = cut(ten(1), (1, 128, 0, 127))
    assert 0.001 < np.abs(np.subtract(expected, EYES)).max() < 0.01
    assert eyes.find_eyes(mean_feature(images)) == EYES
    images, expected = cut(ten(1), (3, 128, 0, 125))
    found = eyes.find_eyes(mean_feature(images))
    assert 0.015 < np.abs(np.subtract(expected, EYES)).max() < 0.03
    assert found != EYES
    assert np.abs(np.subtract(found, expected)).max() < 0.01


@pytest.mark.parametrize("size", [(128, 128), (152, 128), (128, 256)])
def test_eyes_of_nothing_are_canonical(size):
    assert eyes.find_eyes(np.zeros(size, np.float32)) == EYES
    assert eyes.find_eyes(np.full(size, 0.7, np.float32)) == EYES
    for seed in range(3):
        assert eyes.find_eyes(features_of(noise(seed, *size, 3)).whole[..., 0]) == EYES
        assert eyes.find_eyes(smooth(seed, 1, *size, sigma=1)[0] * 3) == EYES


@pytest.mark.parametrize("crop", [CROPS[1], CROPS[5]])
def test_templates_are_placed_by_the_eyes(crop):
    top, bottom, left, right = crop
    images, expected = cut(ten(1), crop)
    size = bottom - top, right - left
    reduced = [np.rint(shrunk(each.astype(np.float32))).astype(np.uint8) for each in images]
    kept = groupwise.templates_of(size, reduced, {"happy": ([0, 1], reduced[:2])})
    assert kept.geometry.size == size
    found = eyes.find_eyes(mean_feature(reduced))
    np.testing.assert_allclose(kept.geometry.eyes, found, atol=1e-6)
    assert np.abs(np.subtract(kept.geometry.eyes, expected)).max() < 0.01
    whole = naive.naive_mask(*naive.naive_canonical((128, 128), EYES, 128, 128, 0.5))
    wanted = whole[top:bottom, left:right]
    assert np.abs(kept.geometry.mask(*size) - wanted).mean() < 0.02
    assert np.abs(Geometry(size).mask(*size) - wanted).mean() > 0.05


# --- synthesis ----------------------------------------------------------------------------------


def appearance(seed, geometry=SQUARE, channels=3, **parts):
    """Return what might have been learnt of an expression."""
    half, whole = geometry.fields, geometry.size
    known = Appearance(
        motion=smooth(seed, 2, *half, sigma=6, largest=3),
        shape=smooth(seed + 1, 2, *half, sigma=6, largest=0.5),
        mean=smooth(seed + 2, channels, *whole, largest=0.1),
        spread=smooth(seed + 3, channels, *whole, largest=0.1),
        share=np.abs(smooth(seed + 4, 1, *whole, largest=0.3)[0]),
        template=np.zeros((*half, 2), np.float32),
        variation=np.zeros((*half, 2), np.float32),
        face=np.full((*whole, channels), [200, 180, 150][:channels], np.uint8).transpose(2, 0, 1),
        light=0.5,
        style=1.2,
        other=-0.6,
        plain=-0.8,
        explained=0.9,
    )
    return replace(known, **parts)


def ridge(name, image):
    """Return what the ridge regression of an expression might give."""
    return image * np.float32(0.9) + np.float32(0.02 * len(name))


def nothing(name, image):
    """Return an image as it is, for a ridge that changes nothing."""
    return image


def registered(geometry=SQUARE, subject=2, eye_white=0.6, **appearances):
    """Return what synthesis needs, with a face as the template."""
    image = fields.area_averaged(face(subject), *geometry.size)
    return Registered(geometry, features_of(image).half, eye_white, appearances)


def changed(known, image, ridge, shares, strength, styles, regions=()):
    """Return what becomes of an image, by registration, the parts and their change."""
    found = known.register(image)
    parts = [
        known.part(found, name, ridge, share, styles.get(name), regions)
        for name, share in shares.items()
    ]
    return known.change(found, parts, strength)


@lru_cache
def learnt(geometry=SQUARE, kind="colour"):
    """Return what synthesis needs, with templates of faces that are happy and surprised."""
    parts, names = {}, ("happy", "surprised")
    if geometry is SQUARE:
        kept = templates_for(SUBJECTS, **dict.fromkeys(names, SUBJECTS))
        source, eye_white = kept.source, kept.eye_white
        for name, frame in kept.frames.items():
            template, variation = (fields.halved(e) for e in (frame.template, frame.variation))
            parts[name] = {"template": template, "variation": variation, "motion": frame.motion}
    else:
        source, eye_white = registered(geometry).source, 0.6
        neutral, *others = (
            features_of(interleaved(face_planes(3, geometry, kind, name))).half
            for name in ("neutral", *names)
        )
        for name, template in zip(names, others, strict=True):
            parts[name] = {
                "template": template,
                "variation": np.float32(0.2) * (template - neutral),
            }
    channels = 1 if kind == "one channel" else 3
    appearances = {
        name: appearance(10 * k, geometry, channels, **parts[name])
        for k, name in enumerate(names, 1)
    }
    return Registered(geometry, source, eye_white, appearances)


def naive_fit(known, own):
    """Return what the reference finds of a face: field, value, expression, shown and trust."""
    kept = 1 if own.grey else 2
    candidates = [(planes(known.source)[:kept], None, None)]
    for name, each in known.appearances.items():
        back = naive.naive_invert(each.motion.astype(float))
        for style in (-0.8, 1.2) if each.explained > 0 else (0.0,):
            template = planes(each.template) + style * planes(each.variation)
            candidates.append((template[:kept], name, back))
    geometry = known.geometry
    place = geometry.size, geometry.eyes
    return naive.naive_find(planes(own.half)[:kept], candidates, weights(geometry), place)


def face_planes(subject, geometry=SQUARE, kind="colour", expression="neutral"):
    """Return a face as planes of the geometry's size."""
    image = fields.area_averaged(as_kind(face(subject, expression), kind), *geometry.size)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def ramp(width):
    """Return light from the right, by column."""
    return np.linspace(0.3, 1, width, dtype=np.float32)


def side_light_on(own, field, geometry=SQUARE):
    """Return the reference's light from the sides, 1 where faces are not in the middle."""
    (left, _), (right, _) = geometry.eyes
    if abs(left + right - 1) > 0.0099:
        return np.ones(geometry.fields)
    side = geometry.side(geometry.fields[1])
    return naive.naive_side_light(own.half_luminance.astype(float), field, oval(geometry), side)


@pytest.mark.parametrize(
    ("geometry", "kind", "expression", "lights", "white", "regions"),
    [
        (SQUARE, "colour", "neutral", (0.6, 1.6), 0.75, ()),
        (SQUARE, "colour", "happy", (0.6, 1.6), 0.75, ("lower", "brows")),
        (TALL, "grey as RGB", "neutral", (0.3, 0.1), 0.4, ("mouth",)),
        (SMALL, "one channel", "neutral", (0.6, 1.6), 0.75, ()),
    ],
    ids=["square", "smile", "tall", "small"],
)
def test_change(geometry, kind, expression, lights, white, regions):
    image = face_planes(3 if expression == "happy" else 1, geometry, kind, expression)
    image *= ramp(image.shape[2])
    own = features_of(interleaved(image))
    grey = kind != "colour"
    known = learnt(geometry, kind)
    u, _, shows, shown, trust = naive_fit(known, own)
    assert shows == (None if expression == "neutral" else expression)
    assert (0.1 < shown < 0.9) == (expression == "happy")
    assert trust.max() > 0.5
    assert 0 <= trust.min() < 0.7
    appearances = {
        "happy": replace(known.appearances["happy"], plain=-0.8),
        "surprised": replace(known.appearances["surprised"], plain=-1.8),
    }
    # A face that is darker than the whites of its eyes; too bright or dark for the other one.
    for (name, kept), light in zip(list(appearances.items()), lights, strict=True):
        W = naive.naive_compose(u, kept.motion.astype(float))
        brightness = naive.naive_framed_light(own.half_luminance, W, oval(geometry))
        appearances[name] = replace(kept, light=brightness / light)
    sides = side_light_on(own, u, geometry)
    assert sides.max() > 1.4 * sides.min() or not geometry.symmetric
    seen = naive.naive_eye_white(own.luminance.astype(float), u, *positions_of(geometry), sides)
    known = replace(known, eye_white=seen / white, appearances=appearances)
    usual, *_ = appearances.values()
    hue = naive.naive_hue(
        *(image.astype(float), u),
        *(usual.face / 255, naive.naive_invert(usual.motion.astype(float))),
        *naive.naive_canonical(geometry.size, geometry.eyes, *geometry.size),
        sides,
    )
    shares, styles = {"happy": 0.7, "surprised": 0.5}, {"happy": 1.0, "surprised": -0.5}
    found = changed(known, image, ridge, shares, 0.9, styles, regions)

    def plain(name):
        kept = appearances[name]
        parts = (kept.motion, kept.shape, kept.mean, kept.spread)
        m, d1, b, c = (part.astype(float) for part in parts)
        return {
            "share": shares[name],
            "shown": shown if name == shows else 0,
            "m": m,
            "d1": d1,
            "b": b,
            "c": c,
            "replaced": kept.share.astype(float),
            "plain": kept.plain,
            "default": kept.style,
            "face": kept.face / 255,
            "white": seen / known.eye_white,
            "style": styles[name],
            "light": lambda W: (
                naive.naive_framed_light(own.half_luminance, W, oval(geometry)) / kept.light
            ),
            "ridge": lambda framed: ridge(name, framed),
            "grey": grey,
            "hue": hue,
            "sides": sides,
        }

    motion, added = naive.naive_change(
        image.astype(float),
        u,
        trust,
        [plain("happy"), plain("surprised")],
        0.9,
        masks(geometry, regions),
        (geometry.fields, geometry.size),
    )
    np.testing.assert_allclose(found.motion, motion, atol=0.02)
    np.testing.assert_allclose(found.added, added, atol=3e-4)
    assert np.abs(motion).max() > 0.7
    expected = naive.naive_warp(image.astype(float), found.motion.astype(float)) + found.added
    np.testing.assert_allclose(found.applied(image), expected, atol=2e-5)
    if kind == "grey as RGB":
        assert np.array_equal(found.added[0], found.added[1])
        assert np.array_equal(found.added[0], found.added[2])


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_changes_nothing(kind):
    image = face_planes(1, kind=kind)
    known = registered(happy=appearance(1, channels=len(image)))
    change = changed(known, image, ridge, {"happy": 1.0}, 0.0, {})
    assert np.array_equal(change.applied(image), image)
    assert not change.motion.any()


def test_two_half_shares_of_one_appearance_are_the_whole():
    one = appearance(1)
    known = registered(happy=one, glad=one)
    image = face_planes(1)
    whole = changed(known, image, nothing, {"happy": 1.0}, 1.0, {"happy": 0.8})
    styles = {"happy": 0.8, "glad": 0.8}
    halves = changed(known, image, nothing, {"happy": 0.5, "glad": 0.5}, 1.0, styles)
    np.testing.assert_allclose(halves.motion, whole.motion, atol=1e-4)
    np.testing.assert_allclose(halves.added, whole.added, atol=1e-5)
    assert np.abs(whole.motion).max() > 1


@pytest.mark.parametrize(
    ("regions", "least", "most"),
    [
        ((), 0.15, 0.5),
        (("mouth",), 0.5, 0.85),
        (("eyes", "brows"), 0.3, 0.75),
        (("lower",), 0.4, 0.8),
    ],
)
def test_nothing_changes_outside_the_mask_and_the_regions(regions, least, most):
    known = registered(happy=appearance(1, mean=np.ones((3, 128, 128), np.float32)))
    image = face_planes(1)
    change = changed(known, image, ridge, {"happy": 1.0}, 1.0, {}, regions)
    field = known.register(image).fit.field
    back = naive.naive_invert(
        naive.naive_compose(field.astype(float), known.appearances["happy"].motion.astype(float))
    )
    half, whole = masks(SQUARE, regions)
    n = naive.naive_enlarged(change.motion.astype(float), 64, 64)
    at = naive.naive_compose(back, n)
    reached = [
        naive.naive_look_up(whole[None], naive.naive_enlarged(at, 128, 128))[0],
        naive.naive_resampled(naive.naive_look_up(half[None], at), 128, 128)[0],
    ]
    outside = maximum_filter(np.maximum(*reached), 9) == 0
    assert least < outside.mean() < most
    other = (change.applied(image) != image).any(axis=0)
    assert not other[outside].any()
    assert other[~outside].mean() > 0.75


def test_pixels_without_motion_keep_their_bits():
    image = face_planes(4)
    motion = np.zeros((2, 128, 128), np.float32)
    motion[0, 30:60, 40:90] = 0.5
    added = np.zeros_like(image)
    added[:, :20] = 0.25
    found = Change(motion, added).applied(image)
    still = (motion == 0).all(axis=0)
    assert np.array_equal(found[:, still], (image + added)[:, still])
    expected = naive.naive_warp(image.astype(float), motion.astype(float))
    np.testing.assert_allclose(found[:, ~still], expected[:, ~still], atol=2e-5)
    assert np.array_equal(Change(0 * motion, added).applied(image), image + added)


def test_no_teeth_are_added_at_the_style_without():
    image = face_planes(1)
    motionless = {"motion": np.zeros((2, 64, 64), np.float32)}
    motionless["shape"] = motionless["motion"]
    some = appearance(1, **motionless)
    none = replace(some, spread=0 * some.spread, share=0 * some.share)
    for style, same in ((some.plain, True), (0.0, False)):
        found, expected = (
            changed(registered(happy=each), image, ridge, {"happy": 1.0}, 1.0, {"happy": style})
            for each in (some, none)
        )
        assert (np.abs(found.added - expected.added).max() < 1e-6) == same


def test_teeth_of_dark_faces_have_the_colour_of_the_light():
    """A face with dark skin and bright eyes, and a face with light skin in the same light."""
    image = face_planes(1) * np.float32([1.0, 0.8, 0.7])[:, None, None]
    own = features_of(interleaved(image))
    field = registered().register(image).fit.field.astype(float)
    brightness = naive.naive_framed_light(own.half_luminance, field, oval(SQUARE))
    seen = naive.naive_eye_white(own.luminance.astype(float), field, *positions_of(SQUARE))
    still, share = np.zeros((2, 64, 64), np.float32), np.full((128, 128), 0.3, np.float32)
    planes = {"motion": still, "shape": still, "mean": np.zeros((3, 128, 128), np.float32)}
    planes |= {"spread": planes["mean"] + np.float32(0.25), "share": share}
    face = np.full((3, 128, 128), 120, np.uint8)  # grey: so are its teeth
    colours = {}
    for light in (0.45, 1.0):
        kept = appearance(1, **planes, face=face, light=brightness / light, style=1.0, plain=-1.0)
        known = registered(eye_white=seen, happy=kept)
        change = changed(known, image, nothing, {"happy": 1.0}, 1.0, {"happy": 1.0})
        mouth = change.applied(image)[:, 85:105, 50:78].mean(axis=(1, 2))
        hue = known.hue(known.register(image)).ravel()
        colours[light] = mouth / mouth.mean() / hue
    assert np.ptp(colours[0.45]) < 0.02
    assert np.ptp(colours[1.0]) > 0.05


@pytest.mark.parametrize(
    ("light", "white", "expected"),
    [
        (0.6, 0.75, 0.9), (0.6, 0.4, 0.6), (0.6, 2.0, 1.0), (1.6, 1.0, 1.0),
        (0.1, 0.4, 0.7), (0.1, 0.1, 0.2),
    ],
)  # fmt: skip
def test_light_on_teeth_depends_on_the_whites_of_the_eyes(light, white, expected):
    image = face_planes(1)
    own = features_of(interleaved(image))
    field = registered().register(image).fit.field
    brightness = naive.naive_framed_light(own.half_luminance, field.astype(float), oval(SQUARE))
    sides = side_light_on(own, field.astype(float))
    seen = naive.naive_eye_white(
        own.luminance.astype(float), field.astype(float), *positions_of(SQUARE), sides
    )
    known = constant(brightness / light)
    known = replace(known, mean=0 * known.mean, spread=known.mean, plain=-0.5)
    whole = registered(eye_white=seen / white, happy=known)
    change = changed(whole, image, nothing, {"happy": 1.0}, 1.0, {"happy": 1.0})
    brightest = (hue_in_white_light(image, field) * added_light(sides)).max()
    assert change.added.max() == pytest.approx(1.5 * expected * 0.2 * brightest, rel=0.01)


def test_lips_are_replaced_by_their_share_for_each_unit_of_style():
    image = face_planes(2)
    still, share = np.zeros((2, 64, 64), np.float32), np.zeros((128, 128), np.float32)
    share[60:110, 40:90] = 0.25
    nil = np.zeros((3, 128, 128), np.float32)
    fields_and_planes = {"motion": still, "shape": still, "mean": nil, "spread": nil}
    kept = appearance(1, **fields_and_planes, share=share, light=0.1)  # far brighter than usual
    found = changed(registered(happy=kept), image, nothing, {"happy": 1.0}, 1.0, {"happy": 1.2})
    inner = np.s_[:, 64:106, 44:86]
    np.testing.assert_allclose(found.added[inner], -2 * 0.25 * image[inner], atol=0.01)


def constant(light):
    """Return an appearance that adds .2 everywhere, times the face's brightness over a light."""
    none = np.zeros((2, 64, 64), np.float32)
    same = np.zeros((3, 128, 128), np.float32)
    return appearance(
        1,
        motion=none,
        shape=none,
        mean=same + np.float32(0.2),
        spread=same,
        share=same[0],
        light=light,
        face=np.full((3, 128, 128), 200, np.uint8),
    )


def hue_in_white_light(image, field):
    """Return the colour of the light on a face, where the usual face is grey, (3, 1, 1)."""
    usual, still = np.ones((3, 128, 128)), np.zeros((2, 64, 64))
    arrays = image.astype(float), field.astype(float)
    sides = side_light_on(features_of(interleaved(image)), arrays[1])
    hue = naive.naive_hue(*arrays, usual, still, *positions_of(SQUARE), sides)
    return hue[:, None, None]


def added_light(sides, trust=1):
    """Return the light on the additions in the frame, (128, 128)."""
    return naive.naive_resampled((sides * trust)[None], 128, 128)[0] * masks(SQUARE)[1]


def test_noise_is_left_as_it_is():
    known = registered(happy=appearance(1))
    for seed in range(3):
        image = noise(seed, 3, 128, 128)
        change = changed(known, image, ridge, {"happy": 1.0}, 1.0, {})
        assert known.register(image).fit.unlike
        assert np.array_equal(change.applied(image), image)


def test_the_effect_fades_out_where_a_face_fits_less():
    known = registered(happy=constant(1e-6))
    most = []
    for share in (1.0, 0.64, 0.62, 0.6, 0.58, 0.56, 0.5, 0.2):
        image = np.float32(share) * face_planes(1) + np.float32(1 - share) * noise(1, 3, 128, 128)
        change = changed(known, image, nothing, {"happy": 1.0}, 1.0, {})
        fit = known.register(image).fit
        trust = fit.trust
        sides = side_light_on(features_of(interleaved(image)), fit.field.astype(float))
        light = added_light(sides, trust.astype(float))
        most_added = (light * hue_in_white_light(image, fit.field)).max() * 1.3 * 0.2
        assert change.added.max() == pytest.approx(most_added, rel=0.01, abs=1e-6)
        most.append(trust.max())
    assert most == sorted(most, reverse=True)
    assert most[0] == pytest.approx(1)
    assert most[-1] == 0
    assert any(0.01 < each < 0.99 for each in most)


def test_the_added_change_follows_the_light_of_a_face_within_bounds():
    image = face_planes(1)
    own = features_of(interleaved(image))
    field = registered().register(image).fit.field
    brightness = naive.naive_framed_light(own.half_luminance, field.astype(float), oval(SQUARE))
    for light, expected in (
        (brightness, 1.0), (brightness / 1.2, 1.2), (brightness * 2, 0.5),
        (brightness / 2, 1.3), (brightness * 9, 0.2),
    ):  # fmt: skip
        known = registered(happy=constant(light))
        change = changed(known, image, nothing, {"happy": 1.0}, 1.0, {})
        light = added_light(side_light_on(own, field.astype(float)))
        brightest = (light * hue_in_white_light(image, field)).max()
        assert change.added.max() == pytest.approx(expected * 0.2 * brightest, rel=0.01)


def test_the_style_follows_the_strength():
    known = appearance(1)
    for strength, expected in (
        (0, -0.6),
        (0.4, -0.6),
        (0.7, 0.3),
        (0.85, 0.75),
        (1, 1.2),
        (2, 1.2),
    ):
        assert known.style_at(strength, None) == pytest.approx(expected)
        assert known.style_at(strength, 0.25) == 0.25
    image, whole = face_planes(1), registered(happy=known)
    default = changed(whole, image, ridge, {"happy": 1.0}, 0.7, {})
    given = changed(whole, image, ridge, {"happy": 1.0}, 0.7, {"happy": 0.3})
    np.testing.assert_allclose(default.motion, given.motion, atol=1e-5)
    np.testing.assert_allclose(default.added, given.added, atol=1e-5)


def test_light_changes_the_motion_little():
    known = registered(happy=appearance(1))
    image = face_planes(1)
    bright, dim = (
        changed(known, image * np.float32(share), nothing, {"happy": 1.0}, 1.0, {}).motion
        for share in (1, 0.5)
    )
    assert np.abs(bright - dim).mean() < 0.1 * np.abs(bright).mean()


def test_numbers_of_damaged_templates_are_bounded():
    numbers = (0.5, -0.25, 1e30, -1e30, math.inf, math.nan)
    assert [templates._in_units(x) for x in numbers] == [128, -64, 256_000, -256_000, 0, 0]
