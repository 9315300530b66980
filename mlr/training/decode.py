"""Decoding the images of subjects, in threads and a few ahead, and framing pairs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlr.core.accumulate import PairSums, Weights, statistics_of_arrays
from mlr.core.planes import DATA_RANGE, Layout, Planes
from mlr.core.registration.eyes import are_aligned
from mlr.core.registration.features import features_of
from mlr.core.registration.fields import area_averaged
from mlr.core.registration.geometry import feature_size
from mlr.core.registration.groupwise import steps, templates_of
from mlr.core.registration.templates import FramedPair, Templates, eye_white_of, framed
from mlr.core.statistics import Statistics
from mlr.errors import DataError, ImageError
from mlr.io.files import file_digest
from mlr.io.images import Format, Header, Image, Pixels, read_header, read_image
from mlr.io.pairs import PairList, Subject
from mlr.kernels.parallel import parallel_map
from mlr.utils.progress import Report, Silent
from mlr.utils.threads import ordered_map

MOST_SUBJECTS = 300  # for templates
USEFUL = 256  # px; larger images give hardly better faces
FEW, LEAST_FEW = 8, 3  # images, to test whether faces are aligned
_FIRST = "run first: mlr align {} -o FOLDER"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecodedSubject:
    """A subject with its decoded images, or one of its framed pairs, which has weights."""

    subject: Subject
    source: Image
    targets: dict[str, Image]  # by expression, at least one
    weights: Weights | None = None
    shape: Planes | int = 0  # s u of a framed pair

    @property
    def digests(self) -> dict[Path, bytes]:
        """The digests of its files."""
        targets = self.subject.targets
        images = {targets[name]: image for name, image in self.targets.items()}
        images[self.subject.source] = self.source
        return {path: image.digest for path, image in images.items()}


def common_format(pairs: PairList, report: Report) -> tuple[list[Subject], Format]:
    """Read the headers of all images and keep the subjects whose images have the same size.

    The most frequent size is the set's; images of other sizes fail. The set is grey if all images
    are.
    """
    headers: dict[str, Header] = {}
    kinds: dict[Header, Header] = {}  # equal headers are one object, to save memory
    folders = {file: subject.folder for subject in pairs.subjects for file in subject.files}
    # Threads take twice as long, as nearly everything holds the GIL.
    for file in report.progress(sorted(folders), len(folders), "checking"):
        try:
            header = read_header(folders[file] / file)
            headers[file] = kinds.setdefault(header, header)
        except ImageError as error:
            report.fail(folders[file] / file, str(error))
    sizes = Counter(header.size for header in headers.values())
    if not sizes:
        raise DataError("no image could be read")
    # The largest of equally frequent sizes, so that the order does not matter.
    size = max(sizes, key=lambda size: (sizes[size], size))
    if len(sizes) > 2 and 2 * sizes[size] < len(headers):
        folder = pairs.subjects[0].folder
        raise DataError(
            f"{folder}: {len(headers)} images of {len(sizes)} sizes, so their faces are not "
            f"aligned; {_FIRST.format(folder)}"
        )
    fitting = (_fitting(subject, headers, size, report) for subject in pairs.subjects)
    subjects = [subject for subject in fitting if subject is not None]
    if not subjects:
        raise DataError("no pair of images of the same size is left")
    used = [headers[file] for subject in subjects for file in subject.files]
    files = {file: s.folder / file for s in subjects for file in s.files if headers[file].loss}
    report.note_losses((path, headers[file].loss) for file, path in files.items())
    return subjects, Format(*size, max(header.channels for header in used))


def check_aligned(subjects: Sequence[Subject], image_format: Format, report: Report) -> None:
    """Refuse large images if the faces of a few of them are not aligned.

    Note if images are much larger than is useful.
    """
    side, folder = min(image_format.size), subjects[0].folder
    if side <= USEFUL:
        return
    planes = []
    for subject in subjects[:: -(-len(subjects) // FEW)]:
        with suppress(ImageError):  # reported when it is decoded
            planes.append(features_of(_unit(read_image(subject.source).pixels)).whole[..., 0])
    if len(planes) >= LEAST_FEW and not are_aligned(planes):
        raise DataError(
            f"{folder}: the faces of {len(planes)} images are not aligned; {_FIRST.format(folder)}"
        )
    if side >= 2 * USEFUL:
        report.note(
            f"note: images of {image_format}; 128 to {USEFUL} px are enough, and much faster: "
            f"mlr align {folder} --size {USEFUL} -o FOLDER"
        )


def decoded(
    subjects: Iterable[Subject],
    image_format: Format,
    report: Report,
    templates: Templates | None = None,
) -> Iterator[list[DecodedSubject]]:
    """Decode subjects in order, and frame them if there are templates; report failures."""

    def decode(subject: Subject) -> tuple[list[DecodedSubject], list[tuple[Path, str]]]:
        failures: list[tuple[Path, str]] = []

        def read(path: Path) -> Image | None:
            try:
                return _fitted(read_image(path), image_format)
            except ImageError as error:
                failures.append((path, str(error)))
                return None

        source = read(subject.source)
        if source is None:
            return [], failures
        images = {name: read(path) for name, path in subject.targets.items()}
        targets = {name: image for name, image in images.items() if image is not None}
        if not targets:
            return [], failures
        decoded_subject = DecodedSubject(subject, source, targets)
        if templates is None:
            return [decoded_subject], failures
        return list(_into_frames(decoded_subject, templates)), failures

    for found, failures in ordered_map(decode, subjects):
        for path, cause in failures:
            report.fail(path, cause)
        if found:
            yield found


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return pixels (height, width, channels), with grey repeated if 3 channels are requested."""
    return pixels.repeat(channels, axis=2) if pixels.shape[2] < channels else pixels


