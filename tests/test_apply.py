import numpy as np
import pytest

from mlr.apply import apply
from mlr.receptive_field import ReceptiveField
from tests.naive import naive_synthesis


@pytest.mark.parametrize("taps", ["5", "plus", [(0, 0)], [(9, 0), (0, -9), (1, 1)], [(-2, 3)]])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize("band", [1, 1 << 20])
def test_apply_is_the_weighted_sum_of_the_taps(taps, shared, edge, band, monkeypatch):
    monkeypatch.setattr("mlr.apply.BAND_BYTES", band)
    field = ReceptiveField.of(taps)
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(1 if shared else 3, len(field) + 1, 5, 8)).astype(np.float32)
    images = rng.random((2, 3, 5, 8)).astype(np.float32)
    output = apply(weights, field, images, edge=edge)
    for n, c in np.ndindex(2, 3):
        expected = naive_synthesis(weights[0 if shared else c], field.offsets, images[n, c], edge)
        assert np.allclose(output[n, c], expected, atol=1e-5)
