"""Records of the synthesis in output files."""

import hashlib
import json
import shutil
import string

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

import mlr
from mlr import load
from mlr.errors import ImageError
from mlr.io.images import GAMMA, read_image, write_image
from mlr.io.provenance import describe_image, kept_exif, lost_metadata, new_record, to_exif
from mlr.io.tiff import EXTRA, has_extra
from tests.conftest import draw

GRID = "--grid strength"
FORMATS = ("gif", "webp", "png", "frames", "sheet")
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
def test_record_is_written_to_every_kind_of_file(run, model, face, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    assert run("synthesize", model, face, "-o", output, "--strength", "0.5").code == 0
    found = info(run, output)
    assert found["kind"] == "synthesized"
    assert found["software"] == f"mlr {mlr.__version__}"
    assert (found["expression"], found["strength"]) == ("happy", 0.5)
    assert found["model"] == sha256(model) == info(run, model)["sha256"]
    assert (found["size"], found["frames"]) == ("16x16", 1)
    with PIL.Image.open(output) as image:  # where other programs show it
        assert image.getexif()[0x0131] == f"mlr {mlr.__version__}"
        assert "synthesized" in image.getexif()[0x010E]
    shown = dict(line.split(maxsplit=1) for line in run("info", output).out.splitlines())
    assert shown["expression"] == "happy"
    assert shown["model"] == sha256(model)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_is_optional_and_changes_no_pixel(run, model, face, tmp_path, suffix):
    with_record, without = tmp_path / f"with{suffix}", tmp_path / f"without{suffix}"
    assert run("synthesize", model, face, "-o", with_record).code == 0
    assert run("synthesize", model, face, "-o", without, "--no-metadata").code == 0
    found = info(run, without)
    assert found["kind"] == "image"
    assert "none" in found["record"]
    assert b"mlr" not in without.read_bytes()
    np.testing.assert_array_equal(read_image(with_record).pixels, read_image(without).pixels)


def test_same_command_gives_the_same_bytes(run, model, face, tmp_path):
    for suffix in [*SUFFIXES, ".bmp"]:
        outputs = [tmp_path / f"{n}{suffix}" for n in range(2)]
        for output in outputs:
            assert run("synthesize", model, face, "-o", output).code == 0
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_note_tells_that_bmp_has_no_record(run, model, face, tmp_path):
    output = tmp_path / "x.bmp"
    result = run("synthesize", model, face, "-o", output)
    assert "note: 1 output in BMP, which cannot store the record\n" in result.err
    assert info(run, output)["kind"] == "image"
    silent = run("synthesize", model, face, "-o", output, "--force", "--no-metadata")
    assert "BMP" not in silent.err


def test_record_of_a_mix_has_its_shares_and_the_model(run, model_of_two, face, tmp_path):
    options = ["--target", "happy=0.6,sad=0.4", "-o", tmp_path / "x.png"]
    assert run("synthesize", model_of_two, face, *options).code == 0
    found = info(run, tmp_path / "x.png")
    assert found["expression"] == "happy-0.6-sad-0.4"
    assert found["model"] == sha256(model_of_two)


def test_model_has_a_digest_only_if_it_has_a_file(faces, model, tmp_path):
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
def test_other_captions_are_not_records(tmp_path, text):
    exif = PIL.Image.Exif()
    exif[0x010E] = text
    PIL.Image.fromarray(draw(1)).save(tmp_path / "x.jpg", exif=exif)
    assert describe_image(tmp_path / "x.jpg")["kind"] == "image"


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\0\0"])
def test_error_for_a_file_that_is_no_image_has_one_line(run, tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    result = run("info", tmp_path / "x.png")
    assert result.code == 1
    assert len(result.lines) == 1
    assert result.lines[0].startswith(f"mlr: error: {tmp_path}/x.png: ")


TAKEN = "2019:07:06 05:04:03"


def photograph(path):
    """Write an image with a date, an author, a place, a resolution and a gamma."""
    exif, chunks = PIL.Image.Exif(), PngInfo()
    exif[Base.Artist], exif[Base.Make], exif[Base.Orientation] = "Ann", "camera", 3
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: TAKEN, Base.OffsetTime: "+01:00"})
    exif.get_ifd(IFD.GPSInfo)[1] = "N"
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    options = {"pnginfo": chunks} if path.suffix == ".png" else {}
    PIL.Image.fromarray(draw(0)).save(path, exif=exif, dpi=(300, 150), **options)


