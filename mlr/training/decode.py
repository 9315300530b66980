"""Decoding the images of subjects, in threads and a few ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlr.core.accumulate import Weights
from mlr.errors import DataError, ImageError
from mlr.io.images import Format, Header, Image, Pixels, read_header, read_image
from mlr.io.pairs import PairList, Subject
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map


@dataclass(frozen=True)
class DecodedSubject:
    """A subject with its decoded images, or one framed pair of it, which has weights."""

    subject: Subject
    source: Image
    targets: dict[str, Image]  # by expression, at least one
    weights: Weights | None = None


def common_format(pairs: PairList, report: Report) -> tuple[list[Subject], Format]:
    """Read the headers of all images and keep the subjects whose images have the same size.

    The size that most images have is the set's; images of another size are named and skipped. The
    set is grey if every image is.
    """
    headers: dict[str, Header] = {}
    kinds: dict[Header, Header] = {}  # there are few
    folders = {file: subject.folder for subject in pairs.subjects for file in subject.files}
    for file in sorted(folders):  # in threads it takes twice as long: nearly all holds the GIL
        try:
            header = read_header(folders[file] / file)
            headers[file] = kinds.setdefault(header, header)
        except ImageError as error:
            report.fail(folders[file] / file, str(error))
    sizes = Counter(header.size for header in headers.values())
    if not sizes:
        raise DataError("not one image could be read")
    # Of equally frequent sizes the largest, so that the order does not matter.
    size = max(sizes, key=lambda size: (sizes[size], size))
    fitting = (_fitting(subject, headers, size, report) for subject in pairs.subjects)
    subjects = [subject for subject in fitting if subject is not None]
    if not subjects:
        raise DataError("not one pair of images of the same size is left")
    used = [headers[file] for subject in subjects for file in subject.files]
    report.note_losses(header.loss for header in used)
    return subjects, Format(*size, max(header.channels for header in used))


def decoded(
    subjects: Iterable[Subject],
    image_format: Format,
    report: Report,
    then: Callable[[DecodedSubject], Iterable[DecodedSubject]] = lambda subject: (subject,),
) -> Iterator[list[DecodedSubject]]:
    """Decode subjects in order; images that cannot be decoded are named and skipped."""

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
        return list(then(DecodedSubject(subject, source, targets))) if targets else [], failures

    for found, failures in ordered_map(decode, subjects):
        for path, cause in failures:
            report.fail(path, cause)
        if found:
            yield found


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return grey pixels (height, width, 1) as colour where there are to be 3 channels."""
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
            cause = f"is {target}, but its partner {subject.source} is {source}"
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
    """Return the image with the channels of the set; raise if its header was wrong."""
    found = Format(*image.pixels.shape)
    if found.size != image_format.size:
        raise ImageError(f"is {found} when decoded, expected {image_format}")
    if found.channels > image_format.channels:
        raise ImageError("is in colour when decoded, expected grey")
    return replace(image, pixels=as_channels(image.pixels, image_format.channels))
