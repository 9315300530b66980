"""What outputs keep of clips: times, tags, pixel aspect and streams, as ffmpeg itself reports."""

import gc
import json
import re
import shlex
import struct
import subprocess
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mlr.errors import ImageError
from mlr.io.clips import change_clip

ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")

# imageio-ffmpeg leaves its pipes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SMALL = 0.002  # seconds: MKV and WebM store milliseconds
VARYING = "-vf select=not(n)+gt(mod(n*7919\\,13)\\,3) -fps_mode vfr"
TAGS = "-vf setparams=range={}:colorspace={}:color_primaries={}:color_trc={}"
SOUND = "-f lavfi -i sine=440:d=0.4"
SUBTITLES = "-i a.srt -i chapters.txt -map 0 -map 1 -map 2 -map_chapters 3"
LANGUAGES = "-metadata:s:a:0 language=eng -metadata:s:s:0 language=fra"


class Case(NamedTuple):
    """How ffmpeg writes a clip, and what its output lacks or has otherwise."""

    name: str
    options: str = ""
    source: str = "s=32x24:r=25:d=0.4"
    output: str = ""  # if it has another name than the clip with "-happy"
    lost: tuple[str, ...] = ()
    streams: int = 0  # number of other streams that are lost
    tags: str | None = None  # if they change


