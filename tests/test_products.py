import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.kernels import jit, products
from mlr.kernels import pack as packing
from mlr.kernels.pack import pack
from mlr.kernels.products import COLUMNS, ROWS, SAMPLE_ALIGNMENT, add_products, add_sums
from mlr.threads import limited

from .naive import naive_products, naive_sums

LAGS = [(dy, dx) for dy in range(5) for dx in range(-4, 5) if dy > 0 or dx >= 0]
TAPS = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
WIDE = [(dy, dx) for dy in (1, 0) for dx in range(-6, 7)]


def padded(count):
    return -(-count // SAMPLE_ALIGNMENT) * SAMPLE_ALIGNMENT


def samples(seed, shape, dtype=np.uint8):
    """Return random samples (P, H, W, S), S padded with zeros."""
    array = np.zeros((*shape[:3], padded(shape[3])), dtype)
    rng = np.random.default_rng(seed)
    array[..., : shape[3]] = rng.integers(0, 256, shape) / (1 if dtype == np.uint8 else 255)
    return array


def products_of(a, b, offsets):
    wide = np.int32 if a.dtype == np.uint8 else np.float64
    planes = np.zeros((a.shape[0], len(offsets), *a.shape[1:3]), wide)
    add_products(a, b, np.array(offsets, np.int64).reshape(-1, 2), planes)
    return planes


def sums_of(a):
    sums = np.zeros(a.shape[:3], np.int32 if a.dtype == np.uint8 else np.float64)
    add_sums(a, sums)
    return sums


offset_tables = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=12) | (
    st.permutations(TAPS) | st.just(LAGS) | st.just(WIDE)
)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 12, 12, 50))),
    offsets=offset_tables,
    same=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(shape=(1, 1, 1, 1), offsets=LAGS, same=True, seed=0)
@example(shape=(2, ROWS + 3, 5, 17), offsets=TAPS, same=False, seed=1)
@example(shape=(1, 3, COLUMNS + 7, 16), offsets=LAGS, same=True, seed=2)
@example(shape=(2, 3, 6, 1050), offsets=WIDE, same=False, seed=3)
def test_exact_and_plain_alike(shape, offsets, same, seed):
    a = samples(seed, shape)
    b = a if same else samples(seed + 1, shape)
    expected = naive_products(a, b, offsets)
    np.testing.assert_array_equal(products_of(a, b, offsets), expected)
    np.testing.assert_array_equal(sums_of(a), naive_sums(a))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "PLAIN_KERNELS", True)
        np.testing.assert_array_equal(products_of(a, b, offsets), expected)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 7, 7, 20))),
    offsets=offset_tables,
    seed=st.integers(0, 1000),
)
def test_float64(shape, offsets, seed):
    a, b = samples(seed, shape, np.float64), samples(seed + 1, shape, np.float64)
    expected = naive_products(a, b, offsets)
    np.testing.assert_allclose(products_of(a, b, offsets), expected, rtol=1e-13)
    np.testing.assert_allclose(sums_of(a), naive_sums(a), rtol=1e-13)


@pytest.mark.parametrize("count", [512, 1040])
def test_no_overflow(count):
    a = np.full((1, 3, 5, count), 255, np.uint8)
    np.testing.assert_array_equal(products_of(a, a, TAPS), naive_products(a, a, TAPS))
    assert products_of(a, a, [(0, 0)]).max() == 255**2 * count
    assert sums_of(a).max() == 255 * count


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_any_number_of_threads(dtype):
    a, b = samples(1, (2, 37, 41, 90), dtype), samples(2, (2, 37, 41, 90), dtype)
    found = []
    for threads in (1, 2, 5):
        with limited(threads):
            found.append((products_of(a, b, TAPS).tobytes(), sums_of(a).tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_batches_add_up(dtype):
    a = samples(1, (1, 9, 8, 64), dtype)
    planes = products_of(a, a, LAGS)
    parts = [np.ascontiguousarray(a[..., part]) for part in (slice(0, 32), slice(32, 64))]
    total = np.zeros_like(planes)
    sums = np.zeros(a.shape[:3], total.dtype)
    for part in parts:
        add_products(part, part, np.array(LAGS), total)
        add_sums(part, sums)
    np.testing.assert_allclose(total, planes, rtol=0 if dtype == np.uint8 else 1e-13)
    np.testing.assert_allclose(sums, sums_of(a), rtol=0 if dtype == np.uint8 else 1e-13)


def test_alignment_is_checked():
    with pytest.raises(ValueError, match="multiple of"):
        products_of(np.zeros((1, 2, 2, 17), np.uint8), np.zeros((1, 2, 2, 17), np.uint8), TAPS)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (40, 4, 40, 4))),
    start=st.integers(0, 20),
    dtype=st.sampled_from([np.uint8, np.float64]),
    plain=st.booleans(),
)
@example(shape=(33, 2, 16, 3), start=5, dtype=np.uint8, plain=False)
def test_pack(shape, start, dtype, plain):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    count, height, width, channels = shape
    packed = np.full((channels, height, width, start + count + 3), 7, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "PLAIN_KERNELS", plain or jit.PLAIN_KERNELS)
        pack(images, packed, start)
    np.testing.assert_array_equal(packed[..., start : start + count], images.transpose(3, 1, 2, 0))
    assert (packed[..., :start] == 7).all()
    assert (packed[..., start + count :] == 7).all()


def test_pack_checks_room():
    with pytest.raises(ValueError, match="no room"):
        pack(np.zeros((3, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 16), np.uint8), 14)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_one_signature_each():
    for dtype in (np.uint8, np.float64):
        for shape in ((1, 1, 1, 1), (3, 20, 5, 600)):
            a, b = samples(0, shape, dtype), samples(1, shape, dtype)
            products_of(a, b, TAPS), products_of(a, a, [(0, 0)])
            sums_of(a)
            pack(np.zeros((2, *shape[1:3], shape[0]), dtype), a, 0)
    kernels = [
        value
        for module in (products, packing)
        for value in vars(module).values()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    ]
    assert len(kernels) >= 10
    compiled = {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels}
    # functions that a kernel calls have no signature if the kernel came from the cache
    assert max(compiled.values()) == 1, compiled


@pytest.mark.parametrize("variable", ["MLR_PLAIN_KERNELS", "NUMBA_DISABLE_JIT"])
def test_plain_in_another_process(variable):
    program = (
        "import numpy as np\n"
        "from mlr.kernels import jit\n"
        "from tests.test_products import TAPS, products_of, samples\n"
        "a, b = samples(1, (1, 3, 6, 20)), samples(2, (1, 3, 6, 20))\n"
        "assert jit.PLAIN_KERNELS\n"
        "print(products_of(a, b, TAPS).tobytes().hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, variable: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    a, b = samples(1, (1, 3, 6, 20)), samples(2, (1, 3, 6, 20))
    assert done.stdout.strip() == products_of(a, b, TAPS).tobytes().hex()