def _fitting(
    subject: Subject, headers: dict[str, Header], size: tuple[int, int], report: Report
) -> Subject | None:
    """Return the subject with the images of the set's size, or None if no pair is left."""
    first, *others = subject.files
    source = headers.get(first)
    if source is None:
        return None
    kept: dict[str, str] = {}
    for name, file in zip(subject.expressions, others, strict=True):
        target = headers.get(file)
        if target is not None and target.size != source.size:
            cause = f"is {target}, but its partner in the source expression is {source}"
            report.fail(subject.folder / file, cause)
        elif target is not None:
            kept[name] = file
    if source.size != size:
        wanted = f"{size[1]}x{size[0]} px"
        report.fail(subject.source, f"is {source}, but most images are {wanted}; resize it")
        return None
    if len(kept) < len(others):
        subject = replace(subject, files=(first, *kept.values()), expressions=tuple(kept))
    return subject if kept else None


def _fitted(image: Image, image_format: Format) -> Image:
    """Return the image with the channels of the set; raise an error if its header was wrong."""
    found = Format(*image.pixels.shape)
    if found.size != image_format.size:
        raise ImageError(f"is {found} when decoded, expected {image_format}")
    if found.channels > image_format.channels:
        raise ImageError("is in colour when decoded, expected grey")
    return replace(image, pixels=as_channels(image.pixels, image_format.channels))


def _into_frames(subject: DecodedSubject, templates: Templates) -> Iterator[DecodedSubject]:
    """Yield the pairs of a subject, each in the frame of its expression."""
    source = subject.source.pixels
    targets = {name: image.pixels for name, image in subject.targets.items()}
    for name, pair in framed_pairs(source, targets, templates):
        image, dtype = subject.targets[name], np.result_type(source, targets[name])
        yield DecodedSubject(
            subject.subject,
            replace(subject.source, pixels=as_pixels(pair.source, dtype)),
            {name: replace(image, pixels=as_pixels(pair.target, dtype))},
            Weights(pair.light, pair.teeth),
            _shape_of(pair),
        )


def framed_pairs(
    source: Pixels, targets: Mapping[str, Pixels], templates: Templates
) -> Iterator[tuple[str, FramedPair]]:
    """Yield the pairs of a source (height, width, channels), in the frames of the targets."""
    before = _unit(source)
    planes, features = _planar(before), features_of(before)
    field = templates.source_field(features)
    eye_white = eye_white_of(templates.geometry, features, field) / templates.eye_white
    for name, image in sorted(targets.items()):
        if name not in templates.frames:
            known = ", ".join(templates.frames)
            raise DataError(f"the templates have no expression {name!r}; they have: {known}")
        frame, template = templates.frames[name], templates.target_templates[name]
        after = _unit(image)
        target = _planar(after), features_of(after)
        yield name, framed(frame, template, planes, features, field, eye_white, *target)


def _shape_of(pair: FramedPair) -> Planes:
    return pair.style * pair.shape.astype(np.int64)


