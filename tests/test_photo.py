"""Photographs with known eyes: alignment and compositing."""

import csv
import json
import math
import os
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlr import load, save
from mlr._version import install
from mlr.core.accumulate import statistics_of_arrays
from mlr.core.alignment import EYES, face_share
from mlr.core.bands import bands
from mlr.core.exposure import Exposure, row_sums
from mlr.core.model import Model
from mlr.core.planes import Layout
from mlr.core.receptive_field import ReceptiveField
from mlr.errors import DataError, ImageError
from mlr.io.images import read_image, resized, write_image
from mlr.photo.align import align, aligned_crop
from mlr.photo.composite import change_faces
from mlr.photo.detect import pupil
from mlr.photo.eyes import CENTRE, Eyes, EyeTable
from mlr.photo.similarity import Similarity, warp
from mlr.recipes.fit import fit
from mlr.recipes.paper import Paper
from mlr.training.train import train
from tests.conftest import draw

SIDE = 32
SHARED = Path(os.environ.get("MLR_DATA", "../shared/data"))

needs_photos = pytest.mark.skipif(
    not (SHARED / "photos").is_dir(), reason=f"needs the photographs in {SHARED} (set MLR_DATA)"
)


@cache
def scene(width=300, height=240, channels=3, dtype=np.uint8, seed=1):
    """Return a smooth random image with a little grain."""
    data_range = np.iinfo(dtype).max
    generator = np.random.default_rng(seed)
    coarse = generator.integers(data_range // 4, 3 * data_range // 4, (9, 12, channels), dtype)
    grain = generator.normal(0, data_range / 100, (height, width, channels))
    return np.clip(resized(coarse, height, width) + grain, 0, data_range).astype(dtype)


def write_table(path: Path, rows: dict[str, list[Eyes]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"])
        for name, faces in rows.items():
            for eyes in faces:
                left, right = eyes.left - CENTRE, eyes.right - CENTRE
                table.writerow([name, left.real, left.imag, right.real, right.imag])
    return path


def brightening(channels=3, side=SIDE) -> Model:
    """Return a model that adds 0.2 to every pixel, for any exposure."""
    weights = np.zeros((1, channels, 10, side, side), np.float32)
    weights[:, :, 4], weights[:, :, 9] = 1, 0.2
    return Model(weights, ReceptiveField.square(3), ("happy",))


@cache
def random_model(channels=3, side=SIDE) -> Model:
    images = np.stack([draw(n, side, channels) for n in range(12)])
    statistics = statistics_of_arrays(
        images, {"happy": np.roll(images, 1, axis=1)}, ReceptiveField.square(3)
    )
    return fit(Paper(), statistics)


points = st.complex_numbers(max_magnitude=1000, allow_nan=False, allow_infinity=False)


@given(points, points, points, points, points)
def test_similarity_maps_two_points_and_back(a, b, c, d, other):
    if abs(a - b) < 1 or abs(c - d) < 1:
        return
    map_ = Similarity.of_two_points((a, b), (c, d))
    assert map_(a) == pytest.approx(c, abs=1e-6)
    assert map_(b) == pytest.approx(d, abs=1e-6)
    size = 1 + abs(other) + abs(map_(other)) / map_.scale
    assert abs(map_.inverse(map_(other)) - other) < 1e-9 * size * max(1, 1 / map_.scale)
    twice = map_ @ map_
    assert twice(other) == pytest.approx(map_(map_(other)), rel=1e-6, abs=1e-3)


@given(st.integers(-40, 340), st.integers(-40, 280))
@settings(max_examples=20)
def test_shift_by_whole_pixels_is_exact_and_repeats_the_edge(dx, dy):
    pixels = scene()
    seen = warp(pixels, Similarity(1, -complex(dx, dy)), 20, 30)
    rows, columns = np.clip(np.arange(dy, dy + 20), 0, 239), np.clip(np.arange(dx, dx + 30), 0, 299)
    assert np.array_equal(seen, pixels[np.ix_(rows, columns)])


@pytest.mark.parametrize("shrink", [2, 3, 5.3, 11])
def test_shrinking_does_not_alias(shrink):
    stripes = np.zeros((400, 400, 1), np.uint8)
    stripes[:, ::2] = 255
    seen = warp(stripes, Similarity(1 / shrink, -4), 24, 24)  # away from the edge
    assert np.abs(seen - 127.5).max() < 4


@pytest.mark.parametrize("scale", [0.1, 0.4, 1.7])
def test_warp_agrees_with_a_smooth_function(scale):
    y, x = np.mgrid[:300, :300] + 0.5
    pixels = (np.sin(x / 25) + np.cos(y / 30))[..., None].astype(np.float32)
    turn = scale * np.exp(0.5j)
    map_ = Similarity(turn, 12.5 + 12.5j - turn * (150 + 150j))
    seen = warp(pixels, map_, 25, 25)
    v, u = np.mgrid[:25, :25] + 0.5
    back = (u + 1j * v - map_.shift) / map_.factor
    inside = np.abs(back - (150 + 150j)) < 100
    expected = np.sin(back.real / 25) + np.cos(back.imag / 30)
    assert inside.sum() > 200
    blur = max(1.0, 1 / scale) ** 2 / 25**2  # averaging over a pixel lowers a wave
    assert np.abs(seen[..., 0] - expected)[inside].max() < 0.01 + blur


@pytest.mark.parametrize("angle", [0, 30, -75])
@pytest.mark.parametrize("size", [33, 64])
def test_align_moves_the_eyes_to_their_positions(angle, size):
    eyes = Eyes(150 + 110j, 150 + 110j + 40 * np.exp(1j * math.radians(angle)))
    pixels = np.zeros((240, 300, 1), np.float64)
    y, x = np.mgrid[:240, :300] + 0.5
    for eye in (eyes.left, eyes.right):
        pixels[..., 0] += 250 * np.exp(-((x - eye.real) ** 2 + (y - eye.imag) ** 2) / 20)
    crop = aligned_crop(pixels.astype(np.uint8), eyes, size)[..., 0].astype(float)
    y, x = np.mgrid[:size, :size] + 0.5
    for half, position in ((x < size / 2, EYES[0]), (x > size / 2, EYES[1])):
        weight = crop * half
        assert (weight * x).sum() / weight.sum() == pytest.approx(position[0] * size, abs=0.1)
        assert (weight * y).sum() / weight.sum() == pytest.approx(position[1] * size, abs=0.1)


def test_face_share_is_0_at_the_border_of_the_crop():
    share = face_share(64, 48)
    assert share.max() == 1
    assert share.min() == 0
    border = np.ones_like(share, bool)
    border[2:-2, 2:-2] = False
    assert not share[border].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model_channels", [1, 3])
@given(
    x=st.floats(0, 300),
    y=st.floats(0, 240),
    distance=st.floats(3, 150),
    angle=st.floats(-math.pi, math.pi),
)
@settings(max_examples=4, deadline=None)
def test_strength_0_returns_the_same_pixels(dtype, channels, model_channels, x, y, distance, angle):
    pixels = scene(channels=channels, dtype=dtype)
    along = distance / 2 * complex(math.cos(angle), math.sin(angle))
    eyes = Eyes(complex(x, y) - along, complex(x, y) + along)
    same = change_faces(random_model(model_channels), pixels, [eyes], strength=0)
    assert same.dtype == dtype
    assert np.array_equal(same, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_face_changes(dtype, channels):
    pixels = scene(channels=channels, dtype=dtype)
    eyes = Eyes(120 + 100j, 156 + 90j)
    changed = change_faces(brightening(), pixels, [eyes]).astype(float) - pixels
    share = face_share(SIDE, SIDE)[..., None]
    y, x = np.mgrid[:240, :300] + 0.5
    point = eyes.to_crop(SIDE, SIDE)(x + 1j * y)
    row, column = point.imag.astype(int), point.real.astype(int)
    inside = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
    weight = np.zeros((240, 300, 1))
    weight[inside] = share[row[inside], column[inside]]
    data_range = np.iinfo(dtype).max
    assert not changed[~inside].any()
    # Differs by the slope of the weights over half a pixel of the model.
    unclipped = pixels < 0.75 * data_range
    assert np.abs(changed - 0.2 * data_range * weight)[unclipped].max() < 0.04 * data_range
    core = (weight == 1) & unclipped
    assert core.sum() > 1000
    assert np.abs(changed[core] - 0.2 * data_range).max() <= max(1, 0.006 * data_range)


def test_two_faces_change_even_partly_beyond_the_border():
    pixels = scene()
    near, border = Eyes(60 + 60j, 80 + 60j), Eyes(285 + 200j, 313 + 200j)
    one = change_faces(brightening(), pixels, [near])
    both = change_faces(brightening(), pixels, [near, border])
    assert np.array_equal(one[:140], both[:140])
    assert (both[200:, 280:] > pixels[200:, 280:]).mean() > 0.9


def test_impossible_eyes_are_rejected():
    for left, right in [(400, 440 + 0j), (10 + 10j, 11 + 10j), (-900 + 100j, 900 + 100j)]:
        with pytest.raises(ImageError, match="cannot be in an image of 300x240 px"):
            change_faces(brightening(), scene(), [Eyes(left, right)])


def transformed(pixels, eyes, factor, size):
    """Return an image and eyes, rotated and scaled about the middle, in another size."""
    height, width = pixels.shape[:2]
    shift = complex(size[1], size[0]) / 2 - factor * complex(width, height) / 2
    map_ = Similarity(factor, shift)
    data_range = np.iinfo(pixels.dtype).max
    result = np.clip(np.rint(warp(pixels, map_, *size)), 0, data_range).astype(pixels.dtype)
    return result, Eyes(map_(eyes.left), map_(eyes.right)), map_


@pytest.mark.parametrize(
    ("factor", "size"),
    [(np.exp(1j * math.radians(30)), (240, 300)), (0.5, (120, 150)), (2, (480, 600))],
)
def test_rotated_halved_or_doubled_face_changes_alike(factor, size):
    # Smooth, since a smaller image lacks fine detail.
    pixels, eyes = resized(draw(3, 12), 240, 300), Eyes(130 + 100j, 172 + 100j)
    model = random_model()
    change = change_faces(model, pixels, [eyes]).astype(np.float32) - pixels
    other, other_eyes, map_ = transformed(pixels, eyes, factor, size)
    other_change = change_faces(model, other, [other_eyes]).astype(np.float32) - other
    back = warp(other_change, map_.inverse, 240, 300)
    difference = np.sqrt(np.square(back - change).mean())
    assert difference < 0.06 * np.sqrt(np.square(change).mean()) + 0.3


def exposure_of(statistics):
    """Return the exposure of the sources, computed in bands of rows."""
    share = face_share(16, 16).astype(np.float64)
    found = [row_sums(statistics.rows(b.above, b.below), b, share) for b in bands(16, 5)]
    return Exposure.of_rows(found, share, statistics)


@pytest.mark.parametrize("pooled", [False, True])
def test_exposure_from_statistics_equals_that_of_the_images(pooled):
    images = np.stack([draw(n, 16) for n in range(5)])
    layout = Layout(ReceptiveField.square(3), pooled=pooled)
    parts = [statistics_of_arrays(x, {"happy": x}, layout) for x in (images[:2], images[2:])]
    found = exposure_of(parts[0] + parts[1])
    share = face_share(16, 16)[:, :, None]
    axes = (0, 1, 2, 3) if pooled else (0, 1, 2)
    count = 5 * share.sum() * (3 if pooled else 1)
    mean = (share * images / 255).sum(axes) / count
    deviation = np.sqrt((share * (images / 255 - mean) ** 2).sum(axes) / count)
    assert found.brightness == pytest.approx(np.atleast_1d(mean).tolist())
    assert found.contrast == pytest.approx(np.atleast_1d(deviation).tolist())
    one = Exposure.of_image(images[0] / 255, pooled)
    alone = statistics_of_arrays(images[:1], {"a": images[:1]}, layout)
    same = exposure_of(alone)
    assert one.brightness == pytest.approx(same.brightness)
    assert one.contrast == pytest.approx(same.contrast)


@given(gain=st.floats(0.2, 1), offset=st.floats(0, 0.3))
@settings(max_examples=8, deadline=None)
def test_change_is_proportional_to_the_contrast_of_the_face(gain, offset):
    pixels = scene(dtype=np.uint16)
    gains = np.array([1, 0.8, 0.9])
    dimmed = np.rint((pixels * gain + offset * 65535) * gains / 1.3).astype(np.uint16)
    eyes, model = Eyes(120 + 100j, 156 + 100j), random_model()
    change = change_faces(model, pixels, [eyes]).astype(float) - pixels
    other = change_faces(model, dimmed, [eyes]).astype(float) - dimmed
    assert np.abs(other - change * gain * gains / 1.3).max() < 20  # of 65535


def test_pupil_is_found_near_the_expected_position():
    y, x = np.mgrid[:60, :80] + 0.5
    for centre in (40 + 30j, 42.5 + 28.3j):
        grey = 220 - 180.0 * (np.hypot(x - centre.real, y - centre.imag) < 5.4)
        assert abs(pupil(grey, 40 + 30j, 60) - centre) < 0.6
    flat = np.full((60, 80), 99.0)
    assert abs(pupil(flat, 40.2 + 30.7j, 60) - (40.2 + 30.7j)) < 0.5


def test_eye_table_prefers_the_longest_match_of_a_path(tmp_path):
    path = tmp_path / "eyes.csv"
    path.write_text(
        "\ufefffile,note,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n"
        "ann.png,a,1,2,3,4\nhappy/ann.png,b,5,6,7,8\nhappy\\ann.png,c,9,6,12,8\n",
        encoding="utf-8",
    )
    table = EyeTable(path)
    assert table.of(tmp_path / "sad" / "ann.png") == [Eyes(1.5 + 2.5j, 3.5 + 4.5j)]
    assert len(table.of(tmp_path / "happy" / "ann.png")) == 2
    assert table.of(tmp_path / "bob.png") is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("file,left_eye_x\n", "it lacks left_eye_y, right_eye_x, right_eye_y"),
        ("HEAD\na.png,1,2,x,4\n", "line 2"),
        ("HEAD\na.png,1,2,3\n", "line 2"),
        ("HEAD\na.png,1,2,3,inf\n", "line 2"),
        ("HEAD\n,1,2,3,4\n", "line 2"),
    ],
)
def test_invalid_tables_are_rejected_with_the_line(tmp_path, text, cause):
    path = tmp_path / "eyes.csv"
    path.write_text(text.replace("HEAD", "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y"))
    with pytest.raises(DataError, match=cause):
        EyeTable(path)


@pytest.fixture
def photos(tmp_path):
    """Write two folders of photographs with known eyes; one has two faces."""
    folder = tmp_path / "photos"
    eyes = Eyes(120 + 100j, 160 + 95j)
    for expression in ("neutral", "happy"):
        for name in ("ann.png", "bob.tif", "sub/eve.png"):
            write_image(folder / expression / name, scene(seed=len(name)))
    rows = {name: [eyes] for name in ("ann.png", "bob.tif", "sub/eve.png")}
    rows["neutral/ann.png"] = [Eyes(40 + 60j, 60 + 60j), eyes]
    return folder, write_table(tmp_path / "eyes.csv", rows)


def test_align_keeps_folders_and_names_and_writes_a_table(run, photos, tmp_path):
    folder, eyes = photos
    out = tmp_path / "faces"
    result = run("align", folder, "-o", out, "--size", "48", "--eyes", eyes, "--json")
    assert result.code == 0
    assert len(json.loads(result.out)["written"]) == 6
    with (out / "alignment.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["crop"] for row in rows] == sorted(row["file"] for row in rows)
    for row in rows:
        assert read_image(out / row["crop"]).pixels.shape == (48, 48, 3)
        map_ = Similarity(
            float(row["scale"]) * np.exp(1j * math.radians(float(row["degrees"]))),
            complex(float(row["shift_x"]), float(row["shift_y"])),
        )
        left = map_(complex(float(row["left_eye_x"]), float(row["left_eye_y"]))) + CENTRE
        assert abs(left - complex(48 * EYES[0][0], 48 * EYES[0][1])) < 0.01
    # The larger of two faces. The table can be used as a table of eyes.
    assert float(next(r for r in rows if r["file"] == "neutral/ann.png")["left_eye_x"]) > 100
    again = run(
        "align", folder, "-o", tmp_path / "again", "--size", 48, "--eyes", out / "alignment.csv"
    )
    assert again.code == 0
    first, second = (
        read_image(d / "neutral" / "ann.png").pixels for d in (out, tmp_path / "again")
    )
    assert np.abs(first.astype(int) - second).max() <= 2
    # The crops are training data.
    assert train(out).shape == (3, 48, 48)
    repeated = run("align", folder, "-o", out, "--eyes", eyes)
    assert repeated.code == 1
    assert "exists already" in repeated.err


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed before the table"])
def test_align_resumes_an_earlier_run(run, photos, tmp_path, killed):
    folder, eyes = photos
    whole, out = tmp_path / "whole", tmp_path / "faces"
    common = ("--size", 48, "--eyes", eyes, "--face", "all")
    assert run("align", folder, "-o", whole, *common).code == 0
    (folder / "happy").rename(tmp_path / "later")
    assert run("align", folder, "-o", out, *common).code == 0
    (tmp_path / "later").rename(folder / "happy")
    (out / "neutral" / "bob.tif").unlink()  # its row is obsolete
    if killed:
        (out / "alignment.csv").unlink()
        (out / "neutral" / "ann-2.png").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    result = run("align", folder, "-o", out, *common, "--skip-existing", "--json")
    assert result.code == 0
    report = json.loads(result.out)
    assert len(report["written"]) == (5 if killed else 4)
    assert report["skipped"] == (1 if killed else 2)
    assert ("1 photograph skipped" if killed else "2 photographs skipped") in result.err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    tables = [sorted((d / "alignment.csv").read_text().splitlines()) for d in (out, whole)]
    assert tables[0] == tables[1]
    again = run("align", folder, "-o", out, *common, "--skip-existing")
    assert again.code == 0
    assert "0 crops written" in again.err
    assert "6 photographs skipped" in again.err


def test_align_rejects_crops_of_another_size_and_foreign_tables(run, photos, tmp_path):
    folder, eyes = photos
    out = tmp_path / "faces"
    common = ("-o", out, "--eyes", eyes, "--skip-existing")
    assert run("align", folder / "happy", *common, "--force").code == 2
    assert run("align", folder / "happy", *common, "--size", 48).code == 0
    table = out / "alignment.csv"
    rows = table.read_text()
    table.unlink()
    result = run("align", folder / "happy", *common, "--size", 32)
    assert result.code == 1
    assert result.err.count("exists already and is 48x48 px, not 32x32 px") >= 3
    table.write_text(rows + "cut,1,2\n")
    result = run("align", folder, *common, "--size", 48)
    assert result.code == 1
    assert "alignment.csv: not written by mlr align" in result.err
    assert table.read_text() == rows + "cut,1,2\n"


@pytest.mark.parametrize(("face", "written"), [("all", 2), ("2", 1), ("3", 0)])
def test_align_several_faces(run, photos, tmp_path, face, written):
    folder, eyes = photos
    photo = folder / "neutral" / "ann.png"
    result = run("align", photo, "-o", tmp_path / "out", "--eyes", eyes, "--face", face)
    assert result.code == (0 if written else 1)
    found = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert found == ["ann-2.png", "ann.png"][: 2 if face == "all" else 0] or (
        (face == "2" and found == ["ann.png"]) or not written
    )
    if not written:
        assert result.lines[0] == f"mlr: {photo}: has 2 faces, but face 3 was requested"


def test_crops_are_encoded_with_the_options(run, photos, tmp_path):
    folder, eyes = photos
    write_image(folder / "jpg" / "ann.jpg", scene())
    sizes = {}
    for name, options in (("small", ["20", "9"]), ("large", ["100", "0"])):
        options = ["--quality", options[0], "--png-level", options[1], "--eyes", eyes]
        with eyes.open("a") as file:
            file.write("ann.jpg,100,100,140,100\n")
        assert run("align", folder, "-o", tmp_path / name, *options).code == 0
        files = ("jpg/ann.jpg", "happy/ann.png")
        sizes[name] = [(tmp_path / name / file).stat().st_size for file in files]
    assert all(a < b for a, b in zip(sizes["small"], sizes["large"], strict=True))


def test_crops_never_overwrite_those_of_another_photograph(run, photos, tmp_path):
    folder, eyes = photos
    write_image(folder / "neutral" / "ann-2.png", scene(seed=9))
    with eyes.open("a") as file:
        file.write("ann-2.png,100,100,140,100\n")
    out = tmp_path / "out"
    result = run("align", folder / "neutral", "-o", out, "--eyes", eyes, "--face", "all", "--force")
    assert result.code == 1
    assert "face 2 and another photograph would both be" in result.lines[0]
    expected = aligned_crop(scene(seed=9), Eyes(100 + 100j + CENTRE, 140 + 100j + CENTRE))
    assert np.array_equal(read_image(out / "ann-2.png").pixels, expected)


@pytest.mark.parametrize("options", [("--face", "none"), ("--face", "0"), ("--size", "3")])
def test_wrong_usage(run, photos, tmp_path, options):
    folder, eyes = photos
    result = run("align", folder, "-o", tmp_path / "out", "--eyes", eyes, *options)
    assert result.code == 2
    assert run("align", folder, "-o", tmp_path / "out.png", "--eyes", eyes).code == 2


def test_folders_of_photographs_and_aligned_faces(run, model, photos, tmp_path):
    folder, eyes = photos
    aligned = draw(7)
    write_image(folder / "aligned.png", aligned)
    result = run("synthesize", model, folder, "-o", tmp_path / "out", "--eyes", eyes)
    assert result.code == 0
    assert np.array_equal(
        read_image(tmp_path / "out" / "aligned.png").pixels, load(model).synthesize(aligned)
    )
    before = read_image(folder / "happy" / "ann.png").pixels
    after = read_image(tmp_path / "out" / "happy" / "ann.png").pixels
    assert after.shape == before.shape
    changed = np.argwhere((before != after).any(axis=2))
    assert len(changed) > 500
    # The crop is 112 px wide around the eyes' middle (140, 97).
    assert (np.abs(changed - (97 + 16, 140)) < 66).all()


def test_all_faces_of_a_photograph_or_one_change(run, model, photos, tmp_path):
    folder, eyes = photos
    photo = folder / "neutral" / "ann.png"
    before = read_image(photo).pixels
    small = np.s_[50:70, 40:60]
    for face, expected in (("all", True), ("largest", False), ("2", True)):
        out = tmp_path / f"{face}.png"
        result = run("synthesize", model, photo, "-o", out, "--eyes", eyes, "--face", face)
        assert result.code == 0
        many = "2 faces" if face == "all" else "1 face"
        assert f"note: {many} in 1 photograph" in result.err
        assert (read_image(out).pixels != before)[small].any() == expected


def test_error_without_a_detector_names_all_remedies(run, model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("mlr.photo.faces.installed", lambda: False)
    photo = photos[0] / "neutral" / "ann.png"
    result = run("synthesize", model, photo, "-o", tmp_path / "out.png")
    assert result.code == 1
    for remedy in (install("align"), "--eyes", "--resize"):
        assert remedy in result.lines[0]
    result = run("align", photo, "-o", tmp_path / "out")
    assert result.code == 1
    assert f"needs dlib: {install('align')}; or give the eyes" in result.lines[0]
    assert not (tmp_path / "out").exists()


def test_align_excludes_resize(run, model, photos, tmp_path):
    result = run("synthesize", model, photos[0], "-o", tmp_path / "o", "--align", "--resize")
    assert result.code == 2


@cache
def profile() -> bytes:
    """Return an ICC profile; cached, as it contains the time."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_profile_alpha_and_size_are_kept(run, model, tmp_path, suffix):
    alpha = suffix != ".jpg"
    pixels = scene(channels=4 if alpha else 3)
    photo, icc = tmp_path / f"ann{suffix}", profile()
    how = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    PIL.Image.fromarray(pixels).save(photo, icc_profile=icc, **how)
    eyes = write_table(tmp_path / "eyes.csv", {photo.name: [Eyes(120 + 100j, 160 + 100j)]})
    out = tmp_path / f"out{suffix}"
    assert run("synthesize", model, photo, "-o", out, "--eyes", eyes).code == 0
    with PIL.Image.open(out) as image:
        assert image.info["icc_profile"] == icc
        assert image.size == (300, 240)
        if alpha:
            assert np.array_equal(np.asarray(image)[..., 3], pixels[..., 3])


def test_exif_orientation_is_applied_once(run, model, tmp_path):
    pixels, eyes = scene(), Eyes(120 + 100j, 160 + 100j)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    photo = tmp_path / "lying.png"
    PIL.Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(photo, exif=exif)
    table = write_table(tmp_path / "eyes.csv", {photo.name: [eyes]})
    out = tmp_path / "out.png"
    for strength in (0, 1):
        options = ("--eyes", table, "--strength", strength, "--force")
        assert run("synthesize", model, photo, "-o", out, *options).code == 0
        with PIL.Image.open(out) as image:
            assert image.getexif().get(0x0112, 1) == 1
            expected = change_faces(load(model), pixels, [eyes], strength=strength)
            assert np.array_equal(np.asarray(image), expected)


LOSSLESS = [(suffix, c, np.uint8, False) for suffix in (".png", ".tif", ".bmp") for c in (1, 3)]
LOSSLESS += [(suffix, 1, np.uint16, False) for suffix in (".png", ".tif")]
LOSSLESS += [(suffix, c, np.uint8, True) for suffix in (".png", ".tif") for c in (1, 3)]
LOSSLESS += [(".webp", 3, np.uint8, alpha) for alpha in (False, True)]


@pytest.mark.parametrize(("suffix", "channels", "dtype", "alpha"), LOSSLESS)
def test_strength_0_keeps_the_pixels_of_a_lossless_file(
    run, model, tmp_path, suffix, channels, dtype, alpha
):
    opacity = scene(channels=1, seed=2)[..., 0] // 4 * 4 if alpha else None
    photo, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_image(photo, scene(channels=channels, dtype=dtype), opacity, quality=100)
    eyes = write_table(tmp_path / "eyes.csv", {photo.name: [Eyes(120 + 100j, 160 + 97j)]})
    options = ["--strength", 0, "--eyes", eyes, "--quality", 100]
    assert run("synthesize", model, photo, "-o", out, *options).code == 0
    before, after = read_image(photo), read_image(out)
    assert after.pixels.dtype == dtype
    assert np.array_equal(after.pixels, before.pixels)
    assert np.array_equal(after.pixels, scene(channels=channels, dtype=dtype))
    assert (after.alpha is None) == (not alpha)
    assert not alpha or np.array_equal(after.alpha, before.alpha)


def test_strength_0_keeps_the_decoded_pixels_of_a_jpeg(run, model, tmp_path):
    write_image(tmp_path / "in.jpg", scene(), quality=60)
    eyes = write_table(tmp_path / "eyes.csv", {"in.jpg": [Eyes(120 + 100j, 160 + 97j)]})
    options = ["--strength", 0, "--eyes", eyes, "-o", tmp_path / "out.png"]
    assert run("synthesize", model, tmp_path / "in.jpg", *options).code == 0
    before, after = (read_image(tmp_path / name).pixels for name in ("in.jpg", "out.png"))
    assert np.array_equal(before, after)


def test_cmyk_becomes_rgb_without_its_profile(run, model, tmp_path):
    photo = tmp_path / "print.jpg"
    PIL.Image.fromarray(scene()).convert("CMYK").save(photo, icc_profile=b"of a printer")
    eyes = write_table(tmp_path / "eyes.csv", {photo.name: [Eyes(120 + 100j, 160 + 100j)]})
    for command in (("synthesize", model, photo, "-o", tmp_path / "o.jpg"), ("align", photo)):
        out = () if command[0] == "synthesize" else ("-o", tmp_path / "crops")
        result = run(*command, *out, "--eyes", eyes)
        assert result.code == 0
        assert "note: 1 image holds CMYK colours, which Pillow converts to RGB" in result.err
    with PIL.Image.open(tmp_path / "o.jpg") as image:
        assert image.mode == "RGB"
        assert "icc_profile" not in image.info


def test_animations_are_rejected(run, model, tmp_path):
    photo = tmp_path / "moving.gif"
    frames = [PIL.Image.fromarray(draw(n)) for n in range(3)]
    frames[0].save(photo, save_all=True, append_images=frames[1:])
    for command in (("synthesize", model, photo), ("align", photo)):
        result = run(*command, "-o", tmp_path / "out")
        assert result.code == 1
        assert "frames; expected a still image" in result.lines[0]


@pytest.mark.parametrize(("size", "small"), [(128, True), (16, False)])
def test_faces_smaller_than_the_model_are_changed_and_noted(run, tmp_path, size, small):
    write_image(tmp_path / "ann.png", scene())
    eyes = write_table(tmp_path / "eyes.csv", {"ann.png": [Eyes(120 + 100j, 140 + 100j)]})
    save(brightening(side=size), tmp_path / "model.npz")
    command = ["synthesize", tmp_path / "model.npz", tmp_path / "ann.png", "--eyes", eyes]
    result = run(*command)
    assert result.code == 0
    assert (f"1 of them smaller than the model's {size}x{size} px" in result.err) == small
    assert (read_image(tmp_path / "ann-happy.png").pixels != scene()).any()


def test_ten_faces_of_a_photograph_all_change(run, model, tmp_path):
    pixels = scene(width=600)
    write_image(tmp_path / "ten.png", pixels)
    faces = [
        Eyes(complex(60 * n + 20, y), complex(60 * n + 36, y)) for n in range(5) for y in (60, 160)
    ]
    eyes = write_table(tmp_path / "eyes.csv", {"ten.png": faces})
    result = run("synthesize", model, tmp_path / "ten.png", "--eyes", eyes)
    assert result.code == 0
    assert "note: 10 faces in 1 photograph" in result.err
    changed = read_image(tmp_path / "ten-happy.png").pixels != pixels
    for face in faces:
        x, y = int(face.middle.real), int(face.middle.imag)
        assert changed[y : y + 20, x - 8 : x + 8].any()


@needs_photos
def test_crops_equal_the_stored_ones(tmp_path):
    crops = align([SHARED / "photos"], tmp_path, eyes=SHARED / "photos" / "eyes.csv")
    assert len(crops) == 16
    for crop in crops:
        path = SHARED / "london" / "128" / crop.parent.name / f"{crop.stem}.png"
        stored = read_image(path).pixels
        assert np.abs(read_image(crop).pixels - stored.astype(float)).mean() < 2.5
