"""From image files to statistics, in one pass over the pairs of a folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from mlr.core.accumulate import BATCH_BYTES, LEAST, Accumulator, PairDigests, pair_digest
from mlr.core.layout import Layout
from mlr.core.planes import DATA_RANGE, NARROW_SAMPLES, TO_16_BITS
from mlr.core.registration.templates import Templates
from mlr.core.statistics import Statistics, total
from mlr.errors import DataError
from mlr.io.images import Image, Pixels
from mlr.io.pairs import PairList, Subject
from mlr.training.decode import DecodedSubject, Format, common_format, decoded
from mlr.training.register import FramedSubject, into_frames
from mlr.utils.progress import Report

PACK = 16  # subjects added at once: one at a time takes a sixth more of a training

Kind = tuple[tuple[str, ...], str]  # expressions and dtype of the images


@dataclass(frozen=True)
class Plan:
    """What to accumulate of subjects, the same for all of them.

    Attributes
    ----------
    source : str
        Name of the source expression.
    format : Format
        Of their images.
    layout : Layout
        Which planes to compute.
    expressions : int
        Number of target expressions.
    templates : Templates, optional
        What pairs are registered to.
    rows : (int, int), optional
        Accumulate the rows from the first to before the second alone.
    """

    source: str
    format: Format
    layout: Layout
    expressions: int
    templates: Templates | None = None
    rows: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images, or of their rows."""
        first, end = self.rows or (0, self.format.height)
        return self.format.channels, end - first, self.format.width

    @property
    def empty(self) -> Statistics:
        """The statistics of no pair."""
        return Statistics(
            self.layout,
            DATA_RANGE["uint8"],
            self.shape,
            source=self.source,
            templates=self.templates,
        )

    def decoded(
        self, subjects: Iterable[Subject], report: Report
    ) -> Iterator[list[DecodedSubject]]:
        """Yield subjects as they are decoded, framed if there are templates."""
        if self.templates is None:
            return decoded(subjects, self.format, report)
        then = partial(into_frames, templates=self.templates)
        return decoded(subjects, self.format, report, then)


def prepare(
    pairs: PairList, layout: Layout, templates: Templates | None, report: Report
) -> tuple[list[Subject], Plan]:
    """Return the subjects whose images can be used, and what to accumulate of them."""
    for note in pairs.notes:
        report.note(note)
    for problem in pairs.problems:
        report.fail(problem.path, problem.cause)
    subjects, image_format = common_format(pairs, report)
    if templates is not None and templates.geometry.size != (
        image_format.height,
        image_format.width,
    ):
        height, width = templates.geometry.size
        raise DataError(
            f"images of {image_format}, but the templates are for {width}x{height} px; resize them"
        )
    return subjects, Plan(pairs.source, image_format, layout, len(pairs.expressions), templates)


def accumulate(
    stream: Iterable[Sequence[DecodedSubject]],
    subjects: Iterable[Subject],
    plan: Plan,
    batch_bytes: int = BATCH_BYTES,
) -> Statistics:
    """Accumulate decoded subjects."""
    expected = expected_groups(subjects, plan)
    found: dict[Kind, Accumulator] = {}
    waiting: dict[Kind, list[DecodedSubject]] = {}
    for decoded_subjects in stream:
        for subject in decoded_subjects:
            for kind, part in split_by_dtype(subject):
                if kind not in found:
                    expressions, dtype = kind
                    found[kind] = Accumulator(
                        plan.layout,
                        plan.shape,
                        expressions,
                        dtype,
                        max(1, expected[expressions]),
                        batch_bytes // max(1, len(expected)),
                        plan.templates,
                    )
                waiting.setdefault(kind, []).append(part)
                if len(waiting[kind]) == PACK:
                    _add(found[kind], waiting.pop(kind), plan)
    for kind, some in waiting.items():
        _add(found[kind], some, plan)
    parts = [found[kind].statistics() for kind in sorted(found)]
    return replace(total(parts or [plan.empty]), source=plan.source)


def _add(accumulator: Accumulator, subjects: Sequence[DecodedSubject], plan: Plan) -> None:
    rows = slice(*plan.rows) if plan.rows else slice(None)

    def stack(images: Iterable[Image]) -> Pixels:
        return np.stack([with_dtype(image.pixels[rows], accumulator.dtype) for image in images])

    accumulator.add(
        stack(subject.source for subject in subjects),
        {
            name: stack(subject.targets[name] for subject in subjects)
            for name in accumulator.expressions
        },
        reduce(add, map(digests_of, subjects)),
        [weight for subject in subjects for weight in weights_of(subject)],
    )


def digests_of(subject: DecodedSubject) -> PairDigests:
    """Return the digests of a subject's pairs; framed sources differ for each expression."""
    digest, names = subject.source.digest, subject.targets if is_framed(subject) else ("",)
    return PairDigests(
        sum(pair_digest(digest, b"", name) for name in names),
        {name: pair_digest(digest, image.digest, name) for name, image in subject.targets.items()},
    )


def is_framed(subject: DecodedSubject) -> bool:
    """Return whether a subject was moved into a frame."""
    return isinstance(subject, FramedSubject)


def weights_of(subject: DecodedSubject) -> list[Any]:
    """Return the weights of a framed subject, or none."""
    return [subject.weights] if isinstance(subject, FramedSubject) else []


def split_by_dtype(subject: DecodedSubject) -> Iterator[tuple[Kind, DecodedSubject]]:
    """Yield the subject with the pairs of each dtype, the larger one of the two images."""
    by_dtype: dict[str, dict[str, Image]] = {}
    for name, image in subject.targets.items():
        dtype = np.result_type(subject.source.pixels, image.pixels).name
        by_dtype.setdefault(dtype, {})[name] = image
    for dtype, targets in by_dtype.items():
        yield (tuple(sorted(targets)), dtype), replace(subject, targets=targets)


def with_dtype(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """Return 8-bit pixels as 16-bit ones where their partner has 16 bits; exact."""
    if pixels.dtype == dtype:
        return pixels
    widened: Pixels = pixels.astype(dtype) * dtype.type(TO_16_BITS)
    return widened


def expected_groups(subjects: Iterable[Subject], plan: Plan) -> Counter[tuple[str, ...]]:
    """Return how many subjects have the same expressions; framed pairs are on their own."""
    found: Counter[tuple[str, ...]] = Counter()
    for subject in subjects:
        names = tuple(sorted(subject.expressions))
        found.update([names] if plan.templates is None else [(name,) for name in names])
    return found


def statistics_bytes(subjects: Iterable[Subject], plan: Plan) -> int:
    """Return the bytes of the statistics of subjects with 8-bit images."""
    layout, (channels, height, width) = plan.layout, plan.shape
    plane = layout.channels(channels) * height * width
    samples = channels // layout.channels(channels)
    result = 0
    for names, count in expected_groups(subjects, plan).items():
        each = 4 if count * samples <= NARROW_SAMPLES else 8
        result += layout.planes(len(names)) * plane * each
        if plan.templates is not None:
            result += 4 * 8 * channels * height * width
    return result


def least_batch_bytes(subjects: Iterable[Subject], plan: Plan) -> int:
    """Return the bytes of the smallest mini-batches of subjects with 8-bit images."""
    names = expected_groups(subjects, plan)
    return LEAST * math.prod(plan.shape) * sum(1 + len(name) for name in names)
