import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mlr.core import metrics, regions
from tests.naive import naive_face, naive_mouth, naive_region_scores


@pytest.fixture(params=[(11, 11, 1), (16, 31, 3), (40, 25, 3)])
def two_images(request):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=request.param), axis=0), axis=1)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return smooth, np.clip(smooth + rng.normal(0, 0.1, request.param), 0, 1)


def test_psnr_equals_scikit_image(two_images):
    expected = peak_signal_noise_ratio(*two_images, data_range=1)
    assert metrics.scores(*two_images)["psnr"] == pytest.approx(expected)


def test_an_image_is_like_itself(two_images):
    x, _ = two_images
    scores = metrics.scores(x, x)
    for part in (scores, scores["face"], scores["mouth"]):
        assert (part["mse"], part["sharpness"]) == (0, 1)
    assert scores["psnr"] == math.inf
    assert scores["ssim"] == scores["face"]["ssim"] == pytest.approx(1)


def test_sharpness_is_the_ratio_of_differences_between_neighbours():
    def sharpness(output, target):
        return metrics.scores(output, target)["sharpness"]

    target = np.indices((4, 5)).sum(axis=0)[..., None] % 2 * 1.0  # every step is 1
    assert sharpness(target * 0.5, target) == pytest.approx(0.5)
    assert sharpness(np.zeros((4, 5, 1)), target) == 0
    assert math.isnan(sharpness(target, np.zeros((4, 5, 1))))
    assert math.isnan(sharpness(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))))


def test_ssim_needs_the_room_of_its_window():
    assert math.isnan(metrics.scores(np.zeros((10, 40, 1)), np.zeros((10, 40, 1)))["ssim"])


@pytest.mark.parametrize("shape", [(25, 31, 3), (40, 25, 1)])
def test_scores_of_regions_equal_the_plain_reference(shape):
    output, target = np.random.default_rng(1).random((2, *shape))
    scores = metrics.scores(output, target)
    for name, pixels in (("face", naive_face(*shape[:2])), ("mouth", naive_mouth(*shape[:2]))):
        expected = naive_region_scores(output, target, pixels)
        assert scores[name] == pytest.approx(expected, rel=1e-9)


def test_ssim_is_the_mean_of_scikit_images_map(two_images):
    x, y = two_images
    expected, similarity = structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=2,
        full=True,
    )
    scores = metrics.scores(x, y)
    assert scores["ssim"] == pytest.approx(expected, abs=1e-9)
    for name, region in (("face", regions.face), ("mouth", regions.mouth)):
        inside = region(*x.shape[:2]).copy()
        inside[:5] = inside[-5:] = inside[:, :5] = inside[:, -5:] = False
        expected = similarity[inside].mean() if inside.any() else math.nan
        assert scores[name]["ssim"] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_regions_of_ten_pixels_by_hand():
    face, mouth = regions.face(10, 10), regions.mouth(10, 10)
    assert np.flatnonzero(face[5]).tolist() == [2, 3, 4, 5, 6, 7, 8]  # .17 to .83 of the width
    assert np.flatnonzero(face[:, 5]).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]  # .12 to .96
    assert np.argwhere(mouth).tolist() == [[y, x] for y in (6, 7) for x in (2, 3, 4, 5, 6)]


def test_scores_of_a_mouth_by_hand():
    target = np.zeros((10, 10, 1))
    target[6, 2], target[7, 6] = 0.5, 1  # corners of the mouth: steps .5, .5 and 1, 1
    target[5, 2:7] = target[8, 2:7] = 1  # just outside
    output = target.copy()
    output[6, 2], output[7, 5] = 0.4, 0.1  # steps .4, .4, then .9, .1, .1 and 1
    scores = metrics.scores(output, target)
    assert scores["mouth"]["mse"] == pytest.approx((0.1**2 + 0.1**2) / 10)
    assert scores["mouth"]["sharpness"] == pytest.approx(2.9 / 3)
    assert math.isnan(scores["mouth"]["ssim"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 3)])
def test_a_region_without_pixels_or_steps_has_no_score(shape):
    image = np.zeros(shape)
    scores = metrics.scores(image, image)
    assert math.isnan(scores["mouth"]["sharpness"])
    assert math.isnan(scores["mouth"]["ssim"])
    assert math.isnan(scores["mouth"]["mse"]) == (not regions.mouth(*shape[:2]).any())
