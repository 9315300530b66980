"""Synthesis from files to files: images, photographs, animations and clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mlr.core.model import Changer, Model, WantedChange, check_shares, check_strength, mix_name
from mlr.core.registration.search import Fit
from mlr.errors import ImageError, MlrError, OptionError
from mlr.io.clips import change_clip, is_clip
from mlr.io.files import check_free
from mlr.io.folders import as_text
from mlr.io.images import (
    ENCODINGS,
    NARROWED,
    PNG_LEVEL,
    QUALITY,
    Image,
    Pixels,
    read_image,
    resized,
    stores_8_bits,
    write_image,
)
from mlr.io.outputs import FOLDERS, FilePlan, check_skipping, check_suffix, plan_outputs
from mlr.io.provenance import kept_exif, lost_metadata, new_record, to_exif
from mlr.io.sheet import CELL, as_rgb8, draw_sheet
from mlr.photo.align import aligned_crop
from mlr.photo.composite import FrameChanger, changer
from mlr.photo.eyes import Eyes
from mlr.photo.faces import FaceFinder
from mlr.synthesis.animation import ANIMATED, is_partial, write_animation
from mlr.training.warmup import announced
from mlr.utils.executor import Executor, map_items
from mlr.utils.progress import Report, counted, reporting
from mlr.utils.threads import limited, ordered_map

Target = str | Mapping[str, float]  # an expression or the shares of a mix
Style = float | Mapping[str, float] | None
Size = tuple[int, ...]  # height and width, in pixels

Grid = tuple[str, Sequence[float]]  # strength or style, and the values of the columns

GRIDS = {"strength": (0.25, 0.5, 0.75, 1.0), "style": (-1.0, 0.0, 1.0, 2.0)}
COLUMNS = 16  # most columns of a grid, in addition to the input

BATCH = 32  # files per task of an executor


def synthesize(
    model: Model,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    target: Target | Sequence[Target] = (),
    strength: float = 1.0,
    style: Style = None,
    region: str | Sequence[str] = (),
    resize: bool = False,
    align: bool = False,
    eyes: str | Path | None = None,
    face: int | str = "all",
    animate: bool = False,
    start: Target | None = None,
    styles: tuple[float, float] | None = None,
    grid: Grid | str | None = None,
    format: str | None = None,
    quality: int = QUALITY,
    png_level: int = PNG_LEVEL,
    metadata: bool = True,
    executor: Executor | None = None,
    threads: int | None = None,
    skip_existing: bool = False,
    force: bool = False,
    progress: bool = False,
    report: Report | None = None,
) -> list[Path]:
    """Change the expression of faces in image files, clips and folders of them.

    Images of the model's size are aligned faces; with ``resize`` all images are. Other images, and
    those listed in the table of eyes, are photographs: faces are found, and changed in place, see
    `mlr.photo.composite`. The same holds for clips, in which faces are tracked, see
    `mlr.photo.track`.

    Names and subfolders are kept. Without ``output``, the images of a folder ``F`` are written to
    the folder ``F-<expression>`` next to it, and a file ``face.png`` to ``face-<expression>.png``.
    Mixes of expressions are named by `mlr.core.model.mix_name`.

    Parameters
    ----------
    model : Model
        The model to apply.
    inputs : path or sequence of path
        Image files, clips and folders of them.
    output : path, optional
        Folder to write to, with a subfolder for each expression if there are several; or, for one
        input and one expression, the file.
    target : str, mapping of str to float, or sequence of these
        Expressions, and mixes of them by their shares (see `Model.synthesize`); by default all
        expressions of the model.
    strength : float
        0 gives the input, 1 the model's output, up to 2 exaggerates.
    style : float or mapping of str to float, optional
        Style of all expressions, or of each: see `Model.synthesize`.
    region : str or sequence of str
        Parts of the face to change: see `Model.synthesize`.
    resize : bool
        Resize aligned faces to the size of the model.
    align : bool
        Treat all images as photographs, even those of the model's size.
    eyes : path, optional
        CSV file of eyes, see `mlr.photo.eyes.EyeTable`. Eyes that it does not list are detected,
        which needs the extra ``align``.
    face : "all", "largest" or int
        Which faces of a photograph to change: all, or one by its rank in size.
    animate : bool
        Write an animation from the face to the expression and back: GIF, unless ``format`` or the
        suffix of ``output`` is that of WebP, PNG, ``frames``, a folder of PNG files, or ``sheet``,
        a folder with a sprite sheet, sheet.png, and its frames, sheet.json.
    start : str or mapping of str to float, optional
        Expression, or mix of them, that animations begin with instead of the input.
    styles : (float, float), optional
        Styles that animations go through, at full strength.
    grid : str or (str, sequence of float), optional
        Write one labelled 8-bit picture per image, ``face-grid.png``, with the input, and a row for
        each target and face: "strength" or "style", and the values of the columns; without values
        those of `GRIDS`. Of photographs it shows aligned crops.
    format : str, optional
        Suffix of the images to write, such as "jpg"; by default that of each input.
    quality : int
        Quality of JPEG and WebP files, from 1 to 100.
    png_level : int
        Compression level of PNG files, from 0 to 9.
    metadata : bool
        Write a record of the synthesis to each file, see `mlr.io.provenance`.
    executor : Executor, optional
        Runs the synthesis in other processes, which must see the same folders; by default it runs
        in threads.
    threads : int, optional
        Number of threads; by default that of processors.
    skip_existing : bool
        Skip existing outputs.
    force : bool
        Overwrite existing files, even inputs that are their own outputs.
    progress : bool
        Show notes and progress bars on stderr.
    report : Report, optional
        Shows progress and notes, and collects the files that fail.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        If ``inputs`` is empty.
    ModelError
        If the model lacks an expression.
    OptionError
        If the strength, a style, a share or another option is invalid.
    MlrError
        If ``output`` is a file, but there are several outputs.
    """
    check_strength(strength)
    check_skipping(skip_existing, force)
    if resize and align:
        raise OptionError("--resize says that the images are aligned, --align that they are not")
    if not 1 <= quality <= 100 or not 0 <= png_level <= 9:
        raise OptionError("the quality must lie between 1 and 100, the PNG level between 0 and 9")
    if (start is not None or styles is not None) and not animate:
        raise OptionError("--start and --styles are for --animate")
    if styles is not None and (style is not None or start is not None):
        raise OptionError("--styles goes through styles; --style and --start do not go with it")
    if grid is not None:
        if animate:
            raise OptionError("--grid and --animate are two kinds of output; give one of them")
        grid = _checked_grid(model, grid, strength, style)
    finder = FaceFinder(eyes, face)
    suffix = _suffix(format, animate) or (".png" if grid else None)
    report = reporting(report, progress)
    targets = _targets(model, target)
    model.styles_of(style, model.expressions)
    for each in styles or ():
        model.styles_of(each, model.expressions)
    begin = None if start is None else model.shares_of(start)
    wanted = {name: model.change_of(each, style, region) for name, each in targets.items()}
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if executor is not None:  # its workers may have other working directories
        paths = [path.absolute() for path in paths]
        output = None if output is None else Path(output).absolute()
    check_suffix(output, paths, ANIMATED if animate else ENCODINGS)
    names = ["grid"] if grid else list(targets)
    plans = plan_outputs(paths, output, names, report, suffix, force=force)
    finder.check_table([plan.source for plan in plans], report)
    encoding = {"quality": quality, "png_level": png_level, "force": force}
    aligned = True if resize else False if align else None
    settings = _Settings(
        *(model, targets, wanted, strength, style, region, finder, aligned),
        *(animate, begin, styles, grid, metadata, skip_existing, encoding),
    )
    outcomes: list[_Outcome] = []
    with limited(threads), announced(report):
        results = map_items(executor, _synthesize_file, plans, settings, BATCH)
        tracked = report.progress(results, len(plans), "synthesizing")
        for plan, outcome in zip(plans, tracked, strict=True):
            outcomes.append(outcome)
            report.skipped += outcome.skipped
            for cause, path in outcome.failures:
                report.fail(plan.source, cause, path)
            _report_fits(report, plan.source, outcome.fits if strength else [])
    written = [path for outcome in outcomes for path in outcome.written]
    report.done += len(written)
    report.note_losses((plan.source, each.loss) for plan, each in zip(plans, outcomes, strict=True))
    for plan, outcome in zip(plans, outcomes, strict=True):
        report.lose(plan.source, outcome.lost)
    shown = Counter(fit["shows"] for o in outcomes for fit in o.fits if fit.get("shown"))
    for name, count in shown.items():
        report.note(f"note: {counted(count, 'face')} with signs of {name} already, changed less")
    _note_faces(report, [o.faces for o in outcomes if o.faces is not None], model)
    bare = sum(path.suffix.lower() == ".bmp" for path in written) if metadata else 0
    if bare:
        report.note(f"note: {counted(bare, 'output')} in BMP, which cannot store the record")
    return written


@dataclass(frozen=True)
class _Settings:
    """Settings that all files share."""

    model: Model
    targets: dict[str, Target]  # by the names of their outputs
    wanted: dict[str, WantedChange]
    strength: float
    style: Style
    region: str | Sequence[str]
    finder: FaceFinder
    aligned: bool | None  # whether images are aligned faces; None: those of the model's size are
    animate: bool
    begin: dict[str, float] | None  # shares that an animation begins with
    styles: tuple[float, float] | None  # that an animation goes through
    grid: Grid | None
    metadata: bool
    skip_existing: bool
    encoding: dict[str, Any]  # quality, png_level and force of `write_image`

    @property
    def size(self) -> Size:
        return self.model.shape[1:]

    def is_photograph(self, file: Path, size: Size) -> bool:
        """Return whether a file of this size is a photograph, rather than an aligned face."""
        aligned = size == self.size if self.aligned is None else self.aligned
        return self.finder.knows(file) or not aligned

    def moment(self, target: Target, share: float) -> tuple[Target, Style]:
        """Return target and style after a share of the way of an animation."""
        if self.styles is not None:
            first, last = self.styles
            return target, first + share * (last - first)
        ways = (self.begin or {}, 1 - share), (self.model.shares_of(target), share)
        mix: dict[str, float] = {}
        for shares, part in ways:
            for name, amount in shares.items():
                mix[name] = mix.get(name, 0.0) + part * amount
        return mix, self.style

    def record(self, name: str, strength: float, style: object = None) -> dict[str, Any] | None:
        """Return the record of an output, unless records are disabled."""
        record = new_record(name, strength, self.model.sha256, style)
        return record if self.metadata else None


@dataclass
class _Outcome:
    """Results of a file."""

    written: list[Path] = field(default_factory=list)
    skipped: int = 0  # number of outputs that existed
    failures: list[tuple[str, Path]] = field(default_factory=list)  # causes and outputs
    loss: str = ""  # of `Image`
    lost: list[str] = field(default_factory=list)  # what outputs lack of the file
    faces: list[Eyes] | None = None  # in a photograph
    fits: list[dict[str, Any]] = field(default_factory=list)  # summaries of each face


def _synthesize_file(plan: FilePlan, settings: _Settings) -> _Outcome:
    """Write all outputs of an image or clip."""
    outputs = plan.outputs
    if settings.skip_existing:
        outputs = {name: path for name, path in outputs.items() if not path.exists()}
    outcome = _Outcome(skipped=len(plan.outputs) - len(outputs))
    if not outputs:
        return outcome
    if is_clip(plan.source):
        write = partial(_write_clip, settings, plan.source, outcome)
    else:
        try:
            for path in outputs.values():  # fails before the computation
                folder = settings.animate and path.suffix.lower() in FOLDERS
                check_free(path, force=settings.encoding["force"], folder=folder)
            image, faces = _read(plan.source, settings)
        except MlrError as error:
            outcome.failures.append((str(error), path))
            return outcome
        narrowed = image.pixels.itemsize > 1 and any(map(stores_8_bits, outputs.values()))
        narrowed |= settings.grid is not None and image.pixels.itemsize > 1
        outcome.loss, outcome.faces = image.loss or (NARROWED if narrowed else ""), faces
        if ".gif" in {path.suffix.lower() for path in outputs.values()} and is_partial(image.alpha):
            outcome.lost.append("partial transparency")
        if settings.grid is not None and image.alpha is not None:
            outcome.lost.append("transparency")
        if settings.metadata:
            lost = (each for path in outputs.values() for each in lost_metadata(path, image))
            outcome.lost += dict.fromkeys(lost)
        kind = _write_image if settings.grid is None else _write_grid
        write = partial(kind, settings, image, faces)
    for name, path in outputs.items():
        try:
            outcome.fits = [fit.summary() for fit in write(name, path)]
            outcome.written.append(path)
        except MlrError as error:
            outcome.failures.append((str(error), path))
    return outcome


def _read(file: Path, settings: _Settings) -> tuple[Image, list[Eyes] | None]:
    """Return a photograph and its faces, or an aligned face in the model's size and None."""
    image = read_image(file)
    size = image.pixels.shape[:2]
    if not settings.is_photograph(file, size):
        alpha = image.alpha
        if alpha is not None:
            alpha = _fitted(alpha[..., None], settings.size)[..., 0]
        return replace(image, pixels=_fitted(image.pixels, settings.size), alpha=alpha), None
    with _hint_to_resize(size, settings.size):
        return image, settings.finder.find(file, image.pixels)


