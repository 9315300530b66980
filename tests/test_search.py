"""The search for faces: every step against plain references, and its properties."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from mlr.core.registration import fields, register, search
from mlr.core.registration.features import features_of
from mlr.core.registration.register import Template
from mlr.core.registration.search import coarse_fields, weighted_correlation
from mlr.kernels import register as kernels
from mlr.utils.threads import limited
from tests import naive
from tests.test_registration import (
    SMALL,
    SQUARE,
    TALL,
    changed,
    face,
    face_planes,
    features,
    image_and_template,
    interleaved,
    learnt,
    naive_fit,
    noise,
    nothing,
    oval,
    picture,
    planes,
    ridge,
    root_mean_square,
    smooth,
    weights,
)

GEOMETRIES = pytest.mark.parametrize(
    "geometry", [SQUARE, TALL, SMALL], ids=["square", "tall", "small"]
)


def place(geometry):
    """Return the size of images and where their eyes are, for the references."""
    return geometry.size, geometry.eyes


def bases_of(geometry, divisor):
    """Return the reference's coarse fields at the features' size over a divisor."""
    tall, wide = geometry.features
    return naive.naive_coarse_fields(*place(geometry), tall // divisor, wide // divisor)


def mouth(geometry):
    """Return the reference's mouth at the size of fields."""
    return naive.naive_in_mouth(*naive.naive_canonical(*place(geometry), *geometry.fields))


def quartered(interleaved):
    """Return planes at a quarter of the features' size, of features at half."""
    return naive.naive_halved(planes(interleaved))


def quarter_weight(geometry):
    """Return the reference's weight at a quarter of the features' size."""
    return naive.naive_halved(naive.naive_halved(weights(geometry)[None]))[0]


# --- coarse search ------------------------------------------------------------------------------


