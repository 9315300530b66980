"""Following faces through clips."""

import cmath
import gc
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mlr import load, save
from mlr.errors import ImageError
from mlr.io.clips import change_clip
from mlr.io.images import read_image
from mlr.photo.composite import FrameChanger
from mlr.photo.detect import Detector, installed
from mlr.photo.eyes import Eyes, EyeTable
from mlr.photo.faces import FaceFinder
from mlr.photo.similarity import Similarity, warp
from mlr.photo.track import AHEAD, BRIDGED, FADE, SEARCH, TrackedFace, follow
from tests.conftest import draw

SHARED = Path(os.environ.get("MLR_DATA", "../shared/data"))
DISTANCE = 40.0  # of the eyes, in pixels
NOISE = 0.004 * DISTANCE

needs_photos = pytest.mark.skipif(
    not installed() or not (SHARED / "photos").is_dir(),
    reason=f"needs the extra align and the photographs in {SHARED} (set MLR_DATA)",
)
# imageio-ffmpeg leaves its pipes to the garbage collector.
pipes = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Spots:
    """Detects pairs of spots as faces, with noise."""

    def __init__(self):
        self.noise = np.random.default_rng(0)

    def find(self, pixels):
        return [self._eyes(pixels, shade) for shade in np.unique(pixels) if shade]

    def find_again(self, pixels, eyes):
        near = [e for e in self.find(pixels) if abs(e.middle - eyes.middle) < DISTANCE]
        return near[0] if near else None

    def _eyes(self, pixels, shade):
        (y0, y1), (x0, x1), _ = (index.astype(float) for index in np.nonzero(pixels == shade))
        if x0 > x1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        a, b = self.noise.normal(0, NOISE, (2, 2))
        return Eyes(complex(x0 + a[0], y0 + a[1]), complex(x1 + b[0], y1 + b[1]))


def spots(*middles):
    """Return a video frame with a face at each position that is not None."""
    frame = np.zeros((200, 400, 1), np.uint8)
    for shade, middle in enumerate(middles, 1):
        if middle is not None:
            for x in (middle.real - DISTANCE / 2, middle.real + DISTANCE / 2):
                frame[round(middle.imag), round(x)] = shade
    return frame


def followed(*paths, **options):
    """Return the faces in each video frame, given the path of each face."""
    frames = [spots(*middles) for middles in zip(*paths, strict=True)]
    result = list(follow(frames, Spots(), **options))
    assert all(frame is given for (frame, _), given in zip(result, frames, strict=True))
    return [faces for _, faces in result]


@pytest.mark.parametrize("speed", [0, 1, 3])
def test_smoothing_reduces_jitter_without_lag(speed):
    path = [complex(60 + speed * t, 100) for t in range(80)]
    faces = followed(path)
    assert all([face.fade for face in frame] == [1.0] for frame in faces)
    errors = np.array([f.eyes.middle - m for (f,), m in zip(faces, path, strict=True)])
    steps = np.abs(np.diff(errors))[5:-5]
    raw = NOISE * np.sqrt(2)  # of the middle's steps, root mean square
    assert np.sqrt((steps**2).mean()) < 0.25 * raw
    assert abs(errors.mean()) < 0.2 * NOISE
    assert np.abs(errors).max() < 0.015 * DISTANCE


def test_shaking_face_is_followed():
    path = [complex(200 + 20 * np.sin(t), 100) for t in range(60)]
    seen = followed(path)
    for (face,), middle in zip(seen, path, strict=True):
        assert abs(face.eyes.middle - middle) < 0.01 * DISTANCE + 0.5 + 4 * NOISE


@pytest.mark.parametrize("start", [SEARCH, 17, 60 - BRIDGED])
def test_gaps_in_detection_are_bridged(start):
    path = [complex(60 + 2 * t, 100) for t in range(60)]
    missing = range(start, min(start + BRIDGED, 60))
    faces = followed([None if t in missing else m for t, m in enumerate(path)])
    assert all(face.fade == 1 for (face,) in faces)
    for t in missing:
        (face,) = faces[t]
        at_end = start + BRIDGED >= 60  # no later detection
        assert at_end or abs(face.eyes.middle - path[t]) < 0.03 * DISTANCE


def test_change_fades_in_and_out_with_its_face():
    path = [100 + 100j if 20 <= t < 60 else None for t in range(100)]
    shares = [sum(face.fade for face in frame) for frame in followed(path)]
    start = next(t for t, share in enumerate(shares) if share)
    assert 20 <= start < 20 + SEARCH
    assert max(shares) == 1
    assert max(abs(b - a) for a, b in pairwise(shares)) < 0.3
    assert shares[59] > 0
    assert not any(shares[60:])
    assert shares[59 - FADE] == 1


def test_single_detections_are_ignored():
    assert not any(followed([100 + 100j if t in (0, 24) else None for t in range(60)]))


def test_clip_of_one_frame_has_its_face():
    ((face,),) = followed([100 + 100j])
    assert face.fade == 1


