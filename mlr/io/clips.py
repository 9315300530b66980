"""Clips, decoded and encoded by imageio with ffmpeg, which needs the extra ``video``."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain, pairwise
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
#: Suffixes of clips that are read.
CLIPS = WRITTEN | {".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".vob", ".mxf"}
CLIPS |= {".3gp", ".3g2", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".dv", ".divx", ".mod"}
#: Changes video frames, given their height and width.
FrameChange = Callable[[Iterator[Pixels], tuple[int, int]], Iterator[Pixels]]

UNKNOWN_RATE = 25  # assumed frames per second
QUALITY = 8  # out of 10; visually lossless
#: Without these flags ffmpeg darkens video frames by one of 255 levels.
ACCURATE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
#: imageio's plug-in; the extension is fixed since it does not know all suffixes.
PLUGIN: dict[str, Any] = {"plugin": "FFMPEG", "extension": ".mp4"}
#: Selects the video that is changed, rather than a cover, and each video frame once.
SELECTED = ["-map", "0:V:0", "-fps_mode", "passthrough"]
#: Colour matrices: ffmpeg's names in descriptions of streams, and those of its scale filter.
MATRICES = {"bt709": "bt709", "bt2020nc": "bt2020", "bt470bg": "bt601", "gbr": "bt709"}
MATRICES |= {name: name for name in ("smpte170m", "smpte240m", "fcc")}
#: Codecs of subtitles that are text, which MP4 and QuickTime store in their own way.
TEXTS = frozenset({"ass", "mov_text", "srt", "ssa", "subrip", "text", "webvtt"})
#: Outputs are the same for the same input, and have no metadata but the record.
REPRODUCIBLE = ["-map_metadata:g", "-1", "-fflags", "+bitexact", "-flags", "+bitexact"]


@dataclass(frozen=True)
class _Source:
    """What ffmpeg reports about a clip; times are integers in units of ``unit`` seconds."""

    path: Path
    unit: Fraction
    times: list[int]  # of the video frames
    last: int  # duration of the last one
    rate: Fraction | None  # video frames per second, None if it varies
    aspect: Fraction  # width of a pixel divided by its height, 0 if unknown
    colours: dict[str, str]  # ffmpeg's names of range, matrix, primaries and transfer
    others: dict[str, tuple[str, str]]  # kind and codec of the other streams, by their index
    lost: list[str]  # what outputs cannot store


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
) -> list[str]:
    """Change every video frame of a clip and return what the output lacks, such as "alpha".

    The output has the times, colour tags and pixel aspect of the source, and its other streams:
    sounds, subtitles and chapters. Video frames are uint8 of shape (height, width, 3); changed ones
    may have another size. `ImageError` is raised if the clip cannot be read or written,
    `OutputExistsError` if ``path`` exists and ``force`` is false, `MlrError` if the extra is not
    installed.
    """
    _check_regular(source)
    _ffmpeg()
    if path.suffix.lower() not in WRITTEN:
        raise ImageError(f"{path}: cannot store a clip; use {', '.join(sorted(WRITTEN))}")
    check_free(path, force=force)
    about = _probe(source)
    try:
        with (
            temporary_path(path, path.suffix) as temporary,  # ffmpeg needs a path and the suffix
            temporary_path(path, ".mp4") as video,  # can store times in any unit
            temporary_path(path, ".txt") as script,
            _reader(source, output_params=[*SELECTED, "-sws_flags", ACCURATE]) as reader,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = reader.get_meta_data()["size"]
            changed = change(map(np.asarray, reader), (height, width))
            _encode(video, script, changed, about, (height, width))
            lost = _combine(temporary, video, path.suffix.lower(), about, record)
            if lost is None:  # such as on a full disk
                raise ImageError(f"{path}: cannot be written completely")
            check_free(path, force=force)
            temporary.replace(path)
    except MlrError:
        raise
    except (OSError, RuntimeError, StopIteration) as error:
        raise ImageError(f"{source}: cannot be read or written as a clip") from error
    return about.lost + lost


def describe_clip(path: Path) -> dict[str, Any]:
    """Return size, rate, duration and record of a clip for JSON, or raise `ImageError`."""
    _check_regular(path)
    record = read_record(path)
    try:
        with _reader(path) as reader:
            about = reader.get_meta_data()
    except (OSError, RuntimeError, StopIteration):
        raise ImageError(f"{path}: is not a clip, or a damaged one") from None
    size = "{}x{}".format(*about["size"])
    found = {"kind": "clip", "size": size, "rate": about["fps"], "seconds": about["duration"]}
    return found | (record or NO_RECORD)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record in a clip, or None if it has none, or is no clip."""
    done = _run("-v", "error", "-i", _url(path), "-f", "ffmetadata", "-")
    for line in done.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.lower() == "comment" and (record := from_json(value.replace("\\", ""))):
            return record
    return None


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


