"""Any face: search, notes on bad fits, regions, animations."""

import json

import numpy as np
import PIL.Image
import pytest

from mlr import load
from mlr.core.registration.geometry import REGIONS
from mlr.errors import OptionError
from mlr.io.images import read_image, resized, write_image
from mlr.photo.composite import FrameChanger, PhotoFace, change_faces, eyes_found
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import warp
from mlr.photo.track import TrackedFace
from mlr.samples import sample
from mlr.training.train import train

SIZE = 64


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Drawn faces: twelve to train on, and four others."""
    folder = tmp_path_factory.mktemp("drawn")
    sample(folder / "train", pairs=12, size=SIZE, target=["happy", "surprised"])
    sample(folder / "test", pairs=4, size=SIZE, seed=1, target=["happy", "surprised"])
    return folder


@pytest.fixture(scope="module")
def trained(drawn):
    path = drawn / "model.npz"
    train(drawn / "train", path)
    return path


@pytest.fixture
def noise(tmp_path):
    """An image without a face."""
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    write_image(path, pixels)
    return path


def faces_of(drawn):
    return sorted((drawn / "test" / "neutral").iterdir())


def pixels_of(path):
    return read_image(path).pixels


def test_pictures_without_a_face_stay_and_are_named(run, trained, drawn, noise, tmp_path):
    face, out = faces_of(drawn)[0], tmp_path / "out"
    command = ["synthesize", trained, face, noise, "-o", out, "--target", "happy"]
    result = run(*command, "--json")
    assert result.code == 1
    assert f"{noise}: does not look like the faces learnt from, and stays as it is" in result.err
    found = json.loads(result.out)
    assert len(found["written"]) == 2
    assert np.array_equal(pixels_of(out / "noise.png"), pixels_of(noise))
    assert not np.array_equal(pixels_of(out / face.name), pixels_of(face))
    by_path = {entry["path"]: entry for entry in found["faces"]}
    assert by_path[str(face)]["fit"] > 0.5
    assert by_path[str(face)]["trust"] == pytest.approx(1, abs=0.05)
    assert by_path[str(noise)]["trust"] == 0
    assert [each["path"] for each in found["failures"]] == [str(noise)]
    assert run(*command, "--strength", 0, "--force").code == 0


def test_an_expression_that_shows_already_is_noted(run, trained, drawn, tmp_path):
    surprised = drawn / "test" / "surprised"
    command = ["synthesize", trained, surprised, "-o", tmp_path / "out", "--target", "surprised"]
    result = run(*command, "--json")
    found = json.loads(result.out)["faces"]
    assert len(found) == 4
    assert all(face.get("shows") == "surprised" for face in found)
    shown = sum(face["shown"] > 0 for face in found)
    assert shown >= 2
    assert f"note: {shown} faces with signs of surprised already, changed less" in result.lines


def test_regions_from_the_command_line(run, trained, drawn, tmp_path):
    face = faces_of(drawn)[0]
    command = ["synthesize", trained, face, "--target", "surprised", "-o"]
    for name, options in {"all": [], "mouth": ["mouth"], "two": ["brows", "eyes"]}.items():
        more = [part for option in options for part in ("--region", option)]
        assert run(*command, tmp_path / f"{name}.png", *more).code == 0
    before = pixels_of(face).astype(int)
    change = {n: np.abs(pixels_of(tmp_path / f"{n}.png") - before) for n in ("all", "mouth", "two")}
    upper, lower = np.s_[: SIZE // 2], np.s_[SIZE // 2 :]
    assert not change["mouth"][upper].any()
    assert change["mouth"][lower].max() > 30
    assert not change["two"][3 * SIZE // 4 :].any()
    assert change["two"][upper].max() > 30
    assert change["all"][upper].any()
    assert change["all"][lower].any()
    wrong = run(*command, tmp_path / "x.png", "--region", "nose")
    assert wrong.code == 2
    assert all(repr(name) in wrong.err for name in REGIONS)
    with pytest.raises(OptionError, match="unknown region 'nose'; use mouth, eyes, brows"):
        load(trained).synthesize(pixels_of(face), "surprised", region="nose")


def test_regions_with_the_recipe_paper(drawn):
    model = train(drawn / "train", recipe="paper")
    face = pixels_of(faces_of(drawn)[0])
    whole, mouth = (model.synthesize(face, "happy", region=part) for part in ((), "mouth"))
    assert np.array_equal(mouth[: SIZE // 2], face[: SIZE // 2])
    row = round(0.76 * SIZE)
    assert np.array_equal(mouth[row, SIZE // 2], whole[row, SIZE // 2])
    assert np.array_equal(model.synthesize(face, "happy", strength=0, region="mouth"), face)


def frames_of(path):
    with PIL.Image.open(path) as image:
        found = []
        for n in range(image.n_frames):
            image.seek(n)
            found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def test_animation_from_one_expression_to_another(run, trained, drawn, tmp_path):
    face, path = faces_of(drawn)[0], tmp_path / "x.png"
    options = ["--animate", "--format", "png", "--target", "happy", "--start", "surprised"]
    assert run("synthesize", trained, face, "-o", path, *options).code == 0
    frames, model, pixels = frames_of(path), load(trained), pixels_of(face)
    assert len(frames) == 24
    assert np.array_equal(frames[0], model.synthesize(pixels, "surprised"))
    assert np.array_equal(frames[12], model.synthesize(pixels, "happy"))
    half = model.synthesize(pixels, {"happy": 0.5, "surprised": 0.5})
    assert np.abs(frames[6] - half).max() <= 1


def test_animation_through_styles(run, trained, drawn, tmp_path):
    face, path = faces_of(drawn)[0], tmp_path / "x.png"
    options = ["--animate", "--format", "png", "--target", "happy", "--styles", -1, 2]
    assert run("synthesize", trained, face, "-o", path, *options).code == 0
    frames, model, pixels = frames_of(path), load(trained), pixels_of(face)
    assert np.array_equal(frames[0], model.synthesize(pixels, "happy", style=-1))
    assert np.array_equal(frames[12], model.synthesize(pixels, "happy", style=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "happy"], "--start and --styles are for --animate"),
        (["--animate", "--styles", 0, 1, "--style", 1], "--style and --start do not go with it"),
        (["--animate", "--styles", 0, 9], "the style must lie between -5 and 5, not 9"),
        (["--animate", "--start", "angry"], "the model has no expression 'angry'"),
    ],
)
def test_wrong_animations_are_refused(run, trained, drawn, tmp_path, options, message):
    result = run("synthesize", trained, faces_of(drawn)[0], "-o", tmp_path / "x.gif", *options)
    assert result.code in (1, 2)
    assert message in result.err
    assert not (tmp_path / "x.gif").exists()


def photograph(drawn):
    """Return a photograph with a drawn face, and its eyes."""
    face = resized(pixels_of(faces_of(drawn)[0]), 160, 160)
    photo = np.full((220, 260, 3), 90, np.uint8)
    photo[30:190, 50:210] = face
    return photo, Eyes(50 + 0.32 * 160 + (30 + 0.36 * 160) * 1j, 50 + 0.68 * 160 + 87.6j)


def test_roughly_placed_eyes_are_corrected(trained, drawn):
    model = load(trained)
    photo, eyes = photograph(drawn)
    expected = change_faces(model, photo, [eyes], "happy").astype(float)
    effect = np.sqrt(np.square(expected - photo).mean())
    for shift, factor in ((6 - 5j, 1.1), (-7 + 4j, 0.9 * np.exp(0.08j))):
        half = factor * (eyes.right - eyes.left) / 2
        rough = Eyes(eyes.middle + shift - half, eyes.middle + shift + half)
        found = PhotoFace(model, photo, rough, model.change_of("happy"))
        assert not found.fit.unlike
        changed = change_faces(model, photo, [rough], "happy").astype(float)
        assert np.sqrt(np.square(changed - expected).mean()) < 0.3 * effect
        crop = np.clip(warp(photo, rough.to_crop(SIZE, SIZE), SIZE, SIZE) / 255, 0, 1)
        fit = model.registered.register(np.ascontiguousarray(crop.transpose(2, 0, 1))).fit
        to_crop = rough.to_crop(SIZE, SIZE)
        for (x, y), eye in zip(eyes_found(model, fit), (eyes.left, eyes.right), strict=True):
            assert abs(complex(x, y) * SIZE - to_crop(eye)) < 1.5


def test_what_is_added_has_the_colour_of_the_light(trained, drawn):
    model = load(trained)
    face = np.float32(pixels_of(faces_of(drawn)[0]).transpose(2, 0, 1)) / 255
    light = np.float32([1.0, 0.8, 0.5])[:, None, None]
    hues = [
        model.registered.hue(model.registered.register(np.ascontiguousarray(x)))
        for x in (face, face * light)
    ]
    ratio = (hues[1] / hues[0]).ravel()
    assert ratio / ratio[0] == pytest.approx([1, 0.8, 0.5], rel=0.05)
    assert hues[0].mean() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("flip", [1, -1])
def test_shadows_stay(trained, drawn, flip):
    model = load(trained)
    light = np.linspace(0.25, 1, SIZE, dtype=np.float32)[::flip, None]
    wrong, least = [], []
    for path in faces_of(drawn):
        face = pixels_of(path)
        lit = np.rint(face * light).astype(np.uint8)
        usual, found = (model.synthesize(each, "happy").astype(float) for each in (face, lit))
        mouth = np.s_[int(0.62 * SIZE) : int(0.85 * SIZE), int(0.28 * SIZE) : int(0.72 * SIZE)]
        wrong.append((found - usual * light)[mouth])
        least.append((usual * light.mean() - usual * light)[mouth])
    # A change that knows one brightness alone is off by about the second.
    assert np.std(wrong) < 0.35 * np.std(least)


def test_a_still_face_is_still(trained, drawn):
    model = load(trained)
    photo, eyes = photograph(drawn)
    noise = np.random.default_rng(0)
    change = FrameChanger(model, model.change_of("happy"))
    frames = [
        np.clip(photo + noise.normal(0, 2, photo.shape), 0, 255).astype(np.uint8) for _ in range(12)
    ]
    changes = [change((frame, [TrackedFace(eyes)])).astype(float) - frame for frame in frames]
    alone = [PhotoFace(model, frame, eyes, model.change_of("happy")) for frame in frames]
    steps = np.diff([face.fit.field for face in alone], axis=0)
    last, found = None, []
    for frame in frames:
        last = PhotoFace(model, frame, eyes, model.change_of("happy"), last)
        found.append(last.fit.field)
    steady = np.diff(found, axis=0)
    assert np.abs(steady[2:]).mean() < 0.6 * np.abs(steps).mean()
    assert np.abs(changes[-1] - changes[-2]).mean() < 0.1 * np.abs(changes[-1]).mean() + 0.5


def test_a_lost_face_is_searched_again(trained, drawn):
    model = load(trained)
    first, second = (
        np.float32(pixels_of(path).transpose(2, 0, 1)) / 255 for path in faces_of(drawn)[:2]
    )
    moved = np.ascontiguousarray(np.roll(second, (5, -3), axis=(1, 2)))
    known = model.registered.register(np.ascontiguousarray(first)).fit
    after = model.registered.register(moved, known).fit
    alone = model.registered.register(moved).fit
    assert after.value > alone.value - 0.1


def test_a_flipped_face_gets_the_flipped_change(trained, drawn):
    model = load(trained)
    for path in faces_of(drawn)[:2]:
        face = np.float32(pixels_of(path)) / 255
        flipped = np.ascontiguousarray(face[:, ::-1])
        change = model.synthesize(face, "happy") - face
        other = (model.synthesize(flipped, "happy") - flipped)[:, ::-1]
        assert np.square(other - change).mean() < 0.03**2 * np.square(change).mean()
