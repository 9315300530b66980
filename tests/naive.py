"""Plain NumPy references for the program's computations, written for clarity alone."""

import numpy as np
from scipy.ndimage import correlate, correlate1d, map_coordinates


def naive_neighbour(image, y, x, offset):
    """Return the pixel at (y, x) + offset, 0 outside the image."""
    height, width = image.shape
    v, u = y + offset[0], x + offset[1]
    return image[v, u] if 0 <= v < height and 0 <= u < width else 0.0


def naive_masked_regression(X, T, offsets, penalty):
    """Solve the paper's normal equations pixel by pixel.

    X, T: float arrays (N, H, W) in [0, 1]. Returns weights (taps + 1, H, W), bias last; a tap
    outside the image is omitted from the equations (the window is clipped) and weighs 0.
    """
    count, height, width = X.shape
    weights = np.zeros((len(offsets) + 1, height, width))
    for y in range(height):
        for x in range(width):
            inside = [
                k
                for k, (dy, dx) in enumerate(offsets)
                if 0 <= y + dy < height and 0 <= x + dx < width
            ]
            columns = [X[:, y + offsets[k][0], x + offsets[k][1]] for k in inside]
            Z = np.column_stack([*columns, np.ones(count)])
            left = Z.T @ Z + penalty * np.eye(len(inside) + 1)
            weights[[*inside, -1], y, x] = np.linalg.solve(left, Z.T @ T[:, y, x])
    return weights


