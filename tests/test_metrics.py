import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mlr import metrics


@pytest.fixture(params=[(11, 11, 1), (16, 31, 3), (40, 25, 3)])
def two_images(request):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=request.param), axis=0), axis=1)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return smooth, np.clip(smooth + rng.normal(0, 0.1, request.param), 0, 1)


def test_ssim_equals_scikit_image(two_images):
    x, y = two_images
    expected = structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=2,
    )
    assert metrics.ssim(x, y) == pytest.approx(expected, abs=1e-9)


def test_psnr_equals_scikit_image(two_images):
    x, y = two_images
    expected = peak_signal_noise_ratio(x, y, data_range=1)
    assert metrics.psnr(metrics.mse(x, y)) == pytest.approx(expected)


def test_an_image_is_like_itself(two_images):
    x, _ = two_images
    assert metrics.scores(x, x) == {
        "mse": 0,
        "psnr": math.inf,
        "ssim": pytest.approx(1),
        "sharpness": 1,
    }


def test_sharpness_is_the_ratio_of_differences_between_neighbours():
    target = np.indices((4, 5)).sum(axis=0)[..., None] % 2 * 1.0  # every step is 1
    assert metrics.sharpness(target * 0.5, target) == pytest.approx(0.5)
    assert metrics.sharpness(np.zeros((4, 5, 1)), target) == 0
    assert math.isnan(metrics.sharpness(target, np.zeros((4, 5, 1))))
    assert math.isnan(metrics.sharpness(np.zeros((1, 1, 1)), np.zeros((1, 1, 1))))


def test_ssim_needs_the_room_of_its_window():
    assert math.isnan(metrics.ssim(np.zeros((10, 40, 1)), np.zeros((10, 40, 1))))
