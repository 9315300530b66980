"""A prototype of a recipe better than the paper's, in NumPy and SciPy: `results/recipes.md`.

python benchmarks/prototype.py DATA     cross-validates it on a folder of pairs

A model is a displacement field u(p) in pixels and one set of weights for each output pixel, shared
by all channels:

    x'(p)  = x(p + u(p))                                Catmull-Rom interpolation, 4x4 pixels
    y_c(p) = sum_k w_k(p) x'_c(p + o_k) + w_bias(p)     o_k: 5x5 window, edge pixels repeated

Everything that it is made from is a sum of integers over pairs and channels.
"""

import sys

import numpy as np
from scipy.ndimage import gaussian_filter

from mlr import metrics
from mlr.data.images import read_image
from mlr.data.pairs import find_pairs

RADIUS = 2  # 5x5 window
SIGMA = 3.0  # px at a side of 128: blur of the Gram planes
FLOW_SIGMA, FLOW_POST, FLOW_REACH = 3.0, 2.0, 6  # px at 128
FLOW_PENALTY = 8e-5  # mean squared error per squared pixel (at 128) of displacement
GAIN = 0.6  # prior = displaced input + GAIN * (itself - its 3x3 binomial blur)
BIAS_PENALTY = 3.0
PENALTIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
TOLERANCE = 1.015  # strongest penalty whose cross-validated error is within 1.5 % of the least
TAPS = [(y, x) for y in range(-RADIUS, RADIUS + 1) for x in range(-RADIUS, RADIUS + 1)]
K = len(TAPS) + 1
MIRROR = [TAPS.index((y, -x)) for y, x in TAPS] + [K - 1]


# Displacement: argmin_d blur(sum_n (x_n(p + d) - t_n(p))^2) + penalty |d|^2, to parts of a pixel


def flow_statistics(X, T):
    """Return sum (x(p + d) - t(p))^2 over pairs and channels, and their mirror images.

    Integer planes (2R+1, 2R+1, H, W); a program gets them from lag and cross planes.
    """
    _, h, w, _ = X.shape
    R = round(FLOW_REACH * h / 128)
    P = np.pad(X, ((0, 0), (R, R), (R, R), (0, 0)), "edge").astype(np.int16)
    S = np.empty((2 * R + 1, 2 * R + 1, h, w), np.int64)
    t = T.astype(np.int16)
    for y in range(2 * R + 1):
        for x in range(2 * R + 1):
            e = (P[:, y : y + h, x : x + w] - t).astype(np.int32)
            S[y, x] = (e * e).sum((0, 3))
    return S + S[:, ::-1, :, ::-1]


def displacement(S, pairs, channels):
    scale = S.shape[2] / 128
    R = S.shape[0] // 2
    d = np.arange(-R, R + 1)
    s = FLOW_SIGMA * scale
    E = gaussian_filter(S / (255.0**2 * 2 * pairs * channels), (0, 0, s, s), mode="nearest")
    E += FLOW_PENALTY / scale**2 * (d[:, None] ** 2 + d**2)[:, :, None, None]
    _, _, h, w = E.shape
    iy, ix = np.unravel_index(E.reshape(-1, h, w).argmin(0), (2 * R + 1, 2 * R + 1))
    iy, ix = iy.clip(1, 2 * R - 1), ix.clip(1, 2 * R - 1)
    a, b = np.mgrid[:h, :w]

    def vertex(m, c, p):  # of the parabola through three neighbours
        den = m - 2 * c + p
        return np.where(den > 1e-12, 0.5 * (m - p) / np.maximum(den, 1e-12), 0).clip(-0.5, 0.5)

    c = E[iy, ix, a, b]
    u = np.stack(
        [
            iy - R + vertex(E[iy - 1, ix, a, b], c, E[iy + 1, ix, a, b]),
            ix - R + vertex(E[iy, ix - 1, a, b], c, E[iy, ix + 1, a, b]),
        ]
    )
    s = FLOW_POST * scale
    return gaussian_filter(u, (0, s, s), mode="nearest")


def keys(a):
    a = np.abs(a)
    return np.where(
        a < 1, 1.5 * a**3 - 2.5 * a**2 + 1, np.where(a < 2, -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2, 0)
    )


def displace(X, u):
    """Return x(p + u(p)), rounded to 8 bits."""
    _, h, w, _ = X.shape
    a, b = np.mgrid[:h, :w]
    y, x = a + u[0], b + u[1]
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    out = np.zeros(X.shape, np.float32)
    for i in range(-1, 3):
        for j in range(-1, 3):
            k = (keys(y - (y0 + i)) * keys(x - (x0 + j))).astype(np.float32)
            out += X[:, np.clip(y0 + i, 0, h - 1), np.clip(x0 + j, 0, w - 1)] * k[..., None]
    return np.rint(out.clip(0, 255)).astype(np.uint8)


# Statistics of the displaced input: lag planes, summed over pairs and channels


