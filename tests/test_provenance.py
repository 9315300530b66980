"""What a synthesized file says of itself, and how it is read back."""

import hashlib
import json
import shutil
import string

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlr
from mlr import load
from mlr.io.images import read_image, write_image
from mlr.io.provenance import describe_image, new_record, to_exif
from tests.conftest import draw

SUFFIXES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"]


@pytest.fixture
def face(tmp_path):
    write_image(tmp_path / "face.png", draw(0))
    return tmp_path / "face.png"


def info(run, path):
    result = run("info", path, "--json")
    assert result.code == 0
    return json.loads(result.out)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_says_how_it_was_made(run, model, face, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    assert run("synthesize", model, face, "-o", output, "--strength", "0.5").code == 0
    found = info(run, output)
    assert found["kind"] == "synthesized"
    assert found["software"] == f"mlr {mlr.__version__}"
    assert (found["expression"], found["strength"]) == ("happy", 0.5)
    assert found["model"] == sha256(model) == info(run, model)["sha256"]
    assert (found["size"], found["frames"]) == ("16x16", 1)
    with PIL.Image.open(output) as image:  # where other programs look
        assert image.getexif()[0x0131] == f"mlr {mlr.__version__}"
        assert "synthesized" in image.getexif()[0x010E]
    told = dict(line.split(maxsplit=1) for line in run("info", output).out.splitlines())
    assert told["expression"] == "happy"
    assert told["model"] == sha256(model)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_can_be_left_out_and_change_no_pixel(run, model, face, tmp_path, suffix):
    told, untold = tmp_path / f"told{suffix}", tmp_path / f"untold{suffix}"
    assert run("synthesize", model, face, "-o", told).code == 0
    assert run("synthesize", model, face, "-o", untold, "--no-metadata").code == 0
    found = info(run, untold)
    assert found["kind"] == "image"
    assert "none" in found["record"]
    assert b"mlr" not in untold.read_bytes()
    np.testing.assert_array_equal(read_image(told).pixels, read_image(untold).pixels)


def test_same_work_gives_the_same_bytes(run, model, face, tmp_path):
    for suffix in [*SUFFIXES, ".bmp"]:
        outputs = [tmp_path / f"{n}{suffix}" for n in range(2)]
        for output in outputs:
            assert run("synthesize", model, face, "-o", output).code == 0
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_bmp_has_no_place_and_the_user_is_told(run, model, face, tmp_path):
    output = tmp_path / "x.bmp"
    told = run("synthesize", model, face, "-o", output)
    assert "note: 1 output in BMP, which cannot store the record\n" in told.err
    assert info(run, output)["kind"] == "image"
    silent = run("synthesize", model, face, "-o", output, "--force", "--no-metadata")
    assert "BMP" not in silent.err


def test_mix_names_its_shares_and_the_file_of_its_model(run, model_of_two, face, tmp_path):
    options = ["--target", "happy=0.6,sad=0.4", "-o", tmp_path / "x.png"]
    assert run("synthesize", model_of_two, face, *options).code == 0
    found = info(run, tmp_path / "x.png")
    assert found["expression"] == "happy-0.6-sad-0.4"
    assert found["model"] == sha256(model_of_two)


def test_model_knows_its_file_only_if_it_has_one(faces, model, tmp_path):
    assert mlr.train(faces).sha256 == ""
    copy = shutil.copy(model, tmp_path / "copy.npz")
    assert load(copy).sha256 == load(model).sha256 == sha256(model)
    assert "model" not in new_record("happy", 1, "")


@settings(deadline=None, max_examples=30)
@given(
    expression=st.text(string.printable + "äø日本🙂\u0000", min_size=1, max_size=20),
    strength=st.floats(0, 2),
)
def test_any_name_is_read_back(tmp_path_factory, expression, strength):
    path = tmp_path_factory.mktemp("x") / "x.png"
    record = new_record(expression, strength, "ab" * 32)
    write_image(path, draw(1), exif=to_exif(record))
    assert describe_image(path).items() >= record.items()


@pytest.mark.parametrize("text", ["", "a caption", "[1]", '{"kind": "model"}', "{" * 5000])
def test_captions_of_others_are_no_records(tmp_path, text):
    exif = PIL.Image.Exif()
    exif[0x010E] = text
    PIL.Image.fromarray(draw(1)).save(tmp_path / "x.jpg", exif=exif)
    assert describe_image(tmp_path / "x.jpg")["kind"] == "image"


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\0\0"])
def test_file_that_is_no_image_is_one_line(run, tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    result = run("info", tmp_path / "x.png")
    assert result.code == 1
    assert len(result.lines) == 1
    assert result.lines[0].startswith(f"mlr: error: {tmp_path}/x.png: ")