def _run(*options: str) -> subprocess.CompletedProcess[bytes]:
    command = [_ffmpeg().get_ffmpeg_exe(), "-nostdin", "-hide_banner", *options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _url(path: Path) -> str:
    """Return ffmpeg's address of a file; ``12:30.mp4`` alone would name a protocol."""
    return f"file:{path.absolute()}"


def _probe(path: Path) -> _Source:
    """Decode a clip for the times of its video frames and ffmpeg's report."""
    options = ["-enc_time_base", "demux", "-c:v", "wrapped_avframe", "-f", "framecrc", "-"]
    done = _run("-i", _url(path), *SELECTED, *options)
    table, report = done.stdout.decode(), done.stderr.decode(errors="replace")
    head = dict(re.findall(r"^#(tb|sar) 0: (\d+/\d+)$", table, re.M))
    rows = [line.split(",") for line in table.splitlines() if not line.startswith("#")]
    stored = re.search(r": Video: wrapped_avframe, (\w+)(?:\((.*?)\))?", report)
    if not rows or stored is None:
        raise ImageError(f"{path}: cannot be read or written as a clip")
    details = (stored[2] or "").split(", ")
    lost = _lost_pixels(stored[1])
    lost += ["interlacing"] * any("first" in each for each in details)
    given, _, output = report.partition("\nOutput #0")
    others: dict[str, tuple[str, str]] = {}
    main, extra = "", _side_data(output)
    for stream in re.split(r"^ +Stream #0:", given, flags=re.M)[1:]:
        found = re.match(r"(\d+).*?: (\w+): (\w+)(?: \((\w+))?", stream)
        if found is None:
            continue
        index, kind, codec, tag = found.groups()
        if kind == "Video" and not main and "(attached pic)" not in stream:
            main, extra = stream, _side_data(stream) | extra
        elif tag != "text" or kind != "Data":  # the titles of chapters
            others[index] = kind.lower(), tag or codec if codec == "none" else codec
    lost += ["alpha"] * bool(re.search(r"^ +alpha_mode +: 1$", main, re.M))
    times, durations = ([int(row[column]) for row in rows] for column in (2, 3))
    times = list(accumulate(times, lambda before, time: max(time, before + 1)))  # some coincide
    steps = [b - a for a, b in pairwise(times)]
    unit = Fraction(head["tb"])
    last = durations[-1] or (steps[-1] if steps else round(1 / unit / UNKNOWN_RATE))
    if durations[:-1] != steps:  # with B-frames, it can be that of another video frame
        last = min(last, steps[-1])
    if "Input #0, avi" in given:  # stores no times: the first is the delay of the decoder
        times = [time - times[0] for time in times]
    rate = _rate(times, last, unit, re.search(r" ([\d.]+) fps", main))
    over, under = map(int, head.get("sar", "0/1").split("/"))
    aspect, colours = Fraction(over, under or 1), _colours(details)
    return _Source(
        path, unit, times, last, rate, aspect, colours, others, list(dict.fromkeys([*lost, *extra]))
    )


def _rate(
    times: Sequence[int], last: int, unit: Fraction, named: re.Match[str] | None
) -> Fraction | None:
    """Return the rate if it is constant, up to the rounding of times; ffmpeg names two decimals."""
    rates = [1 / (last * unit)]
    if named is not None:
        rate = Fraction(named[1])
        broadcast = Fraction(round(rate * 1001 / 1000) * 1000, 1001)  # 23.98 is 24000/1001
        rates.append(broadcast if f"{float(broadcast):.2f}" == named[1] else rate)
    number = np.arange(len(times) + 1)
    for rate in filter(None, rates):
        errors = np.append(times, times[-1] + last) - times[0] - number * float(1 / (rate * unit))
        if np.abs(errors[:-1]).max() < 1 and abs(errors[-1]) < 2:
            return rate
    return None


def _lost_pixels(name: str) -> list[str]:
    """Return what pixels of 8 bits and three channels lack of one of ffmpeg's formats."""
    formats = _run("-pix_fmts").stdout.decode()
    found = re.search(rf" {name} +(\d+) +\d+ +([\d-]+)", formats)
    if found is None:
        return []
    bits = max(map(int, found[2].split("-")))
    return ["alpha"] * (found[1] in "24") + [f"{bits} bits per channel"] * (bits > 8)


def _side_data(text: str) -> dict[str, None]:
    """Return the names of side data in ffmpeg's description of a stream, but for its rotation."""
    names = re.findall(r"^ {6,8}(\w[\w ]*?)[:,] ", text.partition("Side data:")[2], re.M)
    found = dict.fromkeys(name.lower() for name in names)
    return {n: None for n in found if "matrix" not in n and not n.startswith("cpb")}


def _colours(details: Sequence[str]) -> dict[str, str]:
    """Return the colour tags in ffmpeg's description of a video, by the options of setparams.

    ffmpeg describes it as ``yuv420p(tv, bt709/unknown/unknown, progressive)``, or ``bt709`` if all
    three are the same.
    """
    found: dict[str, str] = {}
    for each in details:
        if each in ("tv", "pc"):
            found["range"] = each
        elif each in MATRICES or each.count("/") == 2:
            names = each.split("/") if "/" in each else [each] * 3
            found |= dict(zip(("colorspace", "color_primaries", "color_trc"), names, strict=True))
    return {option: name for option, name in found.items() if name not in ("unknown", "reserved")}


def _encode(
    path: Path, script: Path, frames: Iterator[Pixels], about: _Source, size: tuple[int, int]
) -> None:
    """Write video frames with the times and tags of the source, to begin at 0."""
    first = next(frames, None)
    if first is None:
        raise ImageError(f"{about.path}: has no video frames")
    tags, scale, params = dict(about.colours), f"scale=flags={ACCURATE}", REPRODUCIBLE
    if matrix := MATRICES.get(tags.get("colorspace", "")):
        scale += f":out_color_matrix={matrix}"
    if tags.get("colorspace") == "gbr":
        tags["colorspace"] = MATRICES["gbr"]
    if "range" in tags:
        scale += f":out_range={tags['range']}"
    filters = [scale]
    if tags:
        filters.append("setparams=" + ":".join(f"{key}={name}" for key, name in tags.items()))
    if about.aspect and first.shape[:2] == size:
        filters.append(f"setsar={about.aspect}")
    rate = about.rate or UNKNOWN_RATE
    if about.rate is None:
        filters += [f"settb={about.unit}", f"setpts='{_lookup(about.times)}-{about.times[0]}'"]
        params = [*params, "-fps_mode", "passthrough", "-enc_time_base", str(about.unit)]
        # Without B-frames, the last duration that is stored is that of the last video frame.
        params += ["-bf", "0", "-bsf:v", f"setts=duration={about.last}"]
    script.write_text(",".join(filters))  # too long for a command line
    even = first.shape[0] % 2 == first.shape[1] % 2 == 0  # as 4:2:0 needs
    options = {
        "fps": float(rate),
        "input_params": ["-r", str(rate)],  # the plug-in rounds it
        "quality": QUALITY,
        "pixelformat": "yuv420p" if even else "yuv444p",
        "macro_block_size": 1,
        "ffmpeg_log_level": "quiet",
        "output_params": ["-/filter:v", str(script.absolute()), *params],
    }
    with (
        iio.imopen(path.absolute(), "w", **PLUGIN) as file,
        closing(file.legacy_get_writer(**options)) as writer,
    ):
        for frame in chain([first], frames):
            writer.append_data(frame)


def _lookup(times: Sequence[int], first: int = 0) -> str:
    """Return ffmpeg's expression for the time of each video frame, by its number N."""
    if len(times) == 1:
        return str(times[0])
    half = len(times) // 2
    before, after = _lookup(times[:half], first), _lookup(times[half:], first + half)
    return f"if(lt(N,{first + half}),{before},{after})"


def _combine(
    path: Path, video: Path, suffix: str, about: _Source, record: Record | None
) -> list[str] | None:
    """Write a video with the other streams of its source; return those lost, or None on failure."""
    start = str(float(about.times[0] * about.unit))
    command = ["-y", "-itsoffset", start, "-i", _url(video), "-i", _url(about.path)]
    command += ["-map", "0:v:0", "-c", "copy", *REPRODUCIBLE]
    if record is not None:
        command += ["-metadata", f"comment={to_json(record)}"]
    count = ["-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"]  # a line for each video frame
    for encoded in (False, True):  # again if a stream cannot be copied
        options: list[str] = []
        lost: list[str] = []
        for index, (kind, codec) in about.others.items():
            wanted = _codec(kind, codec, about.path.suffix.lower(), suffix)
            if encoded:
                wanted = "aac" if kind == "audio" else None
            if wanted is None:
                lost.append(f"{kind} ({codec})")
            else:
                options += ["-map", f"1:{index}", f"-c:{len(options) // 4 + 1}", wanted]
        done = _run(*command, *options, _url(path), *count)
        if not done.returncode and len(re.findall(rb"^0,", done.stdout, re.M)) == len(about.times):
            return lost
    return None


def _codec(kind: str, codec: str, before: str, after: str) -> str | None:
    """Return ffmpeg's encoder for a stream, given the suffixes of both clips; None: impossible."""
    if kind == "video" or (kind in ("audio", "subtitle", "attachment") and before == after):
        return "copy"
    if after == ".mkv":
        stored = kind in ("audio", "subtitle", "attachment")
        return "srt" if codec == "mov_text" else "copy" if stored else None
    return {"audio": "aac", "subtitle": "mov_text" if codec in TEXTS else None}.get(kind)


def _ffmpeg() -> ModuleType:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MlrError(f"clips need ffmpeg: {install('video')}") from None
    logging.getLogger("imageio_ffmpeg").addHandler(logging.NullHandler())  # rotated clips
    return imageio_ffmpeg
