"""Decoding people's images in threads, a bounded number ahead of the one who uses them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mlr.errors import DataError, ImageError, MlrError
from mlr.io.images import Header, Image, Pixels, read_header, read_image
from mlr.io.pairs import PairList, Person
from mlr.utils.progress import Report

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # decoded images waiting, for each thread; with 4 it takes as long


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
class DecodedPerson:
    """A person with the pixels of those images that could be decoded.

    Attributes
    ----------
    name : str
        As in `Person`.
    source : Image
        The source image.
    targets : dict of str to Image
        Target images by expression, at least one.
    """

    name: str
    source: Image
    targets: dict[str, Image]


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed in threads a few items ahead.

    Unlike `ThreadPoolExecutor.map` it does not run through all items at once, so memory is bounded.

    Raises
    ------
    MlrError
        If the system gives no thread.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="mlr-decode") as pool:
        try:
            for item in items:
                try:
                    waiting.append(pool.submit(function, item))
                except RuntimeError as error:
                    raise MlrError(
                        f"{error}: give fewer --threads, or more memory to the program"
                    ) from error
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def common_format(pairs: PairList, report: Report) -> tuple[list[Person], Format]:
    """Look at the headers of all images and keep the people whose images agree in size.

    The size that most images have is the set's; what differs is left out and named.

    Raises
    ------
    DataError
        If nothing is left.
    """
    headers: dict[str, Header] = {}
    kinds: dict[Header, Header] = {}  # there are few
    folders = {file: person.folder for person in pairs.people for file in person.files}
    for file in sorted(folders):  # in threads it takes twice as long: nearly all holds the GIL
        try:
            header = read_header(folders[file] / file)
            headers[file] = kinds.setdefault(header, header)
        except ImageError as error:
            report.fail(folders[file] / file, str(error))
    sizes = Counter((header.height, header.width) for header in headers.values())
    if not sizes:
        raise DataError("not one image could be read")
    # Of sizes equally frequent the largest, so that the choice does not hang on the order.
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    people = [
        kept
        for person in pairs.people
        if (kept := _fitting(person, headers, (height, width), report)) is not None
    ]
    if not people:
        raise DataError("not one pair of images of the same size is left")
    report.note_losses(headers[file].loss for person in people for file in person.files)
    channels = max(headers[file].channels for person in people for file in person.files)
    return people, Format(height, width, channels)


def decoded(
    people: Iterable[Person],
    image_format: Format,
    threads: int,
    report: Report,
    then: Callable[[DecodedPerson], Iterable[DecodedPerson]] = lambda person: (person,),
) -> Iterator[list[DecodedPerson]]:
    """Decode subjects in order; images that cannot be decoded are named and passed over.

    Parameters
    ----------
    then : function
        Done in the threads, too; returns what becomes of a subject.
    """

    def decode(person: Person) -> tuple[list[DecodedPerson], list[tuple[Path, str]]]:
        failures: list[tuple[Path, str]] = []
        images: dict[str | None, Image] = {}
        for name, path in ((None, person.source), *person.targets.items()):
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
        return list(then(DecodedPerson(person.name, source, targets))), failures

    for found, failures in ordered_map(decode, people, threads):
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
    person: Person, headers: dict[str, Header], size: tuple[int, int], report: Report
) -> Person | None:
    """Return the person with the images that have the set's size, or None if no pair is left."""
    first, *others = person.files
    source = headers.get(first)
    if source is None:
        return None
    wanted = f"{size[1]}x{size[0]} px"
    kept: dict[str, str] = {}
    for name, file in zip(person.expressions, others, strict=True):
        target = headers.get(file)
        if target is None:
            continue
        if (target.height, target.width) != (source.height, source.width):
            cause = f"is {target}, but its partner {person.source} is {source}"
            report.fail(person.folder / file, cause)
        else:
            kept[name] = file
    if (source.height, source.width) != size:
        report.fail(person.source, f"is {source}, but most images are {wanted}; resize it")
        return None
    if len(kept) < len(others):
        person = replace(person, files=(first, *kept.values()), expressions=tuple(kept))
    return person if kept else None


def _fitted(image: Image, image_format: Format) -> Image:
    """Return the image with the channels of the set; its header may have lied about its size."""
    height, width, channels = image.pixels.shape
    if (height, width) != (image_format.height, image_format.width):
        raise ImageError(f"is {width}x{height} px when decoded, expected {image_format}")
    if channels > image_format.channels:
        raise ImageError("is in colour when decoded, expected grey")
    return replace(image, pixels=as_channels(image.pixels, image_format.channels))
