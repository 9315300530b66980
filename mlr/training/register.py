"""Registration of image files: the templates of a training set, and subjects in their frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlr.core.accumulate import Weights, statistics_of_arrays
from mlr.core.layout import Layout
from mlr.core.planes import DATA_RANGE
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import area_averaged
from mlr.core.registration.geometry import feature_size
from mlr.core.registration.groupwise import templates_of
from mlr.core.registration.templates import FramedPair, Templates, eye_white_of, framed
from mlr.core.statistics import Statistics
from mlr.errors import DataError
from mlr.io.files import file_digest
from mlr.io.images import Pixels
from mlr.io.pairs import Subject
from mlr.kernels.parallel import parallel_for
from mlr.training.decode import DecodedSubject, Format, decoded
from mlr.utils.progress import Report, Silent
from mlr.utils.threads import ordered_map

MOST_SUBJECTS = 300  # that templates are made of


@dataclass(frozen=True)
class FramedSubject(DecodedSubject):
    """A subject with one target, both moved into the frame of its expression.

    Attributes
    ----------
    weights : Weights, optional
        Weights of the pair in the statistics.
    """

    weights: Weights | None = None


def into_frames(subject: DecodedSubject, templates: Templates) -> Iterator[FramedSubject]:
    """Yield the pairs of a subject, each in the frame of its expression.

    Raises
    ------
    DataError
        If the templates lack an expression.
    """
    for name, image in sorted(subject.targets.items()):
        source = subject.source.pixels
        dtype = np.result_type(source, image.pixels)
        (pair,) = framed_arrays(source, {name: image.pixels}, templates).values()
        yield FramedSubject(
            subject.name,
            replace(subject.source, pixels=as_pixels(pair.source, dtype)),
            {name: replace(image, pixels=as_pixels(pair.target, dtype))},
            weights_of(pair),
        )


def framed_arrays(
    source: Pixels, targets: Mapping[str, Pixels], templates: Templates
) -> dict[str, FramedPair]:
    """Return the pairs of a source (height, width, channels), in the frames of the targets."""
    before = _unit(source)
    features = features_of(before)
    field = templates.source_field(features)
    eye_white = eye_white_of(templates.geometry, features, field) / templates.eye_white
    pairs = {}
    for name, image in sorted(targets.items()):
        if name not in templates.frames:
            known = ", ".join(templates.frames)
            raise DataError(f"the templates have no expression {name!r}; they have: {known}")
        after = _unit(image)
        pairs[name] = framed(
            templates.frames[name],
            templates.target_templates[name],
            _planar(before),
            features,
            field,
            eye_white,
            _planar(after),
            features_of(after),
        )
    return pairs


def weights_of(pair: FramedPair) -> Weights:
    """Return the weights of a framed pair."""
    return Weights(pair.light, pair.style, pair.teeth, pair.shape)


def as_pixels(planes: npt.NDArray[np.float32], dtype: npt.DTypeLike) -> Pixels:
    """Return planes (channels, height, width) in [0, 1] as an image, rounded if of integers."""
    dtype = np.dtype(dtype)
    image = np.ascontiguousarray(planes.transpose(1, 2, 0))
    if dtype.kind == "f":
        return image.astype(dtype)
    image *= np.float32(DATA_RANGE[dtype.name])
    np.clip(np.rint(image, out=image), 0, DATA_RANGE[dtype.name], out=image)
    return image.astype(dtype)


def _unit(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return an image in [0, 1]."""
    return np.multiply(pixels, np.float32(1 / DATA_RANGE[pixels.dtype.name]), dtype=np.float32)