def _write_image(
    settings: _Settings, image: Image, faces: list[Eyes] | None, name: str, path: Path
) -> Sequence[Fit]:
    """Write an image with one expression, or an animation to it; return the fits of its faces."""
    strength, encoding = settings.strength, settings.encoding
    target = settings.targets[name]
    changed = partial(_changer, settings, image, faces)
    change = changed(target, settings.style)
    if not settings.animate:
        kept = kept_exif(image) if settings.metadata else None
        exif = to_exif(settings.record(name, strength, settings.style), kept)
        write_image(path, change(strength), image.alpha, icc=image.icc, exif=exif, **encoding)
    elif settings.begin is None and settings.styles is None:
        record = partial(settings.record, name, style=settings.style)
        write_animation(path, change, image, strength=strength, record=record, **encoding)
    else:
        write_animation(
            path,
            lambda share: changed(*settings.moment(target, share))(strength),
            image,
            record=lambda share: settings.record(name, strength, settings.moment(target, share)[1]),
            **encoding,
        )
    return change.fits


def _changer(
    settings: _Settings, image: Image, faces: list[Eyes] | None, target: Target, style: Style
) -> Changer:
    """Return what changes an aligned face, or the faces of a photograph."""
    if faces is None:
        return settings.model.changer(image.pixels, target, style, settings.region)
    return changer(settings.model, image.pixels, faces, target, style, settings.region)