def statistics(Xd, T):
    """Return Gram (H, W, K, K), cross (H, W, K), squares (H, W): means over channels, of [0, 1]."""
    n, h, w, c = Xd.shape
    r, m = RADIUS, 3 * RADIUS
    P = np.pad(Xd, ((0, 0), (m, m), (m, m), (0, 0)), "edge").astype(np.int32)
    P = np.ascontiguousarray(P.transpose(1, 2, 0, 3)).reshape(h + 2 * m, w + 2 * m, n * c)
    t = np.ascontiguousarray(T.transpose(1, 2, 0, 3)).reshape(h, w, n * c).astype(np.int32)

    def box(o, r):
        return P[m - r + o[0] : m + h + r + o[0], m - r + o[1] : m + w + r + o[1]]

    lag = {}
    for dy in range(0, 2 * r + 1):  # the half plane of lags; 41 for 5x5
        for dx in range(-2 * r, 2 * r + 1):
            if dy > 0 or dx >= 0:
                lag[dy, dx] = np.einsum("hwn,hwn->hw", box((0, 0), r), box((dy, dx), r))
    unit = 1 / 255.0
    G, b = np.empty((h, w, K, K)), np.empty((h, w, K))
    total = box((0, 0), r).sum(-1)
    for i, o in enumerate(TAPS):
        for j, q in enumerate(TAPS[: i + 1]):
            d = (q[0] - o[0], q[1] - o[1])
            base = o
            if d not in lag:
                d, base = (-d[0], -d[1]), q
            y, x = base[0] + r, base[1] + r
            G[..., i, j] = G[..., j, i] = lag[d][y : y + h, x : x + w] * (unit**2 / c)
        G[..., i, -1] = G[..., -1, i] = total[o[0] + r : o[0] + r + h, o[1] + r : o[1] + r + w] * (
            unit / c
        )
        b[..., i] = np.einsum("hwn,hwn->hw", box(o, 0), t) * (unit**2 / c)
    G[..., -1, -1] = n
    b[..., -1] = t.sum(-1) * (unit / c)
    return G, b, np.einsum("hwn,hwn->hw", t, t) * (unit**2 / c)


def with_mirror(stats):
    G, b, tt = stats
    return (
        G + G[:, ::-1][..., MIRROR, :][..., MIRROR],
        b + b[:, ::-1][..., MIRROR],
        tt + tt[:, ::-1],
    )


def smooth(stats):
    G, b, tt = stats
    s = SIGMA * b.shape[0] / 128
    G2, b2 = np.empty_like(G), np.empty_like(b)
    for i in range(K):
        b2[..., i] = gaussian_filter(b[..., i], s, mode="nearest")
        for j in range(i + 1):
            G2[..., i, j] = G2[..., j, i] = gaussian_filter(G[..., i, j], s, mode="nearest")
    return G2, b2, tt


# Algebra


def prior(gain=GAIN):
    w0 = np.zeros(K)
    for k, (y, x) in enumerate(TAPS):
        if max(abs(y), abs(x)) <= 1:
            w0[k] = -gain * (2 - abs(y)) * (2 - abs(x)) / 16
    w0[TAPS.index((0, 0))] += 1 + gain
    return w0


def solve(stats, penalty, gain=GAIN):
    G, b, _ = stats
    d = np.array(
        [penalty * (1 + y * y + x * x) for y, x in TAPS] + [BIAS_PENALTY]
    )  # far taps cost more: no hard rim
    return np.linalg.solve(G + np.diag(d), (b + d * prior(gain))[..., None])[..., 0]


def error(stats, w):
    """Mean squared error of weights on the pairs behind (unblurred, unmirrored) statistics."""
    G, b, tt = stats
    return (tt - 2 * (w * b).sum(-1) + np.einsum("hwi,hwij,hwj->hw", w, G, w)).mean() / G[
        0, 0, -1, -1
    ]


def train(X, T, folds=4):
    """Return the model for uint8 (N, H, W, C); penalty and mirroring by cross-validation."""
    n, c = len(X), X.shape[3]
    u = displacement(flow_statistics(X, T), n, c)
    Xd = displace(X, u)
    part = [np.arange(n)[i::folds] for i in range(folds)]
    raw = [statistics(Xd[i], T[i]) for i in part]
    plain = [smooth(s) for s in raw]
    scores, sums = {}, {}
    for m in (True, False):
        used = [with_mirror(s) for s in plain] if m else plain
        sums[m] = tuple(sum(s[j] for s in used) for j in range(3))
        for d in PENALTIES:
            errors = [
                error(raw[i], solve([sums[m][j] - used[i][j] for j in range(3)], d)) * len(part[i])
                for i in range(folds)
            ]
            scores[m, d] = sum(errors) / n
    least = min(scores.values())
    m = min(scores, key=scores.get)[0]
    d = max(d for d in PENALTIES if scores[m, d] <= TOLERANCE * least)
    return u, solve(sums[m], d), {"mirror": m, "penalty": d, "scores": scores}


def synthesize(model, X):
    """Return uint8 (N, H, W, C) with the expression changed."""
    u, w = model[:2]
    _, height, width, _ = X.shape
    margins = ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0))
    P = np.pad(displace(X, u), margins, "edge").astype(np.float32) / 255
    w = w.astype(np.float32)
    y = np.broadcast_to(w[..., -1:], X.shape).copy()
    for k, (dy, dx) in enumerate(TAPS):
        top, left = RADIUS + dy, RADIUS + dx
        y += w[..., k, None] * P[:, top : top + height, left : left + width]
    return np.rint(y.clip(0, 1) * 255).astype(np.uint8)


def main():
    """Score everyone by a model that has not seen them."""
    pairs = find_pairs(sys.argv[1])
    X = np.stack([read_image(person.source).pixels for person in pairs.people])
    for expression in pairs.expressions:
        T = np.stack([read_image(person.targets[expression]).pixels for person in pairs.people])
        fold = np.random.default_rng(0).permutation(len(X)) % 4
        scores = []
        for k in range(4):
            model = train(X[fold != k], T[fold != k])
            print(f"fold {k}: mirrored {model[2]['mirror']}, penalty {model[2]['penalty']}")
            outputs = synthesize(model, X[fold == k])
            scores += map(metrics.scores, outputs / 255, T[fold == k] / 255)
        means = {name: np.mean([score[name] for score in scores]) for name in scores[0]}
        print(expression, ", ".join(f"{name} {mean:.5f}" for name, mean in means.items()))


if __name__ == "__main__":
    main()