@GEOMETRIES
def test_coarse_fields(geometry):
    for divisor in (2, 4):
        size = [side // divisor for side in geometry.features]
        found = coarse_fields(geometry, *size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, bases_of(geometry, divisor), atol=2e-4)
    assert len(naive.NAIVE_SIGMAS) == len(found) == 9


def test_combine():
    bases, numbers = noise(1, 5, 2, 7, 11) - np.float32(0.5), smooth(2, 1, 1, 5)[0, 0]
    found = np.full((2, 7, 11), np.nan, np.float32)
    kernels.combine(bases, numbers, found)
    expected = naive.naive_sum_of(bases.astype(float), numbers.astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("second", [1.0, 0.0])
@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_normal_equations_of(second, size):
    moving, fixed = (planes(picture(seed, *size, 2)) * 4 for seed in (1, 2))
    weight, field = noise(3, *size), smooth(4, 2, *size, largest=6.0)
    bases = smooth(5, 6, *size).reshape(3, 2, *size)
    values = [register.with_derivatives_of(interleaved(each)) for each in (moving, fixed)]
    matrix, right = np.empty((3, 3), np.float32), np.empty(3, np.float32)
    kernels.normal_equations_of(*values, weight, np.float32(second), bases, field, matrix, right)
    kept = 2 if second else 1
    wide = (each.astype(float) for each in (weight, bases, field))
    expected, wanted = naive.naive_normal_equations(moving[:kept], fixed[:kept], *wide)
    close = {"rtol": 1e-4, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(matrix, expected, **close)
    np.testing.assert_allclose(right, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert np.array_equal(matrix, matrix.T)


def test_normal_equations_lead_to_a_known_combination():
    image = planes(features(1).half)
    bases = bases_of(SQUARE, 2)
    known = 0.2 * naive.NAIVE_SIGMAS * [1, -1, 1, 1, -1, 1, -1, 1, -1]
    fixed = naive.naive_look_up(image, naive.naive_sum_of(bases, known))
    values = [register.with_derivatives_of(interleaved(each)) for each in (image, fixed)]
    weight, numbers = np.ones((64, 64), np.float32), np.zeros(9)
    matrix, right = np.empty((9, 9), np.float32), np.empty(9, np.float32)
    narrow, field = bases.astype(np.float32), np.empty((2, 64, 64), np.float32)
    for _ in range(20):
        kernels.combine(narrow, numbers.astype(np.float32), field)
        kernels.normal_equations_of(*values, weight, np.float32(1), narrow, field, matrix, right)
        numbers += np.linalg.solve(matrix.astype(float), right.astype(float))
    np.testing.assert_allclose(numbers / naive.NAIVE_SIGMAS, known / naive.NAIVE_SIGMAS, atol=0.02)


def test_weighted_correlation():
    a, b = smooth(1, 2, 20, 30) + np.float32(3), smooth(2, 2, 20, 30)
    weight = noise(3, 20, 30)
    for other in (b, a, -a, 0.3 * a + b):
        found = weighted_correlation(a, np.asarray(other), weight)
        expected = naive.naive_weighted_correlation(a, other, weight.astype(float))
        assert found == pytest.approx(expected, abs=1e-5)
    assert weighted_correlation(a, a, weight) == pytest.approx(1, abs=1e-6)
    assert weighted_correlation(a, 0 * a, weight) == 0
    uneven = np.zeros_like(weight)
    uneven[:5] = 1
    assert weighted_correlation(a, b, uneven) == pytest.approx(
        weighted_correlation(a[:, :5], b[:, :5], np.ones((5, 30), np.float32)), abs=1e-5
    )


SEARCHES = [
    pytest.param(geometry, kind, subject, id=f"{name}, {kind}, {subject}")
    for geometry, name, kind, subject in (
        (SQUARE, "square", "colour", 0),
        (SQUARE, "square", "grey as RGB", 2),
        (TALL, "tall", "grey as RGB", 7),
        (SMALL, "small", "colour", 1),
    )
]


def kept_templates(known, kept):
    """Return the templates that a search begins with, at a quarter of the features' size."""
    found = [known.source]
    for each in known.appearances.values():
        found += [each.template + np.float32(style) * each.variation for style in (-0.8, 1.2)]
    return [quartered(each)[:kept] for each in found]


def check_what_is_refined(known, own):
    """Compare the candidates that are refined with the reference's."""
    geometry, kept = known.geometry, 1 if own.grey else 2
    expected = naive.naive_candidates(
        quartered(own.half)[:kept],
        kept_templates(known, kept),
        quarter_weight(geometry),
        bases_of(geometry, 4),
    )
    found = known.search._coarse(own)
    assert [index for index, _ in found] == [index for index, _ in expected]
    for (_, field), (_, wanted) in zip(found, expected, strict=True):
        np.testing.assert_allclose(field, wanted, atol=1e-2)
    assert 1 <= len(found) <= 4


@pytest.mark.parametrize(("geometry", "kind", "subject"), SEARCHES)
@pytest.mark.parametrize("expression", ["neutral", "happy"])
def test_what_is_refined(geometry, kind, subject, expression):
    image = face_planes(subject, geometry, kind, expression)
    check_what_is_refined(learnt(geometry, kind), features_of(interleaved(image)))


# Of these some candidates are nearly as far apart as they must be.
@pytest.mark.parametrize("name", ["turned 0", "turned 10", "picture 6"])
def test_what_is_refined_of_what_is_no_face(name):
    kind, number = name.split()
    image = face(int(number))[::-1] if kind == "turned" else picture(int(number), 128, 128)
    check_what_is_refined(learnt(), features_of(np.ascontiguousarray(image)))


def test_templates_that_faces_are_searched_with():
    known = learnt()
    plain = replace(known.appearances["surprised"], explained=0.0)
    known = replace(known, appearances={**known.appearances, "surprised": plain})
    source, *others = known.search.candidates
    assert np.array_equal(source.template.half, known.source)
    assert (source.expression, source.back) == (None, None)
    expected = [("happy", -0.8), ("happy", 1.2), ("surprised", 0.0)]
    for found, (name, style) in zip(others, expected, strict=True):
        assert found.expression == name
        kept = known.appearances[name]
        wanted = kept.template + style * kept.variation.astype(float)
        np.testing.assert_allclose(found.template.half, wanted, atol=1e-5)
        back = naive.naive_invert(kept.motion.astype(float))
        np.testing.assert_allclose(found.back, back, atol=1e-4)


def test_candidates_are_pruned_and_distinct():
    counts = []
    for subject in range(5):
        found = learnt().search._coarse(features(subject, "happy"))
        for n, (index, field) in enumerate(found):
            for other, before in found[:n]:
                assert other != index or np.abs(field - before).max() >= 0.75
        counts.append(len(found))
    assert max(counts) == 4
    assert min(counts) >= 2


# --- fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "kind"), [(SQUARE, "colour"), (TALL, "grey as RGB")])
def test_correlation(geometry, kind):
    moving, fixed = image_and_template(geometry, kind)
    template, kept = Template(geometry, fixed.half), 2 if kind == "colour" else 1
    field = smooth(1, 2, *geometry.fields, largest=3)
    parts = planes(moving.half)[:kept], planes(fixed.half)[:kept]
    for region, given in ((oval(geometry), None), (mouth(geometry), mouth(geometry))):
        found = template.correlation(moving, field, given)
        expected = naive.naive_correlation(*parts, region, field.astype(float))
        assert found == pytest.approx(expected, abs=1e-5)


def test_light_of_a_colour_does_not_count():
    template, still = Template(SQUARE, features(2).half), np.zeros((2, 64, 64), np.float32)
    own = features(2)
    red = own.half.copy()
    red[..., 1] = 3 * noise(1, 64, 64) - 1.5
    spoilt = replace(own, half=red)
    assert template.correlation(spoilt, still) == pytest.approx(1, abs=1e-6)
    both = template.correlation(replace(own, half=own.half[..., ::-1]), still)
    parts = planes(own.half)[::-1], planes(own.half)
    assert both == pytest.approx(naive.naive_correlation(*parts, oval(SQUARE), still), abs=1e-5)
    light = own.half.copy()
    light[..., 0] += 2 * noise(2, 64, 64)
    parts, region = (planes(light), planes(own.half)), oval(SQUARE)
    alone = naive.naive_correlation(*(each[:1] for each in parts), region, still.astype(float))
    found = template.correlation(replace(own, half=light), still)
    assert found > alone + 0.05
    assert found == pytest.approx(naive.naive_correlation(*parts, region, still), abs=1e-5)


def test_nothing_correlates_with_a_flat_image():
    own = features_of(np.full((128, 128, 1), 0.5, np.float32))
    flat = replace(own, half=np.zeros_like(own.half))
    still = np.zeros((2, 64, 64), np.float32)
    assert Template(SQUARE, features(2).half).correlation(flat, still) == 0


@pytest.mark.parametrize(("geometry", "kind"), [(SQUARE, "colour"), (TALL, "grey as RGB")])
@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_local_correlation(geometry, kind, sigma):
    moving, fixed = image_and_template(geometry, kind)
    kept = 2 if kind == "colour" else 1
    field = smooth(1, 2, *geometry.fields, largest=3)
    found = Template(geometry, fixed.half).local_correlation(moving, field, sigma)
    parts = planes(moving.half)[:kept], planes(fixed.half)[:kept]
    expected = naive.naive_local_correlation(*parts, field.astype(float), sigma)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert found.min() < 0.3 < 0.7 < found.max() <= 1.0001


def test_flat_parts_correlate_with_flat_parts():
    own = features(2)
    flat = np.zeros_like(own.half)
    still = np.zeros((2, 64, 64), np.float32)
    both = Template(SQUARE, flat).local_correlation(replace(own, half=flat), still, 3.0)
    np.testing.assert_allclose(both, 1, atol=1e-6)
    # Of a wave of .4 the deviation around a pixel is .08; over that, and .02, comes .02.
    wave = np.zeros_like(own.half)
    wave[..., 0] = np.float32(0.4) * np.sin(np.arange(64) * np.pi / 2 + 0.5)
    one = Template(SQUARE, wave).local_correlation(replace(own, half=flat), still, 6.0)
    np.testing.assert_allclose(one, 1, atol=1e-5)
    other = Template(SQUARE, wave).local_correlation(replace(own, half=-wave), still, 6.0)
    np.testing.assert_allclose(other[:, 20:-20], (0.02 - 0.08) / (0.08 + 0.02), atol=0.01)


@GEOMETRIES
def test_price_of_unusual_numbers(geometry):
    known = learnt(geometry)
    own, template = (
        features_of(interleaved(face_planes(1, geometry))),
        Template(geometry, known.source),
    )
    half, bases = naive.naive_halved(weights(geometry)[None])[0], bases_of(geometry, 2)
    for n, sigma in enumerate(naive.NAIVE_SIGMAS):
        field = (3 * sigma * bases[n]).astype(np.float32)
        price = template.correlation(own, field) - known.search._value(template, own, field)
        assert price == pytest.approx(0.09, abs=1e-4)
    field = smooth(1, 2, *geometry.fields, sigma=8, largest=4)
    price = template.correlation(own, field) - known.search._value(template, own, field)
    expected = naive.naive_price(field.astype(float), half, bases)
    assert price == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert expected > 1e-3
    still = np.zeros_like(field)
    assert known.search._value(template, own, still) == template.correlation(own, still)


@GEOMETRIES
def test_polished(geometry):
    moving, fixed = image_and_template(geometry, "colour")
    start = smooth(3, 2, *geometry.fields, sigma=8, largest=2)
    before = start.copy()
    found = Template(geometry, fixed.half).polished(moving, start)
    parts = planes(moving.half), planes(fixed.half)
    expected = naive.naive_polished(*parts, weights(geometry), start.astype(float))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert np.array_equal(start, before)


# --- the whole search ---------------------------------------------------------------------------


@lru_cache
def spoilt(name):
    """Return a face that something is wrong with, as planes."""
    if name == "grainy":
        share = np.float32(0.37)
        return share * face_planes(0) + (1 - share) * noise(1, 3, 128, 128)
    image = face_planes(2).copy()
    image[:, 56:112, 8:64] = noise(1, 3, 56, 56)
    return image


CASES = [
    pytest.param(geometry, kind, subject, expression, id=f"{kind}, {expression} {subject}, {name}")
    for geometry, name, kind, subject, expression in (
        (SQUARE, "square", "colour", 2, "neutral"),
        (SQUARE, "square", "colour", 3, "happy"),
        (SQUARE, "square", "colour", 0, "surprised"),
        (SQUARE, "square", "grey as RGB", 1, "happy"),
        (SQUARE, "square", "colour", None, "grainy"),
        (SQUARE, "square", "colour", None, "covered"),
        (TALL, "tall", "grey as RGB", 6, "happy"),
        (TALL, "tall", "colour", 7, "neutral"),
        (SMALL, "small", "colour", 1, "surprised"),
    )
]


@pytest.mark.parametrize(("geometry", "kind", "subject", "expression"), CASES)
def test_find(geometry, kind, subject, expression):
    known = learnt(geometry, kind)
    if subject is None:
        image = spoilt(expression)
    else:
        image = face_planes(subject, geometry, kind, expression)
    own = features_of(interleaved(image))
    found = known.search.find(own)
    field, value, shows, shown, trust = naive_fit(known, own)
    np.testing.assert_allclose(found.field, field, atol=1e-2)
    assert found.value == pytest.approx(value, abs=1e-3)
    assert found.expression == shows
    assert found.shown == pytest.approx(shown, abs=5e-3)
    np.testing.assert_allclose(found.trust, trust, atol=1e-2)
    assert found.unlike == (not trust.any())
    assert known.register(image).fit.value == found.value


def test_trust_depends_on_the_value():
    known, own = learnt(), features(2)
    fit = known.search.find(own)
    parts = planes(own.half), planes(known.source), place(SQUARE)
    for value, expected in (
        (0.3, 0), (0.42, 0), (0.425, 1 / 16), (0.46, 1 / 2), (0.495, 15 / 16), (0.5, 1), (0.9, 1),
    ):  # fmt: skip
        found = known.search._trust(own, value, fit.field)
        trust = naive.naive_trust(*parts, value, fit.field.astype(float))
        np.testing.assert_allclose(found, trust, atol=1e-3)
        assert found.max() == pytest.approx(expected, abs=1e-4)
        assert replace(fit, trust=found).unlike == (expected == 0)


def test_ramps():
    for low, high in ((0.42, 0.50), (0.15, 0.45)):
        for value in (-1.0, low, low + 0.01, (low + high) / 2, high, 2.0):
            expected = naive.naive_ramp(value, low, high)
            assert search.ramp(value, low, high) == pytest.approx(expected)


# --- what must hold -----------------------------------------------------------------------------


def affine(matrix, shift=(0, 0)):
    """Return the field that moves y, relative to the middle of the eyes, to matrix y + shift."""
    at = np.indices((128, 128)) - np.reshape([46, 64], (2, 1, 1))
    back = np.linalg.inv(matrix)
    old = np.einsum("ab,byx->ayx", back, at - np.reshape(shift, (2, 1, 1)))
    return (old - at).astype(np.float32)


TURN = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
MOVES = {
    "down and left": (np.eye(2), (6, -7)),
    "up and right": (np.eye(2), (-8, 8)),
    "larger": (1.2 * np.eye(2), (0, 0)),
    "smaller": (0.85 * np.eye(2), (0, 0)),
    "rolled": (TURN, (0, 0)),
    "rolled back": (TURN.T, (0, 0)),
    "shorter": (np.diag([0.85, 1.0]), (0, 0)),
    "longer": (np.diag([1.15, 1.0]), (0, 0)),
    "wider": (np.diag([1.0, 1.2]), (0, 0)),
}


def errors(found, before, matrix, shift):
    """Return how far the corners and the middle of the mouth are from where they were moved to."""
    distances = []
    for y, x in ((48, 32), (48, 24), (48, 40)):
        old, new = (2 * (field[:, y, x] + (y, x)) + 0.5 for field in (before, found))
        expected = matrix @ (old - (46, 64)) + (46, 64) + shift
        distances.append(np.hypot(*(new - expected)))
    return distances


@pytest.mark.parametrize("move", MOVES)
def test_a_moved_face_is_found_again(move):
    matrix, shift = MOVES[move]
    for subject in (0, 1, 2):
        image = face_planes(subject)
        before = learnt().register(image).fit
        moved = fields.warp(image, affine(matrix, shift))
        found = learnt().register(moved).fit
        assert max(errors(found.field, before.field, matrix, shift)) < 1.5
        assert found.value > before.value - 0.15
        assert found.expression is None


def test_faces_are_lost_without_the_search():
    template = Template(SQUARE, learnt().source)
    worst = []
    for matrix, shift in MOVES.values():
        before = learnt().register(face_planes(0)).fit.field
        moved = fields.warp(face_planes(0), affine(matrix, shift))
        found = template.register(features_of(interleaved(moved)))
        worst.append(max(errors(found, before, matrix, shift)))
    assert max(worst) > 5


@pytest.mark.parametrize("drop", [-0.08, 0.08, 0.10])
def test_a_lower_face_of_other_proportions_is_found(drop):
    image = face_planes(0)
    before = learnt().register(image).fit.field
    ramp = 128 * drop * np.clip((np.arange(128) / 128 - 0.40) / 0.35, 0, 1.15)
    down = np.zeros((2, 128, 128), np.float32)
    down[0] = ramp[:, None]
    back = naive.naive_invert(down.astype(float)).astype(np.float32)
    found = learnt().register(fields.warp(image, back)).fit.field
    for x in (24, 32, 40):
        old, new = (2 * (48 + field[0, 48, x]) + 0.5 for field in (before, found))
        assert new - old == pytest.approx(np.interp(old, np.arange(128), ramp), abs=2)


@pytest.mark.parametrize("kind", ["colour", "grey as RGB"])
def test_an_open_smile_is_shown_already(kind):
    known = learnt()
    for subject in (0, 1):
        smiling = known.register(face_planes(subject, kind=kind, expression="happy")).fit
        neutral = known.register(face_planes(subject, kind=kind)).fit
        assert smiling.expression == "happy"
        assert smiling.shown > 0.8
        assert neutral.shown == 0
        assert np.hypot(*(smiling.field - neutral.field))[:32].mean() < 0.9


def test_what_is_shown_already_is_not_added_again():
    known, image = learnt(), face_planes(1, expression="happy")
    found = known.register(image)
    for name, all_of_it in (("happy", True), ("surprised", False)):
        for shown in (0.0, 0.75, 1.0):
            fit = replace(found.fit, expression="happy", shown=shown)
            part = known.part(replace(found, fit=fit), name, ridge)
            whole = known.part(replace(found, fit=replace(fit, shown=0.0)), name, ridge)
            left = 1 - shown if all_of_it else 1
            for kind in ("mask", "added", "spread"):
                expected = left * getattr(whole, kind)
                np.testing.assert_allclose(getattr(part, kind), expected, atol=1e-6)
    assert np.abs(whole.mask).max() > 0.9


def unlike_faces():
    """Return pictures that are not like the faces learnt from."""
    upside_down = face_planes(1)[:, ::-1]
    flat = np.full((3, 128, 128), 0.4, np.float32)
    coarse = 0.5 + smooth(3, 3, 128, 128, largest=0.5)
    black = np.zeros((3, 128, 128), np.float32)
    return [upside_down, flat, noise(1, 3, 128, 128), coarse, black]


@pytest.mark.parametrize(
    "image", unlike_faces(), ids=["turned", "flat", "noise", "coarse", "black"]
)
def test_what_is_unlike_a_face_is_left_as_it_is(image):
    image = np.ascontiguousarray(image)
    fit = learnt().register(image).fit
    assert fit.unlike
    assert fit.value < 0.40
    assert not fit.trust.any()
    change = changed(learnt(), image, ridge, {"happy": 1.0, "surprised": 0.5}, 2.0, {})
    assert np.array_equal(change.applied(image), image)


@pytest.mark.parametrize(("top", "left"), [(56, 8), (20, 8), (20, 64)])
def test_what_covers_a_face_is_not_changed(top, left):
    for subject in (0, 2):
        image = face_planes(subject).copy()
        image[:, top : top + 56, left : left + 56] = noise(1, 3, 56, 56)
        fit = learnt().register(image).fit
        middle = np.s_[top // 2 + 12 : top // 2 + 17, left // 2 + 12 : left // 2 + 17]
        assert not fit.unlike
        assert fit.trust[middle].max() < 0.3
        other = (np.arange(64) < 32) == (left >= 64)
        assert fit.trust[:, other].mean() > 0.9
        assert fit.trust.min() >= 0
        assert fit.trust.max() <= 1.00001


def test_a_face_whose_mouth_is_covered_is_not_changed():
    for subject in (0, 2):
        image = face_planes(subject).copy()
        image[:, 72:, 16:112] = noise(1, 3, 56, 96)
        fit = learnt().register(image).fit
        assert fit.value > 0.45
        assert fit.unlike
        assert not fit.trust.any()
        change = changed(learnt(), image, ridge, {"happy": 1.0}, 1.0, {})
        assert np.array_equal(change.applied(image), image)


def test_trust_is_that_of_the_frame_of_the_sources():
    known, image = learnt(), face_planes(2)
    found = known.register(image)
    trust = noise(1, 64, 64)
    part = known.part(replace(found, fit=replace(found.fit, trust=trust)), "happy", nothing)
    motion = known.appearances["happy"].motion.astype(float)
    expected = naive.naive_look_up(trust[None].astype(float), motion)[0]
    mask = naive.naive_mask(*naive.naive_canonical(*place(SQUARE), 64, 64, 0.5))
    np.testing.assert_allclose(part.mask, expected * mask, atol=1e-5)


@pytest.mark.parametrize("expression", ["neutral", "happy", "surprised"])
def test_a_face_is_followed(expression):
    known = learnt()
    for subject in (0, 1, 2):
        image = face_planes(subject, expression=expression)
        last = known.register(image).fit
        found = known.register(image, last).fit
        # Registration stops before it has converged.
        assert root_mean_square(found.field - last.field) < 0.1
        assert found.expression == last.expression
        assert found.shown == pytest.approx(last.shown, abs=0.02)
        assert found.value == pytest.approx(last.value, abs=0.01)
        np.testing.assert_allclose(found.trust, last.trust, atol=0.06)


def test_follow():
    known, own = learnt(), features(1)
    last = known.search.find(features(1))
    moved = features_of(interleaved(fields.warp(face_planes(1), affine(np.eye(2), (2, -2)))))
    found = known.search.follow(moved, last)
    assert last.expression is None
    parts = planes(moved.half), planes(known.source), weights(SQUARE)
    field = naive.naive_polished(*parts, last.start.astype(float))
    value = naive.naive_value(*parts, place(SQUARE), field)
    np.testing.assert_allclose(found.field, field, atol=5e-3)
    assert found.value == pytest.approx(value, abs=1e-3)
    trust = naive.naive_trust(*parts[:2], place(SQUARE), value, field)
    np.testing.assert_allclose(found.trust, trust, atol=5e-3)
    assert np.abs(found.field - known.search.follow(own, last).field).max() > 0.5


def contents(fit):
    """Return all that a fit consists of, to the bit."""
    return fit.field.tobytes(), fit.value, fit.expression, fit.shown, fit.trust.tobytes()


def test_fits_do_not_depend_on_threads_or_what_was_found_before():
    images = [face_planes(subject, expression="happy") for subject in (0, 3, 1)]
    expected = [contents(learnt().register(image).fit) for image in images]
    assert len(set(expected)) == 3
    fresh = replace(learnt())
    for threads in (1, 2, 3):
        with limited(threads):
            assert [contents(fresh.register(image).fit) for image in images[::-1]] == expected[::-1]


def test_light_and_grain_move_the_fit_little():
    known, image = learnt(), face(1)
    expected = known.search.find(features_of(image))
    for other in (image * np.float32(0.5), image + np.float32(0.04) * noise(1, 128, 128, 3)):
        found = known.search.find(features_of(other))
        assert root_mean_square(found.field - expected.field) < 0.35
        assert found.value == pytest.approx(expected.value, abs=0.08)