def _planar(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


@dataclass(frozen=True)
class _Reduced:
    """Images of a subject at the size of features, and where they come in the order of all."""

    key: bytes
    source: npt.NDArray[np.uint8]
    targets: dict[str, npt.NDArray[np.uint8]]


def reduced(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return an image (height, width, channels) at the size of features, with 8 bits."""
    if pixels.dtype == np.uint8 and feature_size(*pixels.shape[:2]) == pixels.shape[:2]:
        return pixels
    small = area_averaged(_unit(pixels), *feature_size(*pixels.shape[:2]))
    image: npt.NDArray[np.uint8] = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return image


def make_templates(subjects: Sequence[Subject], image_format: Format, report: Report) -> Templates:
    """Make templates of at most `MOST_SUBJECTS` subjects, by the digests of their files.

    Parameters
    ----------
    subjects : sequence of Subject
        In any order; the result does not depend on it, nor on the number of threads.
    image_format : Format
        Of their images.
    report : Report
        Told about progress. Files that cannot be read are skipped; they are named later.

    Raises
    ------
    DataError
        If no subject is left.
    """
    if len(subjects) > MOST_SUBJECTS:
        digests = ordered_map(lambda subject: file_digest(subject.source) or "~", subjects)
        found_digests = dict(zip(subjects, digests, strict=True))
        subjects = sorted(subjects, key=lambda subject: (found_digests[subject], subject.files))
        subjects = subjects[:MOST_SUBJECTS]
    stream = decoded(subjects, image_format, Silent())
    found = [
        _Reduced(
            _key(subject),
            reduced(subject.source.pixels),
            {name: reduced(image.pixels) for name, image in subject.targets.items()},
        )
        for (subject,) in report.progress(stream, len(subjects), "registering")
    ]
    if not found:
        raise DataError("not one pair of images could be decoded")
    found.sort(key=lambda subject: subject.key)
    return templates_of_reduced(
        (image_format.height, image_format.width),
        [subject.source for subject in found],
        [subject.targets for subject in found],
    )


def templates_of_reduced(
    size: tuple[int, int],
    sources: Sequence[npt.NDArray[np.uint8]],
    targets: Sequence[Mapping[str, npt.NDArray[np.uint8]]],
) -> Templates:
    """Return templates of subjects' images at the size of features, in this order.

    Parameters
    ----------
    size : (int, int)
        Height and width of the images themselves.
    sources : sequence of ndarray of uint8, shape (height, width, channels)
    targets : sequence of mapping of str to ndarray
        Those of each subject by expression.
    """
    names = sorted({name for subject in targets for name in subject})
    numbers = {name: [n for n, own in enumerate(targets) if name in own] for name in names}
    return templates_of(
        size,
        sources,
        {name: (some, [targets[n][name] for n in some]) for name, some in numbers.items()},
    )


def framed_statistics(sources: Pixels, targets: Mapping[str, Pixels], layout: Layout) -> Statistics:
    """Return the statistics of images in memory, registered to templates made of them.

    Parameters
    ----------
    sources, targets, layout
        As for `mlr.core.accumulate.statistics_of_arrays`, with one expression.
    """
    ((name, images),) = targets.items()
    chosen = slice(MOST_SUBJECTS)
    templates = templates_of_reduced(
        sources.shape[1:3],
        [reduced(image) for image in sources[chosen]],
        [{name: reduced(image)} for image in images[chosen]],
    )
    pairs: dict[int, FramedPair] = {}

    def fill(begin: int, end: int) -> None:
        for n in range(begin, end):
            (pairs[n],) = framed_arrays(sources[n], {name: images[n]}, templates).values()

    parallel_for(fill, len(sources))
    ordered = [pairs[n] for n in range(len(sources))]
    return statistics_of_arrays(
        np.stack([as_pixels(pair.source, sources.dtype) for pair in ordered]),
        {name: np.stack([as_pixels(pair.target, sources.dtype) for pair in ordered])},
        layout,
        templates,
        [weights_of(pair) for pair in ordered],
    )


def _key(subject: DecodedSubject) -> bytes:
    """Return what puts subjects in order: the digests of their files."""
    targets = [name.encode() + image.digest for name, image in sorted(subject.targets.items())]
    return b"".join([subject.source.digest, *targets])
