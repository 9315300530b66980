"""The model: weights of every pixel's receptive field, and what they do to an image."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlr._version import __version__
from mlr.core.alignment import EYES
from mlr.core.apply import Applier
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import MlrError, ModelError, OptionError
from mlr.io.files import is_folder_name, replacing
from mlr.io.npz import read_npz, write_npz

if TYPE_CHECKING:  # to apply a model of the recipe paper takes no compiler
    from mlr.core.registration.synthesis import Change, Registered

FORMAT = 3  # 2 has no templates, and had a displacement; 1 had zeros beyond the frame
WITHOUT_TEMPLATES = 2
MOST_STYLE = 5.0  # deviations; teeth are out of all range long before
#: Luma of sRGB, ITU-R BT.601: how grey is made of colour.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

#: What is relied on in a model's metadata, and its type.
_META_TYPES = {"source": str, "recipe": str, "digest": str, "pairs": dict}

LARGEST_SHARE = 1000  # no face is left long before; float32 is still far from its limits
CHUNK_BYTES = 4 << 20  # images treated together, as float32: they stay in the cache

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Without templates the output is, for the input x,

        f(x)(p) = sum_k w_k(p) x(p + o_k) + w_bias(p)

    With them x is moved into the frame of the expression first, and what changes there is moved
    back, see `mlr.core.registration.synthesis`.

    Attributes
    ----------
    weights : ndarray of float32, shape (expressions, channels or 1, taps + 1, height, width)
        For intensities in [0, 1]; the bias is last. Where ``channels`` is given, all channels share
        one set of weights.
    receptive_field : ReceptiveField
        The taps o_k.
    expressions : tuple of str
        Names of the target expressions.
    meta : dict
        How it was made: source, recipe, penalty, prior, pairs, eyes, digest, version.
    registered : Registered, optional
        Templates, and what was learnt in the frames.
    edge : bool
        Pixels outside the frame repeat the nearest one inside, rather than counting as 0.
    channels : int, optional
        Of the images that weights shared by all channels were learnt from.
    sha256 : str
        SHA-256 of the file that it was read from, in hexadecimal digits; empty if there is none.
    """

    weights: npt.NDArray[np.float32]
    receptive_field: ReceptiveField
    expressions: tuple[str, ...]
    meta: dict[str, Any]
    registered: Registered | None = None
    edge: bool = False
    channels: int | None = None
    sha256: str = ""

    def __repr__(self) -> str:
        said = self.summary()
        return (
            f"Model({', '.join(self.expressions)}: {said['size']}, channels {said['channels']}, "
            f"receptive field {said['receptive_field']}, "
            f"{'registered, ' if self.registered is not None else ''}"
            f"{said['parameters']:,} parameters)"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that it works on."""
        _, channels, _, height, width = self.weights.shape
        return self.channels or channels, height, width

    @property
    def parameters(self) -> int:
        """Number of coefficients that an output depends on; taps off the frame do not count."""
        expressions, channels, _, height, width = self.weights.shape
        inside = sum(
            height * width if self.edge else max(0, height - abs(dy)) * max(0, width - abs(dx))
            for dy, dx in self.receptive_field.offsets
        )
        framed = 0
        if self.registered is not None:
            framed = sum(
                look.mean.size + look.spread.size + look.motion.size + look.shape.size
                for look in self.registered.looks.values()
            )
        return int(expressions * channels * (inside + height * width) + framed)

    def synthesize(
        self,
        images: Pixels,
        target: str | Mapping[str, float] | None = None,
        strength: float = 1.0,
        style: float | Mapping[str, float] | None = None,
    ) -> Pixels:
        """Change the expression of aligned faces.

        Without templates this is x + strength (f(x) - x), where f(x)(p) = sum_k w_k(p) x(p + o_k) +
        w_bias(p), or x + strength sum_e share_e (f_e(x) - x) for a mix of expressions. With them
        strength scales both the motion and the change of the face.

        Parameters
        ----------
        images : ndarray, shape ([N,] height, width[, 1 or 3])
            uint8, uint16 or floating point in [0, 1]. Colour goes through a grey model by its
            luma, grey through a colour model as colour; both come back as they were.
        target : str or mapping of str to float, optional
            The expression, or the share of each expression in the change: not negative, at most
            `LARGEST_SHARE`, and their sum need not be 1. Needed if the model has several.
        strength : float
            0 gives the input, 1 the model's output, up to 2 exaggerates.
        style : float or mapping of str to float, optional
            Standard deviations along the main variation of the training subjects' expression, for
            all or for each expression; 0 is their mean. By default what training chose, led along
            by the strength.

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
            If the strength, the style or the shares of a mix make no sense.
        """
        check_strength(strength)
        return self.changer(images, target, style)(strength)

    def changer(
        self,
        images: Pixels,
        target: str | Mapping[str, float] | None = None,
        style: float | Mapping[str, float] | None = None,
    ) -> Callable[[float], Pixels]:
        """Return what `synthesize` returns, as a function of the strength; faster for several.

        Parameters
        ----------
        images, target, style
            As for `synthesize`, and with the same errors.
        """
        shares = self._shares(target)
        names = self.shares_of(target)
        styles = self.styles_of(style, names)
        images = np.asarray(images)
        batch = self._as_batch(images)
        white = np.float32(_white(images.dtype))
        whole = images.dtype.kind != "f"
        together = max(1, CHUNK_BYTES // (4 * math.prod(batch.shape[1:])))
        faces: list[Changing] | None = None
        if self.registered is not None:
            planes = np.divide(batch.transpose(0, 3, 1, 2), white, dtype=np.float32, order="C")
            faces = [self.face(image, names, styles) for image in planes]

        def change(strength: float) -> Pixels:
            if faces is not None and strength == 0:
                return images.copy() if whole else images.astype(np.float32)
            result = np.empty(batch.shape, images.dtype if whole else np.float32)
            for first in range(0, len(batch), together):
                part = slice(first, first + together)
                if faces is None:
                    planes = batch[part].transpose(0, 3, 1, 2)
                    source = np.divide(planes, white, dtype=np.float32, order="C")
                    output = self._changed(source, shares, strength)
                else:
                    output = np.stack([face.output(strength) for face in faces[part]])
                if whole:
                    np.clip(output, 0, 1, out=output)
                    np.rint(np.multiply(output, white, out=output), out=output)
                for c in range(batch.shape[3]):  # all at once takes thrice as long
                    result[part, ..., c] = output[:, c]
            return result.reshape(images.shape)

        return change

    def face(
        self,
        image: npt.NDArray[np.float32],
        shares: Mapping[str, float],
        styles: Mapping[str, float | None],
    ) -> Changing:
        """Return a face registered to the templates, ready to be changed.

        Parameters
        ----------
        image : ndarray of float32, shape (channels, height, width)
            In [0, 1].
        shares, styles : mapping of str to float
            Of each expression; the default style where it is None.
        """
        assert self.registered is not None
        return Changing(self, self.registered, image, shares, styles)

    def ridge(self, name: str, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return an expression's regression of one image (channels, height, width)."""
        output: npt.NDArray[np.float32] = self._output(image[None], self.require(name))[0]
        return output

    def summary(self) -> dict[str, Any]:
        """Return what the model is and how it was made, ready for JSON."""
        looks = None if self.registered is None else self.registered.looks
        channels, height, width = self.shape
        return {
            "kind": "model",
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.receptive_field),
            "parameters": self.parameters,
            **self.meta,
            **({} if looks is None else {"styles": {e: looks[e].summary() for e in looks}}),
            **({"sha256": self.sha256} if self.sha256 else {}),
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
        meta = self.meta | {
            "kind": "model",
            "format": WITHOUT_TEMPLATES if self.registered is None else FORMAT,
            "expressions": self.expressions,
            "edge": self.edge,
            "channels": self.channels,
        }
        arrays: dict[str, Pixels] = {
            "weights": self.weights,
            "taps": np.array(
                [(0, dy, dx) for dy, dx in self.receptive_field.offsets], dtype=np.int16
            ),
        }
        if self.registered is not None:
            from mlr.core.registration.store import registered_to_arrays

            own, meta["registered"] = registered_to_arrays(self.registered)
            arrays |= own
        arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
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

    def shares_of(self, target: str | Mapping[str, float] | None) -> dict[str, float]:
        """Return the share of each expression wanted, those of 0 left out.

        Raises
        ------
        ModelError
            If the model was not trained for one, or has several and none is named.
        OptionError
            If a share makes no sense.
        """
        return {self.expressions[index]: share for index, share in self._shares(target).items()}

    def styles_of(
        self, style: float | Mapping[str, float] | None, names: Iterable[str]
    ) -> dict[str, float | None]:
        """Return the style of each expression, None for the default.

        Raises
        ------
        ModelError
            If the model was not trained for one.
        OptionError
            If it has no styles, or one makes no sense.
        """
        if style is None:
            return dict.fromkeys(names)
        looks = self.registered.looks if self.registered is not None else {}
        if not any(look.styled for look in looks.values()):
            why = "was trained from fewer than 8 pairs" if looks else "of the recipe paper"
            raise OptionError(f"a model {why} has no style to choose")
        given = style if isinstance(style, Mapping) else dict.fromkeys(names, style)
        for name, value in given.items():
            self.require(name)
            if not -MOST_STYLE <= value <= MOST_STYLE:
                raise OptionError(
                    f"the style must lie between -{MOST_STYLE:g} and {MOST_STYLE:g}, not {value}"
                )
        return {name: given.get(name) for name in names}

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

    def _shares(self, target: str | Mapping[str, float] | None) -> dict[int, float]:
        """Return the share of each expression wanted, by its place in the weights."""
        if isinstance(target, Mapping):
            check_shares(target)
            shares = {self.require(name): float(share) for name, share in target.items()}
            return {index: share for index, share in shares.items() if share}
        if target is None and len(self.expressions) > 1:
            names = ", ".join(self.expressions)
            raise ModelError(f"the model has several expressions, name one of: {names}")
        return {self.require(self.expressions[0] if target is None else target): 1.0}

    def _changed(
        self, images: npt.NDArray[np.float32], shares: Mapping[int, float], strength: float
    ) -> npt.NDArray[np.float32]:
        """Return planar images with the expression changed, in the channels they came in."""
        model_channels, channels = self.weights.shape[1], images.shape[1]
        if self.channels is not None or model_channels == channels:
            source = images
        elif model_channels == 1:
            source = _luma(images)
        else:
            source = np.repeat(images, model_channels, axis=1)
        if source.shape[1] == channels and strength == 1 and list(shares.values()) == [1.0]:
            return self._output(source, *shares)
        change = np.zeros_like(source)
        for index, share in shares.items():
            change += np.float32(strength * share) * (self._output(source, index) - source)
        if channels < source.shape[1]:
            change = _luma(change)
        # The change of luma of a colour image through a grey model is that of all its channels.
        return images + change

    @cached_property
    def _appliers(self) -> list[Applier]:
        return [Applier(w, self.receptive_field, edge=self.edge) for w in self.weights]

    def _output(self, images: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float32]:
        """Return f(x) of one expression for planar images."""
        return self._appliers[index](images)


class Changing:
    """A registered face on its way to a mix of expressions.

    Parameters
    ----------
    model : Model
        With templates.
    registered : Registered
        Its templates.
    image : ndarray of float32, shape (channels, height, width)
        In [0, 1].
    shares, styles : mapping of str to float
        Of each expression; the default style where it is None.
    """

    def __init__(
        self,
        model: Model,
        registered: Registered,
        image: npt.NDArray[np.float32],
        shares: Mapping[str, float],
        styles: Mapping[str, float | None],
    ) -> None:
        self._image, self._registered = image, registered
        channels = model.shape[0]
        if len(image) < channels:
            image = np.repeat(image, channels, axis=0)
        elif len(image) > channels:
            image = _luma(image[None])[0]
        self._face = registered.register(np.ascontiguousarray(image))
        self._parts = [
            (registered.part(self._face, name, model.ridge), share, styles.get(name))
            for name, share in shares.items()
        ]

    @property
    def fit(self) -> float:
        """Correlation of the face with the template."""
        return self._face.fit

    def change(self, strength: float) -> Change:
        """Return motion and change for a strength, in the channels that the image came in."""
        found = self._registered.change(self._face, self._parts, strength)
        if len(self._image) < len(found.added):
            return replace(found, added=_luma(found.added[None])[0])
        return found  # the change of luma is that of all channels

    def output(self, strength: float) -> npt.NDArray[np.float32]:
        """Return the changed image, (channels, height, width)."""
        return self.change(strength).applied(self._image)


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
        with Path(path).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return replace(_from_arrays(arrays, meta), sha256=sha256)
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
    edge, channels = bool(meta.pop("edge", False)), meta.pop("channels", None)
    if channels is not None and (channels not in (1, 3) or weights.shape[1] != 1):
        raise ModelError(f"weights of shape {weights.shape} do not serve {channels!r} channels")
    registered = None
    if (noted := meta.pop("registered", None)) is not None:
        from mlr.core.registration.store import registered_from_arrays

        registered = registered_from_arrays(arrays, noted, weights.shape[3:], channels)
        if set(registered.looks) != set(expressions):
            raise ModelError("its templates and its expressions disagree")
    details = {key: value for key, value in meta.items() if key not in ("kind", "format")}
    return Model(weights, field, expressions, details, registered, edge, channels)


def _luma(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return planar colour images (N, 3, height, width) as grey ones, (N, 1, height, width)."""
    red, green, blue = (LUMA[c] * images[:, c : c + 1] for c in range(3))
    return red + green + blue  # a matrix product may add in another order for another N


def _white(dtype: np.dtype[Any]) -> float:
    """Return the intensity of white."""
    if dtype.kind == "f":
        return 1.0
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    raise ModelError(f"expected uint8, uint16 or floating-point images, got {dtype}")
