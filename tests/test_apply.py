import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.core.apply import apply
from mlr.core.receptive_field import ReceptiveField
from mlr.kernels import jit
from mlr.kernels.apply import IMAGES
from mlr.utils.threads import limited
from tests.naive import naive_synthesis


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 99),
    count=st.integers(0, 2 * IMAGES + 1),
    channels=st.sampled_from([1, 3]),
    shared=st.booleans(),
    height=st.integers(1, 20),
    width=st.one_of(st.integers(1, 20), st.sampled_from([32, 50])),
    taps=st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=11, unique=True
    ),
    edge=st.booleans(),
    threads=st.integers(1, 3),
    plain=st.booleans(),
)
@example(0, IMAGES + 1, 3, False, 9, 33, ReceptiveField.square(5).offsets, True, 2, False)
@example(0, IMAGES, 1, False, 9, 15, [(30000, 0), (0, -30000)], False, 2, False)
def test_bits_are_those_of_the_plain_reference(
    seed, count, channels, shared, height, width, taps, edge, threads, plain
):
    rng = np.random.default_rng(seed)
    shape = 1 if shared else channels, len(taps) + 1, height, width
    weights = rng.normal(size=shape).astype(np.float32)
    weights[rng.random(shape) < 0.1] *= -0.0
    images = rng.random((count, channels, height, width), dtype=np.float32)
    images[rng.random(images.shape) < 0.1] = 0
    field = ReceptiveField.of(taps)
    with pytest.MonkeyPatch.context() as patch, limited(threads):
        patch.setattr(jit, "PLAIN_KERNELS", plain or jit.PLAIN_KERNELS)
        patch.setattr("mlr.kernels.apply.BAND_BYTES", 4 * width * 3 * (len(field) + 1))
        together = apply(weights, field, images, edge=edge)
        alone = [apply(weights, field, images[n : n + 1], edge=edge)[0] for n in range(count)]
    for n, c in np.ndindex(count, channels):
        own = weights[0 if shared else c]
        expected = naive_synthesis(own, field.offsets, images[n, c], edge).tobytes()
        assert together[n, c].tobytes() == alone[n][c].tobytes() == expected