CASES = [
    Case("plain.mp4"),
    Case("ntsc.mp4", SOUND, "s=32x24:r=24000/1001:d=0.5"),
    Case("ntsc.mkv", "", "s=32x24:r=24000/1001:d=1"),
    Case("ntsc.webm", "-c:v libvpx-vp9 -pix_fmt yuv420p", "s=32x24:r=60000/1001:d=0.5"),
    Case("varying.mp4", f"{SOUND} {VARYING} -x264-params b-adapt=0:bframes=2",
         "s=32x24:r=30:d=0.9"),
    Case("varying.mkv", f"{VARYING} -bf 0", "s=32x24:r=30:d=1"),
    Case("varying.webm", f"{VARYING} -c:v libvpx-vp9 -pix_fmt yuv420p", "s=32x24:r=30:d=1"),
    Case("held.mov", "-bf 0 -bsf:v setts=duration=if(eq(N\\,9)\\,20480\\,DURATION)"),
    Case("rotated.mp4", "-c copy", "turned.mp4"),
    Case("aspect.mp4", "-vf setsar=4/3"),
    Case("aspect_rotated.mov", "-c copy", "turned_aspect.mp4"),
    Case("bt709.mp4", TAGS.format("tv", "bt709", "bt709", "bt709")),
    Case("pal.mkv", TAGS.format("tv", "bt470bg", "bt470bg", "smpte170m")),
    Case("full.mp4", TAGS.format("pc", "bt709", "bt709", "iec61966-2-1")),
    Case(
        "hdr.mp4",
        TAGS.format("tv", "bt2020nc", "bt2020", "smpte2084") + " -pix_fmt yuv420p10le",
        lost=("10 bits per channel",),
    ),
    Case(
        "hlg.mov",
        TAGS.format("tv", "bt2020nc", "bt2020", "arib-std-b67") + " -pix_fmt yuv422p10le",
        lost=("10 bits per channel",),
    ),
    Case("sounds.mp4", f"{SOUND} {SOUND} -map 0 -map 1 -map 2 {LANGUAGES.split(' -m')[0]}"),
    Case("titles.mp4", f"{SOUND} {SUBTITLES} -c:s mov_text {LANGUAGES}"),
    Case("titles.mkv", f"{SOUND} {SUBTITLES} -c:s ass -c:a flac {LANGUAGES} -attach a.srt "
         "-metadata:s:t mimetype=application/x-truetype-font"),
    Case("pictures.mkv", "-i pictures.sup -map 0 -map 1 -c:s copy", output="pictures.mp4",
         lost=("subtitle (hdmv_pgs_subtitle)",), streams=1),
    Case("text.mkv", f"{SOUND} {SUBTITLES} -c:s srt -c:a flac {LANGUAGES}", output="text.mp4"),
    Case("converted.mp4", f"{SOUND} {SUBTITLES} -c:a flac -c:s mov_text {LANGUAGES}",
         output="converted.mkv"),
    Case("late.mp4", f"{SOUND} -bf 0 -bsf:v setts=ts=TS+0.2/TB"),
    Case("delayed.avi", f"{SOUND} -c:a pcm_s16le -bf 2"),
    Case("alpha.webm", "-vf format=yuva420p,geq=lum=lum(X\\,Y):a=9*X -c:v libvpx-vp9",
         lost=("alpha",)),
    Case("alpha.mov", "-vf format=yuva444p10le -c:v prores_ks -profile:v 4444 -alpha_bits 16",
         lost=("alpha", "12 bits per channel")),
    Case("odd.mp4", "-pix_fmt yuv444p", "s=33x25:r=25:d=0.4"),
    Case("one.mp4", "", "s=32x24:r=25:d=0.04"),
    Case("12:30.mp4"),
    Case("concat:a.mp4"),
    Case(f"{'long name ' * 22}.mp4"),
]  # fmt: skip
SLOW = [
    Case("hdr10.mp4", "-pix_fmt yuv420p10le -c:v libx265 -x265-params log-level=none:hdr10=1:"
         "master-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(1000,1):max-cll=1000,400",
         lost=("10 bits per channel", "mastering display metadata",
               "content light level metadata")),
    Case("film.webm", "-c:v libvpx-vp9 -pix_fmt yuv420p", "s=32x24:r=24000/1001:d=12"),
    Case("data.mov", f"{SOUND} -c:a pcm_s16le -timecode 01:00:00:00", output="data.mkv",
         lost=("data (tmcd)",), streams=1),
    Case("slow.mp4", "", "s=32x24:r=1/2:d=2"),
    Case("ten.m4v", SOUND, "s=32x24:r=10:d=0.4"),
    Case("mpeg4.avi", f"{SOUND} -c:v mpeg4 -c:a libmp3lame"),
    Case("alpha_png.mov", "-pix_fmt rgba64be -c:v png", lost=("alpha", "16 bits per channel"),
         tags="pc bt709/unknown/unknown"),
    Case("grey.mkv", "-c:v ffv1 -pix_fmt gray10le", lost=("10 bits per channel",)),
    Case("rgb.mp4", "-c:v libx264rgb", tags="pc bt709/unknown/unknown"),
    Case("interlaced.mp4", "-vf setfield=tff -flags +ilme+ildct", lost=("interlacing",)),
    Case("timecode.mov", "-timecode 01:00:00:00", lost=("data (tmcd)",), streams=1),
    Case("late_sound.mp4", f"-itsoffset 0.2 {SOUND} -map 0 -map 1"),
    Case("late.mkv", f"{SOUND} -bf 0 -bsf:v setts=ts=TS+0.2/TB"),
    Case("cover.mp4", "-i cover.png -map 0 -map 1 -c:v:1 png -disposition:v:1 attached_pic"),
    Case("two.webm", f"-i turned.mp4 {SOUND} -map 0 -map 1 -map 2 -c:v libvpx -pix_fmt yuv420p",
         lost=("video (vp8)",), streams=1, tags="bt470bg/unknown/unknown"),
    Case("coinciding.mkv", "-bf 0 -bsf:v setts=ts=if(eq(N\\,9)\\,TS-1\\,TS)"),
    Case("two.mkv", "-i turned.mp4 -map 0 -map 1"),
    Case("attached.mkv", "-attach a.srt -metadata:s:t mimetype=application/x-truetype-font",
         output="attached.mp4", lost=("attachment (ttf)",), streams=1),
    Case("it's [a], 'b';c%d.mp4", f"{VARYING} -bf 0"),
    Case("bt2020.mp4", TAGS.format("tv", "bt2020nc", "bt2020", "bt2020-10")),
    Case("smpte240m.mp4", TAGS.format("tv", "smpte240m", "smpte240m", "smpte240m")),
]  # fmt: skip


class About(NamedTuple):
    """What ffmpeg reports about a clip."""

    seconds: float
    rate: str
    tags: str
    aspect: tuple[int, int]  # as it is shown
    streams: list[tuple[str, str, str]]  # kind, language and codec of all but the main one
    chapters: int
    times: np.ndarray
    frames: np.ndarray