def _write_grid(
    settings: _Settings, image: Image, faces: list[Eyes] | None, name: str, path: Path
) -> Sequence[Fit]:
    """Write a table of expressions by strengths or styles; return the fits of the faces."""
    assert settings.grid is not None
    axis, values = settings.grid
    side = max(CELL, *settings.size)

    def cells(pixels: Pixels) -> list[Pixels]:
        if faces is None:
            return [as_rgb8(pixels)]
        return [as_rgb8(aligned_crop(pixels, eyes, side)) for eyes in faces]

    rows: list[tuple[str, list[Pixels]]] = []
    for label, target in settings.targets.items():
        if axis == "strength":
            change = _changer(settings, image, faces, target, settings.style)
            outputs = [change(value) for value in values]
        else:
            changes = [_changer(settings, image, faces, target, value) for value in values]
            change, outputs = changes[-1], [each(settings.strength) for each in changes]
        columns = [cells(pixels) for pixels in (image.pixels, *outputs)]
        for number, row in enumerate(zip(*columns, strict=True), 1):
            face = f", face {number}" if faces is not None and len(faces) > 1 else ""
            rows.append((as_text(label + face), list(row)))
    sheet = draw_sheet(["input", *(f"{axis} {value:g}" for value in values)], rows)
    by_strength = axis == "strength"
    strength = max(values) if by_strength else settings.strength
    style = settings.style if by_strength else list(values)
    record = settings.record(", ".join(settings.targets), strength, style)
    icc = image.icc if image.pixels.shape[2] == 3 else None
    exif = to_exif(record, kept_exif(image) if settings.metadata else None)
    write_image(path, sheet, icc=icc, exif=exif, **settings.encoding)
    return change.fits


