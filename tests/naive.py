"""Plain NumPy references, written for clarity alone, of what the program computes."""

import numpy as np


def naive_neighbour(image, y, x, offset):
    """Return the pixel at (y, x) + offset, 0 outside the frame."""
    height, width = image.shape
    v, u = y + offset[0], x + offset[1]
    return image[v, u] if 0 <= v < height and 0 <= u < width else 0.0


def naive_masked_regression(X, T, offsets, penalty):
    """Solve the paper's normal equations pixel by pixel.

    X, T: float arrays (N, H, W) in [0, 1]. Returns weights (taps + 1, H, W), bias last; a tap
    outside the frame is left out of the equations (the window is clipped) and weighs 0.
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
    """Apply weights (taps + 1, H, W) to an image (H, W) pixel by pixel.

    Outside the frame the image is 0, or goes on with its last pixel if edge is true.
    """
    height, width = image.shape

    def neighbour(y, x, dy, dx):
        if edge:
            return image[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
        return naive_neighbour(image, y, x, (dy, dx))

    output = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            taps = [neighbour(y, x, *offset) for offset in offsets]
            output[y, x] = weights[:-1, y, x] @ taps + weights[-1, y, x]
    return output


def naive_solve(X, T, offsets, penalty, prior):
    """Solve (G + D) (w - w0) = b - G w0 pixel by pixel; least norm of w - w0 where singular.

    X, T: float arrays (N, H, W) in [0, 1]; penalty (D): (taps + 1, taps + 1); prior (w0):
    (taps + 1,).
    Returns weights (taps + 1, H, W), bias last, and a bool array (H, W): where G + D is singular.
    Taps outside the frame are pixels of value 0 whose weight in w0 is 0.
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
    """Return sum_n a[c, y, x, n] b[c, y + dy, x + dx, n], 0 outside the frame: (P, L, H, W)."""
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


def naive_blur(plane, sigma):
    """Blur a plane with a Gaussian cut at 3 sigma; edges repeat."""
    radius = int(3 * sigma + 0.5)
    weights = (
        np.ones(1) if sigma == 0 else np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    )
    weights = weights / weights.sum()
    for axis in (0, 1):
        width = [(radius, radius) if k == axis else (0, 0) for k in (0, 1)]
        padded = np.pad(plane, width, mode="edge")
        size = plane.shape[axis]
        plane = sum(
            weight * padded.take(range(k, k + size), axis=axis) for k, weight in enumerate(weights)
        )
    return plane


def naive_shared_ridge(X, T, offsets, penalty, sigma):
    """Solve the ridge of pixels that share channels and the samples of their neighbours.

    X, T: float arrays (N, C, H, W) whose edges repeat; penalty (D): (taps + 1, taps + 1). It pulls
    to the identity. Returns weights (taps + 1, H, W), bias last.
    """
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
        + [np.ones((count, rows, columns))]
    )
    left = np.einsum("anyx,bnyx->yxab", Z, Z)
    right = np.einsum("anyx,nyx->yxa", Z, t)
    inner = np.s_[radius : radius + height, radius : radius + width]

    def shared(planes):
        flat = planes.reshape(rows, columns, -1)
        blurred = [naive_blur(flat[..., k], sigma)[inner] for k in range(flat.shape[2])]
        return np.stack(blurred, axis=-1).reshape(height, width, *planes.shape[2:])

    left, right = shared(left) + penalty, shared(right)
    prior = np.array([1.0 if offset == (0, 0) else 0.0 for offset in offsets] + [0.0])
    weights = np.linalg.solve(left, (right + penalty @ prior)[..., None])[..., 0]
    return weights.transpose(2, 0, 1)


def naive_residual(X, T, offsets, weights, light, style):
    """Regress what weights leave of each pixel and channel on light and light times style.

    X, T: float arrays (N, C, H, W); edges repeat. Returns two arrays (C, H, W).
    """
    reach = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    height, width = X.shape[2:]
    wide = np.pad(X, [(0, 0)] * 2 + [(reach, reach)] * 2, mode="edge")
    rest = T - weights[-1]
    for (dy, dx), weight in zip(offsets, weights[:-1], strict=True):
        y, x = reach + dy, reach + dx
        rest = rest - weight * wide[:, :, y : y + height, x : x + width]
    features = np.stack([light, light * style], axis=1)
    found = np.linalg.lstsq(features, rest.reshape(len(X), -1), rcond=None)[0]
    return found.reshape(2, *X.shape[1:])
