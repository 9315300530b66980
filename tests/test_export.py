"""The page of a model: one file, half precision, and modules that give the program's pixels."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.core.registration.features import features_of
from mlr.core.registration.register import Template
from mlr.errors import ModelError, OptionError, OutputExistsError
from mlr.exports import export as module
from mlr.exports.export import MODULES, export
from mlr.io.images import read_image, resized, write_image
from mlr.io.page import joined
from mlr.io.provenance import describe_image
from mlr.photo.composite import changer
from mlr.photo.eyes import Eyes
from mlr.photo.similarity import warp
from mlr.samples import EYES, draw_face, sample

NODE = shutil.which("node")
DATA = Path(os.environ.get("MLR_DATA", "../shared/data"))
PAIRS, SIZE = 16, 128
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Drawn faces with two expressions."""
    folder = tmp_path_factory.mktemp("drawn")
    sample(folder, pairs=PAIRS, size=SIZE, target=["happy", "surprised"])
    return folder


@pytest.fixture(scope="module")
def drawn(pairs, tmp_path_factory):
    """A model of drawn faces."""
    path = tmp_path_factory.mktemp("model") / "model.npz"
    mlr.train(pairs, path)
    return mlr.load(path)


@pytest.fixture(scope="module")
def narrow(pairs, tmp_path_factory):
    """A model of grey images that are not square."""
    folder = tmp_path_factory.mktemp("narrow")
    for path in [*pairs.glob("neutral/*"), *pairs.glob("happy/*")]:
        pixels = np.ascontiguousarray(read_image(path).pixels[:, 12:116, 1:2])
        write_image(folder / path.relative_to(pairs), pixels)
    return mlr.train(folder)


@pytest.fixture(scope="module")
def page(drawn, tmp_path_factory):
    return mlr.export(drawn, tmp_path_factory.mktemp("page") / "face.html")


def script(page, name):
    return re.search(rf'id="{name}">(.*?)</script>', page.read_text(), re.S)[1]


# --- the file ---


def test_command_writes_a_small_page_that_loads_nothing(run, drawn, tmp_path):
    model, out = tmp_path / "model.npz", tmp_path / "pages" / "face.html"
    mlr.save(drawn, model)
    result = run("export", model, "-o", out, "--json")
    assert result.code == 0
    assert json.loads(result.out)["written"] == [str(out)]
    text = out.read_text()
    assert len(text) / len(drawn.expressions) < 2e6
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert not re.search(r"\[\[\w+]]", text)
    assert re.findall(r'\b(?:src|href)="', text) == []
    assert run("export", model, "-o", out).code == 1
    assert out.read_text() == text
    assert run("export", model, "-o", out, "--force").code == 0
    assert run("export", model, "-o", tmp_path / "face.pdf").code == 2


def test_errors_name_the_cause(drawn, model, tmp_path):
    out = tmp_path / "face.html"
    with pytest.raises(ModelError, match="recipe paper cannot be a page"):
        export(mlr.load(model), out)
    with pytest.raises(OptionError, match=r"face\.txt: cannot be exported"):
        export(drawn, tmp_path / "face.txt")
    weights = drawn.weights.copy()
    weights[0, 0, 0, 0, 0] = np.nan
    broken = type(drawn)(
        weights, drawn.receptive_field, drawn.expressions, registered=drawn.registered
    )
    with pytest.raises(ModelError, match="weights0 has values that are not finite"):
        export(broken, out)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(OutputExistsError):
        export(drawn, out)
    assert out.read_text() == "mine"


def test_header_tells_the_model_and_no_name_ends_a_script(drawn, page, monkeypatch):
    header = json.loads(script(page, "header"))
    assert header["expressions"] == list(drawn.expressions)
    assert header["record"]["model"] == drawn.sha256
    assert [tuple(tap) for tap in header["taps"]] == list(drawn.receptive_field.offsets)
    kinds = {each["name"]: each["type"] for each in header["arrays"]}
    assert kinds["weights0"] == kinds["mean1"] == "half"
    assert kinds["source"] == kinds["motion0"] == "float"
    assert kinds["face0"] == "byte"
    assert module._json("</script>") == '"\\u003c/script>"'


def test_half_precision_is_used_only_where_it_changes_less_than_a_level(drawn):
    look = drawn.appearances["happy"]
    found = module._arrays_of(drawn.weights[0], look)
    error = np.abs(found["weights"].astype(np.float32) - drawn.weights[0, 0]).sum(axis=0).max()
    assert 0 < error < LEVEL
    for factor in (40, 1e6):  # 1e6: not in the range of half precision
        large = module._arrays_of(drawn.weights[0] * np.float32(factor), look)
        assert large["weights"].dtype == np.float32
        assert large["mean"].dtype == np.float16


