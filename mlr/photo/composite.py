"""Compositing changed faces into photographs of any size.

A face is aligned to the model's size, and registered. Motion and change of the crop are then
resampled to the size and angle of the face in the photograph, whose own pixels are moved:

    output(q) = (1 - lost(q)) photo(q + motion(q)) + lost(q) crop(q + motion(q)) + added(q)

so that the photograph keeps its detail, and pixels outside the crop keep their values. Where much
is added, such as teeth, detail finer than the crop's is removed, or it would shine through.

With the recipe paper, exposure matching adapts brightness and contrast of each channel to the
training images by a gain and an offset; the change is divided by the gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlr.core.alignment import BORDER, face_share
from mlr.core.alignment import Eyes as EyePositions
from mlr.core.exposure import Exposure
from mlr.core.model import LUMA, Changer, Model, WantedChange, check_strength
from mlr.core.registration import fields
from mlr.core.registration.search import Fit
from mlr.io.images import Pixels
from mlr.kernels.fields import PLANES, enlarge_similar, move_and_add
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import Box, Similarity, warp
from mlr.photo.track import TrackedFace

Floats = npt.NDArray[np.float32]
Target = str | Mapping[str, float] | None
Style = float | Mapping[str, float] | None

FADE = 0.08  # share of the sides over which a change fades out towards the border of a crop
LITTLE, MUCH = 0.05, 0.15  # of the data range: additions that keep all detail or none
LOST, MOTION = 3, [4, 5]  # planes of a change, after the added channels
TILE = 512  # side of the parts of a photograph that are changed at once, in pixels
SPLINE_REACH = 8  # pixels; more distant ones weigh less than 1/40,000 in an interpolation
EYE = 2  # pixels of the field around an eye that are averaged to locate it
ROUGH = 0.02  # of the crop's side: deviation from registration at which eyes are corrected


def change_faces(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    strength: float = 1.0,
    style: Style = None,
    region: str | Sequence[str] = (),
) -> Pixels:
    """Change the expression of faces in a photograph, and nothing else in it.

    Pixels are uint8 or uint16, of shape (height, width, 1 or 3); the result is rounded, clipped,
    and equal to the photograph where nothing changes. Options and errors are as for
    `Model.synthesize`; eyes outside the photograph raise an ImageError.
    """
    return changer(model, pixels, faces, target, style, region)(strength)


def changer(
    model: Model,
    pixels: Pixels,
    faces: Iterable[Eyes],
    target: Target = None,
    style: Style = None,
    region: str | Sequence[str] = (),
) -> Changer:
    """Return `change_faces` as a function of the strength, which is faster for several."""
    wanted = model.change_of(target, style, region)
    prepared = [PhotoFace(model, pixels, eyes, wanted) for eyes in faces]

    def change(strength: float) -> Pixels:
        check_strength(strength)
        result = pixels.copy()
        if strength:
            for face in prepared:
                face.composite(result, strength)
        return result

    return Changer(change, [face.fit for face in prepared if face.fit is not None])


class FrameChanger:
    """Changes the faces in the video frames of a clip, one after the other."""

    def __init__(self, model: Model, wanted: WantedChange, strength: float = 1.0) -> None:
        self._model, self._wanted, self._strength = model, wanted, strength
        self._last: dict[int, PhotoFace] = {}  # by the number of the track
        self.best: dict[int, Fit] = {}  # of each track

    def __call__(self, frame: tuple[Pixels, Sequence[TrackedFace]]) -> Pixels:
        """Return the changed video frame; faces change by their fades, one on top of another."""
        pixels, faces = frame
        result = pixels.copy() if faces else pixels
        found: dict[int, PhotoFace] = {}
        for face in faces:
            last = self._last.get(face.track)
            found[face.track] = new = PhotoFace(self._model, pixels, face.eyes, self._wanted, last)
            new.composite(result, self._strength * face.fade)
            known = self.best.get(face.track)
            if new.fit is not None and (known is None or new.fit.value > known.value):
                self.best[face.track] = new.fit
        self._last = found
        return result


class PhotoFace:
    """A face of a photograph, ready to be changed with any strength.

    Rough eye positions are corrected by registration. In a clip the face is followed from the last
    video frame, and its correction is kept.
    """

    def __init__(
        self,
        model: Model,
        pixels: Pixels,
        eyes: Eyes,
        wanted: WantedChange,
        last: PhotoFace | None = None,
    ) -> None:
        eyes.check_within(*pixels.shape[:2])
        self._model, self._pixels, self._wanted = model, pixels, wanted
        self._data_range = np.float32(np.iinfo(pixels.dtype).max)
        # Positions of the eyes in a crop.
        self._eyes: EyePositions = model.info.eyes if last is None else last._eyes
        self._prepare(eyes, last)
        if last is None and self.fit is not None and not self.fit.unlike:
            found = eyes_found(model, self.fit)
            if np.abs(np.subtract(found, self._eyes)).max() > ROUGH:
                self._eyes = found
                self._prepare(eyes, None)

    def _prepare(self, eyes: Eyes, last: PhotoFace | None) -> None:
        """Align the face, match its exposure, and register it."""
        model = self._model
        channels, height, width = model.shape
        to_crop = eyes.to_crop(height, width, model.info.eyes)
        left, right = (complex(x * width, y * height) for x, y in self._eyes)
        corrected = Eyes(left, right)
        self._to_crop = corrected.to_crop(height, width, model.info.eyes) @ to_crop
        crop = np.clip(warp(self._pixels, self._to_crop, height, width) / self._data_range, 0, 1)
        self._grey_in_colour = crop.shape[2] < channels
        face = crop.repeat(channels, axis=2) if self._grey_in_colour else crop
        gain, offset = exposure_match(model, face)
        self._crop = np.ascontiguousarray(crop.transpose(2, 0, 1))
        self._gain = gain[:, None, None]
        self._matched = gain * face + offset
        self._face = None
        if model.registered is not None:
            planes = np.ascontiguousarray(self._matched.transpose(2, 0, 1))
            self._face = model.face_change(planes, self._wanted, None if last is None else last.fit)

    @property
    def fit(self) -> Fit | None:
        """The fit of the registered face; None without registration."""
        return None if self._face is None else self._face.fit

    def composite(self, result: Pixels, strength: float) -> None:
        """Change the face in the photograph, in place."""
        planes = self._change(strength)
        outline = self._to_crop.inverse.bounds(*planes.shape[:2])
        for tile in _tiles(outline, *result.shape[:2]):
            part = result[tile.slices]
            change = changed_part(self._pixels, planes, self._to_crop, tile)
            if change is not None:
                changed = part + np.rint(change * self._data_range)
                result[tile.slices] = np.clip(changed, 0, self._data_range).astype(result.dtype)

    def _change(self, strength: float) -> Floats:
        """Return the planes for `changed_part`, in pixels of the crop: (height, width, PLANES)."""
        channels, height, width = self._crop.shape
        planes = np.zeros((PLANES, height, width), np.float32)
        if self._face is None:
            shares, regions = dict(self._wanted.shares), self._wanted.regions
            output = self._model.synthesize(self._matched, shares, strength, region=regions)
            output = face_share(height, width)[..., None] * (output - self._matched)
            added = output.transpose(2, 0, 1) / self._gain
        else:
            # Fading the field rather than the output avoids a double image.
            change = self._face(strength).faded(_border_fade(height, width))
            planes[MOTION], added = change.motion, change.added / self._gain
            if self._to_crop.scale < 1:  # otherwise the crop has all detail
                planes[LOST] = _lost_detail(added)
        if self._grey_in_colour:
            added = np.tensordot(LUMA, added, 1)[None]
        if planes[LOST].any():
            added = added + planes[LOST] * fields.warp(self._crop, planes[MOTION])
        planes[:channels] = added
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


def changed_part(pixels: Pixels, planes: Floats, to_crop: Similarity, tile: Box) -> Floats | None:
    """Return the change of a tile of a photograph, in [-1, 1]; None if it does not change.

    The change (1 - lost) photo(q + motion) - photo(q) + added is float32, (rows, columns,
    channels), and exactly what is added where there is neither motion nor loss. ``pixels`` is the
    photograph, and ``to_crop`` the map from it to the crop. The planes of the crop, (height, width,
    PLANES), are: what is added to each channel, including what replaces lost detail; the share of
    the photograph that is lost (`LOST`); the motion (dy, dx) in pixels of the crop (`MOTION`).
    """
    planes = planes.copy()
    dy, dx = (planes[..., n] for n in MOTION)
    turned = (dx + 1j * dy) / to_crop.factor
    planes[..., MOTION] = np.stack([turned.imag, turned.real], axis=2)
    if to_crop.scale < 1:
        here = to_crop(complex(tile.left + 0.5, tile.top + 0.5)) - complex(0.5, 0.5)
        factor = np.float32(to_crop.factor.real), np.float32(to_crop.factor.imag)
        seen = np.empty((*tile.size, PLANES), np.float32)
        enlarge_similar(planes, factor, np.array([here.imag, here.real], np.float32), seen)
    else:
        seen = np.ascontiguousarray(warp(planes, to_crop.inverse.into(tile), *tile.size))
    if not seen.any():
        return None
    reach = math.ceil(np.abs(seen[..., MOTION]).max()) + SPLINE_REACH
    wide = tile.grown(reach, *pixels.shape[:2])
    unit = np.float32(1 / np.iinfo(pixels.dtype).max)
    around = np.ascontiguousarray((pixels[wide.slices] * unit).transpose(2, 0, 1))
    corner = tile.top - wide.top, tile.left - wide.left
    change = np.empty((pixels.shape[2], *tile.size), np.float32)
    move_and_add(fields.coefficients(around), around, corner, seen, change)
    return change.transpose(1, 2, 0)


def eyes_found(model: Model, fit: Fit) -> EyePositions:
    """Return the eyes of a crop that registration finds, (x, y) as fractions of its sides."""
    height, width = fit.field.shape[1:]

    def found(x: float, y: float) -> tuple[float, float]:
        row, column = round(y * height), round(x * width)
        around = fit.field[:, max(row - EYE, 0) : row + EYE, max(column - EYE, 0) : column + EYE]
        down, across = around.mean(axis=(1, 2)).tolist()
        return x + across / width, y + down / height

    left, right = model.info.eyes
    return found(*left), found(*right)


def exposure_match(model: Model, face: Floats) -> tuple[Floats, Floats]:
    """Return gain and offset of each channel that match a face to the training images.

    The face has the shape (height, width, channels) and values in [0, 1]. Without the exposure of
    the training images in the model, the gain is 1 and the offset 0. The same holds with
    registration, which measures the light in the whites of the eyes: matching made teeth grey in
    faces with dark skin.
    """
    training = model.info.exposure
    if training is None or model.registered is not None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    channels = model.shape[0]
    measured = face if face.shape[2] == channels else (face @ LUMA)[..., None]
    pooled = len(training.brightness) < measured.shape[2]
    return Exposure.of_image(measured, pooled).to(training)


def _border_fade(height: int, width: int) -> Floats:
    """Return the share of the change at each pixel of a crop: 1, fading to 0 at its border."""
    distances = (np.minimum(at, at[::-1]) for at in (np.arange(height), np.arange(width)))
    inward = (np.clip((d - BORDER) / (FADE * len(d)), 0, 1) for d in distances)
    y, x = (t * t * (3 - 2 * t) for t in inward)
    return (y[:, None] * x).astype(np.float32)


def _lost_detail(added: Floats) -> Floats:
    """Return the share of finer detail to lose, given what is added (channels, height, width)."""
    amount = np.abs(added).max(axis=0)
    lost = np.clip((amount - LITTLE) / (MUCH - LITTLE), 0, 1)
    return (lost * lost * (3 - 2 * lost)).astype(np.float32)


def _tiles(outline: Box, height: int, width: int) -> Iterator[Box]:
    """Yield tiles that cover the part of an outline within an image of this size."""
    top, bottom, left, right = outline.grown(0, height, width)
    for y in range(top, bottom, TILE):
        for x in range(left, right, TILE):
            yield Box(y, min(y + TILE, bottom), x, min(x + TILE, right))