def naive_synthesis(weights, offsets, image, edge=False):
    """Apply weights (taps + 1, H, W) to an image (H, W): add one product after the other.

    Outside, the image is 0, or repeats its nearest pixel if edge is true. Rounds each step to the
    precision of the arrays.
    """
    height, width = image.shape
    output = weights[-1].copy()
    for (dy, dx), weight in zip(offsets, weights[:-1], strict=True):
        y, x = np.arange(height)[:, None] + dy, np.arange(width) + dx
        neighbour = image[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        output += weight * (neighbour if edge else np.where(inside, neighbour, 0))
    return output


def naive_solve(X, T, offsets, penalty, prior):
    """Solve (G + D) (w - w0) = b - G w0 pixel by pixel; least norm of w - w0 where singular.

    X, T: float arrays (N, H, W) in [0, 1]; penalty (D): (taps + 1, taps + 1); prior (w0):
    (taps + 1,).
    Returns weights (taps + 1, H, W), bias last, and a bool array (H, W): where G + D is singular.
    Taps outside the image are pixels of value 0 whose weight in w0 is 0.
    """
    count, height, width = X.shape
    size = len(offsets) + 1
    weights = np.zeros((size, height, width))
    singular = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            G, b = np.zeros((size, size)), np.zeros(size)
            for n in range(count):
                z = np.array([*(naive_neighbour(X[n], y, x, offset) for offset in offsets), 1.0])
                G += np.outer(z, z)
                b += z * T[n, y, x]
            inside = [0 <= y + dy < height and 0 <= x + dx < width for dy, dx in offsets]
            used = np.array([*inside, True])
            near = np.where(used, prior, 0.0)
            left, right = G + penalty * np.outer(used, used), b - G @ near
            values = np.linalg.eigvalsh(left[used][:, used])
            singular[y, x] = values[0] <= 1e-12 * values[-1]
            if np.linalg.cond(left[used][:, used]) < 1e12:
                deviation = np.zeros(size)
                deviation[used] = np.linalg.solve(left[used][:, used], right[used])
                weights[:, y, x] = near + deviation
            else:
                cut = size * np.finfo(float).eps
                weights[:, y, x] = near + np.linalg.lstsq(left, right, rcond=cut)[0]
    return weights, singular


def naive_products(a, b, offsets):
    """Return sum_n a[c, y, x, n] b[c, y + dy, x + dx, n], 0 outside the image: (P, L, H, W)."""
    planes, height, width, _ = a.shape
    wide = np.float64 if a.dtype == np.float64 else np.int64
    output = np.zeros((planes, len(offsets), height, width), wide)
    for k, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    products = a[:, y, x].astype(wide) * b[:, y + dy, x + dx]
                    output[:, k, y, x] = products.sum(axis=-1)
    return output


def naive_sums(a):
    """Return sum_n a[c, y, x, n]: (P, H, W)."""
    return a.astype(np.float64 if a.dtype == np.float64 else np.int64).sum(axis=-1)


def naive_face(height, width):
    """Return the pixels (y, x) within the ellipse of the face."""
    return {
        (y, x)
        for y in range(height)
        for x in range(width)
        if ((y / height - 0.54) / 0.42) ** 2 + ((x / width - 0.5) / 0.33) ** 2 < 1
    }


def naive_mouth(height, width):
    """Return the pixels (y, x) within the rectangle of the mouth."""
    return {
        (y, x)
        for y in range(62 * height // 100, 85 * height // 100)
        for x in range(28 * width // 100, 72 * width // 100)
    }


def naive_region_scores(output, target, pixels):
    """Return mse, ssim and sharpness of some pixels; images (H, W, channels) in [0, 1]."""
    height, width, _ = target.shape
    errors = [np.square(output[p] - target[p]).mean() for p in pixels]
    similarities = [
        naive_similarity(output, target, y, x)
        for y, x in pixels
        if 5 <= y < height - 5 and 5 <= x < width - 5
    ]
    neighbours = [((y, x), q) for y, x in pixels for q in ((y + 1, x), (y, x + 1)) if q in pixels]
    steps = [np.mean([abs(i[p] - i[q]) for p, q in neighbours]) for i in (output, target)]
    return {
        "mse": np.mean(errors),
        "ssim": np.mean(similarities) if similarities else np.nan,
        "sharpness": steps[0] / steps[1],
    }


def naive_similarity(output, target, y, x):
    """Return the structural similarity (Wang et al. 2004) of 11 x 11 pixels around (y, x)."""
    distance = np.arange(-5, 6)
    weight = np.exp(-(distance[:, None] ** 2 + distance**2) / (2 * 1.5**2))
    weight = (weight / weight.sum())[..., None]
    a, b = (image[y - 5 : y + 6, x - 5 : x + 6] for image in (output, target))
    mean_a, mean_b = (weight * a).sum(axis=(0, 1)), (weight * b).sum(axis=(0, 1))
    variance_a = (weight * (a - mean_a) ** 2).sum(axis=(0, 1))
    variance_b = (weight * (b - mean_b) ** 2).sum(axis=(0, 1))
    covariance = (weight * (a - mean_a) * (b - mean_b)).sum(axis=(0, 1))
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return (light * structure).mean()


def naive_shared_ridge(X, T, offsets, light, penalty, sigma):
    """Solve the ridge of pixels that share channels and the samples of their neighbours.

    X, T: float arrays (N, C, H, W) whose edges repeat; penalty (D): (taps + 1, taps + 1). It pulls
    to the identity. The light (N,) of each pair stands for the 1 of a bias. Returns weights
    (taps + 1, H, W), that of the light last.
    """
    light = np.repeat(light, X.shape[1])
    X, T = (images.reshape(-1, *images.shape[2:]) for images in (X, T))
    count, height, width = X.shape
    radius = int(3 * sigma + 0.5)
    reach = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    around = [(0, 0), (radius, radius), (radius, radius)]
    t = np.pad(T, around, mode="edge")
    wide = np.pad(X, [(0, 0)] + [(radius + reach,) * 2] * 2, mode="edge")
    rows, columns = height + 2 * radius, width + 2 * radius
    Z = np.stack(
        [
            wide[:, reach + dy : reach + dy + rows, reach + dx : reach + dx + columns]
            for dy, dx in offsets
        ]
        + [np.broadcast_to(light[:, None, None], (count, rows, columns))]
    )
    left = np.einsum("anyx,bnyx->yxab", Z, Z)
    right = np.einsum("anyx,nyx->yxa", Z, t)
    inner = np.s_[radius : radius + height, radius : radius + width]

    def shared(planes):
        flat = np.moveaxis(planes.reshape(rows, columns, -1), -1, 0)
        blurred = np.moveaxis(naive_blur(flat, sigma)[:, *inner], 0, -1)
        return blurred.reshape(height, width, *planes.shape[2:])

    left, right = shared(left) + penalty, shared(right)
    prior = np.array([1.0 if offset == (0, 0) else 0.0 for offset in offsets] + [0.0])
    weights = np.linalg.solve(left, (right + penalty @ prior)[..., None])[..., 0]
    return weights.transpose(2, 0, 1)


def naive_residual(X, T, offsets, weights, light, teeth, shrinkage):
    """Regress what weights leave of each pixel and channel on light and teeth, with a ridge.

    X, T: float arrays (N, C, H, W); edges repeat. The last weight is that of the light. Returns two
    arrays (C, H, W).
    """
    reach = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    height, width = X.shape[2:]
    wide = np.pad(X, [(0, 0)] * 2 + [(reach, reach)] * 2, mode="edge")
    rest = T - weights[-1] * light[:, None, None, None]
    for (dy, dx), weight in zip(offsets, weights[:-1], strict=True):
        y, x = reach + dy, reach + dx
        rest = rest - weight * wide[:, :, y : y + height, x : x + width]
    features = np.stack([light, teeth], axis=1)
    left = features.T @ features + shrinkage * np.eye(2)
    found = np.linalg.solve(left, features.T @ rest.reshape(len(X), -1))
    return found.reshape(2, *X.shape[1:])


def naive_share(spread, face, sigma):
    """Return the share of the mean face (C, H, W) whose colour c takes away, (H, W)."""
    dc, dx = (planes - planes.mean(axis=0) for planes in (spread, face))
    both = naive_blur(np.stack([(dc * dx).sum(axis=0), (dx * dx).sum(axis=0)]), sigma)
    return np.clip(-both[0] / (both[1] + 0.002), 0, 0.4)


# --- registration -----------------------------------------------------------------------------
#
# Planes are (N, H, W), features are two planes, and fields are (2, H, W) that hold (dy, dx).


def naive_area_average(image, height, width):
    """Resize an image (h, w, C) by the mean over what each new pixel covers of the old ones."""

    def shares(old, new):
        edges = np.arange(new + 1) * (old / new)
        at = np.arange(old)
        covered = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
        return np.clip(covered, 0, None) * (new / old)

    down, across = shares(image.shape[0], height), shares(image.shape[1], width)
    return np.einsum("yi,ijc,xj->yxc", down, image, across, optimize=True)


def naive_halved(planes):
    """Return the means of 2 x 2 pixels of planes."""
    return sum(planes[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def naive_blur(planes, sigma):
    """Blur planes by a Gaussian that is cut at 3 sigma and sums to 1; edges repeat."""
    radius = int(3 * sigma + 0.5)
    at = np.arange(-radius, radius + 1)
    kernel = np.exp(-(at**2) / (2 * sigma**2)) if sigma else np.ones(1)
    kernel /= kernel.sum()
    down = correlate1d(np.asarray(planes, float), kernel, axis=1, mode="nearest")
    return correlate1d(down, kernel, axis=2, mode="nearest")


def naive_derivatives(plane):
    """Return the derivatives of a plane down and across, by Sobel's operators over 8."""
    down = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]) / 8
    return np.stack([correlate(plane, kernel, mode="nearest") for kernel in (down, down.T)])


def naive_features(image, grey):
    """Return local luminance and local redness of an image (H, W, C); no redness if it is grey."""
    light = image.mean(axis=2)
    redness = np.zeros_like(light) if grey else (image[..., 0] - image[..., 1]) / (light + 0.15)
    planes = np.stack([light, redness])
    d = planes - naive_blur(planes, 8)
    return d / (np.sqrt(naive_blur(d**2, 8)) + 0.03)


def naive_positions(field):
    """Return p + field(p)."""
    return np.indices(field.shape[1:]) + field


def naive_look_up(planes, field):
    """Return planes(p + field(p)), bilinear; edges repeat."""
    at = naive_positions(field)
    return np.stack([map_coordinates(plane, at, order=1, mode="nearest") for plane in planes])


def naive_warp(planes, field):
    """Return planes(p + field(p)), by cubic B-splines through all pixels; edges repeat.

    The planes are continued by 20 pixels before splines are put through them: none of that
    matters within them any more.
    """
    margin = 20
    wide = np.pad(planes, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    bounds = np.array(planes.shape[1:]).reshape(2, 1, 1) - 1
    at = np.clip(naive_positions(field), 0, bounds) + margin
    return np.stack([map_coordinates(plane, at, order=3, mode="nearest") for plane in wide])


def naive_compose(outer, inner):
    """Return the field that moves by the outer one where the inner one has moved to."""
    return inner + naive_look_up(outer, inner)


def naive_invert(field):
    """Return v with v(q) = -field(q + v(q)), after 12 iterations."""
    v = -field
    for _ in range(12):
        v = -naive_look_up(field, v)
    return v


def naive_resampled(planes, height, width):
    """Resample planes bilinearly about pixel centres; edges repeat."""
    y = (np.arange(height) + 0.5) * planes.shape[1] / height - 0.5
    x = (np.arange(width) + 0.5) * planes.shape[2] / width - 0.5
    at = np.meshgrid(y, x, indexing="ij")
    return np.stack([map_coordinates(plane, at, order=1, mode="nearest") for plane in planes])


def naive_enlarged(field, height, width):
    """Return a field for images of another size, in their pixels."""
    scale = np.array([height / field.shape[1], width / field.shape[2]])
    return naive_resampled(field, height, width) * scale.reshape(2, 1, 1)


def naive_rounded(field):
    """Return a field in whole steps of 1/64."""
    return np.round(field * 64) / 64


def naive_canonical(size, eyes, height, width, middle=0.0):
    """Return where the pixels of a grid lie in the canonical crop, in units of its side.

    size: of the image that the grid covers. middle: .5 for the middles of pixels. The canonical
    crop is a square whose eyes are at (.32, .36) and (.68, .36).
    """
    tall, wide = size
    (x0, y0), (x1, y1) = eyes
    side = abs(x1 - x0) * wide / 0.36  # in the image's pixels
    top = (y0 + y1) / 2 * tall - 0.36 * side
    left = (x0 + x1) / 2 * wide - 0.5 * side
    y = ((np.arange(height)[:, None] + middle) * tall / height - top) / side
    x = ((np.arange(width)[None] + middle) * wide / width - left) / side
    return y, x


def naive_weight(y, x):
    """Return the weight in registration of positions in the canonical crop."""
    return np.clip(1.5 - ((y - 0.55) / 0.46) ** 2 - ((x - 0.5) / 0.36) ** 2, 0.03, 1)


def naive_oval(y, x):
    """Return which positions in the canonical crop belong to the face."""
    return ((y - 0.54) / 0.42) ** 2 + ((x - 0.5) / 0.33) ** 2 < 1


def naive_mask(y, x):
    """Return how much of the change positions in the canonical crop get."""
    r = np.sqrt(((y - 0.55) / 0.46) ** 2 + ((x - 0.5) / 0.37) ** 2)
    t = np.clip((1 - r) / 0.16 + 0.5, 0, 1)
    return t**2 * (3 - 2 * t)


def naive_regions(names, y, x):
    """Return how much positions in the canonical crop belong to any of some regions."""

    def smooth(t):
        t = np.clip(t, 0, 1)
        return t**2 * (3 - 2 * t)

    def ellipse(middle, tall, wide):
        r = np.sqrt(((y - middle) / tall) ** 2 + ((x - 0.5) / wide) ** 2)
        return smooth((1 - r) / 0.4 + 0.5)

    regions = {
        "mouth": ellipse(0.76, 0.19, 0.31),
        "eyes": ellipse(0.385, 0.10, 0.42),
        "brows": ellipse(0.24, 0.11, 0.42),
        "lower": smooth((y - 0.53) / 0.12 + 0.5) + 0 * x,
        "upper": smooth((0.53 - y) / 0.12 + 0.5) + 0 * x,
    }
    found = [regions[name] for name in names] if names else [1 + 0 * y + 0 * x]
    return np.maximum.reduce(found)


def naive_level(moving, fixed, weight, sigmas, steps, field):
    """Take Gauss-Newton steps towards moving(p + field(p)) = fixed(p).

    moving, fixed: one plane for each feature; sigmas: of the window, the prior and the smoothing.
    """
    window, prior, smooth = sigmas
    damping = 0.05
    slopes = [
        (naive_derivatives(F), naive_derivatives(R)) for F, R in zip(moving, fixed, strict=True)
    ]
    for _ in range(steps):
        A = np.zeros((2, 2, *weight.shape))
        b = np.zeros((2, *weight.shape))
        for F, R, (dF, dR) in zip(moving, fixed, slopes, strict=True):
            r = R - naive_look_up([F], field)[0]
            g = (naive_look_up(dF, field) + dR) / 2
            q = weight / (1 + r**2)
            A += q * g[:, None] * g[None]
            b += q * g * r
        A = np.stack([naive_blur(row, window) for row in A])
        b = naive_blur(b, window)
        left = A + damping * np.eye(2).reshape(2, 2, 1, 1)
        right = b + damping * (naive_blur(field, prior) - field)
        solved = np.linalg.solve(left.transpose(2, 3, 0, 1), right.transpose(1, 2, 0)[..., None])
        delta = solved[..., 0].transpose(2, 0, 1)
        delta /= np.maximum(np.hypot(*delta), 1)
        field = naive_blur(field + delta, smooth)
    return field


def naive_register(moving, fixed, weight, start=None):
    """Register features to a template: planes of the half size, and W at full size.

    start: a field of any size, by default 0. Returns a field of the half size.
    """
    _, height, width = moving.shape
    quarter = height // 2, width // 2
    field = np.zeros((2, *quarter)) if start is None else naive_enlarged(start, *quarter)
    half = naive_halved(weight[None])
    low = naive_halved(moving), naive_halved(fixed), naive_halved(half)[0]
    field = naive_level(*low, (4, 1.875, 2), 6, field)
    return naive_level(moving, fixed, half[0], (3, 2.5, 2), 6, naive_enlarged(field, height, width))


def naive_refined(moving, fixed, weight, field):
    """Refine a field of the half size with features and template at full size."""
    whole = naive_enlarged(field, *weight.shape)
    return naive_halved(naive_level(moving, fixed, weight, (2.5, 5, 1.5), 4, whole)) / 2


def naive_polished(moving, fixed, weight, field):
    """Refine a field at the half size alone; W at full size."""
    half = naive_halved(weight[None])[0]
    return naive_level(moving, fixed, half, (3, 2.5, 2), 6, field)


def naive_correlation(moving, fixed, region, field):
    """Return the correlation of moved features with a template's over a region.

    That of all features, or of the first one alone if that is larger.
    """
    a, b = naive_look_up(moving, field)[:, region], fixed[:, region]
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    pairs = [(a, b), (a[:1], b[:1])]
    return max((p * q).sum() / np.sqrt((p**2).sum() * (q**2).sum()) for p, q in pairs)


def naive_weighted_correlation(a, b, weight):
    """Return the correlation of planes, with a weight for each pixel."""
    products = energy = wanted = 0
    for p, q in zip(a, b, strict=True):
        p, q = p - np.average(p, weights=weight), q - np.average(q, weights=weight)
        products += (weight * p * q).sum()
        energy += (weight * p**2).sum()
        wanted += (weight * q**2).sum()
    scale = np.sqrt(energy * wanted)
    return products / scale if scale else 0.0


def naive_local_correlation(moving, fixed, field, sigma):
    """Return the correlation in a Gaussian window around each pixel; 1 where both are flat."""
    covariance = variance = wanted = 0
    for a, b in zip(naive_look_up(moving, field), fixed, strict=True):
        mean_a, mean_b, ab, aa, bb = naive_blur([a, b, a * b, a * a, b * b], sigma)
        covariance = covariance + ab - mean_a * mean_b
        variance = variance + aa - mean_a**2
        wanted = wanted + bb - mean_b**2
    return (covariance + 0.02) / (np.sqrt(np.maximum(variance * wanted, 0)) + 0.02)


#: Expected sizes of the nine numbers of the coarse search.
NAIVE_SIGMAS = np.array([0.04, 0.12, 0.12, 0.06, 0.04, 0.12, 0.12, 0.3, 0.15])


def naive_coarse_fields(size, eyes, height, width):
    """Return the nine fields that the coarse search combines, in pixels of a grid.

    Down: a constant, x, y, and a ramp from the eyes to the chin; across: a constant, x, y, x^2, and
    x times the ramp.
    """
    y, x = np.broadcast_arrays(*naive_canonical(size, eyes, height, width))
    ramp = np.interp(y, [0.40, 0.40 + 1.15 * 0.35], [0, 1.15])
    x, y = x - 0.5, y - 0.36
    none = np.zeros_like(x)
    down = [[plane, none] for plane in (none + 1, x, y, ramp)]
    across = [[none, plane] for plane in (none + 1, x, y, x * x, x * ramp)]
    return np.array(down + across) * (eyes[1][0] - eyes[0][0]) / 0.36 * width


def naive_sum_of(bases, numbers):
    """Return the sum of fields times numbers."""
    return sum(number * base for number, base in zip(numbers, bases, strict=True))


def naive_normal_equations(moving, fixed, weight, bases, field):
    """Return matrix and right side of the step of a combination of fields."""
    matrix, right = np.zeros((len(bases),) * 2), np.zeros(len(bases))
    for F, R in zip(moving, fixed, strict=True):
        r = R - naive_look_up([F], field)[0]
        g = (naive_look_up(naive_derivatives(F), field) + naive_derivatives(R)) / 2
        q = weight / (1 + r**2)
        J = [(g * base).sum(axis=0) for base in bases]
        matrix += [[(q * a * b).sum() for b in J] for a in J]
        right += [(q * a * r).sum() for a in J]
    return matrix, right


def naive_coarse_step(moving, fixed, weight, bases, numbers):
    """Return nine numbers after one step; unusual ones are pulled to 0."""
    field = naive_sum_of(bases, numbers)
    matrix, right = naive_normal_equations(moving, fixed, weight, bases, field)
    pull = np.diag(1 / NAIVE_SIGMAS**2)
    return numbers + np.linalg.solve(matrix + pull, right - pull @ numbers)


def naive_candidates(moving, templates, weight, bases):
    """Return pairs of a template's index and a field to refine, at a quarter of the size.

    moving: of that size, as the templates and the weight are.
    """
    found = []
    for k in range(len(templates)):
        for shift in (0, -0.06, 0.06, 0.12):
            found.append((k, np.array([0, 0, 0, shift, 0, 0, 0, 0, 0])))
    for steps in (3, 5):
        for _ in range(steps):
            found = [
                (k, naive_coarse_step(moving, templates[k], weight, bases, numbers))
                for k, numbers in found
            ]

        def fit(pair):
            moved = naive_look_up(moving, naive_sum_of(bases, pair[1]))
            return naive_weighted_correlation(moved, templates[pair[0]], weight)

        found = sorted(found, key=fit, reverse=True)[:8]
    chosen = []
    for k, numbers in found:
        field = naive_sum_of(bases, numbers)
        if all(k != j or np.abs(field - other).max() >= 0.75 for j, other in chosen):
            chosen.append((k, field))
    return chosen[:4]


def naive_price(field, weight, bases):
    """Return the price of the numbers that fit a field best, in the least weighted squares."""
    root = np.sqrt(np.stack([weight, weight])).ravel()
    left = (np.reshape(bases, (9, -1)) * root).T
    numbers = np.linalg.lstsq(left, field.ravel() * root, rcond=None)[0]
    return 0.01 * ((numbers / NAIVE_SIGMAS) ** 2).sum()


def naive_ramp(value, low, high):
    """Return 0 up to one bound and 1 from the other one on."""
    return np.interp(value, [low, high], [0, 1])


def naive_in_mouth(y, x):
    """Return which positions in the canonical crop belong to the mouth."""
    return (y >= 0.62) & (y < 0.85) & (x >= 0.28) & (x < 0.72)


def naive_value(moving, fixed, weight, place, field):
    """Return how well a face fits a template: the correlation less the price."""
    y, x = naive_canonical(*place, *field.shape[1:])
    half, bases = naive_halved(weight[None])[0], naive_coarse_fields(*place, *field.shape[1:])
    return naive_correlation(moving, fixed, naive_oval(y, x), field) - naive_price(
        field, half, bases
    )


def naive_trust(moving, source, place, value, field):
    """Return the share of a change that each pixel of the frame of the sources gets."""
    y, x = naive_canonical(*place, *field.shape[1:])
    local = naive_local_correlation(moving, source, field, 5)
    mouth = local[naive_in_mouth(y, x)].mean()
    whole = naive_ramp(value, 0.42, 0.50) * naive_ramp(value + mouth, 1.0, 1.1)
    return whole * naive_blur(naive_ramp(local, 0.15, 0.4)[None], 2)[0]


def naive_find(moving, candidates, weight, place):
    """Find a face with candidates; the first one is the sources'.

    candidates: template, expression and the field back from its frame; place: size of the images
    and eyes. Returns field, value, expression, how much of it is shown, and trust.
    """
    source, (height, width) = candidates[0][0], moving.shape[1:]
    quarter = naive_halved(naive_halved(weight[None]))[0]
    starts = naive_candidates(
        naive_halved(moving),
        [naive_halved(template) for template, _, _ in candidates],
        quarter,
        naive_coarse_fields(*place, height // 2, width // 2),
    )
    fits = []
    for k, start in starts:
        field = naive_register(moving, candidates[k][0], weight, start)
        fits.append((naive_value(moving, candidates[k][0], weight, place, field), k, field))
    value, k, field = max(fits, key=lambda fit: fit[0])
    template, expression, back = candidates[k]
    shown = 0.0
    if expression is not None:
        mouth = naive_in_mouth(*naive_canonical(*place, height, width))
        before = naive_correlation(moving, template, mouth, field)
        field = naive_polished(moving, source, weight, naive_compose(field, back))
        after = naive_correlation(moving, source, mouth, field)
        shown = naive_ramp(before - after, 0.15, 0.45)
    return field, value, expression, shown, naive_trust(moving, source, place, value, field)


def naive_group(features, weight, symmetric=True):
    """Register images, given by their features at half size, to their own mean.

    Returns the fields, of mean 0, and the mean of the moved features and, if faces are symmetric
    about the middle of the images, their mirror images.
    """
    fields = [np.zeros((2, *features[0].shape[1:])) for _ in features]

    def mean():
        moved = [naive_look_up(*pair) for pair in zip(features, fields, strict=True)]
        flipped = [each[..., ::-1] for each in moved] if symmetric else []
        return np.mean(moved + flipped, axis=0)

    for sigma in (2, 1, 0):
        template = naive_blur(mean(), sigma)
        fields = [naive_register(each, template, weight) for each in features]
        back = naive_invert(np.mean(fields, axis=0))
        fields = [naive_compose(field, back) for field in fields]
    return np.array(fields), mean()


def naive_main_variation(changes, oval):
    """Return scores, component and explained share of the main variation of changes (N, H, W).

    The first right singular vector of (D - mean D) var(D) inside the oval; more is more change.
    """
    inside = changes[:, oval]
    apart = inside - inside.mean(axis=0)
    variance = inside.var(axis=0)
    left, values, right = np.linalg.svd(apart * variance, full_matrices=False)
    scores = left[:, 0] * values[0]
    sign = np.sign(np.cov(scores, (inside**2).sum(axis=1))[0, 1])
    component = np.zeros(oval.shape)
    component[oval] = sign * variance * right[0] / scores.std()
    return sign * scores / scores.std(), component, values[0] ** 2 / (values**2).sum()


def naive_groups(scores):
    """Return the centres of two groups of scores, or None if there are not two.

    Of all ways to cut the sorted scores in two, the one with the least variance within.
    """
    ordered = np.sort(scores)
    cuts = [(ordered[:k], ordered[k:]) for k in range(1, len(ordered))]
    low, high = min(cuts, key=lambda cut: sum(len(part) * part.var() for part in cut))
    explained = 1 - (len(low) * low.var() + len(high) * high.var()) / (len(ordered) * ordered.var())
    fair = min(len(low), len(high)) >= len(ordered) / 5
    return (low.mean(), high.mean()) if explained > 0.80 and fair else None


def naive_styled_field(template, variation, features, half, weight, start, score):
    """Register a target to the template of its style: features at full and at half size."""
    fixed = 1.05 * (template + np.clip(score, -1.7, 1.7) * variation)
    field = naive_register(half, naive_halved(fixed), weight, start)
    return naive_refined(features, fixed, weight, field)


def naive_framed_light(light, field, oval):
    """Return the mean brightness in the oval of a face moved by a field."""
    return naive_look_up(light[None], field)[0][oval].mean()


def naive_side_light(light, field, oval, side):
    """Return how light from the sides falls on a face moved by a field, of mean 1.

    light: luminance; side: of the canonical crop, in its pixels. Half of what the logarithm of the
    luminance, blurred within the oval, differs from its mirror image by.
    """
    framed = naive_look_up(light[None], field)[0]
    inside = (oval & oval[:, ::-1]).astype(float)
    total, weight = naive_blur(np.stack([inside * np.log(framed + 0.02), inside]), 0.07 * side)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-6)
    sides = np.exp((mean - mean[:, ::-1]) / 2)
    return np.clip(sides / sides[inside > 0].mean(), 0.25, 2)


def naive_eye_white(luminance, field, y, x, sides=None):
    """Return the brightness of the whites of the eyes of a face moved by a field of any size.

    luminance: (H, W), at full size; y, x: where its pixels lie in the canonical crop. Of all pixels
    in two boxes around the eyes, 95 in a hundred are darker. sides: the light from the sides, which
    makes one eye brighter than it would be.
    """
    framed = naive_look_up(luminance[None], naive_enlarged(field, *luminance.shape))[0]
    if sides is not None:
        framed = framed / np.maximum(naive_resampled(sides[None], *luminance.shape)[0], 1)
    level = (y > 0.34) & (y < 0.38)
    left, right = (x > 0.26) & (x < 0.38), (x > 0.62) & (x < 0.74)
    values = np.sort(framed[level & (left | right)])
    place = 0.95 * (len(values) - 1)
    k = int(place)
    return values[k] + (place - k) * (values[min(k + 1, len(values) - 1)] - values[k])


def naive_hue(image, field, usual, usual_field, y, x, sides=None):
    """Return the colour of the light on a face (C, H, W) over that on the usual one."""
    whites = np.array([naive_eye_white(plane, field, y, x, sides) for plane in image])
    known = np.array([naive_eye_white(plane, usual_field, y, x) for plane in usual])
    return np.clip(whites / known / np.mean(whites / known), 0.4, 1.5)


def naive_light_on_teeth(light, white):
    """Return the light on teeth, given the brightness of a face and of the whites of its eyes.

    Both as ratios to the training set's. White that is brighter than the face tells that the skin
    is dark: light is what the white says, and that much more again.
    """
    found = white + (white - light) if white > light else light
    return min(max(found, 0.2), 1, 1.3)


def naive_tint(e, plain, spread):
    """Return what takes the colour of dark skin out of teeth, for each unit of style.

    e: as in naive_change; plain: the face in the frame at the style without teeth; spread: its
    change for each unit of style.
    """
    units = e["default"] - e["plain"]
    if units <= 0:
        return 0 * spread
    mean_face = e["face"] + e["b"] + units * (e["c"] - e["replaced"] * e["face"])
    colour = (mean_face + mean_face.mean(axis=0)) / 2 * e["hue"][:, None, None]
    y = plain + units * spread
    wanted = colour / np.maximum(colour.mean(axis=0), 0.05) * y.mean(axis=0)
    teeth = np.clip((units * e["replaced"] - 0.15) / 0.2, 0, 1)
    return teeth * (wanted - y) / units


def naive_plain(groups, styled=True):
    """Return the style without teeth: the lower group's centre, or -1 where there are not two."""
    if not styled:
        return 0
    return groups[0] if groups else -1


def naive_frame(source, sources, source_fields, targets, weight, oval):
    """Make the frame of an expression, a dictionary.

    source: T_source. sources: features and light of each at half size, moved by source_fields.
    targets: features of each at full and at half size.
    """
    fields, mean = naive_group([half for _, half in targets], weight)
    m = naive_register(source, mean, weight)
    m = naive_rounded(np.stack([m[0] + m[0, :, ::-1], m[1] - m[1, :, ::-1]]) / 2)
    W = [naive_compose(u, m) for u in source_fields]
    before = [naive_look_up(F[:1], w)[0] for (F, _), w in zip(sources, W, strict=True)]

    def changes(fields):
        pairs = zip(targets, fields, before, strict=True)
        found = np.array([naive_look_up(half[:1], u)[0] - old for (_, half), u, old in pairs])
        return (found + found[:, :, ::-1]) / 2

    def mean_features(weights):
        moved = [
            naive_look_up(whole, naive_enlarged(u, *weight.shape))
            for (whole, _), u in zip(targets, fields, strict=True)
        ]
        weighted = [w * F for w, F in zip(weights, moved, strict=True)]
        return np.mean(weighted + [F[..., ::-1] for F in weighted], axis=0)

    scores = naive_main_variation(changes(fields), oval)[0]
    T, C = mean_features(np.ones(len(targets))), mean_features(scores)
    refined = [
        naive_styled_field(T, C, *each, weight, u, s)
        for each, u, s in zip(targets, fields, scores, strict=True)
    ]
    D = changes(refined)
    scores, component, explained = naive_main_variation(D, oval)
    light = [naive_framed_light(L, w, oval) for (_, L), w in zip(sources, W, strict=True)]
    return {
        "template": T,
        "variation": C,
        "motion": m,
        "light": np.mean(light),
        "change": D.mean(axis=0),
        "component": component,
        "explained": explained,
        "scores": scores,
        "groups": naive_groups(scores),
    }


def naive_framed_pair(frame, source, target, weight, oval):
    """Move a pair into a frame, a dictionary like the one of `naive_frame`.

    source: image (C, H, W), features and light at half size, field, and the whites of the eyes over
    those of the training set. target: image, features at full and at half size. Returns the images,
    light, style and teeth, and u_t - S.
    """
    x, F, L, u, white = source
    t, whole, half = target
    m = frame["motion"]
    W = naive_compose(u, m)

    def score(field):
        change = naive_look_up(half[:1], field)[0] - naive_look_up(F[:1], W)[0]
        return ((change - frame["change"]) * frame["component"]).sum()

    first = naive_rounded(naive_register(half, naive_halved(frame["template"]), weight))
    styled = (frame["template"], frame["variation"], whole, half, weight, first, score(first))
    field = naive_rounded(naive_styled_field(*styled))
    light, style = naive_framed_light(L, W, oval) / frame["light"], score(field)
    plain = naive_plain(frame["groups"])
    return (
        naive_warp(x, naive_enlarged(W, *x.shape[1:])),
        naive_warp(t, naive_enlarged(field, *x.shape[1:])),
        light,
        style,
        naive_light_on_teeth(light, white) * (style - plain),
        field - (W - m),
    )


def naive_change(x, u, trust, shares, strength, masks, sizes):
    """Return the motion n and the added change of a face x (C, H, W), out of several expressions.

    u: its registered field. shares: a dictionary for each expression of its share, m, d1, b, c, the
    share of the face that is replaced, the style, the default one, that without teeth, the mean
    face, the brightness, that of the whites of the eyes, the light from the sides, its colour, the
    share that is shown already, and the function of the ridge. masks: of the face and the regions,
    at the half and full size. sizes: the half and the full size. trust: of the half size, in the
    frame of the sources.
    """
    half, full = sizes
    back, motions, changes = [], [], []
    for e in shares:
        k = strength * e["share"]
        W = e["m"] + naive_look_up(u, e["m"])
        framed = naive_warp(x, naive_enlarged(W, *full))
        light = e["light"](W)
        hue = e["hue"][:, None, None]
        sides = naive_resampled(naive_look_up(e["sides"][None], e["m"]), *full) * hue
        bright = naive_light_on_teeth(light, e["white"])
        teeth = bright * sides * e["c"] - e["replaced"] * framed
        D = e["ridge"](framed) - framed + np.clip(light, 0.2, 1.3) * sides * e["b"]
        teeth = teeth + np.clip((bright - light) / 0.4, 0, 1) * naive_tint(e, framed + D, teeth)
        D = D + (e["style"] - e["plain"]) * teeth
        if e["grey"]:
            D = np.broadcast_to(D.mean(axis=0), D.shape)
        trusted = (1 - e["shown"]) * naive_look_up(trust[None], e["m"])
        motions.append(k * masks[0] * trusted[0] * (e["m"] - e["style"] * e["d1"]))
        changes.append(k * masks[1] * naive_resampled(trusted, *full)[0] * D)
        back.append(naive_invert(W))
    N = sum(naive_look_up(M, P) for M, P in zip(motions, back, strict=True))
    n = np.zeros((2, *half))
    for _ in range(12):
        n = naive_look_up(N, n)
    added = sum(
        naive_look_up(D, naive_enlarged(n + naive_look_up(P, n), *full))
        for D, P in zip(changes, back, strict=True)
    )
    return naive_enlarged(n, *full), added
