import os
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.kernels import _llvm, jit, products
from mlr.kernels import pack as packing
from mlr.kernels._llvm import BLOCK, TILE
from mlr.kernels.pack import clear_from, pack, samples_shape
from mlr.kernels.products import BLOCKS, MOST, ROWS, add_products, sums_of
from mlr.utils.threads import limited

from .naive import naive_products, naive_sums

LAGS = [(dy, dx) for dy in range(5) for dx in range(-4, 5) if dy > 0 or dx >= 0]
TAPS = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
WIDE = [(dy, dx) for dy in (1, 0) for dx in range(-6, 7)]


def samples(seed, shape, dtype=np.uint8):
    """Return random samples (P, H, W, S)."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, shape) / (1 if dtype == np.uint8 else 255)).astype(dtype)


def blocks(array, fill=0):
    """Return samples (P, H, W, S) as the kernels want them; what lies beyond does not matter."""
    channels, height, width, count = array.shape
    result = np.full(samples_shape(channels, height, width, count), 77, array.dtype)
    result[..., :width, :] = fill
    for n in range(count):
        result[:, :, n // BLOCK, :width, n % BLOCK] = array[..., n]
    return result


def products_of(a, b, offsets, planes=None):
    if planes is None:
        wide = np.int32 if a.dtype == np.uint8 else np.float64
        planes = np.zeros((a.shape[0], len(offsets), *a.shape[1:3]), wide)
    table = np.array(offsets, np.int64).reshape(-1, 2)
    second = blocks(b)
    first = second if a is b else blocks(a)
    add_products([(first, second, table, *sums_of([second]), planes)])
    return planes


def totals_of(a):
    return sums_of([blocks(a)])[0][..., : a.shape[2]]


offset_tables = st.lists(
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=12, unique=True
) | (st.permutations(TAPS) | st.just(LAGS) | st.just(WIDE))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 12, 40, 50))),
    offsets=offset_tables,
    same=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(shape=(1, 1, 1, 1), offsets=LAGS, same=True, seed=0)
@example(shape=(2, ROWS + 3, 5, 17), offsets=TAPS, same=False, seed=1)
@example(shape=(1, 3, 3 * TILE + 7, 16), offsets=LAGS, same=True, seed=2)
@example(shape=(2, 3, TILE, 2 * BLOCKS * BLOCK + 9), offsets=WIDE, same=False, seed=3)
def test_exact_and_plain_alike(shape, offsets, same, seed):
    a = samples(seed, shape)
    b = a if same else samples(seed + 1, shape)
    expected = naive_products(a, b, offsets)
    np.testing.assert_array_equal(products_of(a, b, offsets), expected)
    np.testing.assert_array_equal(totals_of(a), naive_sums(a))
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
    np.testing.assert_allclose(totals_of(a), naive_sums(a), rtol=1e-13)


@pytest.mark.parametrize("count", [512, 1040])
def test_no_overflow(count):
    a = np.full((1, 3, 5, count), 255, np.uint8)
    np.testing.assert_array_equal(products_of(a, a, TAPS), naive_products(a, a, TAPS))
    assert products_of(a, a, [(0, 0)]).max() == 255**2 * count
    assert totals_of(a).max() == 255 * count


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_any_number_of_threads(dtype):
    a, b = samples(1, (2, 37, 41, 90), dtype), samples(2, (2, 37, 41, 90), dtype)
    found = []
    for threads in (1, 2, 5):
        with limited(threads):
            found.append((products_of(a, b, TAPS).tobytes(), totals_of(a).tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_batches_add_up(dtype):
    a = samples(1, (1, 9, 8, 64), dtype)
    planes = products_of(a, a, LAGS)
    total = np.zeros_like(planes)
    for part in (slice(0, 32), slice(32, 64)):
        products_of(a[..., part], a[..., part], LAGS, total)
    np.testing.assert_allclose(total, planes, rtol=0 if dtype == np.uint8 else 1e-13)


def test_too_many_samples_at_once_are_refused():
    with pytest.raises(ValueError, match="too many"):
        products_of(np.zeros((1, 1, 1, MOST + BLOCK), np.uint8), np.zeros((1, 1, 1, 1)), [(0, 0)])


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (40, 4, 40, 4))),
    start=st.integers(0, 20),
    dtype=st.sampled_from([np.uint8, np.float64]),
    plain=st.booleans(),
)
@example(shape=(33, 2, 16, 3), start=5, dtype=np.uint8, plain=False)
@example(shape=(40, 2, 33, 1), start=16, dtype=np.uint8, plain=False)
def test_pack(shape, start, dtype, plain):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    count, height, width, channels = shape
    before = np.full((channels, height, width, start + count + 3), 7, dtype)
    packed = blocks(before, fill=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "PLAIN_KERNELS", plain or jit.PLAIN_KERNELS)
        pack(images, packed, start)
    expected = before.copy()
    expected[..., start : start + count] = images.transpose(3, 1, 2, 0)
    assert packed.tobytes() == blocks(expected, fill=7).tobytes()


def test_clearing_the_last_samples():
    a = samples(4, (2, 3, 5, 50))
    for count in (0, 16, 20, 31, 50):
        packed, kept = blocks(a), np.where(np.arange(50) < count, a, 0).astype(np.uint8)
        clear_from(packed, count)
        np.testing.assert_array_equal(packed[..., :5, :], blocks(kept)[..., :5, :])


def test_pack_checks_room():
    with pytest.raises(ValueError, match="no room"):
        pack(
            np.zeros((3, 2, 2, 1), np.uint8),
            blocks(np.zeros((1, 2, 2, BLOCK), np.uint8)),
            BLOCK - 2,
        )


def run_python(program, **variables):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_one_signature_each():
    for dtype in (np.uint8, np.float64):
        for shape in ((1, 1, 1, 1), (3, 20, 5, 600)):
            a, b = samples(0, shape, dtype), samples(1, shape, dtype)
            products_of(a, b, TAPS), products_of(a, a, [(0, 0)])
            pack(np.zeros((1, *shape[1:3], shape[0]), dtype), blocks(a), 0)
    kernels = [
        value
        for module in (products, packing)
        for value in vars(module).values()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    ]
    assert len(kernels) >= 10
    compiled = {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels}
    # functions that a kernel calls have no signature if the kernel came from the cache
    plain = {"_add_products_plain", "_sums_plain", "_pack_plain", "_dot", "_total"}  # two dtypes
    assert all(n <= 1 + (name in plain) for name, n in compiled.items()), compiled


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("MLR_PLAIN_KERNELS", "1", "jit.PLAIN_KERNELS"),
        ("NUMBA_DISABLE_JIT", "1", "jit.PLAIN_KERNELS"),
        ("NUMBA_CPU_NAME", "generic", "not _llvm.DOT and _llvm.TILE == 8"),
    ],
)
def test_other_processors_and_plain_loops_have_the_same_bits(variable, value, check):
    program = (
        "import numpy as np\n"
        "from mlr.kernels import _llvm, jit\n"
        "from tests.test_products import TAPS, products_of, samples, totals_of\n"
        "a, b = samples(1, (1, 3, 30, 40)), samples(2, (1, 3, 30, 40))\n"
        f"assert {check}\n"
        "print((products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex())\n"
    )
    found = run_python(program, **{"NUMBA_CPU_FEATURES": "", variable: value})
    a, b = samples(1, (1, 3, 30, 40)), samples(2, (1, 3, 30, 40))
    assert found == (products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex()


@pytest.mark.skipif(_llvm.DOT != "avx512vnni", reason="the processor has no such instruction")
def test_the_instruction_of_avx_vnni_gives_the_same_bits(tmp_path):
    program = """