def call(*options):
    command = [ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *options]
    return subprocess.run(command, capture_output=True, check=False)


def read(path):
    path = f"file:{path}"
    report = call("-i", path).stderr.decode()
    lines = re.findall(r"^ +Stream #0:\d+(?:\[\w+\])?(?:\((\w+)\))?: (\w+): (.*)", report, re.M)
    main = next(text for _, kind, text in lines if kind == "Video" and "attached" not in text)
    others = [
        (kind, language or "und", re.match(r"\w+", text)[0])
        for language, kind, text in lines
        if text != main
    ]
    hours, minutes, seconds = re.search(r"Duration: (\d+):(\d+):([\d.]+)", report).groups()
    tags = re.findall(r"[(, ](pc|bt709|smpte240m|\w+/\w+/[\w-]+)(?=[,)])", main)
    aspect = re.search(r"SAR (\d+):(\d+)", main)
    aspect = tuple(map(int, aspect.groups())) if aspect else (1, 1)
    select = ["-i", path, "-map", "0:V:0", "-fps_mode", "passthrough", "-enc_time_base", "demux"]
    table = call(*select, "-f", "framecrc", "-").stdout.decode()
    unit = np.divide(*map(int, re.search(r"#tb 0: (\d+)/(\d+)", table).groups()))
    times = [int(line.split(",")[2]) * unit for line in table.splitlines() if line[0] != "#"]
    width, height = map(int, re.search(r"#dimensions 0: (\d+)x(\d+)", table).groups())
    frames = call(*select, "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
    return About(
        3600 * int(hours) + 60 * int(minutes) + float(seconds),
        re.search(r"([\d.]+k?) fps", main)[1],
        " ".join(tags),
        aspect[::-1] if "rotation of" in report else aspect,
        sorted(each for each in others if each[0] != "Data" or "bin_data" not in report),
        len(re.findall(r"^ +Chapter #", report, re.M)),
        np.array(times),
        np.frombuffer(frames, np.uint8).reshape(-1, height, width, 3).astype(float),
    )


def write(folder, case):
    """Write the clip of a case with ffmpeg."""
    given = case.source.endswith(".mp4")
    source = (
        f"gradients=seed=3:speed=0.05:c0=red:c1=white:c2=blue:c3=black:nb_colors=4:{case.source}"
    )
    first = ["-i", case.source] if given else ["-f", "lavfi", "-i", source]
    options = shlex.split(case.options.replace("\\", "\\\\"))
    if not {"-pix_fmt", "-c:v", "copy"} & set(options) and "format=" not in case.options:
        options += ["-pix_fmt", "yuv420p"]
    done = call("-v", "error", *first, *options, f"file:{folder / case.name}")
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def material(tmp_path, monkeypatch):
    """A folder with subtitles, chapters, a cover, rotated clips, and eyes for every clip."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    chapters = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle=part\n"
    text = ";FFMETADATA1\n" + chapters.format(0, 200) + chapters.format(200, 400)
    (tmp_path / "chapters.txt").write_text(text)
    shown = struct.pack(">HHBHBBBB", 32, 24, 16, 0, 128, 0, 0, 0)
    parts = [(0x16, shown), (0x80, b"")]
    segments = [struct.pack(">2sIIBH", b"PG", 9000, 0, kind, len(x)) + x for kind, x in parts]
    (tmp_path / "pictures.sup").write_bytes(b"".join(segments))
    eyes = "".join(f'"{case.name}",10,10,17,10\n' for case in [*CASES, *SLOW])
    (tmp_path / "eyes.csv").write_text(
        "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n" + eyes
    )
    yield tmp_path
    gc.collect()


def prepare(folder, case):
    """Write what a case needs besides text."""
    if "turned" in case.source + case.options:
        write(folder, Case("flat.mp4", "-vf setsar=4/3" if "aspect" in case.source else ""))
        done = call("-display_rotation", "90", "-i", "flat.mp4", "-c", "copy", "turned.mp4")
        assert done.returncode == 0
        if "aspect" in case.source:
            (folder / "turned.mp4").rename(folder / case.source)
    if "cover" in case.name:
        assert call("-f", "lavfi", "-i", "testsrc=s=32x24", "-frames:v", "1", "cover.png")
    write(folder, case)
    if case.name == "cover.mp4":  # its picture comes first
        data = Path("cover.mp4").read_bytes()
        start, cover = data.rindex(b"moov") + 4, data.rindex(b"udta") - 4
        size = int.from_bytes(data[cover : cover + 4], "big")
        moved = data[cover : cover + size] + data[start:cover] + data[cover + size :]
        Path("cover.mp4").write_bytes(data[:start] + moved)


@pytest.mark.parametrize(
    "case",
    [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda case: case.name[:20],
)
def test_outputs_keep_what_players_need(run, model, material, case):
    prepare(material, case)
    output = case.output or case.name.replace(".", "-happy.")
    if not case.output and not output.endswith((".mp4", ".mkv", ".mov", ".m4v")):
        output = output[: output.rindex(".")] + ".mp4"
    command = ["synthesize", model, case.name, "--strength", 0, "--eyes", "eyes.csv", "--json"]
    result = run(*command, *(["-o", output] if case.output else []))
    assert result.code == 0, result.err
    found = json.loads(result.out).get("lost", {})
    assert found == ({case.name: list(case.lost)} if case.lost else {})
    said = [line for line in result.lines if "stored without" in line]
    assert said == [f"note: {case.name}: stored without {', '.join(case.lost)}"][: len(case.lost)]
    before, after = read(case.name), read(output)
    assert after.times.shape == before.times.shape
    start = before.times[0] if case.name.endswith(".avi") else 0  # AVI has none
    assert np.abs(after.times - before.times + start).max() < SMALL
    assert after.seconds == pytest.approx(before.seconds, abs=0.05)
    constant = np.ptp(np.diff(before.times)) < SMALL if len(before.times) > 1 else True
    assert after.rate == before.rate or not constant or "held" in case.name
    steps = np.diff(after.times)
    assert not constant or output.endswith(".mkv") or len(steps) == 0 or np.ptp(steps) < 1e-6
    assert after.tags == (before.tags if case.tags is None else case.tags)
    assert after.aspect == before.aspect
    assert after.chapters == before.chapters
    assert len(after.streams) == len(before.streams) - case.streams
    if output.endswith((Path(case.name).suffix, ".mkv")):
        stored = {("Subtitle", "fra", "subrip")} if case.name == "converted.mp4" else set()
        assert set(after.streams) - stored <= set(before.streams)
    else:
        assert {stream[2] for stream in after.streams} <= {"aac", "mov_text", "bin_data"}
        languages = {stream[:2] for stream in before.streams}
        assert {stream[:2] for stream in after.streams} - {("Data", "eng")} <= languages
    for x, y in zip(before.frames[[0, -1]], after.frames[[0, -1]], strict=True):
        assert np.abs(x - y).mean() < 6
    assert np.abs(before.frames[0] - before.frames[-1]).mean() > 8 or len(before.frames) == 1


def test_record_and_description_of_a_clip_with_a_colon(run, model, material):
    write(material, Case("12:30.mp4", SOUND))
    assert run("synthesize", model, "12:30.mp4", "--eyes", "eyes.csv").code == 0
    found = json.loads(run("info", "12:30-happy.mp4", "--json").out)
    assert (found["kind"], found["size"], found["rate"]) == ("synthesized", "32x24", 25)


def test_clips_resized_to_the_model_have_square_pixels(run, model, material):
    write(material, Case("x.mp4", "-vf setsar=4/3"))
    assert run("synthesize", model, "x.mp4", "--resize").code == 0
    after = read("x-happy.mp4")
    assert (after.aspect, after.frames.shape[1:3]) == ((1, 1), (16, 16))


def test_clip_with_fewer_frames_than_its_source_is_not_written(material):
    write(material, Case("x.mp4"))
    with pytest.raises(ImageError, match=r"y\.mp4: cannot be written completely"):
        change_clip(Path("x.mp4"), Path("y.mp4"), lambda frames, size: islice(frames, 9))
    assert not list(material.glob("*y.mp4*"))