def as_pixels(planes: Floats, dtype: npt.DTypeLike) -> Pixels:
    """Return planes (channels, height, width) in [0, 1] as an image; integers are rounded."""
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
    """Return an image (height, width, channels) reduced to the size of features, with 8 bits."""
    size = feature_size(*pixels.shape[:2])
    if pixels.dtype == np.uint8 and size == pixels.shape[:2]:
        return pixels
    small = area_averaged(_unit(pixels), *size)
    image: npt.NDArray[np.uint8] = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return image


def make_templates(
    subjects: Sequence[Subject], image_format: Format, report: Report
) -> tuple[Templates, dict[Path, bytes]]:
    """Compute templates from at most `MOST_SUBJECTS` subjects, chosen by the digests of files.

    Also returns the digests of the images that were used.
    """
    if len(subjects) > MOST_SUBJECTS:
        digests = ordered_map(lambda subject: file_digest(subject.source) or "~", subjects)
        shown = report.progress(digests, len(subjects), "choosing faces for templates")
        keys = {s: (digest, s.files) for s, digest in zip(subjects, shown, strict=True)}
        subjects = sorted(subjects, key=keys.__getitem__)[:MOST_SUBJECTS]
    stream = decoded(subjects, image_format, Silent())
    found, used = [], dict[Path, bytes]()
    for (subject,) in report.progress(stream, len(subjects), "reading faces for templates"):
        used |= subject.digests
        targets = sorted(subject.targets.items())
        names = b"".join(name.encode() + image.digest for name, image in targets)
        small = {name: _reduced(image.pixels) for name, image in targets}
        found.append((subject.source.digest + names, _reduced(subject.source.pixels), small))
    if not found:
        raise DataError("no pair of images could be decoded")
    found.sort(key=lambda each: each[0])
    _, sources, all_targets = zip(*found, strict=True)
    count = steps(len(set().union(*all_targets)))
    stages = iter(report.progress(range(count + 1), count + 1, "making templates"))
    templates = _templates_of_reduced(
        image_format.size, sources, all_targets, partial(next, stages, None)
    )
    deque(stages, 0)  # to its end
    return templates, used


def _templates_of_reduced(
    size: tuple[int, int],
    sources: Sequence[npt.NDArray[np.uint8]],
    targets: Sequence[Mapping[str, npt.NDArray[np.uint8]]],
    step: Callable[[], object] = int,
) -> Templates:
    """Return templates of reduced images in this order; ``size`` is before reduction."""
    by_expression: dict[str, tuple[list[int], list[npt.NDArray[np.uint8]]]] = {}
    for number, images in enumerate(targets):
        for name, image in images.items():
            numbers, of_expression = by_expression.setdefault(name, ([], []))
            numbers.append(number)
            of_expression.append(image)
    return templates_of(size, sources, by_expression, step)


def framed_arrays(
    sources: Pixels, targets: Mapping[str, Pixels]
) -> tuple[Templates, list[FramedPair]]:
    """Return templates of images of one expression in memory, and the pairs framed with them."""
    ((name, images),) = targets.items()
    chosen = slice(MOST_SUBJECTS)
    templates = _templates_of_reduced(
        sources.shape[1:3],
        [_reduced(image) for image in sources[chosen]],
        [{name: _reduced(image)} for image in images[chosen]],
    )

    def framed_pair(n: int) -> FramedPair:
        ((_, pair),) = framed_pairs(sources[n], {name: images[n]}, templates)
        return pair

    return templates, parallel_map(framed_pair, len(sources))


def statistics_of_framed(
    templates: Templates, pairs: Sequence[FramedPair], dtype: npt.DTypeLike, layout: Layout
) -> Statistics:
    """Return the statistics of framed pairs of one expression, as images of a dtype."""
    (name,) = templates.frames
    return statistics_of_arrays(
        np.stack([as_pixels(pair.source, dtype) for pair in pairs]),
        {name: np.stack([as_pixels(pair.target, dtype) for pair in pairs])},
        layout,
        templates,
        [Weights(pair.light, pair.teeth) for pair in pairs],
        PairSums(shape=sum(map(_shape_of, pairs))),
    )


def framed_statistics(sources: Pixels, targets: Mapping[str, Pixels], layout: Layout) -> Statistics:
    """Return the statistics of images in memory, registered to templates computed from them."""
    return statistics_of_framed(*framed_arrays(sources, targets), sources.dtype, layout)
