"""The model: weights of every pixel's receptive field, and what they do to an image."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlr.data.alignment import EYES
from mlr.data.files import is_folder_name, replacing
from mlr.data.npz import read_npz, write_npz
from mlr.errors import MlrError, ModelError, OptionError
from mlr.receptive_field import ReceptiveField
from mlr.version import __version__

FORMAT = 1
#: Luma of sRGB, ITU-R BT.601: how grey is made of colour.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

#: What is relied on in a model's metadata, and its type.
_META_TYPES = {"source": str, "recipe": str, "digest": str, "pairs": dict}

LARGEST_SHARE = 1000  # no face is left long before; float32 is still far from its limits
OWN_TAP = (0, 0)  # the tap of the output pixel itself
BAND_BYTES = 1 << 20  # taps of some rows of pixels that stay in the cache

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes
    ----------
    weights : ndarray of float32, shape (expressions, channels, taps + 1, height, width)
        For intensities in [0, 1]; the bias is last.
    receptive_field : ReceptiveField
        The taps.
    expressions : tuple of str
        Names of the target expressions.
    meta : dict
        How it was made: source, recipe, penalty, prior, pairs, eyes, digest, version.
    """

    weights: npt.NDArray[np.float32]
    receptive_field: ReceptiveField
    expressions: tuple[str, ...]
    meta: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that it works on."""
        _, channels, _, height, width = self.weights.shape
        return channels, height, width

    @property
    def parameters(self) -> int:
        """Number of coefficients that an output depends on; taps off the frame do not count."""
        expressions, channels, _, height, width = self.weights.shape
        inside = sum(
            max(0, height - abs(dy)) * max(0, width - abs(dx))
            for dy, dx in self.receptive_field.offsets
        )
        return int(expressions * channels * (inside + height * width))

    def synthesize(
        self,
        images: Pixels,
        target: str | Mapping[str, float] | None = None,
        strength: float = 1.0,
    ) -> Pixels:
        """Change the expression of aligned faces.

        Computes x + strength (f(x) - x), where f(x)(p) = sum_k w_k(p) x(p + o_k) + w_bias(p), or
        x + strength sum_e share_e (f_e(x) - x) for a mix of expressions.

        Parameters
        ----------
        images : ndarray, shape ([N,] height, width[, 1 or 3])
            uint8, uint16 or floating point in [0, 1]. Colour goes through a grey model by its
            luma, grey through a colour model as colour; both come back as they were.
        target : str or mapping of str to float, optional
            The expression, or the shares of a mix as `mixed` takes them; needed if the model has
            several.
        strength : float
            0 gives the input, 1 the model's output, up to 2 exaggerates.

        Returns
        -------
        ndarray of the same shape
            Integers are rounded, clipped and of the same dtype; floating point is float32 and not
            clipped.

        Raises
        ------
        ModelError
            If the size, the number of channels or the dtype does not fit, or the expression is
            not one of the model's.
        OptionError
            If the strength or the shares of a mix make no sense.
        """
        check_strength(strength)
        if isinstance(target, Mapping):
            return self.mixed(target).synthesize(images, strength=strength)
        images = np.asarray(images)
        if target is None and len(self.expressions) > 1:
            names = ", ".join(self.expressions)
            raise ModelError(f"the model has several expressions, name one of: {names}")
        index = self.require(self.expressions[0] if target is None else target)
        batch = self._as_batch(images)
        white = _white(images.dtype)
        result = np.empty(batch.shape, np.float32)
        for n, image in enumerate(batch):
            source = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(white)
            result[n] = self._changed(source, index, strength).transpose(1, 2, 0)
        result = result.reshape(images.shape)
        if images.dtype.kind == "f":
            return result
        rounded: Pixels = np.rint(np.clip(result, 0, 1) * np.float32(white)).astype(images.dtype)
        return rounded

    def mixed(self, shares: Mapping[str, float]) -> Model:
        """Return the model of a mix of expressions: f(x) = x + sum_e share_e (f_e(x) - x).

        It is as linear as they are: its weights are sum_e share_e w_e, and what the shares lack of
        1 is added to the weight of the output pixel's own tap.

        Parameters
        ----------
        shares : mapping of str to float
            Share of each expression in the change; not negative, and their sum need not be 1.

        Returns
        -------
        Model
            Of one expression, called as `mix_name` says.

        Raises
        ------
        ModelError
            If the model lacks one of the expressions.
        OptionError
            If there is no share, or one is not a number from 0 to `LARGEST_SHARE`.
        """
        check_shares(shares)
        weights: npt.NDArray[np.float32] = np.zeros_like(self.weights[0])
        for name, share in shares.items():
            weights += np.float32(share) * self.weights[self.require(name)]
        field, rest = self.receptive_field, 1 - math.fsum(shares.values())
        if rest:
            if OWN_TAP not in field.offsets:
                weights = np.insert(weights, len(field), 0, axis=1)
                field = ReceptiveField((*field.offsets, OWN_TAP))
            weights[:, field.offsets.index(OWN_TAP)] += np.float32(rest)
        meta = self.meta | {"mix": {name: float(share) for name, share in shares.items()}}
        return Model(weights[None], field, (mix_name(shares),), meta)

    def summary(self) -> dict[str, Any]:
        """Return what the model is and how it was made, ready for JSON."""
        channels, height, width = self.shape
        return {
            "kind": "model",
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.receptive_field),
            "parameters": self.parameters,
            **self.meta,
        }

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the model to an ``.npz`` file.

        Raises
        ------
        OutputExistsError
            If the file exists and ``force`` is false.
        MlrError
            If it cannot be written.
        """
        meta = self.meta | {"kind": "model", "format": FORMAT, "expressions": self.expressions}
        arrays: dict[str, Pixels] = {
            "weights": self.weights,
            "taps": np.array(
                [(0, dy, dx) for dy, dx in self.receptive_field.offsets], dtype=np.int16
            ),
            "meta": np.array(json.dumps(meta, sort_keys=True)),
        }
        with replacing(Path(path), force=force, durable=True) as file:
            write_npz(file, arrays)

    def require(self, target: str) -> int:
        """Return the place of an expression in the weights.

        Raises
        ------
        ModelError
            If the model was not trained for it.
        """
        if target not in self.expressions:
            names = ", ".join(self.expressions)
            raise ModelError(f"the model has no expression {target!r}; it has: {names}")
        return self.expressions.index(target)

    def _as_batch(self, images: Pixels) -> Pixels:
        """Return images as (N, height, width, channels), having checked that they fit."""
        _, height, width = self.shape
        shape = images.shape
        # A stack first: H grey images of H x H pixels are likelier than one image of H channels.
        if images.ndim in (3, 4) and shape[1:3] == (height, width):
            batch = images.reshape(*shape[:3], *(shape[3:] or (1,)))
        elif images.ndim in (2, 3) and shape[:2] == (height, width):
            batch = images.reshape(1, height, width, *(shape[2:] or (1,)))
        else:
            raise ModelError(
                f"the model works on images of {width}x{height} px, got an array of shape {shape}"
            )
        if batch.shape[3] not in (1, 3):
            raise ModelError(f"expected grey or RGB images, got {batch.shape[3]} channels")
        return batch

    def _changed(
        self, image: npt.NDArray[np.float32], index: int, strength: float
    ) -> npt.NDArray[np.float32]:
        """Return one planar image with the expression changed, in the channels it came in."""
        model_channels, channels = self.shape[0], image.shape[0]
        if model_channels == channels:
            source = image
        elif model_channels == 1:
            source = np.tensordot(LUMA, image, axes=1)[None]
        else:
            source = np.repeat(image, model_channels, axis=0)
        output = apply(self.weights[index], self.receptive_field, source)
        if model_channels == channels and strength == 1:
            return output
        change = output - source
        if channels < model_channels:
            change = np.tensordot(LUMA, change, axes=1)[None]
        # The change of luma of a colour image through a grey model is that of all its channels.
        return image + np.float32(strength) * change


