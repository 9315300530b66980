"""Tests of the solver of all pixels against NumPy, pixel by pixel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlr.core.solve import solve_equations
from mlr.kernels import cholesky, jit
from mlr.utils.threads import limited
from tests.naive import naive_solve

SCALE = 255.0


def solve_all(equations):
    """Solve all pixels; return the weights, and which pixels are singular."""
    return solve_equations(equations), cholesky.solve_pixels(equations)[1]


IRREGULAR = [(0, 0), (2, -1), (-4, 0), (0, 5), (1, 1)]


class Problem(NamedTuple):
    """Integer images and what the solver wants to know of them."""

    X: np.ndarray  # (N, H, W)
    T: np.ndarray  # (E, N, H, W)
    taps: np.ndarray
    penalty: np.ndarray
    prior: np.ndarray

    @property
    def equations(self):
        """What the solver is given."""
        taps = [tuple(tap) for tap in self.taps.tolist()]
        lags = {}
        lag_of = np.empty((len(taps), len(taps)), np.int64)
        base_of = np.empty_like(lag_of)
        for a, (ay, ax) in enumerate(taps):
            for b, (by, bx) in enumerate(taps):
                d = (by - ay, bx - ax)
                base_of[a, b] = b if d < (0, 0) else a
                lag_of[a, b] = lags.setdefault(max(d, (-d[0], -d[1])), len(lags))
        return cholesky.NormalEquations(
            np.array([(self.X * moved(self.X, d)).sum(0) for d in lags]),
            self.X.sum(0),
            float(len(self.X)),
            np.array([[(moved(self.X, tap) * t).sum(0) for tap in taps] for t in self.T]),
            self.T.sum(1),
            self.taps,
            lag_of,
            base_of,
            self.penalty,
            self.prior,
            SCALE,
        )

    def solve(self, solver=solve_all):
        """Return the weights and the mask of singular pixels."""
        return solver(self.equations)

    def expected(self):
        """Return the same by the reference."""
        results = [
            naive_solve(self.X / SCALE, t / SCALE, self.taps, np.diag(self.penalty), self.prior)
            for t in self.T
        ]
        return np.array([weights for weights, _ in results]), results[0][1]


def moved(images, offset):
    """Return images whose pixel p is pixel p + offset of the given ones, 0 outside the image."""
    height, width = images.shape[-2:]
    dy, dx = offset
    reach = max(abs(dy), abs(dx))
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach)])
    return padded[:, reach + dy :, reach + dx :][:, :height, :width]


def window(side):
    """Return the taps of a square window."""
    reach = range(-(side // 2), side // 2 + 1)
    return [(dy, dx) for dy in reach for dx in reach]


def problem(taps, height, width, count, targets=1, seed=0, penalty=0.1):
    """Draw random images; penalty and prior differ from tap to tap."""
    rng = np.random.default_rng(seed)
    size = len(taps) + 1
    return Problem(
        rng.integers(0, 256, (count, height, width)).astype(float),
        rng.integers(0, 256, (targets, count, height, width)).astype(float),
        np.array(taps, np.int64).reshape(-1, 2),
        penalty * rng.uniform(0.5, 2.0, size),
        rng.normal(size=size),
    )


@given(
    taps=st.one_of(
        st.sampled_from([1, 3, 5, 7]).map(window),
        st.lists(
            st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=12, unique=True
        ),
    ),
    height=st.integers(1, 6),
    width=st.integers(1, 26),
    count=st.integers(1, 12),
    targets=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@example(taps=window(7), height=2, width=1, count=3, targets=2, seed=0)
@example(taps=window(3), height=4, width=24, count=20, targets=3, seed=1)
@example(taps=window(7), height=9, width=20, count=60, targets=1, seed=2)
@example(taps=IRREGULAR, height=7, width=21, count=4, targets=2, seed=3)
@settings(max_examples=60, deadline=None)
def test_equals_the_reference(taps, height, width, count, targets, seed):
    case = problem(taps, height, width, count, targets, seed)
    weights, singular = case.solve()
    np.testing.assert_allclose(weights, case.expected()[0], rtol=1e-9, atol=1e-9)
    assert not singular.any()


def test_taps_outside_the_image_weigh_nothing():
    case = problem(window(5), 6, 9, count=7)
    weights, _ = case.solve()
    for k, (dy, dx) in enumerate(case.taps):
        inside = moved(np.ones((1, 6, 9)), (dy, dx))[0] > 0
        assert (weights[0, k][~inside] == 0).all()
        assert (weights[0, k][inside] != 0).all()


@pytest.mark.parametrize("taps", [[], [(0, 0)], [(1, 0)]])
def test_few_taps(taps):
    case = problem(taps, 5, 6, count=9, targets=2)
    np.testing.assert_allclose(case.solve()[0], case.expected()[0], rtol=1e-10, atol=1e-12)


def test_without_penalty_it_is_least_squares():
    case = problem(window(3), 6, 9, count=30, penalty=0.0)
    weights, singular = case.solve()
    assert not singular.any()
    np.testing.assert_allclose(weights, case.expected()[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("taps", [window(3), window(5), IRREGULAR])
def test_fewer_samples_than_unknowns_give_the_least_deviation(taps, count):
    case = problem(taps, 6, 7, count, targets=2, penalty=0.0)
    expected, deficient = case.expected()
    weights, singular = case.solve()
    np.testing.assert_array_equal(singular, deficient)
    assert deficient.any() or count == 9
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-6)


def test_smooth_images_with_fewer_samples_than_unknowns_are_singular():
    """Rounding leaves pivots of up to 1e5 eps instead of 0."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:8, :16]
    across, down, phase = rng.uniform(0.02, 0.2, (3, 9, 1, 1))
    waves = np.rint(128 + 50 * np.sin(across * x + down * y + 30 * phase))
    case = problem(window(3), 8, 16, count=9, penalty=0.0)._replace(X=waves)
    _, singular = case.solve(cholesky.solve_pixels)
    assert singular[1:-1, 1:-1].all()