def test_all_faces_or_one_are_followed():
    paths = [[100 + 100j] * 30, [300 + 100j] * 30]
    assert all(len(frame) == 2 for frame in followed(*paths))
    late = [None] * 5 + [300 + 100j] * 25
    one = followed(paths[0], late, select=lambda faces: faces[:1])
    assert [len(frame) for frame in one] == [1] * 30
    assert len(followed(paths[0], late)[-1]) == 2


def test_faces_that_pass_each_other_change_once():
    paths = [[complex(60 + 4 * t, 90) for t in range(60)], [300 - 4 * t + 110j for t in range(60)]]
    both = followed(*paths)
    for frame in both:
        for n, face in enumerate(frame):
            others = [other.eyes.middle for other in frame[:n]]
            assert all(abs(face.eyes.middle - middle) > DISTANCE / 4 for middle in others)
    assert len(both[0]) == len(both[-1]) == 2


def test_cut_to_another_face_is_not_smoothed():
    path = [100 + 100j] * 30 + [120 + 90j] * 30  # so near that it is taken for the same face
    for (face,), middle in zip(followed(path), path, strict=True):
        assert abs(face.eyes.middle - middle) < 0.02 * DISTANCE


def test_a_cut_ends_and_begins_faces_at_once():
    shots = [spots(100 + 100j)] * 20, [255 - spots(300 + 80j)] * 20

    class Both(Spots):
        def find(self, pixels):
            bright = pixels.mean() > 100
            return super().find(255 - pixels if bright else pixels)

    found = [faces for _, faces in follow([*shots[0], *shots[1]], Both())]
    assert all(len(faces) == 1 and faces[0].fade == 1 for faces in found)
    before, after = found[19][0], found[20][0]
    assert abs(before.eyes.middle - (100 + 100j)) < 0.02 * DISTANCE
    assert abs(after.eyes.middle - (300 + 80j)) < 0.02 * DISTANCE
    assert before.track != after.track
    assert len({faces[0].track for faces in found}) == 2


def test_few_frames_are_buffered():
    read = 0

    def frames():
        nonlocal read
        for read in range(1, 200):  # noqa: B007
            yield spots(100 + 100j)

    for yielded, _ in enumerate(follow(frames(), Spots())):
        assert read - yielded <= AHEAD + 1


def change_frame(model, frame, faces):
    """Return the first video frame of a clip, changed."""
    return FrameChanger(model, model.change_of(None))((frame, faces))


def test_face_of_a_frame_changes_in_proportion_to_its_fade(model):
    frame, eyes = draw(3, 160)[:120].copy(), Eyes(70 + 50j, 90 + 50j)
    bare = change_frame(load(model), frame, [])
    assert bare is frame
    full = change_frame(load(model), frame, [TrackedFace(eyes)]).astype(int) - frame
    half = change_frame(load(model), frame, [TrackedFace(eyes, 0.5)]).astype(int) - frame
    assert np.abs(full).max() > 5
    assert np.abs(half - full / 2).max() <= 1
    top, bottom, left, right = eyes.to_crop(16, 16).inverse.bounds(16, 16)
    outside = np.ones((120, 160), bool)
    outside[top:bottom, left:right] = False
    assert outside.sum() > 10_000
    assert not full[outside].any()


# --- photographs and clips ---


def moving(count=24, grain=8, height=240, width=320):
    """Yield noisy video frames of a photograph that rotates, grows and drifts; and its map."""
    photo = read_image(SHARED / "photos" / "020_neutral.jpg").pixels[::2, ::2]
    noise = np.random.default_rng(0)
    for t in range(count):
        factor = 0.4 * (1 + 0.05 * np.sin(t / 25)) * cmath.exp(0.1j * np.sin(t / 18))
        middle = complex(width / 2 + 20 * np.sin(t / 30), height / 2 + 6 * np.sin(t / 11))
        map_ = Similarity(factor, middle - factor * (337 + 337j))
        frame = warp(photo, map_, height, width) + noise.normal(0, grain, (height, width, 3))
        yield np.clip(np.rint(frame), 0, 255).astype(np.uint8), map_


class Recorder(Detector):
    """Records the detections in each video frame except the first."""

    def __init__(self):
        super().__init__()
        self.recorded = []

    def find_again(self, pixels, eyes):
        found = super().find_again(pixels, eyes)
        self.recorded.append(TrackedFace(found))
        return found


@needs_photos
def test_tracking_reduces_jitter_of_the_change_of_a_moving_photograph(london):
    frames, maps = zip(*moving(), strict=True)
    detector, steady = Recorder(), []
    for number, (frame, faces) in enumerate(follow(frames, detector)):
        steady += faces
        if number % 6 == 0:
            changed = change_frame(london, frame, faces)
            top, bottom, left, right = faces[0].eyes.to_crop(128, 128).inverse.bounds(128, 128)
            outside = np.ones(frame.shape[:2], bool)
            outside[max(0, top) : bottom, max(0, left) : right] = False
            assert outside.sum() > 0.2 * outside.size
            assert np.array_equal(changed[outside], frame[outside])
            assert (changed != frame).any(axis=2).mean() > 0.08

    def jitter(faces):
        """Return how much the change varies between video frames, relative to the photograph."""
        still = np.stack([frames[0]] * 2)[0]
        moved = []
        for face, map_ in zip(faces, maps[1:], strict=True):
            back = map_.inverse
            where = [maps[0](back(eye)) for eye in (face.eyes.left, face.eyes.right)]
            moved.append(change_frame(london, still, [TrackedFace(Eyes(*where))]).astype(float))
        return np.sqrt(np.mean(np.diff(moved, axis=0) ** 2))

    assert jitter(steady[1:]) < 0.6 * jitter(detector.recorded)


