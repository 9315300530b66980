"""l1: Lasso of every output pixel over the whole face."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from benchmarks.rivals.base import SETTINGS, Channelwise, Rows, Setting, State, centred
from benchmarks.rivals.pursuit import fitted, sparse_state
from mlr.kernels.parallel import parallel_for

TOLERANCE = 1e-2  # of the optimality conditions, as a share of alpha
LANES = 16  # subjects are padded with zeros to a multiple, for whole vectors
SWEEPS, ROUNDS = 200, 50  # coordinate descent over the active pixels; rounds that add some


class Lasso(Channelwise):
    """Minimises ||t - X w - b||^2 / (2 N) + alpha ||w||_1 for every output pixel; b is free.

    Coordinate descent on the few active pixels, along falling alphas from the solution of the one
    before; then the inactive pixels that violate the optimality conditions most join.
    """

    name, key, family, dtype = "l1 (Lasso)", "lasso", "linear", np.float32
    largest = 64

    def grid(self) -> list[Setting]:
        """Return alphas, falling, for intensities in [0, 1]."""
        return [{"alpha": float(alpha)} for alpha in np.logspace(-1.9, -3.3, SETTINGS)]

    def solve(self, X: Rows, T: Rows, alpha: float = 0.01) -> State:
        """Return supports, weights and biases, from the path of larger alphas."""
        larger = [s["alpha"] for s in self.grid() if s["alpha"] > alpha * 1.01]
        return _path(X, T, [*larger, alpha])[-1]

    def apply(self, solution: State, X: Rows) -> Rows:
        """Return the weighted sums."""
        return fitted(X, solution["supports"], solution["weights"], solution["bias"])

    def solve_path(self, X: Rows, T: Rows, held_out: Rows) -> Iterator[Rows]:
        """Go down all alphas once."""
        for solution in _path(X, T, [s["alpha"] for s in self.grid()]):
            yield self.apply(solution, held_out)

    def parameters(self) -> int:
        """Return the number of nonzero weights, their indices, and the biases."""
        return sum(2 * int(np.count_nonzero(s["weights"])) + s["bias"].size for s in self.solutions)


def _path(X: Rows, T: Rows, alphas: list[float]) -> list[State]:
    (X, mean_x), (T, mean_t) = centred(X), centred(T)
    # At most N are nonzero in an exact solution.
    most = min(2 * len(X), X.shape[1])
    shape = (len(alphas), T.shape[1], most)
    supports, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    filled = [np.pad(a, ((0, -len(a) % LANES), (0, 0))) for a in (X, T)]
    columns = [np.ascontiguousarray(a.T, np.float32) for a in filled]
    parallel_for(
        descend, T.shape[1], *columns, np.array(alphas, np.float32) * len(X), supports, weights
    )
    result = []
    for indices, w in zip(supports, weights, strict=True):
        used = max(1, int(np.count_nonzero(w, axis=1).max()))
        indices, w = indices[:, :used], w[:, :used]
        bias = mean_t - np.einsum("bk,bk->b", w, mean_x[indices])
        result.append(sparse_state(indices, w, bias))
    return result


#: As the program's own kernels that add floating-point numbers.
compiled = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"}, cache=True)


@compiled
def _dot(x, y):
    total = np.float32(0)
    for n in range(len(x)):
        total += x[n] * y[n]
    return total


@compiled
def _sweep(X, squares, threshold, active, w, residual):
    """Minimise over the active pixels, one at a time, until the steps are small."""
    for _ in range(SWEEPS):
        largest = np.float32(0)
        for j in active:
            x = X[j]
            slope = _dot(x, residual) + squares[j] * w[j]
            new = np.float32(0)
            if slope > threshold:
                new = (slope - threshold) / squares[j]
            elif slope < -threshold:
                new = (slope + threshold) / squares[j]
            step = new - w[j]
            if step != 0:
                w[j] = new
                for n in range(len(residual)):
                    residual[n] -= step * x[n]
                largest = max(largest, abs(step) * squares[j])
        if largest <= np.float32(TOLERANCE) * threshold:
            break


@compiled
def descend(begin, end, X, T, thresholds, supports, weights):
    """Solve the Lasso of some rows of T for every alpha.

    Parameters
    ----------
    begin, end : int
        The rows of T.
    X, T : ndarray of float32, shape (D, N) and (B, N)
        Centred inputs and targets, N a multiple of `LANES`.
    thresholds : ndarray of float32
        alpha times the number of subjects, falling.
    supports, weights : ndarray of int32 and float32, shape (thresholds, B, most)
        Output, padded with 0; weights of 0 are omitted.
    """
    size = len(X)
    most = supports.shape[2]
    squares = np.empty(size, np.float32)
    for j in range(size):
        squares[j] = _dot(X[j], X[j])
    for b in range(begin, end):
        residual = T[b].copy()
        w = np.zeros(size, np.float32)
        gradient = np.empty(size, np.float32)
        active = np.empty(size, np.int32)
        is_active = np.zeros(size, np.bool_)
        count = 0
        for a, threshold in enumerate(thresholds):
            for _ in range(ROUNDS):
                _sweep(X, squares, threshold, active[:count], w, residual)
                worst = np.float32(0)
                for j in range(size):
                    gradient[j] = abs(_dot(X[j], residual))
                    if not is_active[j] and squares[j] > 0:
                        worst = max(worst, gradient[j])
                if worst <= threshold * (1 + np.float32(TOLERANCE)):
                    break
                # Those at least half as far off as the worst join. All would be too many: most of
                # them are neighbours and stay 0.
                enough = threshold + np.float32(0.5) * (worst - threshold)
                for j in range(size):
                    if not is_active[j] and gradient[j] >= enough and squares[j] > 0:
                        is_active[j] = True
                        active[count] = j
                        count += 1
            used = 0
            for i in range(count):
                j = active[i]
                if w[j] != 0 and used < most:
                    supports[a, b, used] = j
                    weights[a, b, used] = w[j]
                    used += 1
            kept = 0
            for i in range(count):  # keep the active ones few
                j = active[i]
                is_active[j] = w[j] != 0
                if is_active[j]:
                    active[kept] = j
                    kept += 1
            count = kept


RIVALS: list[Any] = [Lasso]
