"""Animations of faces, and synthesis of clips."""

import gc
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlr import load
from mlr.errors import ImageError, ModelError
from mlr.io.clips import change_clip
from mlr.io.images import Image, read_image, write_image
from mlr.synthesis import animation
from mlr.synthesis.animation import eased_strengths, write_animation
from tests.conftest import draw, names

IMAGE = Image(draw(1), None, b"")


@pytest.fixture
def face(tmp_path):
    write_image(tmp_path / "face.png", draw(0), draw(9, channels=1)[..., 0])
    return tmp_path / "face.png"


def frames(path):
    with PIL.Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            yield np.asarray(image.convert("RGB")).astype(int)


@settings(deadline=None, max_examples=30)
@given(frames=st.integers(1, 30).map(lambda half: 2 * half), peak=st.floats(0, 2))
def test_strengths_rise_and_fall_symmetrically(frames, peak):
    strengths = np.array(eased_strengths(frames, peak))
    assert strengths[0] == 0
    assert strengths[frames // 2] == pytest.approx(peak)
    assert (np.diff(strengths[: frames // 2 + 1]) >= 0).all()
    assert np.array_equal(strengths[1:], strengths[:0:-1])
    steps = np.abs(np.diff(strengths, append=0))
    assert steps[0] == pytest.approx(steps.min())  # smooth at both ends


@pytest.mark.parametrize(("suffix", "error"), [("gif", 8), ("webp", 12), ("png", 0)])
def test_animation_runs_from_the_face_to_the_expression(run, model, face, tmp_path, suffix, error):
    output = tmp_path / f"x.{suffix}"
    assert run("synthesize", model, face, "-o", output, "--animate", "--strength", "0.7").code == 0
    shown = list(frames(output))
    peak = load(model).synthesize(draw(0), "happy", 0.7).astype(int)
    opaque = draw(9, channels=1)[..., 0] > (127 if suffix == "gif" else 0)
    assert np.abs(shown[0] - draw(0))[opaque].mean() <= error
    assert min(np.abs(frame - peak)[opaque].mean() for frame in shown) <= error
    found = json.loads(run("info", output, "--json").out)
    assert found["frames"] == len(shown) > 10
    assert (found["expression"], found["strength"]) == ("happy", 0.7)
    again = tmp_path / f"y.{suffix}"
    assert run("synthesize", model, face, "-o", again, "--animate", "--strength", "0.7").code == 0
    assert again.read_bytes() == output.read_bytes()
    options = ["--animate", "--no-metadata", "--force"]
    assert run("synthesize", model, face, "-o", again, *options).code == 0
    assert b"synthesized" not in again.read_bytes()


def test_folder_becomes_a_folder_of_animations(run, model, faces, tmp_path):
    for options, suffix in (([], "gif"), (["--format", "webp"], "webp")):
        command = ["synthesize", model, faces / "neutral", "-o", tmp_path / suffix, "--animate"]
        assert run(*command, *options).code == 0
        assert names(tmp_path / suffix) == [f"{n}.{suffix}" for n in range(5)]


def test_folder_of_frames_has_numbered_files_with_their_strengths(run, model, face, tmp_path):
    command = ["synthesize", model, face, "--animate", "--strength", "0.7"]
    assert run(*command, "-o", tmp_path / "x.frames").code == 0
    strengths = eased_strengths(peak=0.7)
    assert names(tmp_path / "x.frames") == [f"{n:02}.png" for n in range(len(strengths))]
    loaded = load(model)
    for n, strength in enumerate(strengths):
        image = read_image(tmp_path / "x.frames" / f"{n:02}.png")
        assert np.array_equal(image.pixels, loaded.synthesize(draw(0), "happy", strength))
        assert np.array_equal(image.alpha, draw(9, channels=1)[..., 0])
        found = json.loads(run("info", tmp_path / "x.frames" / f"{n:02}.png", "--json").out)
        assert (found["expression"], found["strength"]) == ("happy", strength)
    assert run(*command, "-o", tmp_path / "y.frames", "--no-metadata").code == 0
    found = run("info", tmp_path / "y.frames" / "12.png", "--json").out
    assert json.loads(found)["kind"] == "image"


def test_sheet_has_the_frames_that_its_json_names(run, model, face, tmp_path):
    command = ["synthesize", model, face, "--animate", "--strength", "0.7"]
    assert run(*command, "-o", tmp_path / "x.sheet").code == 0
    assert names(tmp_path / "x.sheet") == ["sheet.json", "sheet.png"]
    told = json.loads((tmp_path / "x.sheet" / "sheet.json").read_text())
    sheet = read_image(tmp_path / "x.sheet" / told["meta"]["image"])
    assert sheet.pixels.shape[:2] == (told["meta"]["size"]["h"], told["meta"]["size"]["w"])
    assert told["animations"] == {"x": list(told["frames"])}
    strengths = eased_strengths(peak=0.7)
    for strength, frame in zip(strengths, told["frames"].values(), strict=True):
        x, y, w, h = (frame["frame"][key] for key in "xywh")
        shown = np.s_[y : y + h, x : x + w]
        expected = load(model).synthesize(draw(0), "happy", strength)
        assert np.array_equal(sheet.pixels[shown], expected)
        assert np.array_equal(sheet.alpha[shown], draw(9, channels=1)[..., 0])
    assert sum(frame["duration"] for frame in told["frames"].values()) == pytest.approx(
        2000, abs=24
    )
    found = json.loads(run("info", tmp_path / "x.sheet" / "sheet.png", "--json").out)
    assert (found["expression"], found["strength"]) == ("happy", 0.7)
    write_image(tmp_path / "wide.png", np.zeros((8, 1366, 3), np.uint8))
    wide = read_image(tmp_path / "wide.png")
    with pytest.raises(ImageError, match=r"8196x32 pixels; expected at most 8192"):
        write_animation(tmp_path / "wide.sheet", lambda strength: wide.pixels, wide)


def test_folders_of_frames_are_skipped_refused_and_overwritten(run, model, face, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(face.read_bytes())
    command = ["synthesize", model, tmp_path / "in", "-o", tmp_path / "out"]
    command += ["--animate", "--format", "frames"]
    (tmp_path / "out" / "a.frames").mkdir(parents=True)
    (tmp_path / "out" / "a.frames" / "00.png").write_bytes(b"mine")
    (tmp_path / "out" / "a.frames" / "notes").write_bytes(b"mine")
    result = run(*command)
    assert result.code == 1
    assert "a.frames: exists already; give --force" in result.lines[0]
    assert (tmp_path / "out" / "a.frames" / "00.png").read_bytes() == b"mine"
    assert len(names(tmp_path / "out" / "b.frames")) == 24
    assert "2 skipped" in run(*command, "--skip-existing").lines[-1]
    assert run(*command, "--force").code == 0
    assert len(names(tmp_path / "out" / "a.frames")) == 25
    assert read_image(tmp_path / "out" / "a.frames" / "00.png").pixels.shape == (16, 16, 3)
    assert names(tmp_path / "out") == ["a.frames", "b.frames"]
    (tmp_path / "c.frames").write_bytes(b"a file")
    result = run("synthesize", model, face, "-o", tmp_path / "c.frames", "--animate", "--force")
    assert "c.frames: is a file; expected a folder to write to" in result.lines[0]


@pytest.mark.parametrize("suffix", [".frames", ".sheet", ".gif", ".webp", ".png"])
@pytest.mark.parametrize("error", [ImageError("failed"), ModelError("failed")])
def test_failed_animation_leaves_no_files(tmp_path, suffix, error):
    def change(strength):
        if 0.5 < strength < 1:
            raise error
        return draw(1)

    with pytest.raises(type(error), match=r"^failed$"):
        write_animation(tmp_path / f"x{suffix}", change, IMAGE)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("cache_bytes", "computed"), [(animation.CACHE_BYTES, 13), (3000, 22), (0, 24)]
)
def test_each_strength_is_computed_once_if_memory_allows(
    tmp_path, monkeypatch, cache_bytes, computed
):
    def change(strength):
        calls.append(strength)
        return np.full((16, 16, 3), round(200 * strength), np.uint8)

    calls = []
    monkeypatch.setattr(animation, "CACHE_BYTES", cache_bytes)  # an image takes 768 bytes
    write_animation(tmp_path / "x.frames", change, IMAGE)
    shown = [read_image(tmp_path / "x.frames" / f"{n:02}.png").pixels[0, 0, 0] for n in range(24)]
    assert shown == [round(200 * strength) for strength in eased_strengths()]
    assert len(calls) == computed


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animation_takes_two_seconds_and_repeats(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_animation(path, lambda strength: np.full_like(draw(1), round(200 * strength)), IMAGE)
    durations = []
    with PIL.Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    assert sum(durations) == pytest.approx(2000, rel=0.05)  # GIF rounds to hundredths of a second


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_16_bit_and_grey_images_are_animated(tmp_path, suffix, channels):
    pixels = draw(1, channels=channels, dtype=np.uint16)
    change = lambda strength: (pixels * (1 - strength / 2)).astype(np.uint16)  # noqa: E731
    write_animation(tmp_path / f"x{suffix}", change, Image(pixels, None, b""))
    first = next(frames(tmp_path / f"x{suffix}"))
    assert np.abs(first - (pixels >> 8)).mean() < 10


def test_gif_has_one_palette_and_stores_what_changes(tmp_path):
    pixels = draw(1, 64)

    def change(strength):
        changed = pixels.copy()
        changed[:4, :4] = changed[-4:, -4:] = round(250 * strength)
        return changed

    write_animation(tmp_path / "x.gif", change, IMAGE)
    shown = np.array(list(frames(tmp_path / "x.gif")))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 256
    assert (shown[:, 4:-4] == shown[0, 4:-4]).all()
    assert (shown[:, 0, 0].min(), shown[:, 0, 0].max()) == (0, 250)
    PIL.Image.fromarray(pixels).quantize().save(tmp_path / "still.gif")
    size = (tmp_path / "x.gif").stat().st_size
    assert size < 2 * (tmp_path / "still.gif").stat().st_size


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("partial", [False, True])
def test_gif_hides_what_is_transparent(run, model, grey_model, tmp_path, channels, partial):
    pixels, alpha = draw(1, channels=channels), draw(9, channels=1)[..., 0]
    pixels[:4, :4], pixels[:4, 4:8], alpha[:4, :8] = 0, 255, 255
    alpha = alpha if partial else np.where(alpha > 127, 255, 0).astype(np.uint8)
    pixels[alpha <= 127] = 99  # hidden
    write_image(tmp_path / "x.png", pixels, alpha)
    trained = model if channels == 3 else grey_model
    result = run("synthesize", trained, tmp_path / "x.png", "--animate", "--json")
    assert json.loads(result.out).get("lost", {}) == (
        {str(tmp_path / "x.png"): ["partial transparency"]} if partial else {}
    )
    assert result.err.count("x.png: stored without partial transparency") == partial
    with PIL.Image.open(tmp_path / "x-happy.gif") as image:
        for index in range(image.n_frames):
            image.seek(index)
            shown = np.asarray(image.convert("RGBA")).astype(int)
            assert np.array_equal(shown[..., 3] == 255, alpha > 127)
            assert len(np.unique(shown[alpha <= 127], axis=0)) == 1
            assert index or np.abs(shown[..., :3] - pixels)[alpha > 127].mean() <= 8


def test_unknown_suffix_of_an_animation_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"cannot store an animation; use \.gif"):
        write_animation(tmp_path / "x.jpg", lambda strength: draw(1), IMAGE)
    assert names(tmp_path) == []


# --- clips ---

# imageio-ffmpeg does not close its pipes.
pipes = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def ffmpeg():
    yield pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")
    gc.collect()


def write_clip(ffmpeg, path, count=30, size=16):
    """Write a clip that gets brighter, and a tone."""
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{size}x{size}", "-r", "24000/1001", "-i", "-"]
    command += ["-f", "lavfi", "-i", "sine=440:duration=2", "-shortest", "-crf", "5", str(path)]
    pixels = [np.full((size, size, 3), 60 + 3 * n, np.uint8).tobytes() for n in range(count)]
    subprocess.run(command, input=b"".join(pixels), check=True)
    return path


def decoded(ffmpeg, path):
    reader = ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


@pipes
def test_output_clip_has_the_same_rate_length_and_sound(run, ffmpeg, model, tmp_path):
    (tmp_path / "in").mkdir()
    source = write_clip(ffmpeg, tmp_path / "in" / "x.mp4")
    assert run("synthesize", model, tmp_path / "in", "-o", tmp_path / "out").code == 0
    before, inputs = decoded(ffmpeg, source)
    after, outputs = decoded(ffmpeg, tmp_path / "out" / "x.mp4")
    assert len(outputs) == len(inputs) == 30
    assert (after["fps"], after["audio_codec"]) == (before["fps"], before["audio_codec"])
    for x, y in zip(inputs, outputs, strict=True):
        expected = load(model).synthesize(x, "happy").astype(int)
        assert np.abs(y - expected).mean() < 12  # the colours are stored at half the resolution
    found = json.loads(run("info", tmp_path / "out" / "x.mp4", "--json").out)
    assert (found["kind"], found["expression"], found["size"]) == ("synthesized", "happy", "16x16")
    assert json.loads(run("info", source, "--json").out)["kind"] == "clip"
    options = ["-o", tmp_path / "again.mp4"]
    assert run("synthesize", model, source, *options).code == 0
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "out" / "x.mp4").read_bytes()


def test_error_for_a_clip_names_the_missing_extra(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "x.mp4").write_bytes(b"a clip")
    result = run("synthesize", model, tmp_path / "x.mp4")
    assert result.code == 1
    assert "clips need ffmpeg: pip install 'masked-linear-regression[video]'" in result.lines[0]


@pipes
def test_bad_clips_are_named_and_leave_no_files(run, ffmpeg, model, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    write_clip(ffmpeg, tmp_path / "large.mp4", size=32)
    for name, cause in (("bad", "cannot be read"), ("large", "is 32x32 px, but the model works")):
        result = run("synthesize", model, tmp_path / f"{name}.mp4")
        assert result.code == 1
        assert cause in result.lines[0]
        assert result.err.count(f"{name}.mp4: {cause}") == 1
    result = run("synthesize", model, tmp_path / "large.mp4", "--resize", "-o", tmp_path / "x.png")
    assert "cannot be written as .png; use .m4v" in result.lines[0]
    assert names(tmp_path) == ["bad.mp4", "large.mp4"]


@pipes
def test_frames_of_a_clip_are_processed_one_by_one(ffmpeg, tmp_path):
    source = write_clip(ffmpeg, tmp_path / "x.mp4", count=60, size=256)
    tracemalloc.start()
    change_clip(source, tmp_path / "y.mp4", lambda frames, size: (255 - x for x in frames))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 256 * 256 * 3  # of 60
    assert len(decoded(ffmpeg, tmp_path / "y.mp4")[1]) == len(decoded(ffmpeg, source)[1])


@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ("strength=0,0.5,1", [{"strength": x} for x in (0, 0.5, 1)]),
        ("style=-1,1", [{"style": x} for x in (-1, 1)]),
    ],
)
def test_grid_shows_the_input_and_each_output(run, tmp_path, grid, options):
    run("sample", tmp_path / "f", "--pairs", 1, "--size", 256)
    face = next((tmp_path / "f" / "neutral").iterdir())
    command = ("synthesize", "smile", face, "--resize", "--target", "happy", "--grid", grid)
    output = face.with_name(f"{face.stem}-grid.png")
    assert run(*command).code == 0
    sheet = read_image(output).pixels
    source, model = read_image(face).pixels, load("smile")
    cells = [source, *(model.synthesize(source, "happy", **each) for each in options)]
    assert not np.array_equal(cells[-1], cells[-2])
    times = -(-192 // source.shape[1])
    step = times * source.shape[1] + 8
    assert sheet.shape[1] == 8 + len(cells) * step
    for column, expected in enumerate(cells):
        corner = sheet[52 : 52 + step - 8 : times, 8 + column * step :][:, : step - 8 : times]
        assert np.array_equal(corner, expected)
    record = json.loads(run("info", output, "--json").out)
    assert record["expression"] == "happy"


@pytest.mark.parametrize(
    "options",
    [
        *("depth", "strength=3", "strength=", "strength --animate", "strength --strength 0.5"),
        *("style --style 1", f"strength={','.join(['1'] * 17)}"),
    ],
)
def test_grids_that_cannot_be_are_refused(run, model, face, options):
    result = run("synthesize", model, face, "--grid", *options.split())
    assert result.code == 2
    assert not face.with_name("face-grid.png").exists()