@pytest.fixture(scope="module")
def london(tmp_path_factory):
    """A model of photographs."""
    from mlr.training.train import train

    return train(SHARED / "london" / "128", recipe="paper")


@pytest.fixture
def ffmpeg():
    yield pytest.importorskip("imageio_ffmpeg", reason="needs the extra video")
    gc.collect()


def write_clip(ffmpeg, path, frames, *options):
    """Write video frames as a clip."""
    height, width = frames[0].shape[:2]
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", "25", "-i", "-", *options, "-crf", "5"]
    command.append(str(path))
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
    return path


def decoded(ffmpeg, path):
    reader = ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]


@pipes
@needs_photos
def test_clip_of_an_unaligned_face(run, ffmpeg, london, tmp_path):
    frames = [frame for frame, _ in moving(12, grain=1)]
    source = write_clip(ffmpeg, tmp_path / "x.mp4", frames)
    save(london, tmp_path / "model.npz")
    assert run("synthesize", tmp_path / "model.npz", source).code == 0
    before, after = (decoded(ffmpeg, tmp_path / name) for name in ("x.mp4", "x-happy.mp4"))
    assert len(after) == 12
    for x, y in zip(before, after, strict=True):
        difference = np.abs(x.astype(float) - y).mean(axis=2)
        assert difference[:, :40].mean() < 2  # encoded again
        assert difference[100:200, 110:210].mean() > 2 * difference[:, :40].mean()


@pipes
@pytest.mark.parametrize("tag", ["bt709", "smpte170m", ""])
def test_colours_are_stored_as_in_the_source(ffmpeg, tmp_path, tag):
    options = ["-vf", f"scale=out_color_matrix={tag}", "-colorspace", tag] if tag else []
    frames = [draw(3, 128)] * 5
    source = write_clip(ffmpeg, tmp_path / "x.mp4", frames, "-pix_fmt", "yuv420p", *options)
    change_clip(source, tmp_path / "y.mp4", lambda frames, size: frames)
    stored = [next(ffmpeg.read_frames(str(tmp_path / f"{n}.mp4")))["pix_fmt"] for n in "xy"]
    assert stored[0] == stored[1]
    assert (tag or "420p(progressive") in stored[0]
    x, y = (np.array(decoded(ffmpeg, tmp_path / f"{n}.mp4"), float) for n in "xy")
    assert np.abs((x - y).mean(axis=(0, 1, 2))).max() < 0.4


@pipes
def test_eyes_of_a_table_apply_to_every_frame(run, ffmpeg, model, tmp_path):
    frames = [draw(3, 128)[:96] // 2 + np.uint8(t) for t in range(10)]
    source = write_clip(ffmpeg, tmp_path / "x.mp4", frames)
    eyes = tmp_path / "eyes.csv"
    eyes.write_text(
        "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\nx.mp4,55.5,39.5,71.5,39.5\n"
    )
    assert EyeTable(eyes).of(source)
    result = run("synthesize", model, source, "--eyes", eyes, "-o", tmp_path / "y.mp4")
    assert result.code == 0
    before, after = decoded(ffmpeg, source), decoded(ffmpeg, tmp_path / "y.mp4")
    assert len(before) == len(after) == 10
    for x, y in zip(before, after, strict=True):
        faces = [TrackedFace(Eyes(56 + 40j, 72 + 40j))]
        expected = change_frame(load(model), x, faces).astype(float)
        assert np.abs(expected - x).max() > 4
        assert np.abs(expected - y).mean() < 2.5  # the colours are stored at half the resolution


@pipes
@pytest.mark.skipif(not installed(), reason="needs the extra align")
def test_clip_without_a_face_fails_and_leaves_nothing(run, ffmpeg, model, tmp_path):
    source = write_clip(ffmpeg, tmp_path / "x.mp4", [draw(t, 64) for t in range(4)])
    result = run("synthesize", model, source)
    assert result.code == 1
    assert "no face found in any video frame; give its eyes with --eyes" in result.lines[0]
    assert "give --resize if it is an aligned face" in result.lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_error_for_clips_without_a_detector(monkeypatch):
    monkeypatch.setattr("mlr.photo.faces.installed", lambda: False)
    with pytest.raises(ImageError, match=r"-regression\[align\]'; or give the eyes"):
        list(FaceFinder().follow(Path("x.mp4"), [draw(1)]))
