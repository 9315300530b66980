import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.core.apply import apply
from mlr.core.receptive_field import ReceptiveField
from mlr.kernels import jit
from mlr.kernels.aligned import aligned
from mlr.kernels.apply import IMAGES
from mlr.utils.threads import limited
from tests.naive import naive_synthesis


def random(seed, count, channels, sets, height, width, taps):
    """Return weights and images, some of whose numbers are zeros of either sign."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(sets, taps + 1, height, width)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.1] *= -0.0
    images = rng.random((count, channels, height, width), dtype=np.float32)
    images[rng.random(images.shape) < 0.1] = 0
    return weights, images


@pytest.mark.parametrize("taps", ["5", "plus", [(0, 0)], [(9, 0), (0, -9), (1, 1)], [(-2, 3)]])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("edge", [True, False])
def test_apply_is_the_weighted_sum_of_the_taps(taps, shared, edge):
    field = ReceptiveField.of(taps)
    weights, images = random(2, 2, 3, 1 if shared else 3, 5, 8, len(field))
    output = apply(weights, field, images, edge=edge)
    for n, c in np.ndindex(2, 3):
        expected = naive_synthesis(weights[0 if shared else c], field.offsets, images[n, c], edge)
        assert np.allclose(output[n, c], expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
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
    kept=st.booleans(),
)
@example(0, IMAGES + 1, 3, False, 9, 33, ReceptiveField.square(5).offsets, True, 2, False, True)
@example(0, IMAGES, 1, False, 9, 15, [(30000, 0), (0, -30000)], False, 2, False, False)
def test_numpy_and_the_kernel_have_the_same_bits(
    seed, count, channels, shared, height, width, taps, edge, threads, plain, kept
):
    field = ReceptiveField.of(taps)
    sets = 1 if shared else channels
    weights, images = random(seed, count, channels, sets, height, width, len(field))
    with pytest.MonkeyPatch.context() as patch, limited(threads):
        patch.setattr(jit, "PLAIN_KERNELS", plain or jit.PLAIN_KERNELS)
        patch.setattr("mlr.kernels.apply.BAND_BYTES", 4 * width * 3 * (len(field) + 1))
        whole = apply(weights, field, images, edge=edge)
        alone = [apply(weights, field, images[n : n + 1], edge=edge) for n in range(count)]
        patch.setattr("mlr.core.apply.BAND_BYTES", 4 * width * 20)
        patch.setattr("mlr.core.apply.KEPT_BYTES", weights.nbytes if kept else 0)
        patch.setattr("mlr.core.apply.kernels_are_worth_it", lambda products: False)
        expected = apply(weights, field, images, edge=edge)
    assert whole.tobytes() == expected.tobytes()
    assert b"".join(output.tobytes() for output in alone) == expected.tobytes()


@pytest.mark.parametrize("shape", [(5,), (2, 3, 7), (0, 4)])
def test_aligned_arrays_begin_at_a_line_of_the_cache(shape):
    arrays = [aligned(*shape) for _ in range(8)]
    for array in arrays:
        assert (array.shape, array.dtype) == (shape, np.float32)
        assert array.flags.c_contiguous
        assert array.size == 0 or array.ctypes.data % 64 == 0


def test_little_work_does_without_numba_and_much_of_it_does_not():
    script = """
import sys
import numpy as np
import mlr.core.apply
from mlr.core.receptive_field import ReceptiveField

field = ReceptiveField.square(3)
image, weights = np.ones((1, 1, 8, 8), np.float32), np.ones((1, 10, 8, 8), np.float32)
mlr.core.apply.WORTH_LOADING = 2 * image.size * len(field)
for _ in range(3):
    output = mlr.core.apply.apply(weights, field, image)
    print(output[0, 0, 0, 0], "numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("5.0 False\n5.0 True\n5.0 True\n", "")
