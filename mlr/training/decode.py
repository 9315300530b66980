"""Decoding the images of subjects, in threads and a few ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlr.errors import DataError, ImageError
from mlr.io.images import Header, Image, Pixels, read_header, read_image
from mlr.io.pairs import PairList, Subject
from mlr.utils.progress import Report
from mlr.utils.threads import ordered_map


@dataclass(frozen=True)
class Format:
    """What all images of a set have in common.

    Attributes
    ----------
    height, width : int
        Pixels.
    channels : int
        1 if every image is grey, otherwise 3.
    """

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px"


@dataclass(frozen=True)
class DecodedSubject:
    """A subject with its decoded images.

    Attributes
    ----------
    name : str
        As in `Subject`.
    source : Image
        The source image.
    targets : dict of str to Image
        Target images by expression, at least one.
    """

    name: str
    source: Image
    targets: dict[str, Image]


def common_format(pairs: PairList, report: Report) -> tuple[list[Subject], Format]:
    """Read the headers of all images and keep the subjects whose images have the same size.

    The size that most images have is the set's; images of another size are named and skipped.

    Raises
    ------
    DataError
        If nothing is left.
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
    sizes = Counter((header.height, header.width) for header in headers.values())
    if not sizes:
        raise DataError("not one image could be read")
    # Of equally frequent sizes the largest, so that the order does not matter.
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    subjects = [
        kept
        for subject in pairs.subjects
        if (kept := _fitting(subject, headers, (height, width), report)) is not None
    ]
    if not subjects:
        raise DataError("not one pair of images of the same size is left")
    report.note_losses(headers[file].loss for subject in subjects for file in subject.files)
    channels = max(headers[file].channels for subject in subjects for file in subject.files)
    return subjects, Format(height, width, channels)


def decoded(
    subjects: Iterable[Subject],
    image_format: Format,
    report: Report,
    then: Callable[[DecodedSubject], Iterable[DecodedSubject]] = lambda subject: (subject,),
) -> Iterator[list[DecodedSubject]]:
    """Decode subjects in order; images that cannot be decoded are named and skipped.

    Parameters
    ----------
    then : function
        Runs in the threads, too; returns what to yield of a subject.
    """

    def decode(subject: Subject) -> tuple[list[DecodedSubject], list[tuple[Path, str]]]:
        failures: list[tuple[Path, str]] = []
        images: dict[str | None, Image] = {}
        for name, path in ((None, subject.source), *subject.targets.items()):
            try:
                images[name] = _fitted(read_image(path), image_format)
            except ImageError as error:
                failures.append((path, str(error)))
                if name is None:
                    break
        source = images.pop(None, None)
        targets = {name: image for name, image in images.items() if name is not None}
        if source is None or not targets:
            return [], failures
        return list(then(DecodedSubject(subject.name, source, targets))), failures

    for found, failures in ordered_map(decode, subjects):
        for path, cause in failures:
            report.fail(path, cause)
        if found:
            yield found


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return grey pixels as colour where colour is wanted.

    Parameters
    ----------
    pixels : ndarray, shape (height, width, 1 or 3)
        An image.
    channels : int
        1 or 3; colour is not made grey here.
    """
    return pixels.repeat(channels, axis=2) if pixels.shape[2] < channels else pixels


def _fitting(
    subject: Subject, headers: dict[str, Header], size: tuple[int, int], report: Report
) -> Subject | None:
    """Return the subject with the images of the set's size, or None if no pair is left."""
    first, *others = subject.files
    source = headers.get(first)
    if source is None:
        return None
    wanted = f"{size[1]}x{size[0]} px"
    kept: dict[str, str] = {}
    for name, file in zip(subject.expressions, others, strict=True):
        target = headers.get(file)
        if target is None:
            continue
        if (target.height, target.width) != (source.height, source.width):
            cause = f"is {target}, but its partner {subject.source} is {source}"
            report.fail(subject.folder / file, cause)
        else:
            kept[name] = file
    if (source.height, source.width) != size:
        report.fail(subject.source, f"is {source}, but most images are {wanted}; resize it")
        return None
    if len(kept) < len(others):
        subject = replace(subject, files=(first, *kept.values()), expressions=tuple(kept))
    return subject if kept else None


def _fitted(image: Image, image_format: Format) -> Image:
    """Return the image with the channels of the set; raise if its header was wrong."""
    height, width, channels = image.pixels.shape
    if (height, width) != (image_format.height, image_format.width):
        raise ImageError(f"is {width}x{height} px when decoded, expected {image_format}")
    if channels > image_format.channels:
        raise ImageError("is in colour when decoded, expected grey")
    return replace(image, pixels=as_channels(image.pixels, image_format.channels))
