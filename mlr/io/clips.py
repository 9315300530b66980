"""Clips, whose frames imageio decodes and encodes with ffmpeg: the extra ``mlr[video]``."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np

from mlr.errors import ImageError, MlrError
from mlr.io.files import check_free, open_regular, temporary_beside
from mlr.io.images import Pixels, decoding
from mlr.io.provenance import NO_RECORD, Record, from_json, to_json

if TYPE_CHECKING:
    from types import ModuleType

#: Kinds of file that are written, all with H.264 in them.
WRITTEN = frozenset({".mp4", ".mov", ".mkv", ".m4v"})
#: Kinds of file that are taken for clips.
CLIPS = WRITTEN | {".webm", ".avi"}
#: Changes the frames of a clip, given their height and width.
Film = Callable[[Iterator[Pixels], tuple[int, int]], Iterator[Pixels]]

UNKNOWN_RATE = 25  # frames a second
QUALITY = 8  # of 10; the eye hardly tells it from the frames
#: Without these ffmpeg darkens frames by one of 255 levels in reading and writing them.
ACCURATE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
#: The plug-in of imageio, which goes by the suffix and does not know all of them.
PLUGIN: dict[str, Any] = {"plugin": "FFMPEG", "extension": ".mp4"}
#: Matrices between RGB and what is stored, as ffmpeg prints them and as its filter calls them.
MATRICES = {"bt709": "bt709", "bt2020nc": "bt2020", "smpte170m": "smpte170m", "bt470bg": "bt601"}


def is_clip(path: Path) -> bool:
    """Tell from the suffix whether a file is taken for a clip."""
    return path.suffix.lower() in CLIPS


def change_clip(
    source: Path,
    path: Path,
    change: Film,
    *,
    record: Record | None = None,
    force: bool = False,
) -> int:
    """Change every frame of a clip, with a few in memory at a time, and keep its rate and sound.

    Parameters
    ----------
    source : Path
        The clip.
    path : Path
        File to write; its suffix is one of `WRITTEN`.
    change : function of an iterator and (height, width)
        Is given the frames, uint8 of shape (height, width, 3), and their size; yields changed ones,
        as many and all of one size.
    record : mapping, optional
        See `mlr.io.provenance`.
    force : bool
        Replace an existing file.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    ImageError
        If the clip cannot be read, or the extra is not installed.
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    if path.suffix.lower() not in WRITTEN:
        raise ImageError(f"{path}: cannot hold a clip; use {', '.join(sorted(WRITTEN))}")
    check_free(path, force=force)
    try:
        with (
            # ffmpeg writes to a path and not to an open file, and looks at its suffix.
            temporary_beside(path, path.suffix) as temporary,
            _reader(source, output_params=["-sws_flags", ACCURATE]) as reader,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            about = reader.get_meta_data()
            width, height = about["size"]
            changed = change(map(np.asarray, reader), (height, width))
            count = _write(temporary, changed, source, about, record)
            if _ffmpeg().count_frames_and_secs(str(temporary))[0] != count:  # the disk is full
                raise ImageError(f"{path}: cannot be written completely")
            check_free(path, force=force)
            temporary.replace(path)
    except (OSError, RuntimeError, StopIteration) as error:
        raise ImageError(f"{source}: cannot be read, or not be written, as a clip") from error
    return count


def describe_clip(path: Path) -> dict[str, Any]:
    """Return size, rate, seconds and record of a clip, ready for JSON.

    Raises
    ------
    ImageError
        If it is no clip.
    MlrError
        If the extra is not installed.
    """
    try:
        with _reader(path) as reader:
            about = reader.get_meta_data()
    except (OSError, RuntimeError, StopIteration):
        raise ImageError(f"{path}: is not a clip, or damaged") from None
    command = [_ffmpeg().get_ffmpeg_exe(), "-v", "error", "-i", str(path.absolute())]
    done = subprocess.run([*command, "-f", "ffmetadata", "-"], capture_output=True, check=False)
    width, height = about["size"]
    found = {
        "kind": "clip",
        "size": f"{width}x{height}",
        "rate": about["fps"],
        "seconds": about["duration"],
    }
    for line in done.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.lower() == "comment" and (record := from_json(value.replace("\\", ""))):
            return found | record
    return found | NO_RECORD


@contextmanager
def _reader(path: Path, **options: Any) -> Iterator[Any]:
    """Open a clip; imageio itself would leave ffmpeg running until a garbage collection."""
    with decoding(path), open_regular(path):
        pass  # no pipe, which ffmpeg would wait for
    _ffmpeg()
    with (
        iio.imopen(path.absolute(), "r", **PLUGIN) as file,
        closing(file.legacy_get_reader(**options)) as reader,
    ):
        yield reader


def _write(
    path: Path,
    frames: Iterator[Pixels],
    source: Path,
    about: dict[str, Any],
    record: Record | None,
) -> int:
    """Write frames with the sound of the source and return their number."""
    first = next(frames, None)
    if first is None:
        raise ImageError(f"{source}: has no frames")
    params = _colours(about.get("pix_fmt", ""))
    params += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    if record is not None:
        params += ["-metadata", f"comment={to_json(record)}"]
    even = first.shape[0] % 2 == first.shape[1] % 2 == 0  # as half the colour resolution needs
    options = {
        "fps": about["fps"] or UNKNOWN_RATE,
        "quality": QUALITY,
        "pixelformat": "yuv420p" if even else "yuv444p",
        "macro_block_size": 1,
        "ffmpeg_log_level": "quiet",
        "audio_path": str(source.absolute()) if about.get("audio_codec") else None,
        "audio_codec": "copy" if path.suffix == source.suffix else None,
        "output_params": params,
    }
    count = 0
    with (
        iio.imopen(path.absolute(), "w", **PLUGIN) as file,
        closing(file.legacy_get_writer(**options)) as writer,
    ):
        for frame in chain([first], frames):
            writer.append_data(frame)
            count += 1
    return count


def _colours(stored: str) -> list[str]:
    """Return options that store colours as the source does: players guess by the size otherwise.

    ffmpeg describes it as ``yuv420p(tv, bt709/unknown/unknown, progressive)``.
    """
    found = re.search(rf"[(, ]({'|'.join(MATRICES)})(?:/([\w-]+)/([\w-]+))?", stored)
    scale = f"scale=flags={ACCURATE}"
    if found is None:
        return ["-vf", scale]
    matrix, primaries, transfer = (name or found[1] for name in found.groups())
    options = ["-vf", f"{scale}:out_color_matrix={MATRICES[matrix]}", "-colorspace", matrix]
    return [*options, "-color_primaries", primaries, "-color_trc", transfer]


def _ffmpeg() -> ModuleType:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MlrError("a clip needs mlr[video]: pip install 'mlr[video]'") from None
    logging.getLogger("imageio_ffmpeg").addHandler(logging.NullHandler())  # of turned clips
    module: ModuleType = imageio_ffmpeg
    return module
