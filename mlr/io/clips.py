"""Clips, decoded and encoded by imageio with ffmpeg, which needs the extra ``video``."""

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

from mlr._version import install
from mlr.errors import ImageError, MlrError
from mlr.io.files import check_free, open_regular, temporary_path
from mlr.io.images import Pixels, decoding
from mlr.io.provenance import NO_RECORD, Record, from_json, to_json

if TYPE_CHECKING:
    from types import ModuleType

WRITTEN = frozenset({".mp4", ".mov", ".mkv", ".m4v"})  # suffixes of clips, all with H.264
CLIPS = WRITTEN | {".webm", ".avi"}  # suffixes of clips that are read
#: Changes video frames, given their height and width.
FrameChange = Callable[[Iterator[Pixels], tuple[int, int]], Iterator[Pixels]]

UNKNOWN_RATE = 25  # assumed frames per second
QUALITY = 8  # out of 10; visually lossless
#: Without these flags ffmpeg darkens video frames by one of 255 levels.
ACCURATE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
#: imageio's plug-in; the extension is fixed since it does not know all suffixes.
PLUGIN: dict[str, Any] = {"plugin": "FFMPEG", "extension": ".mp4"}
#: Colour matrices: ffmpeg's names in descriptions of streams, and those of its scale filter.
MATRICES = {"bt709": "bt709", "bt2020nc": "bt2020", "smpte170m": "smpte170m", "bt470bg": "bt601"}


def is_clip(path: Path) -> bool:
    """Return whether the suffix of a file is that of a clip."""
    return path.suffix.lower() in CLIPS


def change_clip(
    source: Path,
    path: Path,
    change: FrameChange,
    *,
    record: Record | None = None,
    force: bool = False,
) -> int:
    """Change every video frame of a clip, keep its rate and sound, and return their number.

    Video frames are uint8 of shape (height, width, 3); changed ones may have another size.
    `ImageError` is raised if the clip cannot be read or written, `OutputExistsError` if ``path``
    exists and ``force`` is false, `MlrError` if the extra is not installed.
    """
    _check_regular(source)
    ffmpeg = _ffmpeg()
    if path.suffix.lower() not in WRITTEN:
        raise ImageError(f"{path}: cannot store a clip; use {', '.join(sorted(WRITTEN))}")
    check_free(path, force=force)
    try:
        with (
            temporary_path(path, path.suffix) as temporary,  # ffmpeg needs a path and the suffix
            _reader(source, output_params=["-sws_flags", ACCURATE]) as reader,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            about = reader.get_meta_data()
            width, height = about["size"]
            changed = change(map(np.asarray, reader), (height, width))
            count = _write(temporary, changed, source, about, record)
            if ffmpeg.count_frames_and_secs(str(temporary))[0] != count:  # such as on a full disk
                raise ImageError(f"{path}: cannot be written completely")
            check_free(path, force=force)
            temporary.replace(path)
    except MlrError:
        raise
    except (OSError, RuntimeError, StopIteration) as error:
        raise ImageError(f"{source}: cannot be read or written as a clip") from error
    return count


def describe_clip(path: Path) -> dict[str, Any]:
    """Return size, rate, duration and record of a clip for JSON, or raise `ImageError`."""
    _check_regular(path)
    command = [_ffmpeg().get_ffmpeg_exe(), "-v", "error", "-i", str(path.absolute())]
    done = subprocess.run([*command, "-f", "ffmetadata", "-"], capture_output=True, check=False)
    try:
        with _reader(path) as reader:
            about = reader.get_meta_data()
    except (OSError, RuntimeError, StopIteration):
        raise ImageError(f"{path}: is not a clip, or a damaged one") from None
    size = "{}x{}".format(*about["size"])
    found = {"kind": "clip", "size": size, "rate": about["fps"], "seconds": about["duration"]}
    for line in done.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.lower() == "comment" and (record := from_json(value.replace("\\", ""))):
            return found | record
    return found | NO_RECORD


def _check_regular(path: Path) -> None:
    """Raise `ImageError` unless this is a regular file: ffmpeg would block on a pipe."""
    with decoding(path), open_regular(path):
        pass


@contextmanager
def _reader(path: Path, **options: Any) -> Iterator[Any]:
    """Open a clip to read it, and end ffmpeg after the block, which imageio forgets."""
    with (
        iio.imopen(path.absolute(), "r", **PLUGIN) as file,
        closing(file.legacy_get_reader(**options)) as reader,
    ):
        yield reader


def _write(
    path: Path, frames: Iterator[Pixels], source: Path, about: Any, record: Record | None
) -> int:
    """Write video frames with the sound of the source and return their number."""
    first = next(frames, None)
    if first is None:
        raise ImageError(f"{source}: has no video frames")
    params = _colours(about.get("pix_fmt", ""))
    params += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    if record is not None:
        params += ["-metadata", f"comment={to_json(record)}"]
    even = first.shape[0] % 2 == first.shape[1] % 2 == 0  # as 4:2:0 needs
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
    """Return ffmpeg's options for the colour space of the source, which players would guess.

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
        raise MlrError(f"clips need ffmpeg: {install('video')}") from None
    logging.getLogger("imageio_ffmpeg").addHandler(logging.NullHandler())  # rotated clips
    return imageio_ffmpeg
