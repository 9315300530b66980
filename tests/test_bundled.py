"""The models that come with the program."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import mlr
from benchmarks import bundle
from benchmarks.bundle import CREDIT
from mlr.cli.models import _NOTES
from mlr.errors import MlrError
from mlr.io.images import read_image, write_image
from mlr.io.model_file import BUNDLED
from mlr.io.npz import meta_of
from mlr.photo.eyes import COLUMNS
from mlr.samples import EYES, draw_face
from tests.test_benchmarks import run_benchmark

LONDON = Path(os.environ.get("MLR_DATA", "../shared/data")) / "london" / "256"
SIDE = 256
CORNER = 50  # of the face in the photograph
MOUTH = np.s_[165:220, 80:176]  # rows and columns of a crop


@pytest.fixture
def party(tmp_path):
    """A photograph of a drawn face, and the table of its eyes."""
    photograph = np.full((400, 500, 3), 200, np.uint8)
    photograph[CORNER : CORNER + SIDE, CORNER : CORNER + SIDE] = draw_face(3, 0, "neutral", SIDE)
    write_image(tmp_path / "party.png", photograph)
    with (tmp_path / "eyes.csv").open("w", newline="") as file:
        eyes = [SIDE * part + CORNER - 0.5 for eye in EYES for part in eye]
        csv.writer(file).writerows([["file", *COLUMNS], ["party.png", *eyes]])
    return tmp_path / "party.png"


def test_a_photograph_smiles(run, party):
    result = run("synthesize", "smile", party, "--eyes", party.with_name("eyes.csv"), "--json")
    assert result.code == 0
    (face,) = json.loads(result.out)["faces"]
    assert face["trust"] > 0.9
    before, after = (read_image(path).pixels for path in (party, party.with_stem("party-happy")))
    difference = np.abs(after.astype(int) - before).max(axis=2)
    inside = difference[CORNER : CORNER + SIDE, CORNER : CORNER + SIDE]
    assert inside[MOUTH].mean() > 10
    assert inside[MOUTH].mean() > 4 * inside.mean() > 0
    inside[:] = 0
    assert not difference.any()


def test_teeth_show_more_with_more_style():
    model, face = mlr.load("smile"), draw_face(3, 0, "neutral", SIDE)
    light = [model.synthesize(face, "happy", style=style)[MOUTH].mean() for style in (-1, 0, 1, 2)]
    assert light == sorted(light)
    assert light[-1] > light[0] + 5
    assert model.appearances["happy"].groups is not None


def test_half_precision_is_read_as_single_precision(tmp_path):
    model, path = mlr.load("smile"), BUNDLED / "smile.npz"
    with np.load(path) as stored:
        assert stored["weights"].dtype == stored["motion0"].dtype == np.float16
        np.testing.assert_array_equal(model.weights, stored["weights"].astype(np.float32))
    assert model.weights.dtype == model.appearances["happy"].mean.dtype == np.float32
    mlr.save(model, tmp_path / "single.npz")
    again, face = mlr.load(tmp_path / "single.npz"), draw_face(3, 0, "neutral", SIDE)
    np.testing.assert_array_equal(again.synthesize(face), model.synthesize(face))
    assert (again.info.data, again.info.licence) == (CREDIT["data"], CREDIT["licence"])
    assert path.stat().st_size < 3e6


def test_models_are_listed_with_data_and_licence(run):
    (smile,) = mlr.models()
    assert (smile["name"], smile["path"]) == ("smile", str(BUNDLED / "smile.npz"))
    assert "DeBruine and Jones 2017, CC BY 4.0, doi 10.6084/m9.figshare.5047666.v5" in smile["data"]
    assert smile["licence"] == "CC BY 4.0"
    assert smile["pairs"] == {"happy": 81}
    assert run("models", "--json").out == json.dumps({"models": [smile]}) + "\n"
    lines = run("models").out
    for part in ("smile: neutral to happy, 256x256 px\n", smile["data"], "model: CC BY 4.0\n"):
        assert part in lines


def test_every_command_that_takes_a_model_takes_its_name(run, tmp_path):
    mlr.sample(tmp_path / "faces", pairs=2, size=SIDE, target=["happy"])
    faces, smile = tmp_path / "faces", mlr.load("smile")
    assert run("info", "smile", "--json").out == json.dumps(smile.summary()) + "\n"
    assert json.loads(run("evaluate", "smile", faces, "--json").out)["pairs"] == 2
    assert run("synthesize", "smile", faces / "neutral").code == 0
    output = read_image(faces / "neutral-happy" / "000.png").pixels
    source = read_image(faces / "neutral" / "000.png").pixels
    np.testing.assert_array_equal(output, smile.synthesize(source))
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    assert run("inspect", "smile", "-o", tmp_path / "out", "--at", "128,128").code == 0


def test_a_file_of_that_name_wins_but_a_folder_does_not(run, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smile").mkdir()
    assert mlr.load("smile").shape == (3, SIDE, SIDE)
    assert "256x256" in run("info", "smile").out
    Path("smile").rmdir()
    shutil.copy(model, "smile")
    assert mlr.load("smile").shape == (3, 16, 16)
    assert "16x16" in run("info", "smile").out


def test_unknown_name_is_wrong_usage_with_a_hint(run, party):
    result = run("synthesize", "smirk", party)
    assert result.code == 2
    assert "File 'smirk' does not exist. mlr models lists those that come with" in result.err


@pytest.mark.parametrize("name", ["smile", "model", "best_model"])
def test_info_explains_each_line(run, request, name):
    path = name if name == "smile" else request.getfixturevalue(name)
    summary = mlr.load(path).summary()
    lines = run("info", path).out.splitlines()
    assert [line.split()[0] for line in lines] == list(summary)
    assert len(lines) <= 24
    for line, key in zip(lines[1:], [*summary][1:], strict=True):
        assert line.endswith(f"  {_NOTES[key]}")
        assert key == "data" or len(line) <= 100
    assert set(CREDIT) <= set(_NOTES)


def test_the_script_makes_the_same_file_with_any_number_of_threads(tmp_path, monkeypatch):
    data, files = tmp_path / "data", [tmp_path / "1.npz", tmp_path / "2.npz"]
    mlr.sample(data, pairs=8, size=32, target=["happy"])
    for threads, file in enumerate(files, 1):
        arguments = ["bundle", str(data), "-o", str(file), "--threads", str(threads)]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(MlrError, match="has 8 pairs, expected 81"):
            bundle.main()
        with monkeypatch.context() as patch:
            patch.setattr(bundle, "SUBJECTS", 8)
            bundle.main()
    one, two = (file.read_bytes() for file in files)
    assert one == two
    assert {key: meta_of(files[0])[key] for key in CREDIT} == CREDIT


@pytest.mark.slow
@pytest.mark.skipif(not LONDON.is_dir(), reason=f"needs the London faces in {LONDON} (MLR_DATA)")
def test_the_bundled_model_is_what_its_data_give(tmp_path):
    run_benchmark("bundle", LONDON.absolute(), "-o", tmp_path / "smile.npz", timeout=600)
    with np.load(tmp_path / "smile.npz") as new, np.load(BUNDLED / "smile.npz") as old:
        assert new.files == old.files
        for name in {*new.files} - {"meta"}:
            np.testing.assert_array_equal(new[name], old[name])
    new, old = (meta_of(path / "smile.npz") for path in (tmp_path, BUNDLED))
    assert new | {"version": old["version"]} == old