def test_every_module_is_in_the_page():
    modules = {path.stem: path for path in module.PAGE.glob("*.mjs")}
    assert set(modules) == {*MODULES, "page"}
    text = joined(modules.values())
    assert not re.search(r"^(import|export)\b", text, re.M)


# --- the same pixels ---

SETTINGS = (
    {"shares": {"happy": 1.0}},
    {"shares": {"surprised": 1.0}, "style": 1.0},
    {"shares": {"happy": 0.6, "surprised": 0.4}, "strength": 1.5},
    {"shares": {"happy": 1.0}, "strength": 0.6, "regions": ["mouth", "brows"]},
    {"shares": {"happy": 0.8}, "style": -1.5, "regions": ["lower"]},
    {"shares": {"surprised": 1.0}, "regions": ["eyes"]},
    {"shares": {"surprised": 1.2}, "regions": ["upper"]},
)


class Vectors:
    """Writes pictures and what the program makes of them."""

    def __init__(self, folder):
        self.folder, self.cases, self.clip = folder, [], []

    def add(self, name, page, model, pixels, eyes, wanted, **more):
        """Add a photograph with the eyes of its faces, or an aligned image, with None."""
        each = {"strength": 1.0, "style": None, "regions": []} | wanted
        how = each["shares"], each["style"], each["regions"]
        if eyes is None:
            change = model.changer(pixels, *how)
        else:
            change = changer(model, pixels, eyes, *how)
            more["eyes"] = [
                [[eye.real, eye.imag] for eye in (face.left, face.right)] for face in eyes
            ]
            size = model.shape[1:]
            crop = warp(pixels, eyes[0].to_crop(*size, model.info.eyes), *size)
            (self.folder / f"{name}.crop").write_bytes(crop.transpose(2, 0, 1).tobytes())
        output, more["fits"] = change(each["strength"]), [fit.value for fit in change.fits]
        opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        (self.folder / f"{name}.in").write_bytes(np.dstack([pixels, opaque]).tobytes())
        (self.folder / f"{name}.out").write_bytes(output.tobytes())
        moved = float((np.abs(output.astype(int) - pixels) > 2).mean())
        height, width, _ = pixels.shape
        size = {"height": height, "width": width, "changes": moved > 0.01}
        self.cases.append({"name": name, "page": page, **size, **each, **more})

    def add_field(self, name, model, image):
        """Add an image (height, width, 3) in [0, 1] and its field, without a search."""
        image = image.astype(np.float32)
        template = Template(model.registered.geometry, model.registered.source)
        (self.folder / f"{name}.image").write_bytes(image.transpose(2, 0, 1).tobytes())
        field = template.register(features_of(image))
        (self.folder / f"{name}.field").write_bytes(field.tobytes())

    def add_clip(self, name, model, frames):
        """Add aligned video frames (N, height, width, 3) in [0, 1], and the fit of each."""
        fit, fits = None, []
        for frame in frames:
            face = model.registered.register(np.asarray(frame.transpose(2, 0, 1), np.float32), fit)
            fit = face.fit
            arrays = (face.image, fit.field, fit.trust, fit.whites.astype(np.float32))
            fits += [each.tobytes() for each in arrays]
            self.clip.append([float(fit.value), fit.expression, float(fit.shown)])
        (self.folder / f"{name}.clip").write_bytes(b"".join(fits))

    def save(self):
        (self.folder / "clip.json").write_text(json.dumps(self.clip))
        (self.folder / "cases.json").write_text(json.dumps(self.cases))


def photograph(*prints, height=300, width=420):
    """Return a wall with drawn faces (subject, side, x, y, degrees), and their eyes."""
    y, x = np.mgrid[:height, :width] / width
    wall = (150 + 60 * y - 30 * x)[..., None] * (1.0, 0.97, 0.9)
    scene = PIL.Image.fromarray(wall.astype(np.uint8))
    faces = []
    for subject, side, left, top, degrees in prints:
        face = PIL.Image.fromarray(draw_face(7, subject, "neutral", side)).convert("RGBA")
        turned = face.rotate(-degrees, PIL.Image.Resampling.BICUBIC)
        scene.paste(turned, (left, top), turned)
        turn = np.exp(1j * np.deg2rad(degrees))
        middle = complex(left + side / 2, top + side / 2)
        eyes = (turn * complex(x - 0.5, y - 0.5) * side + middle for x, y in EYES)
        faces.append(Eyes(*eyes))
    return np.asarray(scene), faces