@pytest.mark.parametrize("source", [".png", ".jpg"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_date_resolution_and_gamma_survive(run, model, tmp_path, source, suffix):
    photo, output = tmp_path / f"x{source}", tmp_path / f"out{suffix}"
    photograph(photo)
    assert run("synthesize", model, photo, "-o", output).code == 0
    with PIL.Image.open(output) as image:
        exif = image.getexif()
        inside = exif.get_ifd(IFD.Exif)
        assert exif[Base.DateTime] == TAKEN
        assert exif[Base.Artist] == "Ann"
        assert "synthesized" in exif[Base.ImageDescription]
        if suffix != ".tif":  # which Pillow writes without them
            assert (inside[Base.DateTimeOriginal], inside[Base.OffsetTime]) == (TAKEN, "+01:00")
            assert (GAMMA in inside) == (source == ".png")
        dpi = image.info.get("dpi") or (exif[Base.XResolution], exif[Base.YResolution])
        assert [float(x) for x in dpi] == pytest.approx([300, 150], abs=0.1)
        if suffix == ".png" and source == ".png":
            assert image.info["gamma"] == 1
        assert Base.Make not in exif
        assert Base.Orientation not in exif or exif[Base.Orientation] == 1
        assert not exif.get_ifd(IFD.GPSInfo)
    assert info(run, output)["expression"] == "happy"
    assert run("synthesize", model, photo, "-o", output, "--force", "--no-metadata").code == 0
    with PIL.Image.open(output) as image:
        assert not {Base.DateTime, Base.Artist, Base.Software} & {*image.getexif()}
        assert "gamma" not in image.info
        assert image.info.get("dpi", (1, 1))[0] in (1, 72)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_date_resolution_and_gamma_survive_in_16_bits(tmp_path, suffix):
    if not has_extra():
        pytest.skip(f"needs {EXTRA}")
    photograph(tmp_path / "x.png")
    kept = kept_exif(read_image(tmp_path / "x.png"))
    write_image(tmp_path / f"out{suffix}", draw(1, dtype=np.uint16), exif=to_exif(None, kept))
    again = kept_exif(read_image(tmp_path / f"out{suffix}"))
    assert again[Base.DateTime] == TAKEN
    assert again[Base.XResolution] == pytest.approx(300, abs=0.1)
    assert again[Base.YResolution] == pytest.approx(150, abs=0.1)
    if suffix == ".png":
        assert again.get_ifd(IFD.Exif)[GAMMA] == 1


DETAILS = "the time of taking in detail"


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("x.png", []),
        ("x.jpg", []),
        ("x.webp", []),
        ("x.tif", ["gamma", DETAILS]),
        ("x16.tif", ["gamma", DETAILS]),
        ("x.bmp", ["date and author", "gamma", DETAILS]),
    ],
)
def test_crops_keep_metadata_or_say_what_is_lost(run, model, tmp_path, name, lost):
    exif = PIL.Image.Exif()
    exif[Base.Artist], exif[Base.Copyright] = "Zo\xeb".encode("latin-1"), "Ann"
    exif[Base.XResolution] = exif[Base.YResolution] = 240
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: TAKEN, GAMMA: 0.5})
    if "16" in name and not has_extra():
        pytest.skip(f"needs {EXTRA}")
    photo = tmp_path / f"{name}.png"
    write_image(photo, draw(0, 64, dtype=np.uint16 if "16" in name else np.uint8), exif=exif)
    image = read_image(photo)
    assert lost_metadata(tmp_path / name, image) == lost
    write_image(tmp_path / name, image.pixels, exif=kept_exif(image))
    table = f"file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n{name}.png,20,30,40,30\n"
    (tmp_path / "eyes.csv").write_text(table)
    options = ["--eyes", tmp_path / "eyes.csv", "--size", "32"]
    assert run("align", photo, "-o", tmp_path / "out", *options).code == 0
    for path in (tmp_path / name, tmp_path / "out" / f"{name}.png"):
        kept = kept_exif(read_image(path))
        assert float(kept[Base.XResolution]) == pytest.approx(240, abs=0.1)
        if path.suffix != ".bmp":
            assert kept[Base.DateTime] == TAKEN
            assert kept[Base.Artist] == "Zo\xeb".encode("latin-1")
            assert kept[Base.Copyright] == "Ann"
        inside = kept.get_ifd(IFD.Exif)
        if path.suffix not in (".tif", ".bmp"):
            assert (inside[Base.DateTimeOriginal], inside[GAMMA]) == (TAKEN, 0.5)
    assert run("align", photo, "-o", tmp_path / "bare", *options, "--no-metadata").code == 0
    assert not kept_exif(read_image(tmp_path / "bare" / f"{name}.png"))