from mlr.kernels import jit
jit.processor_has = lambda name: name == "avxvnni"
from mlr.kernels import _llvm
from tests.test_products import TAPS, products_of, samples, totals_of
assert (_llvm.DOT, _llvm.TILE) == ("avxvnni", 8)
a, b = samples(1, (1, 3, 30, 41)), samples(2, (1, 3, 30, 41))
print((products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex())
"""
    found = run_python(program, NUMBA_CACHE_DIR=str(tmp_path))
    a, b = samples(1, (1, 3, 30, 41)), samples(2, (1, 3, 30, 41))
    assert found == (products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex()


@pytest.mark.skipif(jit.PLAIN_KERNELS, reason="there are no vectors")
def test_the_code_for_arm_gives_the_same_bits(tmp_path):
    """With its instruction written out: 16 products of unsigned bytes, four to each sum."""
    program = """
from mlr.kernels import jit
jit.processor_has = lambda name: name == "dotprod"
from llvmlite import ir
from mlr.kernels import _llvm
declared, called = _llvm.cgutils.get_or_insert_function, []
def written_out(module, kind, name):
    if name != "llvm.aarch64.neon.udot.v4i32.v16i8":
        return declared(module, kind, name)
    called.append(name)
    if "udot" in module.globals:
        return module.globals["udot"]
    function = ir.Function(module, kind, "udot")
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    total, *factors = function.args
    wide, four = (ir.VectorType(ir.IntType(32), count) for count in (16, 4))
    products = builder.mul(*(builder.zext(each, wide) for each in factors))
    for n in range(4):
        own = ir.Constant(four, [n, 4 + n, 8 + n, 12 + n])
        total = builder.add(total, builder.shuffle_vector(products, products, own))
    builder.ret(total)
    return function
_llvm.cgutils.get_or_insert_function = written_out
from tests.test_products import TAPS, products_of, samples, totals_of
assert (_llvm.DOT, _llvm.TILE, _llvm.BIAS) == ("dotprod", 8, 0)
a, b = samples(1, (1, 3, 30, 41)), samples(2, (1, 3, 30, 41))
print((products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex())
assert called
"""
    found = run_python(program, NUMBA_CACHE_DIR=str(tmp_path))
    a, b = samples(1, (1, 3, 30, 41)), samples(2, (1, 3, 30, 41))
    assert found == (products_of(a, b, TAPS).tobytes() + totals_of(a).tobytes()).hex()


@pytest.mark.skipif(jit.PLAIN_KERNELS, reason="there are no vectors")
@pytest.mark.parametrize(
    ("feature", "target", "features", "instruction"),
    [
        ("avx512vnni", "x86_64-linux", "+avx512vnni,+avx512bw", r"vpdpbusd\t%zmm"),
        ("avxvnni", "x86_64-linux", "+avxvnni,+avx2", r"{vex}\tvpdpbusd\t%ymm"),
        ("dotprod", "aarch64-linux", "+dotprod", r"udot\tv\d+\.4s, v\d+\.16b"),
        ("none", "x86_64-linux", "+avx2", r"vpmaddwd\t%ymm"),
    ],
)
def test_other_processors_get_their_instruction(feature, target, features, instruction):
    """Compiled for a processor that need not be here, and not run."""
    program = f"""
from mlr.kernels import jit
jit.processor_has = lambda name: name == {feature!r}
from llvmlite import binding, ir
from mlr.kernels import _llvm
module, number = ir.Module(), ir.IntType(64)
function = ir.Function(module, ir.FunctionType(ir.VoidType(), [number] * 5), "products")
builder = ir.IRBuilder(function.append_basic_block())
a, b, step, blocks, sums = function.args
rows, loop = [_llvm._at(builder, a)], (step, blocks, None)
found = _llvm._emit_products(builder, rows, _llvm._at(builder, b), loop, 1)
builder.store(found[0, 0], _llvm._at(builder, sums, _llvm._SUMS), align=4)
builder.ret_void()
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
machine = binding.Target.from_triple({target!r}).create_target_machine("", {features!r}, 3)
print(machine.emit_assembly(binding.parse_assembly(str(module))))
"""
    assert re.search(instruction, run_python(program))
