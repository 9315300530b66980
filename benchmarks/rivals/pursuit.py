"""Greedy selection of input pixels for all output pixels at once, for `omp` and `lsrf`.

The scores of all candidates are one matrix product, of normalised inputs with residuals, for a
block of output pixels at a time; no Gram matrix of D x D is needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.rivals.base import Rows, State

BLOCK_BYTES = 16 << 20  # of the scores of a block of output pixels
JITTER = 1e-9  # keeps the equations of identical input pixels solvable
FLAT = 1e-6  # pixels that vary less than this share of the range are never chosen

Supports = npt.NDArray[np.int32]  # (D, steps): the input pixels of each output pixel


def pursue(
    X: Rows,
    T: Rows,
    steps: int,
    *,
    penalty: float = 0.0,
    bias: bool = False,
    bonus: Rows | None = None,
) -> Supports:
    """Choose input pixels one after the other, each the one that best explains the residual.

    Parameters
    ----------
    X, T : ndarray of float32, shape (samples, N, D)
        Inputs and targets. The ``samples``, colour channels, share their coefficients; their
        correlations are added.
    steps : int
        Number of pixels to choose for each output pixel.
    penalty, bias
        Of the regression on the chosen pixels, as for `refit`.
    bonus : ndarray of float32, shape (D, D), optional
        Added to the score of each input pixel (column) for each output pixel (row).

    Returns
    -------
    ndarray of int32, shape (D, steps)
        In the order of choice.
    """
    samples, subjects, size = X.shape
    steps = min(steps, samples * subjects, size)
    deviation = X - X.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(deviation, axis=1, keepdims=True)
    flat = norms < FLAT * np.sqrt(subjects)
    normalised = np.divide(deviation, norms, out=np.zeros_like(X), where=~flat)
    supports = np.empty((size, steps), np.int32)
    block = max(1, BLOCK_BYTES // (4 * size))
    scores = np.empty((block, size), np.float32)
    for begin in range(0, size, block):
        rows = slice(begin, min(begin + block, size))
        wanted = T[:, :, rows]
        left = wanted
        if bias:
            empty = supports[rows, :0]
            left = wanted - fitted(X, empty, *refit(X, wanted, empty, penalty, bias=True))
        chosen, score = supports[rows], scores[: rows.stop - begin]
        for step in range(steps):
            np.matmul(left[0].T, normalised[0], out=score)
            for residual, inputs in zip(left[1:], normalised[1:], strict=True):
                score += residual.T @ inputs
            np.abs(score, out=score)
            if bonus is not None:
                score += bonus[rows]
            np.put_along_axis(score, chosen[:, :step], -1, axis=1)
            chosen[:, step] = score.argmax(axis=1)
            so_far = chosen[:, : step + 1]
            left = wanted - fitted(X, so_far, *refit(X, wanted, so_far, penalty, bias=bias))
    return supports


def refit(X: Rows, T: Rows, supports: Supports, penalty: float, *, bias: bool) -> tuple[Rows, Rows]:
    """Return coefficients (B, k) and biases (B,) of ridge regressions on the chosen pixels.

    Minimises sum (w . z + b - t)^2 + penalty (w . w + b^2); b is 0 without ``bias``.

    Parameters
    ----------
    X : ndarray, shape (samples, N, D)
    T : ndarray, shape (samples, N, B)
        The targets of B output pixels.
    supports : ndarray of int32, shape (B, k)
        Their input pixels.
    """
    samples, subjects, _ = X.shape
    Z = np.moveaxis(X[:, :, supports], 2, 0)  # (B, samples, N, k)
    Z = Z.reshape(len(supports), samples * subjects, -1 if supports.size else 0).astype(np.float64)
    if bias:
        Z = np.concatenate([Z, np.ones((*Z.shape[:2], 1))], axis=2)
    t = np.moveaxis(T, 2, 0).reshape(len(supports), samples * subjects, 1)
    G = Z.transpose(0, 2, 1) @ Z
    diagonal = np.einsum("bkk->bk", G)  # a view
    diagonal += penalty + JITTER * (1 + diagonal)
    w = np.linalg.solve(G, Z.transpose(0, 2, 1) @ t)[..., 0]
    return (w[:, :-1], w[:, -1]) if bias else (w, np.zeros(len(supports)))


def fitted(X: Rows, supports: Supports, weights: Rows, bias: Rows) -> Rows:
    """Return sum_k w_k x(support_k) + b, float32, for X of shape (..., D): (..., B)."""
    result = np.empty((*X.shape[:-1], len(supports)), np.float32)
    result[...] = bias
    for column, weight in zip(supports.T, weights.T, strict=True):
        result += X[..., column] * weight.astype(np.float32)
    return result


def sparse_state(supports: Supports, weights: Rows, bias: Rows) -> State:
    """Return the arrays of a sparse solution."""
    return {
        "supports": supports,
        "weights": weights.astype(np.float32),
        "bias": bias.astype(np.float32),
    }
