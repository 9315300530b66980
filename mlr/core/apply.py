"""Applying the weights of a model to images: every output pixel is a sum over its taps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlr.core.receptive_field import ReceptiveField
from mlr.kernels.apply import Neighbours, apply_weights

Floats = npt.NDArray[np.float32]


def apply(weights: Floats, field: ReceptiveField, images: Floats, *, edge: bool = False) -> Floats:
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel of every image.

    Parameters
    ----------
    weights : ndarray of float32, shape (channels or 1, taps + 1, height, width)
        The bias is last. With 1, all channels share the weights.
    field : ReceptiveField
        The taps o_k.
    images : ndarray of float32, shape (N, channels, height, width)
        Intensities in [0, 1].
    edge : bool
        Pixels outside the image repeat the nearest one inside instead of being 0.

    Returns
    -------
    ndarray of float32, shape (N, channels, height, width)
        Not clipped. An image has the same bits in any batch and with any number of threads.
    """
    channels, _, height, width = weights.shape
    output = np.empty(images.shape, np.float32)
    shape = -1, channels, height, width  # channels that share weights are images like others
    apply_weights(
        np.ascontiguousarray(weights),
        neighbours(field, height, width),
        np.ascontiguousarray(images).reshape(shape),
        edge,
        output.reshape(shape),
    )
    return output


@lru_cache(maxsize=64)  # computing this takes as long as a small image
def neighbours(field: ReceptiveField, height: int, width: int) -> Neighbours:
    """Return where the taps of pixels are in images of some size."""
    size = (height, width)
    taps = np.clip(field.taps, np.negative(size), size)  # further out all pixels are alike
    down, across = np.abs(taps).max(axis=0).tolist()
    starts = (taps[:, 0] + down) * (width + 2 * across) + taps[:, 1] + across
    return Neighbours(down, across, starts)
