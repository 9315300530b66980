"""Registration of image files: the templates of a training set, and subjects in their frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

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
from mlr.io.images import Format, Pixels
from mlr.io.pairs import Subject
from mlr.kernels.parallel import parallel_for
from mlr.training.decode import DecodedSubject, decoded
from mlr.utils.progress import Report, Silent
from mlr.utils.threads import ordered_map

MOST_SUBJECTS = 300  # that templates are made of

Floats = npt.NDArray[np.float32]


def into_frames(subject: DecodedSubject, templates: Templates) -> Iterator[DecodedSubject]:
    """Yield the pairs of a subject, each in the frame of its expression."""
    for name, image in sorted(subject.targets.items()):
        source = subject.source.pixels
        dtype = np.result_type(source, image.pixels)
        (pair,) = framed_arrays(source, {name: image.pixels}, templates).values()
        yield DecodedSubject(
            subject.subject,
            replace(subject.source, pixels=_as_pixels(pair.source, dtype)),
            {name: replace(image, pixels=_as_pixels(pair.target, dtype))},
            _weights_of(pair),
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


def _weights_of(pair: FramedPair) -> Weights:
    return Weights(pair.light, pair.style, pair.teeth, pair.shape)


def _as_pixels(planes: Floats, dtype: npt.DTypeLike) -> Pixels:
    """Return planes (channels, height, width) in [0, 1] as an image, rounded if of integers."""
    dtype = np.dtype(dtype)
    image = np.ascontiguousarray(planes.transpose(1, 2, 0))
    if dtype.kind == "f":
        return image.astype(dtype)
    image *= np.float32(DATA_RANGE[dtype.name])
    np.clip(np.rint(image, out=image), 0, DATA_RANGE[dtype.name], out=image)
    return image.astype(dtype)


def _unit(pixels: Pixels) -> Floats:
    """Return an image in [0, 1]."""
    return np.multiply(pixels, np.float32(1 / DATA_RANGE[pixels.dtype.name]), dtype=np.float32)


def _planar(image: Floats) -> Floats:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _reduced(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return an image (height, width, channels) at the size of features, with 8 bits."""
    size = feature_size(*pixels.shape[:2])
    if pixels.dtype == np.uint8 and size == pixels.shape[:2]:
        return pixels
    small = area_averaged(_unit(pixels), *size)
    image: npt.NDArray[np.uint8] = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return image


def make_templates(subjects: Sequence[Subject], image_format: Format, report: Report) -> Templates:
    """Make templates of at most `MOST_SUBJECTS` subjects, by the digests of their files."""
    if len(subjects) > MOST_SUBJECTS:
        digests = ordered_map(lambda subject: file_digest(subject.source) or "~", subjects)
        keys = {s: (digest, s.files) for s, digest in zip(subjects, digests, strict=True)}
        subjects = sorted(subjects, key=keys.__getitem__)[:MOST_SUBJECTS]
    stream = decoded(subjects, image_format, Silent())
    found = []
    for (subject,) in report.progress(stream, len(subjects), "registering"):
        targets = sorted(subject.targets.items())
        names = b"".join(name.encode() + image.digest for name, image in targets)
        small = {name: _reduced(image.pixels) for name, image in targets}
        found.append((subject.source.digest + names, _reduced(subject.source.pixels), small))
    if not found:
        raise DataError("not one pair of images could be decoded")
    found.sort(key=lambda each: each[0])
    _, sources, all_targets = zip(*found, strict=True)
    return _templates_of_reduced(image_format.size, sources, all_targets)


def _templates_of_reduced(
    size: tuple[int, int],
    sources: Sequence[npt.NDArray[np.uint8]],
    targets: Sequence[Mapping[str, npt.NDArray[np.uint8]]],
) -> Templates:
    """Return templates of reduced images, in this order; ``size`` is the images' own."""
    by_expression: dict[str, tuple[list[int], list[npt.NDArray[np.uint8]]]] = {}
    for number, images in enumerate(targets):
        for name, image in images.items():
            numbers, of_expression = by_expression.setdefault(name, ([], []))
            numbers.append(number)
            of_expression.append(image)
    return templates_of(size, sources, by_expression)


def framed_statistics(sources: Pixels, targets: Mapping[str, Pixels], layout: Layout) -> Statistics:
    """Return the statistics of images in memory, registered to templates made of them."""
    ((name, images),) = targets.items()
    chosen = slice(MOST_SUBJECTS)
    templates = _templates_of_reduced(
        sources.shape[1:3],
        [_reduced(image) for image in sources[chosen]],
        [{name: _reduced(image)} for image in images[chosen]],
    )
    pairs: dict[int, FramedPair] = {}

    def fill(begin: int, end: int) -> None:
        for n in range(begin, end):
            (pairs[n],) = framed_arrays(sources[n], {name: images[n]}, templates).values()

    parallel_for(fill, len(sources))
    ordered = [pairs[n] for n in range(len(sources))]
    return statistics_of_arrays(
        np.stack([_as_pixels(pair.source, sources.dtype) for pair in ordered]),
        {name: np.stack([_as_pixels(pair.target, sources.dtype) for pair in ordered])},
        layout,
        templates,
        [_weights_of(pair) for pair in ordered],
    )