def test_constant_pixels_give_the_least_deviation():
    case = problem(window(3), 6, 9, count=40, penalty=0.0)
    case.X[:, 2:4, 3:6] = 200
    case.X[:, 5, :] = 0
    expected, deficient = case.expected()
    weights, singular = case.solve()
    np.testing.assert_array_equal(singular, deficient)
    assert singular.any()
    assert not singular.all()
    np.testing.assert_allclose(weights, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("penalty", [0.0, 0.1])  # 0: with as many unknowns, all are singular
def test_pixels_of_the_margin_are_omitted(penalty):
    case = problem(window(3), 9, 15, count=5, targets=2, penalty=penalty)
    whole, singular = case.solve()
    for margin in (1, 2):
        inner = slice(margin, -margin), slice(margin, -margin)
        weights, found = solve_all(case.equations._replace(margin=margin))
        np.testing.assert_array_equal(weights, whole[..., *inner])
        np.testing.assert_array_equal(found, singular[inner])


def test_singular_pixels_leave_their_neighbours_alone():
    case = problem(window(3), 3, 12, count=40, penalty=0.0)
    before, _ = case.solve(cholesky.solve_pixels)
    case.X[:, 1, 5] = 0
    after, singular = case.solve(cholesky.solve_pixels)
    far = np.ones((3, 12), bool)
    far[:, 4:7] = False
    assert singular[1, 5]
    assert not singular[far].any()
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after[..., far], before[..., far])


def test_no_samples_and_no_penalty_leave_the_prior():
    case = problem(window(3), 3, 5, count=1, penalty=0.0)
    nothing = [np.zeros_like(planes) for planes in case.equations[:5]]
    nothing[2] = 0.0
    equations = cholesky.NormalEquations(*nothing, *case.equations[5:])
    weights, singular = solve_all(equations)
    assert singular.all()
    np.testing.assert_allclose(weights[0, :, 1, 2], case.prior, rtol=1e-12)


def test_a_large_penalty_leaves_the_prior():
    case = problem(window(3), 3, 9, count=5, penalty=1e12)
    weights, _ = case.solve()
    np.testing.assert_allclose(weights[0, :, 1, 4], case.prior, rtol=1e-9)


def test_the_number_of_threads_does_not_change_a_bit():
    case = problem(window(5), 17, 23, count=40, targets=2, penalty=1e-3)
    results = []
    for threads in (1, 2, 5):
        with limited(threads):
            results.append(case.solve())
    for weights, singular in results[1:]:
        np.testing.assert_array_equal(weights, results[0][0])
        np.testing.assert_array_equal(singular, results[0][1])


def test_the_position_in_the_row_does_not_change_a_bit():
    case = problem(window(3), 1, 24, count=30, penalty=1e-3)
    shifted = case._replace(X=np.roll(case.X, 1, 2), T=np.roll(case.T, 1, 3))
    weights, shifted_weights = case.solve()[0], shifted.solve()[0]
    np.testing.assert_array_equal(weights[..., 1:-2], shifted_weights[..., 2:-1])


@pytest.mark.skipif(not jit.processor_has("fma"), reason="needs an x86 processor with FMA")
def test_the_number_of_lanes_does_not_change_a_bit():
    program = (
        "from mlr.kernels._llvm import LANES\n"
        "from tests.test_cholesky import problem, window\n"
        "assert LANES == 4\n"
        "print(problem(window(5), 6, 29, count=40, targets=2).solve()[0].tobytes().hex())\n"
    )
    narrow = {**os.environ, "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=narrow, capture_output=True, text=True, check=True
    )
    weights, _ = problem(window(5), 6, 29, count=40, targets=2).solve()
    assert done.stdout.strip() == weights.tobytes().hex()


def test_kernels_work_where_numba_refuses_their_flags(tmp_path):
    program = """
import numba
from numba.core import cpu
cpu.CPUTargetOptions = object  # without these flags
from mlr.kernels import jit
class Refusing:
    config = numba.config
    def njit(**flags):
        assert {*flags} <= {"nogil", "error_model", "fastmath"}
        return numba.njit(**flags)
jit.numba = Refusing
from tests.test_cholesky import problem, window
print(problem(window(3), 5, 9, count=30, targets=2).solve()[0].tobytes().hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    weights, _ = problem(window(3), 5, 9, count=30, targets=2).solve()
    assert done.stdout.strip() == weights.tobytes().hex()


def test_a_kernel_has_one_signature():
    for count, targets in [(5, 1), (60, 3)]:
        problem(window(3), 5, 9, count, targets).solve()
    if not numba.config.DISABLE_JIT:
        assert len(cholesky._solve_rows.signatures) == 1


@pytest.mark.parametrize("variable", ["MLR_PLAIN_KERNELS", "NUMBA_DISABLE_JIT"])
def test_plain_kernels_agree(variable):
    case = problem(window(3), 5, 9, count=30, targets=2)
    program = """
import json
from tests.test_cholesky import problem, window
weights, singular = problem(window(3), 5, 9, count=30, targets=2).solve()
assert not singular.any()  # these would be solved without the kernel
print(json.dumps(weights.tolist()))
"""
    environment = {**os.environ, variable: "1"}
    run = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, env=environment
    )
    np.testing.assert_allclose(case.solve()[0], json.loads(run.stdout), rtol=1e-10, atol=1e-12)
