"""The model, and changing images with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlr._version import __version__
from mlr.core.alignment import EYES, Eyes
from mlr.core.receptive_field import ReceptiveField
from mlr.core.registration.geometry import REGIONS, Geometry
from mlr.core.registration.search import Fit
from mlr.core.registration.synthesis import Appearance, Change, Registered
from mlr.errors import ModelError, OptionError, did_you_mean
from mlr.kernels.apply import apply

if TYPE_CHECKING:
    from mlr.core.exposure import Exposure

MOST_STYLE = 5.0  # standard deviations; teeth are overexposed well before
LARGEST_SHARE = 1000  # of an expression in a mix; float32 does not overflow yet
CHUNK_BYTES = 4 << 20  # images processed at once, as float32: they stay in the cache

#: Luma of sRGB, ITU-R BT.601: how colour becomes grey.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model. Fields that do not apply to its recipe are None."""

    source: str | None = None  #: name of the source expression
    recipe: str | None = None  #: "best", "paper", or "custom": "paper" with other options
    penalty: float | None = None  #: ridge penalty of a tap, for intensities in [0, 1]
    prior: str | None = None  #: of the weights: "input" (a copy of it) or "zero"
    blur: float | None = None  #: standard deviation of the blur of the statistics, in pixels
    pairs: Mapping[str, int] = field(default_factory=dict)  #: training pairs of each expression
    digest: str | None = None  #: of the training pairs, hexadecimal
    templates: str | None = None  #: digest of the templates, hexadecimal
    exposure: Exposure | None = None  #: of the source images
    eyes: Eyes = EYES  #: centres, left and right as seen, (x, y) as fractions of the sides
    version: str = __version__  #: of this program
    data: str | None = None  #: title and authors of the training data
    licence: str | None = None  #: of the model

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set by name, in alphabetical order, ready for JSON."""
        fields = sorted(asdict(self).items())
        return {name: value for name, value in fields if value not in (None, {})}


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Without registration the output is, for the input x,

        f(x)(p) = sum_k w_k(p) x(p + o_k) + w_bias(p)

    With registration x is first warped into the frame of the expression, and the change there is
    warped back, see `mlr.core.registration.synthesis`.
    """

    #: float32, (expressions, channels or 1, taps + 1, height, width), for intensities in [0, 1];
    #: the bias is last. With 1, all channels share the weights.
    weights: Floats
    receptive_field: ReceptiveField  #: the taps o_k
    expressions: tuple[str, ...]  #: names of the target expressions
    info: ModelInfo = ModelInfo()  #: how it was trained
    registered: Registered | None = None  #: template of the sources, appearances of the expressions
    edge: bool = False  #: pixels outside the image repeat the nearest one, rather than being 0
    channels: int | None = None  #: of the training images, if these share their weights
    sha256: str = ""  #: of the file that it was read from, hexadecimal; empty if there is none

    def __repr__(self) -> str:
        summary = self.summary()
        return (
            f"Model({', '.join(self.expressions)}: {summary['size']}, "
            f"channels {summary['channels']}, receptive field {self.receptive_field}, "
            f"{'registered, ' if self.registered is not None else ''}"
            f"{summary['parameters']:,} parameters)"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of its images."""
        _, channels, _, height, width = self.weights.shape
        return self.channels or channels, height, width

    @property
    def appearances(self) -> Mapping[str, Appearance]:
        """The appearance of each expression; empty without registration."""
        return {} if self.registered is None else self.registered.appearances

    @property
    def parameters(self) -> int:
        """Number of coefficients that an output depends on, without taps outside the image."""
        expressions, channels, _, height, width = self.weights.shape
        inside = sum(
            height * width if self.edge else max(0, height - abs(dy)) * max(0, width - abs(dx))
            for dy, dx in self.receptive_field.offsets
        )
        framed = sum(
            each.mean.size + each.spread.size + each.motion.size + each.shape.size
            for each in self.appearances.values()
        )
        return int(expressions * channels * (inside + height * width) + framed)

    def synthesize(
        self,
        images: Pixels,
        target: str | Mapping[str, float] | None = None,
        strength: float = 1.0,
        style: float | Mapping[str, float] | None = None,
        region: str | Sequence[str] = (),
    ) -> Pixels:
        """Change the expression of aligned faces.

        Without registration the output is x + strength (f(x) - x), or for a mix of expressions
        x + strength sum_e share_e (f_e(x) - x). With registration the strength scales both the
        motion and the change of the face. An image without a face like the training set's is
        returned unchanged; see `Changer.fits`.

        Parameters
        ----------
        images : ndarray, shape ([N,] height, width[, 1 or 3])
            uint8, uint16, or floating point in [0, 1]. The channels may differ from the model's:
            colour goes through a grey model by its luma, grey through a colour model as colour.
        target : str or mapping of str to float, optional
            The expression, or the share of each expression in a mix: from 0 to `LARGEST_SHARE`;
            the sum need not be 1. May be omitted if the model has one expression.
        strength : float
            0 gives the input, 1 the model's output, up to 2 exaggerates.
        style : float or mapping of str to float, optional
            Standard deviations along the main variation of the training subjects' expression, for
            all expressions or for each, from -`MOST_STYLE` to `MOST_STYLE`; 0 is their mean. By
            default training chooses it, and it depends on the strength.
        region : str or sequence of str
            The parts of the face to change: "mouth", "eyes", "brows", "lower", "upper"; by default
            all of it.

        Returns
        -------
        ndarray of the same shape
            Integers: rounded, clipped, of the same dtype. Floating point: float32, not clipped.

        Raises
        ------
        ModelError
            If size, channels or dtype do not fit, or the model does not have the expression.
        OptionError
            If strength, style or shares are out of range, or a region is unknown.
        """
        check_strength(strength)
        return self.changer(images, target, style, region)(strength)

    def changer(
        self,
        images: Pixels,
        target: str | Mapping[str, float] | None = None,
        style: float | Mapping[str, float] | None = None,
        region: str | Sequence[str] = (),
    ) -> Changer:
        """Return `synthesize` as a function of the strength, which is faster for several."""
        wanted = self.change_of(target, style, region)
        images = np.asarray(images)
        batch = self._as_batch(images)
        data_range = np.float32(_data_range(images.dtype))
        integer = images.dtype.kind != "f"
        dtype = images.dtype if integer else np.dtype(np.float32)
        chunk = max(1, CHUNK_BYTES // (4 * math.prod(batch.shape[1:])))
        faces: list[FaceChange] = []
        if self.registered is not None:
            faces = [self.face_change(image, wanted) for image in _planes(batch, data_range)]

        def change(strength: float) -> Pixels:
            if faces and strength == 0:
                return images.astype(dtype)
            result = np.empty(batch.shape, dtype)
            for first in range(0, len(batch), chunk):
                part = slice(first, first + chunk)
                if self.registered is None:
                    output = self._changed(_planes(batch[part], data_range), wanted, strength)
                else:
                    output = np.stack([face(strength).applied(face.image) for face in faces[part]])
                if integer:
                    np.clip(output, 0, 1, out=output)
                    np.rint(np.multiply(output, data_range, out=output), out=output)
                for c in range(batch.shape[3]):  # all at once takes three times as long
                    result[part, ..., c] = output[:, c]
            return result.reshape(images.shape)

        return Changer(change, [face.fit for face in faces])

    def change_of(
        self,
        target: str | Mapping[str, float] | None,
        style: float | Mapping[str, float] | None = None,
        region: str | Sequence[str] = (),
    ) -> WantedChange:
        """Check the options of `synthesize` and return them."""
        regions = (region,) if isinstance(region, str) else tuple(region)
        for name in regions:
            if name not in REGIONS:
                raise OptionError(f"unknown region {name!r}; use {', '.join(REGIONS)}")
        shares = self.shares_of(target)
        return WantedChange(shares, self.styles_of(style, shares), regions)

    def face_change(
        self, image: Floats, wanted: WantedChange, last: Fit | None = None
    ) -> FaceChange:
        """Register a face (1 or 3, height, width) in [0, 1]; return its change by the strength.

        ``last`` is the fit of the same face in the video frame before.
        """
        registered = self.registered
        assert registered is not None
        own = _with_channels(image[None], self.shape[0])[0]
        face = registered.register(np.ascontiguousarray(own), last)

        def ridge(expression: str, framed: Floats) -> Floats:
            return self._output(expression, framed[None])[0]

        parts = [
            registered.part(face, name, ridge, share, wanted.styles[name], wanted.regions)
            for name, share in wanted.shares.items()
        ]

        def change(strength: float) -> Change:
            change = registered.change(face, parts, strength)
            if len(image) < len(change.added):
                return replace(change, added=_luma(change.added[None])[0])
            return change  # the luma's change is added to all channels

        return FaceChange(image, face.fit, change)

    def photograph(self, image: Any, *options: Any, **keywords: Any) -> Pixels:
        """Return a photograph, a path or an array, with changed faces: see `mlr.photograph`."""
        import mlr

        return mlr.photograph(self, image, *options, **keywords)

    def animation(self, image: Any, *options: Any, **keywords: Any) -> Pixels:
        """Return an animation of a photograph, to an expression and back: see `mlr.animation`."""
        import mlr

        return mlr.animation(self, image, *options, **keywords)

    def _repr_png_(self) -> bytes | None:
        """Return the mean face and its expressions, for notebooks."""
        import mlr

        return mlr.preview(self)

    def summary(self) -> dict[str, Any]:
        """Return a description of the model, ready for JSON."""
        channels, height, width = self.shape
        summary: dict[str, Any] = {
            "kind": "model",
            "expressions": list(self.expressions),
            "size": f"{width}x{height}",
            "channels": channels,
            "receptive_field": str(self.receptive_field),
            "parameters": self.parameters,
            **self.info.to_json(),
        }
        if self.registered is not None:
            summary["styles"] = {name: each.summary() for name, each in self.appearances.items()}
        if self.sha256:
            summary["sha256"] = self.sha256
        return summary

    def require(self, expression: str) -> int:
        """Return the index of an expression in the weights, or raise a `ModelError`."""
        if expression not in self.expressions:
            hint, names = did_you_mean(expression, self.expressions), ", ".join(self.expressions)
            raise ModelError(f"the model has no expression {expression!r}; it has: {names}{hint}")
        return self.expressions.index(expression)

    def shares_of(self, target: str | Mapping[str, float] | None) -> dict[str, float]:
        """Return the share of each expression of a target, without zeros.

        Raises a `ModelError` if the model does not have an expression, or has several and none is
        named, and an `OptionError` if a share is out of range.
        """
        if isinstance(target, Mapping):
            check_shares(target)
        elif target is None and len(self.expressions) > 1:
            names = ", ".join(self.expressions)
            raise ModelError(f"the model has several expressions, name one of: {names}")
        else:
            target = {self.expressions[0] if target is None else target: 1.0}
        for name in target:
            self.require(name)
        return {name: float(share) for name, share in target.items() if share}

    def styles_of(
        self, style: float | Mapping[str, float] | None, expressions: Iterable[str]
    ) -> dict[str, float | None]:
        """Return the style of each expression, None for the default.

        Raises a `ModelError` if the model does not have an expression that a style is given for,
        and an `OptionError` if it has no styles or one is out of range.
        """
        if style is None:
            return dict.fromkeys(expressions)
        if not any(each.styled for each in self.appearances.values()):
            registered = self.registered is not None
            reason = "trained from fewer than 8 pairs" if registered else "of the recipe paper"
            raise OptionError(f"a model {reason} has no style to choose")
        styles = style if isinstance(style, Mapping) else dict.fromkeys(expressions, style)
        for name, value in styles.items():
            self.require(name)
            if not -MOST_STYLE <= value <= MOST_STYLE:
                raise OptionError(
                    f"the style must lie between -{MOST_STYLE:g} and {MOST_STYLE:g}, not {value}"
                )
        return {name: styles.get(name) for name in expressions}

    def _as_batch(self, images: Pixels) -> Pixels:
        """Check images and return them as (N, height, width, channels)."""
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

    def _changed(self, images: Floats, wanted: WantedChange, strength: float) -> Floats:
        """Return planar images with the expression changed, and the same channels."""
        source, shares = images, wanted.shares
        if self.channels is None:
            source = _with_channels(images, self.weights.shape[1])
        simple = source.shape == images.shape and not wanted.regions
        if simple and strength == 1 and list(shares.values()) == [1.0]:
            (name,) = shares
            return self._output(name, source)
        change = np.zeros_like(source)
        for name, share in shares.items():
            change += np.float32(strength * share) * (self._output(name, source) - source)
        if wanted.regions:
            size = self.shape[1:]
            change *= Geometry(size, self.info.eyes).regions(wanted.regions, *size)
        if change.shape[1] > images.shape[1]:
            change = _luma(change)
        return images + change  # the luma's change is added to all channels

    def _output(self, expression: str, images: Floats) -> Floats:
        """Return f(x) for planar images (N, channels, height, width)."""
        weights = self.weights[self.require(expression)]
        return apply(weights, self.receptive_field.offsets, images, edge=self.edge)


@dataclass(frozen=True)
class WantedChange:
    """The checked options of `Model.synthesize`, except the strength."""

    shares: Mapping[str, float]  #: of each expression
    styles: Mapping[str, float | None]  #: of each expression, None for the default
    regions: tuple[str, ...] = ()  #: parts of the face to change; none means all


@dataclass(frozen=True, eq=False)
class FaceChange:
    """A registered face, and its change as a function of the strength."""

    image: Floats  #: float32, (1 or 3, height, width), in [0, 1]
    fit: Fit  #: how it fits the faces learnt from
    _change: Callable[[float], Change]

    def __call__(self, strength: float) -> Change:
        """Return the change for a strength, in the channels of the image."""
        return self._change(strength)


@dataclass(frozen=True, eq=False)
class Changer:
    """Images that are changed with any strength."""

    _change: Callable[[float], Pixels]
    fits: Sequence[Fit] = ()  #: of the face in each image; empty without registration

    def __call__(self, strength: float) -> Pixels:
        """Return the changed images for a strength."""
        return self._change(strength)


def check_strength(strength: float) -> None:
    """Raise an `OptionError` unless the strength of a change is a number from 0 to 2."""
    if not 0 <= strength <= 2:
        raise OptionError(f"the strength must lie between 0 and 2, not {strength}")


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise an `OptionError` unless there are shares, all from 0 to `LARGEST_SHARE`."""
    if not shares:
        raise OptionError("a mix needs the share of at least one expression")
    for name, share in shares.items():
        if not 0 <= share <= LARGEST_SHARE:
            raise OptionError(
                f"the share of {name!r} must be a number from 0 to {LARGEST_SHARE}, not {share}"
            )


def mix_name(shares: Mapping[str, float]) -> str:
    """Return the name of a mix, as "happy-0.6-surprised-0.4"; the same in any order."""
    return "-".join(
        f"{name}-{repr(float(share)).removesuffix('.0')}" for name, share in sorted(shares.items())
    )


def _planes(batch: Pixels, data_range: np.float32) -> Floats:
    """Return images (N, height, width, channels) as planar ones in [0, 1]."""
    return np.divide(batch.transpose(0, 3, 1, 2), data_range, dtype=np.float32, order="C")


def _with_channels(images: Floats, channels: int) -> Floats:
    """Return planar images with 1 channel (the luma) or 3."""
    if images.shape[1] < channels:
        return np.repeat(images, channels, axis=1)
    return _luma(images) if images.shape[1] > channels else images


def _luma(images: Floats) -> Floats:
    """Return the luma of planar colour images, (N, 1, height, width)."""
    red, green, blue = (LUMA[c] * images[:, c : c + 1] for c in range(3))
    return red + green + blue  # a matrix product may add in another order for another N


def _data_range(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return 1.0
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    raise ModelError(f"expected uint8, uint16 or floating-point images, got {dtype}")