def _write_clip(
    settings: _Settings, clip: Path, outcome: _Outcome, name: str, path: Path
) -> Sequence[Fit]:
    """Write a clip with one expression; return the best fit of each face."""
    if settings.animate or settings.grid is not None:
        option = "--animate" if settings.animate else "--grid"
        raise ImageError(f"is a clip; {option} is for images")
    model, strength = settings.model, settings.strength
    target = settings.targets[name], strength, settings.style, settings.region
    change = FrameChanger(model, settings.wanted[name], strength)

    def changed(frames: Iterator[Pixels], size: Size) -> Iterator[Pixels]:
        if settings.is_photograph(clip, size):
            with _hint_to_resize(size, settings.size):
                tracked = settings.finder.follow(clip, frames)
                yield from ordered_map(change, tracked, 1)
        else:
            fitted = (_fitted(frame, settings.size) for frame in frames)
            yield from ordered_map(lambda frame: model.synthesize(frame, *target), fitted, 1)

    force = settings.encoding["force"]
    record = settings.record(name, strength, settings.style)
    outcome.lost = change_clip(clip, path, changed, record=record, force=force)
    return list(change.best.values())


def _report_fits(report: Report, file: Path, fits: Sequence[Mapping[str, Any]]) -> None:
    """Record how the faces of a file fit, and those that do not, which stay as they are."""
    for number, fit in enumerate(fits, 1):
        report.faces.append({"path": str(file), **fit})
        if not fit["trust"]:
            which = f"face {number} " if len(fits) > 1 else ""
            report.fail(
                file,
                f"{which}does not look like the faces learnt from, and stays as it is; "
                f"fit {fit['fit']:.2f}",
            )


