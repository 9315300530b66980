"""Models as ONNX graphs: the program's pixels, in Python and in Node."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mlr
from mlr.errors import ModelError, OptionError, OutputExistsError
from mlr.io.images import read_image, write_image
from mlr.samples import draw_face, sample
from tests.test_documents import blocks

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

NODE = shutil.which("node")
WEB = os.environ.get("ONNXRUNTIME_WEB", "")  # folder with node_modules/onnxruntime-web
SIZE, PAIRS = 64, 10
LEVEL = 1 / 255
DRAWN = {"size": SIZE, "pairs": PAIRS, "target": ["happy", "surprised"]}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    sample(folder, **DRAWN)
    return folder


@pytest.fixture(scope="module")
def narrow(pairs, tmp_path_factory):
    """Grey images that are not square, too few for a style."""
    folder = tmp_path_factory.mktemp("narrow")
    for path in pairs.glob("[hn]*/00[1-7].*"):
        pixels = np.ascontiguousarray(read_image(path).pixels[:, 6:58, 1:2])
        write_image(folder / path.relative_to(pairs), pixels)
    return folder


@pytest.fixture(scope="module")
def best(pairs):
    return mlr.train(pairs)


def faces_of(model):
    """Return pictures that take all ways through a model, (N, height, width, 3) in [0, 1]."""
    _, height, width = model.shape
    faces = [draw_face(1, 90, name, height) for name in ("neutral", "happy", "surprised")]
    faces = [each[:, (height - width) // 2 :][:, :width] / 255 for each in faces]
    neutral = faces[0]
    slope = np.linspace(0.3, 1, width)[:, None]
    noise = np.random.default_rng(1).random(neutral.shape)
    faces += [neutral * 0.2, neutral * slope, neutral[..., :1].repeat(3, -1), noise]
    faces += [np.roll(neutral, 3, 1), neutral * 0, neutral * [0.6, 1, 1]]
    hidden, forehead = neutral.copy(), neutral.copy()
    mouth, top = slice(int(0.6 * height), int(0.9 * height)), slice(int(0.55 * height))
    hidden[mouth] = noise[mouth]
    forehead[top] = 0.2 * neutral[top] + 0.8 * noise[top]  # so that it is trusted in part
    faces += [0.6 * neutral + 0.4 * noise, hidden, forehead, np.roll(forehead, 4, 0)]
    faces += [np.roll(faces[1], 4, 0), np.roll(faces[2], (-3, 5), (0, 1))]
    return np.float32(faces)


def session_of(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(session, faces, strength=1.0, style=None):
    """Return the faces that a graph makes, (N, height, width, 3)."""
    values = {"strength": strength, "style": np.nan if style is None else style}
    names = {each.name for each in session.get_inputs()} - {"image"}
    feed = {name: np.atleast_1d(np.float32(values[name])) for name in names}
    (found,) = session.run(None, {"image": faces.transpose(0, 3, 1, 2), **feed})
    assert found.dtype == np.float32
    return found.transpose(0, 2, 3, 1)


def assert_equal(found, wanted):
    assert np.abs(found - np.clip(wanted, 0, 1)).max() < LEVEL


# --- the program's pixels ---

#: Strengths and styles, in turn for the faces.
CALLS = ((1, None), (0, 1.0), (2, None), (1, -1.5), (0.7, 2.0), (0.3, None), (1, 1.0))


@pytest.mark.parametrize(
    ("target", "region"),
    [
        ("happy", ()),
        ("surprised", ("mouth",)),
        ({"happy": 0.6, "surprised": 0.7}, ("upper", "mouth")),
    ],
)
def test_registered_models_agree(best, target, region, tmp_path):
    session = session_of(mlr.export(best, tmp_path / "face.onnx", target, region))
    faces = faces_of(best)
    fits = best.changer(faces, target).fits
    assert any(fit.unlike for fit in fits)
    assert any(fit.expression for fit in fits)
    calls = [CALLS[n % len(CALLS)] for n in range(len(faces))]
    found = run_graph(
        session,
        faces,
        *(
            [np.nan if value is None else value for value in each]
            for each in zip(*calls, strict=True)
        ),
    )
    for output, face, (strength, style) in zip(found, faces, calls, strict=True):
        assert_equal(output, best.synthesize(face, target, strength, style, region))
    assert_equal(
        run_graph(session, faces[:2], 1.0), best.synthesize(faces[:2], target, region=region)
    )
    assert run_graph(session, faces[:0]).shape == (0, SIZE, SIZE, 3)


def test_narrow_grey_models_without_style_agree(narrow, tmp_path):
    model = mlr.train(narrow)
    assert not model.appearances["happy"].styled
    session = session_of(mlr.export(model, tmp_path / "face.onnx"))
    assert [each.name for each in session.get_inputs()] == ["image", "strength"]
    faces = faces_of(model)
    for strength in (1.0, 0.5):
        wanted = model.synthesize(faces, strength=strength)
        assert np.abs(wanted - faces).max() > 10 * LEVEL
        assert_equal(run_graph(session, faces, strength), wanted)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("pairs", {}),
        ("pairs", {"receptive_field": "disc"}),
        ("narrow", {"receptive_field": [(0, 0), (-70, 2), (1, 80)]}),
    ],
    ids=["3x3", "disc", "grey and far"],
)
@pytest.mark.parametrize("region", [(), ("mouth",)], ids=["all", "mouth"])
def test_models_of_the_paper_agree(data, options, region, request, tmp_path):
    folder = request.getfixturevalue(data)
    model = mlr.train(folder, recipe="paper", **options)
    target = {"happy": 0.5, "surprised": 0.5} if data == "pairs" else "happy"
    session = session_of(mlr.export(model, tmp_path / "face.onnx", target, region))
    faces = faces_of(model)
    for strength in (1.0, 0.4):
        wanted = model.synthesize(faces, target, strength, region=region)
        assert_equal(run_graph(session, faces, strength), wanted)


# --- the file ---


def test_command_writes_a_checked_graph_that_says_what_it_is(run, best, tmp_path):
    model, out = tmp_path / "model.npz", tmp_path / "graphs" / "face.onnx"
    mlr.save(best, model)
    result = run("export", model, "-o", out, "--target", "happy=0.6,surprised=0.4", "--json")
    assert result.code == 0
    assert json.loads(result.out)["written"] == [str(out)]
    made = onnx.load(out)
    onnx.checker.check_model(made, full_check=True)
    assert {each.domain for each in made.opset_import} == {""}
    said = {each.key: each.value for each in made.metadata_props}
    assert json.loads(said["expressions"]) == {"happy": 0.6, "surprised": 0.4}
    assert json.loads(said["eyes"]) == [list(eye) for eye in best.info.eyes]
    assert json.loads(said["model"]) == mlr.load(model).sha256
    assert out.stat().st_size < 8 * model.stat().st_size
    assert run("export", model, "-o", out, "--target", "happy").code == 1
    assert run("export", model, "-o", out, "--target", "happy", "--force").code == 0


def test_what_cannot_be_exported_is_refused(best, tmp_path):
    out = tmp_path / "face.onnx"
    out.touch()
    with pytest.raises(OutputExistsError):
        mlr.export(best, out, "happy")
    for target, region in ((None, ()), ("sad", ()), ("happy", "nose")):
        with pytest.raises((ModelError, OptionError)):
            mlr.export(best, out, target, region, force=True)
    with pytest.raises(OptionError, match="page"):
        mlr.export(best, tmp_path / "face.html", "happy")
    weights = best.weights.copy()
    weights[0, 0, 0, 0, 0] = np.nan
    broken = replace(best, weights=weights)
    with pytest.raises(ModelError, match="not finite"):
        mlr.export(broken, out, "happy", force=True)


def test_the_extra_is_named_where_it_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("export", "smile", "-o", tmp_path / "face.onnx")
    assert result.code == 2
    assert "pip install 'masked-linear-regression[onnx]'" in result.err
    assert not list(tmp_path.iterdir())


# --- the code of the documentation ---

PAGE = Path(__file__).parent.parent / "docs" / "game.md"
DRIVER = """
import { readFileSync, writeFileSync } from "node:fs";
import { changed, open } from "./game.mjs";
const [path, width, height, strength, style] = process.argv.slice(2);
const session = await open(readFileSync(path));
const pixels = { data: readFileSync(`${path}.raw`), width: Number(width), height: Number(height) };
writeFileSync(`${path}.out`, await changed(session, pixels, Number(strength), Number(style)));
"""


def test_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mlr.load("smile")
    crop = draw_face(1, 90, "neutral", 256)
    mlr.export(model, "smile.onnx")
    write_image(tmp_path / "crop.png", crop)
    for block in blocks(PAGE, "python"):
        exec(compile(block, PAGE.name, "exec"), {})
    wanted = model.synthesize(crop, strength=0.8)
    found = read_image(tmp_path / "smiling.png").pixels
    assert (wanted != crop).any()
    assert np.abs(np.int16(found) - wanted).max() <= 1


@pytest.mark.skipif(NODE is None or not WEB, reason="needs Node, and ONNXRUNTIME_WEB=FOLDER")
@pytest.mark.parametrize(("strength", "style"), [(1.0, None), (0.7, 1.5)])
def test_javascript_of_the_page_runs(best, strength, style, tmp_path):
    (code,) = blocks(PAGE, "js")
    path = mlr.export(best, tmp_path / "face.onnx", "happy")
    (tmp_path / "game.mjs").write_text(code)
    (tmp_path / "driver.mjs").write_text(DRIVER)
    (tmp_path / "node_modules").symlink_to(Path(WEB) / "node_modules")
    face = draw_face(1, 90, "neutral", SIZE)
    alpha = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE, 1)
    Path(f"{path}.raw").write_bytes(np.concatenate([face, alpha], axis=2).tobytes())
    numbers = [SIZE, SIZE, strength, "NaN" if style is None else style]
    command = [NODE, tmp_path / "driver.mjs", path, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = np.fromfile(f"{path}.out", np.uint8).reshape(SIZE, SIZE, 4)
    wanted = best.synthesize(face, "happy", strength, style)
    assert (wanted != face).any()
    assert np.abs(np.int16(found[..., :3]) - wanted).max() <= 1
    assert (found[..., 3:] == alpha).all()
