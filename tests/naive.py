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


def naive_synthesis(weights, offsets, image):
    """Apply weights (taps + 1, H, W) to an image (H, W) pixel by pixel."""
    height, width = image.shape
    output = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            taps = [naive_neighbour(image, y, x, offset) for offset in offsets]
            output[y, x] = weights[:-1, y, x] @ taps + weights[-1, y, x]
    return output