@contextmanager
def _hint_to_resize(size: Size, expected: Size) -> Iterator[None]:
    """Add to errors of a photograph that it might be an aligned face of another size."""
    try:
        yield
    except ImageError as error:
        if size == expected:
            raise
        raise ImageError(
            f"is {size[1]}x{size[0]} px, but the model works on {expected[1]}x{expected[0]} px; "
            f"give --resize if it is an aligned face; as a photograph: {error}"
        ) from error


def _fitted(pixels: Pixels, size: Size) -> Pixels:
    """Return an image in the model's size."""
    return pixels if pixels.shape[:2] == size else resized(pixels, size[0], size[1])


def _checked_grid(model: Model, grid: Grid | str, strength: float, style: Style) -> Grid:
    """Return what varies along the rows of a grid, and its values."""
    axis, values = (grid, ()) if isinstance(grid, str) else grid
    if axis not in GRIDS:
        raise OptionError(f"a grid cannot have {axis!r} along its rows; use strength or style")
    values = tuple(values) or GRIDS[axis]
    if len(values) > COLUMNS:
        raise OptionError(f"a grid has at most {COLUMNS} values, not {len(values)}")
    if (style is not None) if axis == "style" else strength != 1:
        raise OptionError(f"--grid {axis} has its own values; --{axis} does not go with it")
    for value in values:
        if axis == "style":
            model.styles_of(value, model.expressions)
        else:
            check_strength(value)
    return axis, values


def _suffix(format: str | None, animate: bool) -> str | None:
    """Return the suffix of outputs, or None for that of each input."""
    if format is None:
        return ".gif" if animate else None
    suffix = f".{format.lower().removeprefix('.')}"
    kinds, known = ("animations", ANIMATED) if animate else ("images", ENCODINGS)
    if suffix not in known:
        names = ", ".join(each.removeprefix(".") for each in known)
        raise OptionError(f"{kinds} cannot be written as {suffix[1:]}; use {names}")
    return suffix


def _targets(model: Model, target: Target | Sequence[Target]) -> dict[str, Target]:
    """Return each expression or mix by the name of its outputs; by default all expressions."""
    targets = [target] if isinstance(target, str | Mapping) else list(target) or model.expressions
    named: dict[str, Target] = {}
    for each in targets:
        name = each if isinstance(each, str) else mix_name(each)
        if named.setdefault(name, each) != each:
            raise OptionError(f"two different outputs would be named {name!r}; write one at a time")
    for each in named.values():
        if not isinstance(each, str):
            check_shares(each)
        for name in [each] if isinstance(each, str) else each:
            model.require(name)
    return named


def _note_faces(report: Report, photographs: Sequence[Sequence[Eyes]], model: Model) -> None:
    """Note the number of faces in photographs, and of those smaller than the model's size."""
    if not photographs:
        return
    faces = [eyes for photograph in photographs for eyes in photograph]
    _, height, width = model.shape
    small = sum(eyes.to_crop(height, width, model.info.eyes).scale > 1 for eyes in faces)
    smaller = f", {small} of them smaller than the model's {width}x{height} px" if small else ""
    found = f"{counted(len(faces), 'face')} in {counted(len(photographs), 'photograph')}"
    report.note(f"note: {found}{smaller}")