def apply(
    weights: npt.NDArray[np.float32], field: ReceptiveField, image: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Compute sum_k w_k(p) x(p + o_k) + w_bias(p) for every pixel and channel.

    Parameters
    ----------
    weights : ndarray of float32, shape (channels, taps + 1, height, width)
        The bias is last.
    field : ReceptiveField
        The taps.
    image : ndarray of float32, shape (channels, height, width)
        Intensities in [0, 1].

    Returns
    -------
    ndarray of float32, shape (channels, height, width)
        Not clipped.
    """
    # NumPy rather than a kernel: a program that only applies a model need not load Numba. The taps
    # of a band of rows are gathered, in the cache, and multiplied with the weights that stream by.
    channels, height, width = image.shape
    rows = max(1, min(height, BAND_BYTES // (4 * width * (len(field) + 1))))
    size = np.array([height, width])
    offsets = np.clip(field.taps, -size, size)  # a tap farther off the frame sees as little
    reach_y, reach_x = np.abs(offsets).max(axis=0)
    padded = np.pad(image, ((0, 0), (reach_y, reach_y), (reach_x, reach_x)))
    gathered = np.ones((len(field) + 1, rows, width), np.float32)
    output = np.empty_like(image)
    for channel in range(channels):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            taps = gathered[:, : bottom - top]
            for k, (dy, dx) in enumerate(offsets):
                y, x = top + reach_y + dy, reach_x + dx
                taps[k] = padded[channel, y : y + bottom - top, x : x + width]
            band = output[channel, top:bottom]
            np.einsum("kyx,kyx->yx", weights[channel, :, top:bottom], taps, out=band)
    return output


def check_strength(strength: float) -> None:
    """Raise unless the strength of a change makes sense.

    Raises
    ------
    OptionError
        If it is not a number from 0 to 2.
    """
    if not 0 <= strength <= 2:
        raise OptionError(f"the strength must lie between 0 and 2, not {strength}")


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise unless the shares of a mix make sense.

    Raises
    ------
    OptionError
        If there is none, or one is not a number from 0 to `LARGEST_SHARE`.
    """
    if not shares:
        raise OptionError("a mix needs the share of at least one expression")
    for name, share in shares.items():
        if not 0 <= share <= LARGEST_SHARE:
            raise OptionError(
                f"the share of {name!r} must be a number from 0 to {LARGEST_SHARE}, not {share}"
            )


def mix_name(shares: Mapping[str, float]) -> str:
    """Return what a mix is called, as "happy-0.6-surprised-0.4"; the same in any order."""
    return "-".join(
        f"{name}-{repr(float(share)).removesuffix('.0')}" for name, share in sorted(shares.items())
    )


def load(path: str | Path) -> Model:
    """Read a model.

    Raises
    ------
    ModelError
        If the file is damaged, newer than this program, or something else.
    """
    arrays, meta = read_npz(Path(path), kind="model", newest=FORMAT)
    try:
        return _from_arrays(arrays, meta)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a model file, or a damaged one: {error}") from error
    except MlrError as error:
        raise ModelError(f"{path}: {error}") from error


def new_meta(**details: Any) -> dict[str, Any]:
    """Return the metadata of a model made now by this program."""
    return {"version": __version__, "eyes": EYES, **details}


def _from_arrays(arrays: Mapping[str, Pixels], meta: dict[str, Any]) -> Model:
    weights, taps = arrays["weights"], arrays["taps"]
    expressions = tuple(str(name) for name in meta.pop("expressions"))
    if weights.dtype != np.float32 or weights.ndim != 5:
        raise ModelError(
            f"weights are {weights.dtype} of shape {weights.shape}, expected float32, 5-d"
        )
    if taps.dtype != np.int16 or taps.ndim != 2 or taps.shape[1] != 3 or taps[:, 0].any():
        raise ModelError(f"taps are {taps.dtype} of shape {taps.shape}, expected int16 (taps, 3)")
    if weights.shape[0] != len(expressions) or weights.shape[2] != len(taps) + 1:
        raise ModelError(
            f"weights of shape {weights.shape} do not fit "
            f"{len(expressions)} expressions and {len(taps)} taps"
        )
    if weights.shape[1] not in (1, 3):
        raise ModelError(f"weights are for {weights.shape[1]} channels, expected 1 or 3")
    if not math.isfinite(float(np.abs(weights).max())):
        raise ModelError("some weights are not finite numbers; train the model anew")
    if len(set(expressions)) != len(expressions):
        raise ModelError("the same expression is in it twice")
    for name in expressions:
        if not is_folder_name(name):  # which is what it becomes
            raise ModelError(f"expression {name!r} cannot be the name of a folder")
    for key, kind in _META_TYPES.items():
        if not isinstance(meta.get(key, kind()), kind):
            raise ModelError(f"its {key} is {meta[key]!r}, expected a {kind.__name__}")
    field = ReceptiveField.of([(int(dy), int(dx)) for _, dy, dx in taps])
    details = {key: value for key, value in meta.items() if key not in ("kind", "format")}
    return Model(weights, field, expressions, details)


def _white(dtype: np.dtype[Any]) -> float:
    """Return the intensity of white."""
    if dtype.kind == "f":
        return 1.0
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    raise ModelError(f"expected uint8, uint16 or floating-point images, got {dtype}")