@pytest.fixture(scope="module")
def vectors(drawn, narrow, page, tmp_path_factory):
    """Twelve aligned faces, six photographs, and paintings if these are at hand."""
    found = Vectors(tmp_path_factory.mktemp("vectors"))
    shutil.copy(page, found.folder / "drawn.html")
    for subject in range(12):
        pixels = draw_face(3, subject, "happy" if subject in (0, 3, 8) else "neutral", SIZE)
        if subject in (1, 4):  # a long chin
            longer = resized(np.ascontiguousarray(pixels[46:]), 119, SIZE)
            pixels = np.vstack([pixels[:46], longer[: SIZE - 46]])
        if subject == 6:
            pixels = np.repeat(pixels[..., 1:2], 3, axis=2)  # grey
        if subject == 7:
            pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)  # no face
        wanted = SETTINGS[subject % len(SETTINGS)]
        found.add(f"aligned-{subject}", "drawn.html", drawn, pixels, None, wanted)
    prints = (
        [(0, 240, 90, 30, 0)],
        [(1, 200, 110, 40, -18)],
        [(2, 110, 40, 60, 10), (3, 140, 230, 90, 0)],
        [(4, 90, 160, 100, 5)],
        [(5, 620, 100, 40, 4)],
    )
    for number, each in enumerate(prints):
        size = {"height": 760, "width": 820} if number == 4 else {}
        pixels, eyes = photograph(*each, **size)
        if number == 1:  # roughly placed
            eyes = [Eyes(face.left + 6, face.right + 7 - 3j) for face in eyes]
        wanted, guess = SETTINGS[number], number in (0, 2)
        found.add(f"photo-{number}", "drawn.html", drawn, pixels, eyes, wanted, guess=guess)
    found.add_field("noise", drawn, np.random.default_rng(1).random((SIZE, SIZE, 3)))
    found.add_field("far", drawn, np.roll(draw_face(3, 1, "neutral", SIZE), 20, axis=1) / 255)
    shown = draw_face(3, 0, "happy", SIZE)
    frames = [np.roll(shown, 2 * n, axis=(0, 1)) for n in range(4)]
    frames.append(np.rot90(shown, 2))  # upside down: lost
    found.add_clip("moving", drawn, np.array(frames) / 255)
    assert found.clip[3][0] - found.clip[4][0] > 0.1
    export(narrow, found.folder / "narrow.html")
    wanted = {"shares": {"happy": 1.0}}
    found.add("narrow", "narrow.html", narrow, *photograph((6, 220, 90, 40, 4)), wanted)
    paintings = sorted((DATA / "out-of-dataset" / "paintings").glob("*.png"))
    if paintings:
        for expression in ("neutral", "happy"):
            for path in sorted((DATA / "london" / "128" / expression).iterdir())[:24]:
                pixels = read_image(path).pixels
                write_image(found.folder / "london" / expression / path.name, pixels)
        london = mlr.train(found.folder / "london")
        export(london, found.folder / "london.html")
        for path in paintings:
            pixels = np.ascontiguousarray(read_image(path).pixels[..., :3])
            side = pixels.shape[0]
            eyes = [Eyes(*(complex(x * side, y * side) for x, y in EYES))]
            found.add(path.stem, "london.html", london, pixels, eyes, wanted)
    found.save()
    return found


@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_modules_agree_with_the_program(vectors):
    tests = Path(__file__).parent / "page" / "agreement.test.mjs"
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", str(tests)],
        env=os.environ | {"VECTORS": str(vectors.folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.M)[1]) >= len(vectors.cases) + 10
    assert sum(case["changes"] for case in vectors.cases) >= 0.8 * len(vectors.cases)
    for alpha in (255, 100):  # written by the test
        path = vectors.folder / f"alpha-{alpha}.png"
        pixels = np.fromfile(path.with_suffix(".raw"), np.uint8).reshape(5, 7, 4)
        with PIL.Image.open(path) as image:
            assert image.mode == ("RGB" if alpha == 255 else "RGBA")
            np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), pixels)
            assert json.loads(image.info["Comment"]) == {"expression": "fröhlich"}


def test_the_record_in_a_comment_is_read(tmp_path):
    path = tmp_path / "out.png"
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("Comment", json.dumps({"kind": "synthesized", "expression": "happy"}))
    PIL.Image.new("RGB", (4, 4)).save(path, pnginfo=text)
    assert describe_image(path)["expression"] == "happy"