def test_metadata_that_are_lost_are_said_by_file(run, model, tmp_path):
    photo = tmp_path / "x.jpg"
    photograph(photo)
    result = run("synthesize", model, photo, "-o", tmp_path / "y.tif", "--json")
    assert json.loads(result.out)["lost"] == {str(photo): [DETAILS]}
    assert f"note: {photo}: stored without {DETAILS}" in result.lines
    table = "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y\nx.bmp,4,6,10,6\n"
    (tmp_path / "eyes.csv").write_text(table)
    with PIL.Image.open(photo) as image:
        image.save(tmp_path / "x.bmp")
    options = ["-o", tmp_path / "out", "--eyes", tmp_path / "eyes.csv", "--size", "16", "--json"]
    result = run("align", tmp_path / "x.bmp", *options)
    assert "lost" not in json.loads(result.out)


def test_nothing_is_kept_of_an_image_without_metadata(face, tmp_path):
    kept = kept_exif(read_image(face))
    write_image(tmp_path / "x.png", draw(1), exif=kept)
    assert not kept
    assert b"eXIf" not in (tmp_path / "x.png").read_bytes()
    record = to_exif(new_record("happy", 1, ""), kept)
    write_image(tmp_path / "y.png", draw(1), exif=record)
    with PIL.Image.open(tmp_path / "y.png") as image:
        assert {*image.getexif()} == {Base.Software, Base.ImageDescription}


@pytest.mark.parametrize("unit", [2, 3])
def test_resolution_of_exif_alone_is_read(tmp_path, unit):
    exif = PIL.Image.Exif()
    exif[Base.XResolution], exif[Base.YResolution], exif[Base.ResolutionUnit] = 100, 200, unit
    PIL.Image.fromarray(draw(0)).save(tmp_path / "x.webp", exif=exif)
    kept = kept_exif(read_image(tmp_path / "x.webp"))
    factor = {2: 1, 3: 2.54}[unit]
    assert kept[Base.XResolution] == pytest.approx(100 * factor)
    assert kept[Base.YResolution] == pytest.approx(200 * factor)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_metadata_are_not_kept(tmp_path):
    photograph(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    at, random = data.index(b"Exif") + 14, np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(data)
        for position in random.integers(at, at + 160, 4):
            damaged[position] = random.integers(256)
        (tmp_path / "x.jpg").write_bytes(damaged)
        try:
            image = read_image(tmp_path / "x.jpg")
        except ImageError:
            continue
        write_image(tmp_path / "y.png", image.pixels, exif=kept_exif(image), force=True)
        assert (tmp_path / "y.png").exists()


@pytest.mark.parametrize(
    "options", [*(f"--animate --format {f}" for f in FORMATS), "--grid strength"]
)
def test_animations_and_grids_keep_the_date_or_say_so(run, model, tmp_path, options):
    exif = PIL.Image.Exif()
    exif[Base.Artist] = "Ann"
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: TAKEN, GAMMA: 0.5})
    write_image(tmp_path / "in.png", draw(0), exif=exif)
    command = ["synthesize", model, tmp_path / "in.png", *options.split(), "--target", "happy"]
    result = run(*command, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    files = [
        p for p in sorted((tmp_path / "out").rglob("*")) if p.suffix in (".png", ".webp", ".gif")
    ]
    lost = "date, author, resolution and gamma"
    assert (f"note: {tmp_path / 'in.png'}: stored without {lost}" in result.lines) == (
        "gif" in options
    )
    for file in files if "gif" not in options else ():
        with PIL.Image.open(file) as image:
            found = image.getexif()
        assert found[Base.Artist] == "Ann"
        assert found.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == TAKEN
    assert run(*command, "-o", tmp_path / "bare", "--no-metadata").code == 0
    for file in (tmp_path / "bare").rglob("*.[pw]*"):
        with PIL.Image.open(file) as image:
            assert not {Base.Artist, Base.Software} & {*image.getexif()}
    assert files
